"""The SOAP task: one JSON object with the string keys S, O, A, P.

What is forgiven, and counted: one Markdown fence around the whole reply, one leading ``<think>…</think>`` block, extra keys.
What is not: anything else around the object, a key given twice, a raw line break inside a string. Such a reply is invalid
JSON and fails all four sections. A section that is missing, empty or not a string fails that section.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eval.recipe import EvalRecipe
from eval.rows import EvalRow, read_rows
from store.errors import UserError

SECTIONS = ("S", "O", "A", "P")
FENCE = re.compile(r"\A```[A-Za-z]*[ \t]*\r?\n(.*)\n?[ \t]*```\Z", re.DOTALL)
THINKING = re.compile(r"\A<think>.*?</think>", re.DOTALL)


@dataclass(frozen=True)
class Note:
    """A parsed reply. ``problems`` maps a section to ``invalid-json``, ``missing``, ``empty`` or ``not-a-string``."""

    sections: dict[str, str] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    invalid_json: bool = False
    fenced: bool = False
    thinking: bool = False
    extra_keys: tuple[str, ...] = ()


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is given twice")
    return found


def parse(reply: str) -> Note:
    """A candidate's reply → its sections. Never raises: what cannot be read is a problem of the note."""
    text = reply.strip()
    thinking = bool(found := THINKING.match(text))
    if found:
        text = text[found.end() :].strip()
    fenced = bool(found := FENCE.match(text))
    if found:
        text = found.group(1)
    try:
        parsed = json.loads(text, object_pairs_hook=_no_key_twice)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        return Note(
            problems=dict.fromkeys(SECTIONS, "invalid-json"), invalid_json=True, fenced=fenced, thinking=thinking
        )
    sections: dict[str, str] = {}
    problems: dict[str, str] = {}
    for key in SECTIONS:
        if key not in parsed:
            problems[key] = "missing"
        elif not isinstance(parsed[key], str):
            problems[key] = "not-a-string"
        elif not parsed[key].strip():
            problems[key] = "empty"
        else:
            # "\ud800" is legal JSON and no legal text
            sections[key] = parsed[key].encode("utf-8", "replace").decode("utf-8")
    extra = tuple(sorted(str(key).encode("utf-8", "replace").decode("utf-8") for key in parsed.keys() - set(SECTIONS)))
    return Note(sections, problems, False, fenced, thinking, extra)


def is_note(reference: str) -> bool:
    """Whether a row's reference is an object with the four sections (a section may be empty)."""
    return not {why for why in parse(reference).problems.values() if why != "empty"}


def read_notes(path: Path, limit: int | None = None) -> tuple[list[EvalRow], int]:
    """(the first ``limit`` notes of a split, how many rows are none: single sections, answers). UserError when none is one."""
    rows = read_rows(path)
    notes = [row for row in rows if is_note(row.reference)]
    if not notes:
        raise UserError(
            f"{path}: none of its {len(rows)} rows is a SOAP note; the soap task needs data made by data-soap (DATASET=<name>)"
        )
    return notes[:limit], len(rows) - len(notes)


def reference_sections(row: EvalRow) -> dict[str, str]:
    """The four gold sections. Raises UserError: a reference that is no SOAP object is a fault of the data, not of a model."""
    note = parse(row.reference)
    wrong = {key: why for key, why in note.problems.items() if why != "empty"}
    if wrong:
        key, why = next(iter(wrong.items()))
        origin = row.meta.get("origin", "")
        raise UserError(
            f"row {row.id} ({origin}): reference section {key} is {why}; the soap task needs data made by data-soap"
        )
    return {key: note.sections.get(key, "") for key in SECTIONS}


def dialogue_of(row: EvalRow, recipe: EvalRecipe) -> tuple[str, bool]:
    """What the judge reads as the dialogue, and whether the marker was found in the last user message."""
    said = next((message["content"] for message in reversed(row.prompt) if message["role"] == "user"), "")
    _, marker, after = said.partition(recipe.dialogue_marker)
    return (after.strip(), True) if marker else (said.strip(), False)
