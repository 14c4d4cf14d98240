"""Examples → tokenised rows, in training order, in one process or several; what is dropped is counted and named."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from trainers.examples import Example, Source, read
from trainers.recipe import Recipe, names
from trainers.rendering import Renderer, Row, preference_rows, sft_rows
from trainers.row_files import compact

CHUNK = 256  # examples a worker gets at once
Made = list[tuple[Row, ...]] | str


def rows_of(recipe: Recipe, renderer: Renderer, example: Example) -> Made:
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


_job: tuple[Recipe, Renderer]


def _chunk(examples: list[tuple[str, Example]]) -> list[tuple[str, str, Made]]:
    recipe, renderer = _job
    found: list[tuple[str, str, Made]] = []
    for name, example in examples:
        made = rows_of(recipe, renderer, example)
        found.append((name, example.id, made if isinstance(made, str) else [compact(rows) for rows in made]))
    return found


def _chunks(entries: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while chunk := list(itertools.islice(entries, size)):
        yield chunk


def rendered(
    recipe: Recipe, renderer: Renderer, examples: Iterable[tuple[Source, Example]]
) -> Iterator[tuple[str, str, Made]]:
    """(dataset, example id, its rows or the reason there are none), in order.

    ``preprocessing_num_workers`` processes, at most one a core; small sets are done here, before a pool would have started.
    """
    global _job
    _job = (recipe, renderer)
    chunks = _chunks(((one.name, example) for one, example in examples), CHUNK)
    ahead = list(itertools.islice(chunks, 8))
    workers = min(recipe.get("preprocessing_num_workers", 1), os.cpu_count() or 1)
    everything = itertools.chain(ahead, chunks)
    if workers < 2 or len(ahead) < 8:
        for chunk in everything:
            yield from _chunk(chunk)
        return
    from multiprocessing import get_context

    # forked, so that the tokenizer is inherited and not loaded again; imap keeps the order
    with get_context("fork").Pool(workers) as pool:
        for found in pool.imap(_chunk, everything):
            yield from found


def tokenised(
    recipe: Recipe,
    renderer: Renderer,
    examples: Iterable[tuple[Source, Example]],
    counts: Counter[str],
    dropped: list[dict[str, Any]],
) -> Iterator[tuple[Row, ...]]:
    """Rows within ``cutoff_len``; what is dropped is counted under its reason and listed by id (never by text)."""
    cutoff = recipe.keys["cutoff_len"]
    for name, identity, made in rendered(recipe, renderer, examples):
        counts["examples"] += 1
        if isinstance(made, str):
            counts[made] += 1
            dropped.append({"id": identity, "dataset": name, "reason": made})
            continue
        for rows in made:
            counts["rows"] += 1
            length = max(len(row.ids) for row in rows)
            if length > cutoff:
                counts["over-long"] += 1
                dropped.append({"id": identity, "dataset": name, "reason": "over-long", "tokens": length})
            elif min(row.trained for row in rows) == 0:
                counts["nothing-to-train"] += 1
                dropped.append({"id": identity, "dataset": name, "reason": "nothing-to-train"})
            else:
                counts["kept"] += 1
                counts["trained_tokens"] += sum(row.trained for row in rows)
                counts["tokens"] += sum(len(row.ids) for row in rows)
                yield rows
