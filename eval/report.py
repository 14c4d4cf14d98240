"""All results and loss curves → one HTML file: no network, no script, every text escaped.

Results share a table only when task, data, sampling and judge are the same: their hashes are the table's key.
"""

from __future__ import annotations

import math
from itertools import combinations
from pathlib import Path
from typing import Any

import jinja2
import orjson

from eval import plots, soap, table
from eval.candidates import read_json
from eval.results import paired
from store.environment import tool_version
from store.errors import UserError
from store.writing import atomic_write

ORDER = ("base", "sft", "lora", "dpo")
SHOWN = 4000  # characters of one text in a sample; more is cut for display, and said so


def write_report(runs: Path, samples: int = 5) -> Path:
    """Write ``<runs>/report/index.html`` and return its path."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.j2").render(
        tables=[_table(group, samples) for group in _groups(runs)],
        curves=_curves(runs),
        parts=table.parts,
        difference=table.difference,
        heading=table.heading,
        data_name=table.data_name,
        columns=table.COLUMNS,
        exact_columns=table.EXACT,
        sections=soap.SECTIONS,
        version=tool_version(),
    )
    path = runs / "report" / "index.html"
    atomic_write(path, page.encode("utf-8", "replace"))
    return path


def _groups(runs: Path) -> list[list[dict[str, Any]]]:
    """Results that may stand in one table. Each result carries its folder under ``"folder"``."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for path in sorted((runs / "eval").glob("*/*/*/*/results.json")):
        result = {**read_json(path), "folder": path.parent}
        hashes = result["hashes"]
        key = (
            result["task"],
            result["split"],
            hashes["data"],
            hashes["generation"],
            result["judge"]["kind"],
            hashes["judge"],
        )
        groups.setdefault(key, []).append(result)
    return [sorted(group, key=_rank) for _, group in sorted(groups.items())]


def _rank(result: dict[str, Any]) -> tuple[int, str]:
    return _verb_rank(result["label"]), result["label"]


def _verb_rank(name: str) -> int:
    """Where ``sft…``, ``dpo…`` stand in the order in which models are made; unknown names last."""
    verb = name.split("-")[0]
    return ORDER.index(verb) if verb in ORDER else len(ORDER)


def _lines(path: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()] if path.is_file() else []


def _table(group: list[dict[str, Any]], samples: int) -> dict[str, Any]:
    verdicts = {result["label"]: _lines(result["folder"] / "verdicts.jsonl") for result in group}
    labels = [result["label"] for result in group]
    # many models: everything against the first, so that the table stays readable
    pairs = list(combinations(labels, 2)) if len(labels) <= 4 else [(labels[0], label) for label in labels[1:]]
    draw = group[0]["bootstrap"]
    differences = [
        {
            "pair": f"{second} − {first}",
            "verdicts": paired(verdicts[first], verdicts[second], exact=False, **draw),
            "exact": paired(verdicts[first], verdicts[second], exact=True, **draw),
        }
        for first, second in pairs
    ]
    groups = [
        (table.heading(column), [(result["label"], result["metrics"][column]) for result in group])
        for column in (*soap.SECTIONS, "all_sections")
    ]
    return {
        "first": group[0],
        "results": group,
        "chart": plots.intervals(groups),
        "differences": differences,
        "comparisons": len(pairs) * 5,
        "templates_differ": len({result["hashes"]["template"] for result in group}) > 1,
        "samples": _samples(group, verdicts, samples),
    }


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}\n[… cut for display: {len(text)} characters]"


def _samples(
    group: list[dict[str, Any]], verdicts: dict[str, list[dict[str, Any]]], samples: int
) -> list[dict[str, Any]]:
    """The first notes of the split, not chosen ones: dialogue, reference, every model's sections with verdict and reason."""
    replies = {result["label"]: _lines(result["folder"].parent / "generations.jsonl") for result in group}
    judged = {label: {(row["id"], row["section"]): row for row in rows} for label, rows in verdicts.items()}
    said = {label: {row["id"]: row["prediction"] or "" for row in rows} for label, rows in replies.items()}
    notes = []
    for row in next(iter(replies.values()), [])[:samples]:
        prompt = next((message["content"] for message in reversed(row["input"]) if message["role"] == "user"), "")
        gold = soap.parse(row["reference"]).sections
        parsed = {label: soap.parse(texts.get(row["id"], "")) for label, texts in said.items()}
        outputs = {
            key: [
                {
                    "label": label,
                    "text": _cut(note.sections.get(key, "")),
                    "row": judged[label].get((row["id"], key)),
                }
                for label, note in parsed.items()
            ]
            for key in soap.SECTIONS
        }
        raw = [(label, _cut(said[label].get(row["id"], ""))) for label, note in parsed.items() if note.invalid_json]
        reference = {key: _cut(gold.get(key, "")) for key in soap.SECTIONS}
        notes.append({"id": row["id"], "prompt": _cut(prompt), "reference": reference, "outputs": outputs, "raw": raw})
    return notes


def _curves(runs: Path) -> list[dict[str, Any]]:
    """Loss curves of every run that left a trainer state: ``runs/<recipe>/<backend>/[RUN/]train/trainer_state.json``."""
    found = []
    for path in sorted([*runs.glob("*/*/train/trainer_state.json"), *runs.glob("*/*/*/train/trainer_state.json")]):
        folder = path.parent.parent
        if ".old-" in str(folder.relative_to(runs)):  # set aside by FRESH=1
            continue
        name = str(folder.relative_to(runs))
        try:
            history = read_json(path).get("log_history", [])
        except UserError as error:  # a trainer is writing it just now
            found.append({"name": name, "chart": None, "held_out": False, "facts": {"problem": str(error)}})
            continue
        train, held_out = _series(history, "loss"), _series(history, "eval_loss")
        if not train and not held_out:
            continue
        manifest = read_json(folder / "manifest.json") if (folder / "manifest.json").is_file() else {}
        last = train[-1] if train else held_out[-1]
        facts = {
            "method": manifest.get("method"),
            "base model": manifest.get("base_model"),
            "from": (manifest.get("from") or {}).get("recipe"),
            "data": ", ".join(map(str, (manifest.get("dataset") or {}).get("names") or [])) or None,
            "data hash": manifest.get("data_hash"),
            "rows": (manifest.get("rows") or {}).get("kept"),
            "seed": manifest.get("seed"),
            "steps": manifest.get("steps"),
            "trained": manifest.get("finished"),
            "wall": f"{manifest['wall_s']:.0f} s" if isinstance(manifest.get("wall_s"), int | float) else None,
            "last loss": f"{last[1]:.4f} at step {last[0]:g}",
        }
        found.append(
            {
                "name": name,
                "chart": plots.curves(name, train, held_out),
                "held_out": bool(held_out),
                "facts": {key: value for key, value in facts.items() if value is not None},
            }
        )
    return sorted(found, key=lambda run: (_verb_rank(run["name"]), run["name"]))


def _series(history: list[dict[str, Any]], name: str) -> list[tuple[float, float]]:
    """``(step, value)`` pairs; what is not a finite number is left out of the drawing."""
    return [
        (entry["step"], float(entry[name]))
        for entry in history
        if isinstance(entry.get(name), int | float) and math.isfinite(entry[name]) and "step" in entry
    ]
