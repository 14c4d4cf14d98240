"""Made-up SOAP rows whose gold words occur nowhere else, and scripted candidates and judges for them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

KEYS = "SOAP"
ASKED = re.compile(r"case(\d+)")


def gold(number: int) -> dict[str, str]:
    """The reference note of a row; every word of it is unlike any word of the prompt."""
    return {key: f"goldzq{key.lower()}{number:03d} auricle finding {number}." for key in KEYS}


def row(number: int) -> dict[str, Any]:
    """A converted row."""
    said = f"Write the note as JSON.\n### Dialogue:\nDoctor: how are you? Patient: case{number:03d}, {number} days of pain."
    messages = [
        {"role": "system", "content": "You write notes."},
        {"role": "user", "content": said},
        {"role": "assistant", "content": json.dumps(gold(number))},
    ]
    return {"id": f"{number:016x}", "messages": messages, "meta": {"source": "made-up", "origin": f"made-up:{number}"}}


def write_rows(path: Path, count: int) -> Path:
    """``count`` rows as JSONL."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row(number)) + "\n" for number in range(count)))
    return path


def number_of(request: dict[str, Any]) -> int:
    """Which row a candidate was asked about."""
    found = ASKED.search(request["messages"][1]["content"])
    assert found
    return int(found.group(1))


def remembers(request: dict[str, Any]) -> str:
    """A candidate that knows every gold note (by heart, not from the request)."""
    return json.dumps(gold(number_of(request)))


def judged(request: dict[str, Any]) -> dict[str, str]:
    """What a judge was shown: dialogue, reference, predicted, section."""
    text = request["messages"][1]["content"]
    shown = {}
    for tag in ("dialogue", "reference", "predicted"):
        found = re.search(rf"<{tag}>\n(.*?)\n</{tag}>", text, re.DOTALL)
        assert found, f"no <{tag}> in the question"
        shown[tag] = found.group(1)
    section = re.search(r"Section: (\w) ", text)
    assert section
    return {**shown, "section": section.group(1)}


def verdict(passed: bool, reason: str = "scripted") -> str:
    """A well-formed judge reply."""
    return json.dumps({"reason": reason, "verdict": "pass" if passed else "fail"})
