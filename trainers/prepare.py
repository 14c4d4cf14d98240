"""Before a run: every row tokenised and masked once, over-long rows dropped and counted, written under its content's hash."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson
from tqdm import tqdm

from store.errors import UserError
from store.hashing import canonical
from store.models import local, require_hub, resolve
from store.writing import atomic_folder, atomic_json
from trainers import data_keys
from trainers.examples import Source, source
from trainers.packing import packs
from trainers.recipe import Recipe, names
from trainers.rendering import Renderer, Row, check_template
from trainers.row_files import columns, packed, write_arrow
from trainers.tokenise import select, tokenised

VERSION = 1  # raise it when the same inputs would give other rows
PREPARED = Path("datasets/prepared")


@dataclass(frozen=True)
class Prepared:
    """What a trainer reads (``folder``, a DatasetDict on disk) and what was done to get there."""

    folder: str
    data_hash: str
    template_hash: str
    counts: dict[str, int]
    datasets: dict[str, str]
    lengths: list[int]


def load_tokenizer(model: str) -> Any:
    """The tokenizer of a model folder or hub id. Raises UserError where there is none."""
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    from transformers import AutoTokenizer

    place = resolve(model)
    if not Path(place).is_dir():
        try:
            place = str(local(model))
        except UserError:
            require_hub(model)
        if not (Path(place) / "tokenizer.json").is_file():
            place = model  # a cache that holds the configuration only
    try:
        return AutoTokenizer.from_pretrained(place)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"no tokenizer for {model!r} ({reason}); build or download the model first: set MODELS_DIR to a folder that holds it"
        ) from None


def renderer_for(recipe: Recipe) -> Renderer:
    """The renderer a recipe's rows go through, its template checked."""
    renderer = Renderer(
        load_tokenizer(recipe.keys["model_name_or_path"]), recipe.get("enable_thinking"), recipe.get("default_system")
    )
    check_template(renderer)
    return renderer


def sources(recipe: Recipe, key: str) -> list[Source]:
    """The datasets a recipe names under ``dataset`` or ``eval_dataset``; their kind must fit the recipe's stage."""
    found = [source(recipe.get("dataset_dir", "datasets"), name) for name in names(recipe.get(key))]
    for one in found:
        if one.ranking != (recipe.verb == "dpo"):
            need, has = (
                ("preference pairs", "conversations") if recipe.verb == "dpo" else ("conversations", "preference pairs")
            )
            raise UserError(f"recipe {recipe.name}: dataset {one.name!r} holds {has}, {recipe.verb} needs {need}")
    return found


def identity(recipe: Recipe, renderer: Renderer, files: dict[str, str]) -> str:
    """16 hex digits over everything that decides the rows: files, template, tokenizer, settings, our version."""
    settings = {
        key: recipe.get(key) for key in data_keys.DONE if key not in ("dataset_dir", "preprocessing_num_workers")
    }
    tokenizer = hashlib.sha256(renderer.tokenizer.backend_tokenizer.to_str().encode()).hexdigest()
    content = [
        VERSION,
        recipe.verb,
        files,
        settings,
        renderer.tokenizer.chat_template,
        tokenizer,
        recipe.get("seed", 42),
    ]
    return hashlib.sha256(canonical(content)).hexdigest()[:16]


def prepare(recipe: Recipe, root: Path = PREPARED) -> Prepared:
    """Prepare a recipe's rows, or find them prepared. Raises UserError naming recipe, key, file or row."""
    data_keys.answer(recipe)
    train, held_out = sources(recipe, "dataset"), sources(recipe, "eval_dataset")
    renderer = renderer_for(recipe)
    files = {one.name: one.sha256 for one in (*train, *held_out)}
    data_hash = identity(recipe, renderer, files)
    folder = root / f"{train[0].name}-{data_hash}"
    if not (folder / "prepared.json").is_file():
        with atomic_folder(folder) as aside:
            _write(recipe, renderer, train, held_out, aside, data_hash)
    stored = orjson.loads((folder / "prepared.json").read_bytes())
    return Prepared(**{**stored, "folder": str(folder)})


def _write(
    recipe: Recipe, renderer: Renderer, train: list[Source], held_out: list[Source], aside: Path, data_hash: str
) -> None:
    from datasets import DatasetDict, disable_progress_bars

    disable_progress_bars()
    counts: Counter[str] = Counter()
    dropped: list[dict[str, Any]] = []
    shown = tqdm(select(recipe, train), desc=f"prepare {recipe.name}", unit=" rows", disable=None)
    rows = list(tokenised(recipe, renderer, shown, counts, dropped))
    sets: dict[str, list[tuple[Row, ...]]] = {"train": rows}
    if recipe.get("val_size"):
        sets = _hold_out(rows, recipe.keys["val_size"], recipe.get("seed", 42))
    eval_counts: Counter[str] = Counter()
    for one in held_out:
        key = f"validation_{one.name}" if recipe.get("eval_on_each_dataset") else "validation"
        sets.setdefault(key, []).extend(tokenised(recipe, renderer, select(recipe, [one]), eval_counts, dropped))
    lengths = [max(len(row.ids) for row in pair) for pair in sets["train"]]
    if not sets["train"]:
        reasons = ", ".join(
            f"{reason} {counts[reason]}" for reason in ("over-long", "control-marker", "no-answer") if counts[reason]
        )
        raise UserError(
            f"recipe {recipe.name}: no training row is left of {counts['examples']} ({reasons or 'the dataset is empty'})"
        )
    pack = recipe.get("packing") or recipe.get("neat_packing")
    parts = DatasetDict()
    for key, held in sets.items():
        if not held:
            counts[f"{key}_empty"] = 1
            continue
        if pack and key == "train":
            single = [row for (row,) in held]
            chosen = packs([len(row.ids) for row in single], recipe.keys["cutoff_len"], recipe.get("seed", 42))
            counts["packs"] = len(chosen)
            stored = packed(single, chosen, bool(recipe.get("neat_packing")))
        else:
            stored = (columns(pair) for pair in held)
        parts[key] = write_arrow(stored, aside / f"{key}.arrow")
        counts[f"{key}_rows"] = len(parts[key])
    counts["eval_dropped"] = sum(
        eval_counts[reason] for reason in ("over-long", "control-marker", "no-answer", "nothing-to-train")
    )
    parts.save_to_disk(str(aside / "rows"))
    for key in parts:
        (aside / f"{key}.arrow").unlink()
    (aside / "dropped.jsonl").write_bytes(b"".join(orjson.dumps(entry) + b"\n" for entry in dropped))
    template = hashlib.sha256(renderer.tokenizer.chat_template.encode()).hexdigest()[:16]
    files = {one.name: one.sha256 for one in (*train, *held_out)}
    atomic_json(aside / "prepared.json", asdict(Prepared("", data_hash, template, dict(counts), files, lengths)))


def _hold_out(rows: list[tuple[Row, ...]], size: float, seed: int) -> dict[str, list[tuple[Row, ...]]]:
    """LLaMA-Factory's own rule (`train_test_split` with the run's seed), so that the same rows are held out."""
    from datasets import Dataset

    if (size < 1 and len(rows) < 2) or size >= len(rows):
        raise UserError(f"val_size {size} leaves nothing to train on: there are {len(rows)} rows")
    index = Dataset.from_dict({"row": list(range(len(rows)))})
    split = index.train_test_split(test_size=int(size) if size >= 1 else size, seed=seed)
    return {
        "train": [rows[at] for at in split["train"]["row"]],
        "validation": [rows[at] for at in split["test"]["row"]],
    }
