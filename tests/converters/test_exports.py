"""FORMAT=: every export holds the same rows, readable by what it is for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from store.registry import entries
from tests.converters.running import jsonl, read, run

TURNS = [
    {"role": "system", "content": "s"},
    *({"role": role, "content": f"{role} {n}"} for n in range(2) for role in ("user", "assistant")),
]
PLAIN = [
    {"messages": [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": f"a{n}"}], "n": n}
    for n in range(5)
]
PAIRS = [{"prompt": f"prompt {n}", "chosen": f"good {n}", "rejected": f"bad {n}"} for n in range(4)]


def exported(tmp_path: Path, form: str, rows: list[Any], source: str = "chat") -> list[dict[str, Any]]:
    result = run(tmp_path, source, jsonl(tmp_path / "rows.jsonl", rows), format=form, splits="train:1", name="set")
    assert result.manifest["options"]["format"] == form
    return read(result, "train")


def test_alpaca(tmp_path: Path) -> None:
    first, second = exported(tmp_path, "alpaca", [{"messages": TURNS}, PLAIN[0]])
    assert {key: first[key] for key in ("instruction", "input", "output", "system", "history")} == {
        "instruction": "user 1",
        "input": "",
        "output": "assistant 1",
        "system": "s",
        "history": [["user 0", "assistant 0"]],
    }
    assert second["history"] == [] and second["system"] == ""
    assert entries(tmp_path / "datasets")["set"]["formatting"] == "alpaca"


def test_sharegpt(tmp_path: Path) -> None:
    (first,) = exported(tmp_path, "sharegpt", [{"messages": TURNS}])
    assert [turn["from"] for turn in first["conversations"]] == ["system", "human", "gpt", "human", "gpt"]
    assert entries(tmp_path / "datasets")["set"]["tags"]["user_tag"] == "human"


def test_prompt_completion_is_text_when_every_row_is_one_turn(tmp_path: Path) -> None:
    rows = exported(tmp_path, "prompt-completion", PLAIN)
    assert (rows[0]["prompt"], rows[0]["completion"]) == ("q0", "a0")
    assert entries(tmp_path / "datasets")["set"]["columns"] == {"prompt": "prompt", "response": "completion"}


def test_prompt_completion_is_messages_when_any_row_has_more(tmp_path: Path) -> None:
    rows = exported(tmp_path, "prompt-completion", [*PLAIN, {"messages": TURNS}])
    assert rows[0]["prompt"] == [{"role": "user", "content": "q0"}]
    assert rows[-1]["completion"] == [{"role": "assistant", "content": "assistant 1"}]
    assert "set" not in entries(tmp_path / "datasets")


def test_arrow(tmp_path: Path) -> None:
    from datasets import load_from_disk

    result = run(tmp_path, "chat", jsonl(tmp_path / "rows.jsonl", PLAIN), format="arrow", splits="train:1", name="set")
    loaded = load_from_disk(str(result.out))
    assert [row["messages"][1]["content"] for row in loaded["train"]] == [f"a{n}" for n in range(5)]
    assert json.loads(loaded["train"][0]["meta"])["n"] == 0
    assert (tmp_path / "datasets" / entries(tmp_path / "datasets")["set"]["file_name"]).is_file()
    assert [path.name for path in result.out.glob("*.jsonl")] == ["rejects.jsonl"]


@pytest.mark.parametrize(
    ("form", "keys"),
    [
        ("messages", {"messages", "chosen", "rejected"}),
        ("alpaca", {"instruction", "input", "chosen", "rejected", "system", "history"}),
        ("sharegpt", {"conversations", "chosen", "rejected"}),
        ("prompt-completion", {"prompt", "chosen", "rejected"}),
    ],
)
def test_preference_rows(tmp_path: Path, form: str, keys: set[str]) -> None:
    rows = exported(tmp_path, form, PAIRS, "preference")
    assert len(rows) == 4
    assert all(row.keys() == keys | {"id", "meta"} for row in rows)
    assert entries(tmp_path / "datasets")["set"]["ranking"] is True


def test_an_export_can_be_converted_again(tmp_path: Path) -> None:
    wanted = [row["messages"] for row in exported(tmp_path, "messages", [{"messages": TURNS}, *PLAIN])]
    for form in ("alpaca", "sharegpt", "prompt-completion"):
        rows = exported(tmp_path, form, [{"messages": TURNS}, *PLAIN])
        again = run(tmp_path, "chat", jsonl(tmp_path / "again.jsonl", rows), splits="train:1", name="again")
        assert [row["messages"] for row in read(again, "train")] == wanted
