"""What a model tuned on a few rows must show and its base must not: the training notes, word for word.

This proves that rows, training, serving and reading of replies fit together. It is memory, not quality.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eval.candidates import read_json
from eval.rows import split_file
from eval.run import data_folder
from eval.soap import read_notes
from store.errors import UserError

LEAST = 0.8  # share of sections the tuned model must reproduce; the base must reproduce none


def exact_sections(folder: Path, label: str) -> tuple[int, int]:
    """(sections equal to the reference, sections) of one evaluated model. Raises UserError when it was not evaluated."""
    results = sorted(folder.glob(f"{label}/*/results.json"))
    if not results:
        raise UserError(f"{folder}: no results of {label!r}; evaluate it first (python -m eval run --model {label}=…)")
    found: dict[str, Any] = read_json(results[-1])["metrics"]["exact_all_sections"]
    return round(found["value"] * found["n"]), found["n"]


def check(dataset: str, tuned: str, base: str, runs: Path, dataset_dir: Path, task: str = "soap") -> int:
    """Print both counts; 0 when the tuned model remembers at least LEAST of its training sections and the base none."""
    rows, _ = read_notes(split_file(dataset, "train", dataset_dir))
    folder = data_folder(runs, task, dataset, "train", rows)
    (kept, of), (known, among) = exact_sections(folder, tuned), exact_sections(folder, base)
    passed = kept >= LEAST * of and known == 0
    print(
        f"memory of training rows: {tuned} reproduces {kept} of {of} sections exactly (at least {LEAST:.0%} expected), "
        f"{base} {known} of {among} (none expected): {'as expected' if passed else 'NOT as expected'}"
    )
    return 0 if passed else 1
