"""Before a run: every row tokenised and masked once, over-long rows dropped and counted, written under its content's hash."""

from __future__ import annotations

import hashlib
import os
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
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
from trainers.examples import Example, Source, read, source
from trainers.packing import packs
from trainers.recipe import Recipe, names
from trainers.rendering import Renderer, Row, check_template, preference_rows, sft_rows

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


def rows_of(recipe: Recipe, renderer: Renderer, example: Example) -> list[tuple[Row, ...]] | str:
    """Rows of one example (pairs for DPO), or the reason why it has none. Pure."""
    control = renderer.tokenizer.all_special_tokens
    contents = [message["content"] for message in example.messages] + [
        text for text in (example.chosen, example.rejected) if text
    ]
    if any(token in content for content in contents for token in control):
        return "control-marker"
    if example.chosen is not None:
        made: list[tuple[Row, ...]] = [
            preference_rows(renderer, example.messages, example.chosen, example.rejected or "")
        ]
    elif not example.messages or example.messages[-1]["role"] != "assistant":
        return "no-answer"
    else:
        made = [
            (row,)
            for row in sft_rows(
                renderer, example.messages, bool(recipe.get("mask_history")), bool(recipe.get("train_on_prompt"))
            )
        ]
    return made


def select(recipe: Recipe, found: list[Source]) -> Iterator[tuple[Source, Example]]:
    """Examples in training order: each dataset's first ``max_samples``, concatenated or interleaved."""
    limit = recipe.get("max_samples")
    if recipe.get("mix_strategy", "concat") == "concat" or len(found) < 2:
        for one in found:
            for count, example in enumerate(read(one)):
                if limit is not None and count >= limit:
                    break
                yield one, example
        return
    from datasets import Dataset, interleave_datasets

    held = [list(read(one))[:limit] for one in found]
    indices = [Dataset.from_dict({"at": [(which, row) for row in range(len(rows))]}) for which, rows in enumerate(held)]
    strategy = {
        "interleave_under": "first_exhausted",
        "interleave_over": "all_exhausted",
        "interleave_once": "all_exhausted_without_replacement",
    }[recipe.keys["mix_strategy"]]
    shares = [float(value) for value in names(recipe.get("interleave_probs"))] or None
    for entry in interleave_datasets(
        indices, probabilities=shares, seed=recipe.get("seed", 42), stopping_strategy=strategy
    ):
        which, row = entry["at"]
        yield found[which], held[which][row]


def tokenised(
    recipe: Recipe,
    renderer: Renderer,
    examples: Iterable[tuple[Source, Example]],
    counts: Counter[str],
    dropped: list[dict[str, Any]],
) -> Iterator[tuple[Row, ...]]:
    """Rows within ``cutoff_len``; what is dropped is counted under its reason and listed by id (never by text)."""
    cutoff = recipe.keys["cutoff_len"]
    for one, example in examples:
        counts["examples"] += 1
        made = rows_of(recipe, renderer, example)
        if isinstance(made, str):
            counts[made] += 1
            dropped.append({"id": example.id, "dataset": one.name, "reason": made})
            continue
        for rows in made:
            counts["rows"] += 1
            length = max(len(row.ids) for row in rows)
            if length > cutoff:
                counts["over-long"] += 1
                dropped.append({"id": example.id, "dataset": one.name, "reason": "over-long", "tokens": length})
            elif min(row.trained for row in rows) == 0:
                counts["nothing-to-train"] += 1
                dropped.append({"id": example.id, "dataset": one.name, "reason": "nothing-to-train"})
            else:
                counts["kept"] += 1
                counts["trained_tokens"] += sum(row.trained for row in rows)
                counts["tokens"] += sum(len(row.ids) for row in rows)
                yield rows


def compact(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """The same rows at 4 bytes a token: a list of Python ints takes ten times that."""
    return tuple(Row(array("i", row.ids), array("i", row.labels)) for row in rows)


def columns(rows: tuple[Row, ...]) -> dict[str, Any]:
    """One stored row: exactly input_ids, attention_mask, labels; for a pair the six columns the trainer's collator reads."""
    if len(rows) == 1:
        return {
            "input_ids": list(rows[0].ids),
            "attention_mask": [1] * len(rows[0].ids),
            "labels": list(rows[0].labels),
        }
    stored: dict[str, Any] = {}
    for side, row in zip(("chosen", "rejected"), rows, strict=True):
        stored |= {
            f"{side}_input_ids": list(row.ids),
            f"{side}_attention_mask": [1] * len(row.ids),
            f"{side}_labels": list(row.labels),
        }
    # LLaMA-Factory's pairwise collator indexes these three in every row
    return stored | {"images": None, "videos": None, "audios": None}


def packed(rows: list[Row], chosen: list[list[int]], neat: bool) -> Iterator[dict[str, Any]]:
    """Packs as rows; with ``neat`` the mask counts 1, 2, 3 … so that the trainer builds a block-diagonal mask from it."""
    for pack in chosen:
        ids: list[int] = []
        mask: list[int] = []
        labels: list[int] = []
        for place, index in enumerate(pack, 1):
            ids += rows[index].ids
            mask += [place if neat else 1] * len(rows[index].ids)
            # the first token of a sample must not be predicted from the sample before it
            labels += [-100, *rows[index].labels[1:]]
        yield {"input_ids": ids, "attention_mask": mask, "labels": labels}


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
    rows = [compact(pair) for pair in tokenised(recipe, renderer, shown, counts, dropped)]
    sets: dict[str, list[tuple[Row, ...]]] = {"train": rows}
    if recipe.get("val_size"):
        sets = _hold_out(rows, recipe.keys["val_size"], recipe.get("seed", 42))
    eval_counts: Counter[str] = Counter()
    for one in held_out:
        key = f"validation_{one.name}" if recipe.get("eval_on_each_dataset") else "validation"
        sets.setdefault(key, []).extend(
            compact(pair) for pair in tokenised(recipe, renderer, select(recipe, [one]), eval_counts, dropped)
        )
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
        parts[key] = _arrow(stored, aside / f"{key}.arrow")
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


def _arrow(stored: Iterable[dict[str, Any]], path: Path) -> Any:
    """Rows to an Arrow file, batch by batch, so that memory holds the compact ids only; returns it memory-mapped."""
    from datasets import Dataset, Features, Sequence, Value
    from datasets.arrow_writer import ArrowWriter

    stored = iter(stored)
    first = next(stored)
    features = Features(
        {name: Value("null") if value is None else Sequence(Value("int32")) for name, value in first.items()}
    )
    with ArrowWriter(path=str(path), features=features) as writer:
        writer.write(first)
        for row in stored:
            writer.write(row)
        writer.finalize()
    return Dataset.from_file(str(path))


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
