"""LLaMA-Factory's data keys: what `prepare` does with each, or why it refuses.

With `tokenized_path` set that trainer ignores all of them without a word, so every one is answered for here.
Source of the list: `DataArguments` of LLaMA-Factory 0.9.5.
"""

from __future__ import annotations

from store.errors import UserError
from trainers.recipe import Recipe, names

# key → what prepare does with it
DONE = {
    "dataset": "one or several names, by comma",
    "eval_dataset": "one or several names, by comma",
    "dataset_dir": "the folder with dataset_info.json",
    "template": "kept for runs by llamafactory-cli alone; rows are rendered with the tokenizer's own template",
    "cutoff_len": "longer rows are dropped and counted",
    "train_on_prompt": "loss on every token",
    "mask_history": "loss on the last turn only",
    "mix_strategy": "concat, or interleaved by the datasets library",
    "interleave_probs": "probabilities, by comma, one a dataset",
    "max_samples": "the first n rows of each dataset",
    "val_size": "rows (a whole number) or share held out of the training set",
    "eval_on_each_dataset": "one evaluation set a dataset",
    "packing": "several rows in one sequence of at most cutoff_len, seeing each other",
    "neat_packing": "the same, samples cannot see each other",
    "default_system": "system turn of rows that have none",
    "enable_thinking": "handed to the chat template",
    "preprocessing_num_workers": "processes that tokenise (at most one a core)",
}
# nothing to do with the rows: passed on, or meaningless because prepared rows are named by their content
PASSED = ("overwrite_cache", "preprocessing_batch_size", "eval_num_beams", "data_shared_file_system")
REFUSED = {
    "streaming": "prepared rows lie on disk and are memory-mapped; remove the key",
    "buffer_size": "it belongs to streaming; remove the key",
    "media_dir": "text only; remove the key",
    "tool_format": "tool calls are ordinary turns here (the converter writes them); remove the key",
    "preserve_thinking": "earlier turns are what the chat template makes of them; remove the key",
    "tokenized_path": "prepare sets it; remove the key and name the rows with `dataset`",
}


def answer(recipe: Recipe) -> None:
    """Raise UserError for a data key that cannot be honoured, naming it and what to do."""
    for key, reason in REFUSED.items():
        value = recipe.get(key)
        if value not in (None, False, "default") and not (key == "buffer_size" and recipe.get("streaming") is None):
            raise UserError(f"recipe {recipe.name}: {key}: {value!r} is refused: {reason}")
    if recipe.get("ignore_pad_token_for_loss", True) is not True:
        raise UserError(
            f"recipe {recipe.name}: ignore_pad_token_for_loss: false would train on padding; remove the key"
        )
    if recipe.get("train_on_prompt") and recipe.get("mask_history"):
        raise UserError(f"recipe {recipe.name}: train_on_prompt and mask_history exclude each other; keep one")
    if recipe.get("eval_dataset") and recipe.get("val_size"):
        raise UserError(f"recipe {recipe.name}: eval_dataset and val_size exclude each other; keep one")
    if recipe.verb == "dpo":
        for key in ("packing", "neat_packing", "train_on_prompt", "mask_history"):
            if recipe.get(key):
                raise UserError(f"recipe {recipe.name}: {key} has no meaning for preference pairs; remove the key")
    if recipe.get("neat_packing") and str(recipe.get("flash_attn")) in ("fa2", "fa3"):
        raise UserError(
            f"recipe {recipe.name}: neat_packing with flash_attn {recipe.keys['flash_attn']!r}: this trainer then drops the "
            "mask that keeps packed samples apart; use flash_attn: auto"
        )
    strategy = recipe.get("mix_strategy", "concat")
    if strategy not in ("concat", "interleave_under", "interleave_over", "interleave_once"):
        raise UserError(
            f"recipe {recipe.name}: mix_strategy {strategy!r}; expected concat, interleave_under or interleave_over"
        )
    if recipe.get("interleave_probs") and strategy == "concat":
        raise UserError(
            f"recipe {recipe.name}: interleave_probs needs mix_strategy: interleave_under or interleave_over"
        )
    probabilities = names(recipe.get("interleave_probs"))
    if probabilities and len(probabilities) != len(names(recipe.keys["dataset"])):
        raise UserError(
            f"recipe {recipe.name}: interleave_probs has {len(probabilities)} values for {recipe.keys['dataset']!r}"
        )
