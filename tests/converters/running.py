"""Run a conversion in a temporary folder and read what it left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from converters.run import Request, Result, convert

LITE = {
    "id": 7,
    "answer": "多喝水，注意休息。",
    "score": 5,
    "label": "内科",
    "question": "感冒了怎么办？",
    "related_diseases": None,
}


def lite(number: int, **changes: Any) -> dict[str, Any]:
    """A row of Huatuo26M-Lite of its own."""
    return LITE | {"id": number, "question": f"第{number}个问题是什么？", "answer": f"第{number}个回答。"} | changes


def jsonl(path: Path, rows: list[Any]) -> Path:
    """Write rows as JSON lines; a str or bytes row is written as it is."""
    with open(path, "wb") as target:
        for row in rows:
            line = (
                row.encode()
                if isinstance(row, str)
                else row
                if isinstance(row, bytes)
                else json.dumps(row, ensure_ascii=False).encode()
            )
            target.write(line + b"\n")
    return path


def run(tmp: Path, source: str, *inputs: Path | str, **options: Any) -> Result:
    """Convert into `tmp`/datasets; the manifest's equation is checked every time."""
    result = convert(Request(source, [str(entry) for entry in inputs], dataset_dir=tmp / "datasets", **options))
    manifest = result.manifest
    assert manifest["rows_in"] == manifest["kept"] + manifest["rejected_total"] + manifest["duplicates"]
    assert manifest["rejected_total"] == sum(manifest["rejected"].values())
    assert manifest["kept"] == sum(manifest["splits"].values())
    assert manifest == read_json(result.out / "manifest.json")
    return result


def read_json(path: Path) -> Any:
    """A JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def read(result: Result, split: str | None = None) -> list[dict[str, Any]]:
    """The rows of one split file, or of all three."""
    names = [split] if split else ["train", "val", "test"]
    return [
        json.loads(line)
        for name in names
        for line in (result.out / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    ]


def rejects(result: Result) -> list[dict[str, Any]]:
    """The rows of rejects.jsonl."""
    return [json.loads(line) for line in (result.out / "rejects.jsonl").read_text(encoding="utf-8").splitlines()]


def said(row: dict[str, Any]) -> list[tuple[str, str]]:
    """(role, content) of a row's messages."""
    return [(message["role"], message["content"]) for message in row["messages"]]
