"""What a recipe will train on, before it does: rendered examples with the trained tokens marked, lengths, steps."""

from __future__ import annotations

import math
import sys
from typing import Any

from trainers import data_keys, llamafactory, runs
from trainers.prepare import prepare, renderer_for, sources
from trainers.provide import provide_datasets, report_rows, tokenizer_of, with_dataset, without_empty_evaluation
from trainers.recipe import Recipe, load
from trainers.rendering import IGNORE, Row
from trainers.tokenise import rows_of, select

BARS = 40


def marked(tokenizer: Any, row: Row, color: bool) -> str:
    """The row as text; what carries loss in green, or between ⟦ ⟧ where there is no color."""
    start, stop = ("\033[32m", "\033[0m") if color else ("⟦", "⟧")
    text, at = "", 0
    while at < len(row.ids):
        trained = row.labels[at] != IGNORE
        end = at
        while end < len(row.ids) and (row.labels[end] != IGNORE) == trained:
            end += 1
        piece = tokenizer.decode(list(row.ids[at:end]), skip_special_tokens=False)
        text += f"{start}{piece}{stop}" if trained else piece
        at = end
    return text


def histogram(lengths: list[int], cutoff: int, bins: int = 10) -> list[str]:
    """Token lengths of the kept rows, a line a bin."""
    width = max(1, math.ceil((max(lengths) + 1) / bins))
    counts = [0] * bins
    for length in lengths:
        counts[min(length // width, bins - 1)] += 1
    top = max(counts)
    return [
        f"{index * width:>6}–{(index + 1) * width - 1:<6} {count:>8}  {'█' * math.ceil(count / top * BARS)}"
        for index, count in enumerate(counts)
        if index * width <= cutoff
    ]


def quantile(lengths: list[int], share: float) -> int:
    """The length below which ``share`` of the rows lie (nearest rank)."""
    return sorted(lengths)[max(0, math.ceil(share * len(lengths)) - 1)]


def steps_per_epoch(recipe: Recipe, rows: int, gpus: int) -> int:
    """Optimizer steps of one epoch, as the trainer counts them (a last partial accumulation is a step)."""
    batches = math.ceil(rows / (recipe.get("per_device_train_batch_size", 8) * gpus))
    return math.ceil(batches / recipe.get("gradient_accumulation_steps", 1))


def preview(name: str, overrides: dict[str, Any], dataset: str | None, examples: int, gpus: int | None) -> None:
    """Print the preview of a recipe. Needs its dataset and its tokenizer, no GPU and no weights."""
    recipe = with_dataset(load(name, overrides), dataset)
    data_keys.answer(recipe)
    recipe = tokenizer_of(recipe)
    provide_datasets(recipe)
    recipe = without_empty_evaluation(recipe)
    prepared = prepare(recipe)
    llamafactory.refuse_unacceptable(recipe, runs.run_for(name, "llamafactory"), prepared)
    renderer = renderer_for(recipe)
    color = sys.stdout.isatty()
    shown = 0
    for _, example in select(recipe, sources(recipe, "dataset")):
        made = rows_of(recipe, renderer, example)
        if isinstance(made, str):
            continue
        for side, row in zip(("chosen", "rejected") if len(made[0]) == 2 else ("",), made[0], strict=True):
            print(f"── {example.id} {side} ({len(row.ids)} tokens, {row.trained} carry loss) ──")
            print(marked(renderer.tokenizer, row, color))
        shown += 1
        if shown == examples:
            break
    lengths = prepared.lengths
    print(
        f"\ntokens a row (n={len(lengths)}): median {quantile(lengths, 0.5)}, 95% {quantile(lengths, 0.95)}, longest {max(lengths)}"
    )
    print("\n".join(histogram(lengths, recipe.keys["cutoff_len"])))
    report_rows(recipe, prepared)
    counts = prepared.counts
    share = 100 * counts.get("over-long", 0) / max(1, counts["rows"])
    steps = steps_per_epoch(recipe, counts["train_rows"], gpus or 1)
    print(f"dropped for length: {share:.2f}% of {counts['rows']} rows")
    print(f"steps per epoch: {steps} on {gpus or 1} device(s), {recipe.get('num_train_epochs', 3)} epochs")
