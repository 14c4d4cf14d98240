"""FORMAT=: rewrite the converted splits in another layout, and describe that layout to LLaMA-Factory.

| FORMAT | SFT row | preference row |
|---|---|---|
| messages | our own: id, messages, meta | id, messages, chosen, rejected, meta |
| alpaca | instruction, input "", output, system, history [[q, a], …] | instruction, input "", system, history, chosen, rejected (text) |
| sharegpt | conversations [{from, value}] with system, human, gpt | conversations, chosen {from, value}, rejected {from, value} |
| prompt-completion | prompt, completion (TRL) | prompt, chosen, rejected (TRL) |
| arrow | a `DatasetDict` folder for `load_from_disk`; meta as JSON text | the same |

Every row carries id, and meta as it was. prompt-completion holds plain text when every row is one question and one answer,
else lists of messages in all rows, because a column has one type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

from converters.splits import SPLITS
from store.errors import UserError

FORMATS = ("messages", "alpaca", "sharegpt", "prompt-completion", "arrow")
SHAREGPT_ROLES = {"system": "system", "user": "human", "assistant": "gpt"}

Row = dict[str, Any]


def export(folder: Path, format: str, kind: str) -> None:  # noqa: A002 - the option's name
    """Rewrite train/val/test.jsonl of `folder` in place. Raises UserError for an unknown format."""
    if format not in FORMATS:
        raise UserError(f"FORMAT={format}: formats are {', '.join(FORMATS)}")
    if format == "arrow":
        _arrow(folder, kind)
        return
    if format == "prompt-completion":
        plain = all(_is_plain(row) for split in SPLITS for row in _rows(folder / f"{split}.jsonl"))
        rewrite: Callable[[Row], Row] = _prompt_plain if plain else _prompt_messages
    else:
        rewrite = _alpaca if format == "alpaca" else _sharegpt
    for split in SPLITS:
        path, aside = folder / f"{split}.jsonl", folder / f"{split}.jsonl.new"
        with open(aside, "wb", buffering=1 << 20) as target:
            for row in _rows(path):
                target.write(
                    orjson.dumps(
                        {"id": row["id"], **rewrite(row), "meta": row["meta"]}, None, orjson.OPT_APPEND_NEWLINE
                    )
                )
        aside.replace(path)


def split_file(out: Path, format: str, split: str) -> Path:  # noqa: A002
    """The file of one split, as registered."""
    return out / split / "data-00000-of-00001.arrow" if format == "arrow" else out / f"{split}.jsonl"


def layout(format: str, kind: str, file: Path) -> dict[str, Any] | None:  # noqa: A002
    """LLaMA-Factory's description of an exported file; {} for the registry's own, None where it cannot read the file.

    It reads no lists of messages as a prompt, so prompt-completion of many turns (for TRL) is not registered.
    """
    ranking = {"ranking": True} if kind == "preference" else {}
    answers = {"chosen": "chosen", "rejected": "rejected"} if ranking else {}
    if format == "alpaca":
        columns = {"prompt": "instruction", "query": "input", "system": "system", "history": "history"}
        return {**ranking, "formatting": "alpaca", "columns": columns | (answers or {"response": "output"})}
    if format == "sharegpt":
        tags = {
            "role_tag": "from",
            "content_tag": "value",
            "user_tag": "human",
            "assistant_tag": "gpt",
            "system_tag": "system",
        }
        return {**ranking, "formatting": "sharegpt", "columns": {"messages": "conversations"} | answers, "tags": tags}
    if format == "prompt-completion":
        if isinstance(next(_rows(file), {"prompt": ""})["prompt"], list):
            return None
        return {
            **ranking,
            "formatting": "alpaca",
            "columns": {"prompt": "prompt"} | (answers or {"response": "completion"}),
        }
    return {}


def _rows(path: Path) -> Iterator[Row]:
    with open(path, "rb") as lines:
        yield from map(orjson.loads, lines)


def _alpaca(row: Row) -> Row:
    messages = row["messages"]
    system = ""
    if messages[0]["role"] == "system":
        system, messages = messages[0]["content"], messages[1:]
    pairs = (len(messages) - 1) // 2
    history = [[messages[2 * turn]["content"], messages[2 * turn + 1]["content"]] for turn in range(pairs)]
    start = {"instruction": messages[2 * pairs]["content"], "input": ""}
    end = {"system": system, "history": history}
    if "chosen" in row:
        return {**start, "chosen": row["chosen"]["content"], "rejected": row["rejected"]["content"], **end}
    return {**start, "output": messages[-1]["content"], **end}


def _sharegpt(row: Row) -> Row:
    def turn(message: Row) -> Row:
        return {"from": SHAREGPT_ROLES[message["role"]], "value": message["content"]}

    conversations = {"conversations": [turn(message) for message in row["messages"]]}
    if "chosen" in row:
        return {**conversations, "chosen": turn(row["chosen"]), "rejected": turn(row["rejected"])}
    return conversations


def _is_plain(row: Row) -> bool:
    return len(row["messages"]) == (1 if "chosen" in row else 2)


def _prompt_plain(row: Row) -> Row:
    prompt = {"prompt": row["messages"][0]["content"]}
    if "chosen" in row:
        return {**prompt, "chosen": row["chosen"]["content"], "rejected": row["rejected"]["content"]}
    return {**prompt, "completion": row["messages"][1]["content"]}


def _prompt_messages(row: Row) -> Row:
    if "chosen" in row:
        return {"prompt": row["messages"], "chosen": [row["chosen"]], "rejected": [row["rejected"]]}
    return {"prompt": row["messages"][:-1], "completion": row["messages"][-1:]}


def _arrow(folder: Path, kind: str) -> None:
    """A saved DatasetDict in place of the JSON lines; splits without rows are left out."""
    import tempfile

    from datasets import Dataset, DatasetDict, Features, Value
    from datasets.utils.logging import disable_progress_bar

    disable_progress_bar()
    message = {"role": Value("string"), "content": Value("string")}
    answers = {"chosen": message, "rejected": message} if kind == "preference" else {}
    features = Features({"id": Value("string"), "messages": [message], **answers, "meta": Value("string")})

    def rows(path: str) -> Iterator[Row]:
        for row in _rows(Path(path)):
            yield {**row, "meta": orjson.dumps(row["meta"]).decode()}

    with tempfile.TemporaryDirectory(dir=folder) as cache:
        splits = {}
        for split in SPLITS:
            path = folder / f"{split}.jsonl"
            if path.stat().st_size:
                splits[split] = Dataset.from_generator(
                    rows, features=features, cache_dir=cache, gen_kwargs={"path": str(path)}, split=split
                )
        DatasetDict(splits).save_to_disk(str(folder), num_shards=dict.fromkeys(splits, 1))
    for split in SPLITS:
        (folder / f"{split}.jsonl").unlink()
