"""SOAP notes: omi-health rows (a dialogue and its whole note), MTS-Dialog rows (a dialogue and one section of a note).

Whole note: the target is one JSON object with the string keys S, O, A, P. A section begins at a line that starts with
its letter and a colon. The labels are taken in the order S, O, A, P, each at its first line after the one before; a
line such as "A:" or "P:" that comes out of that order, like one in the middle of a line, belongs to the section it
stands in.

Columns not used: `messages` and `messages_nosystem` repeat dialogue, note and prompt and are dropped; `prompt` is
kept in meta when short.
"""

from __future__ import annotations

import json
import re
from typing import Any

from converters.shape import Draft, Options, Reject, Shape, leftover, text

# The one prompt of the task. Evaluation reads it from the converted rows and does not build it again.
SYSTEM = (
    "You write clinical notes from medical dialogues. "
    "Use only what the dialogue says and leave out nothing that matters for care."
)
INSTRUCTION = (
    "Summarise this dialogue as a SOAP note. Answer with one JSON object and nothing else. "
    'Its keys are "S" (subjective), "O" (objective), "A" (assessment) and "P" (plan); every value is a string.'
)
SECTION_INSTRUCTION = (
    "Write the section “{section}” of the clinical note for this dialogue. "
    "Answer with the text of that section and nothing else."
)
DIALOGUE_HEAD = "\n\n### Dialogue:\n"
LETTERS = "SOAP"

# The twenty section codes of MTS-Dialog.
SECTIONS = {
    "FAM/SOCHX": "family and social history",
    "GENHX": "history of present illness",
    "PASTMEDICALHX": "past medical history",
    "CC": "chief complaint",
    "PASTSURGICAL": "past surgical history",
    "ALLERGY": "allergies",
    "ROS": "review of systems",
    "MEDICATIONS": "medications",
    "ASSESSMENT": "assessment",
    "EXAM": "physical examination",
    "DIAGNOSIS": "diagnosis",
    "DISPOSITION": "disposition",
    "PLAN": "plan",
    "EDCOURSE": "emergency department course",
    "IMMUNIZATIONS": "immunizations",
    "IMAGING": "imaging",
    "GYNHX": "gynecologic history",
    "PROCEDURES": "procedures",
    "OTHER_HISTORY": "other history",
    "LABS": "laboratory results",
}

_LABEL = re.compile(r"^[ \t]*([SOAP])[ \t]*[:：]", re.MULTILINE | re.IGNORECASE)
_NOTE_USED = frozenset({"dialogue", "soap", "messages", "messages_nosystem"})
_SECTION_USED = frozenset({"section_text", "dialogue"})


def note_prompt(dialogue: str) -> list[dict[str, str]]:
    """System and user turn of the SOAP task."""
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": INSTRUCTION + DIALOGUE_HEAD + dialogue}]


def parse_note(note: str) -> dict[str, str]:
    """A note → {"S", "O", "A", "P"}, stripped. Rejects text before S, a missing, misplaced or empty section."""
    starts: list[re.Match[str]] = []
    for label in _LABEL.finditer(note):
        if len(starts) < 4 and label.group(1).upper() == LETTERS[len(starts)]:
            starts.append(label)
    if len(starts) < 4:
        raise Reject("note-without-" + LETTERS[len(starts)])
    if note[: starts[0].start()].strip():
        raise Reject("note-with-text-before-S")
    ends = [*(label.start() for label in starts[1:]), len(note)]
    sections = {}
    for letter, label, end in zip(LETTERS, starts, ends, strict=True):
        body = note[label.end() : end].strip()
        if not body:
            raise Reject("note-with-empty-" + letter)
        sections[letter] = body
    return sections


def _note(row: dict[str, Any], options: Options) -> Draft:
    dialogue = _unix(text(row.get("dialogue"), "empty-dialogue"))
    sections = parse_note(_unix(text(row.get("soap"), "empty-note")))
    turns = note_prompt(dialogue)
    turns.append({"role": "assistant", "content": json.dumps(sections, ensure_ascii=False)})
    return Draft({"messages": turns}, dialogue, leftover(row, _NOTE_USED))


def _section(row: dict[str, Any], options: Options) -> Draft:
    dialogue = _unix(text(row.get("dialogue"), "empty-dialogue"))
    target = _unix(text(row.get("section_text"), "empty-section-text"))
    code = text(row.get("section_header"), "empty-section-header").upper()
    if code not in SECTIONS:
        raise Reject("unknown-section-header")
    instruction = SECTION_INSTRUCTION.format(section=SECTIONS[code])
    turns = [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": instruction + DIALOGUE_HEAD + dialogue},
        {"role": "assistant", "content": target},
    ]
    return Draft({"messages": turns}, dialogue, leftover(row, _SECTION_USED))


def _unix(value: str) -> str:
    """CSV copies carry CR LF inside fields; a line break is one character here."""
    return value.replace("\r\n", "\n").replace("\r", "\n") if "\r" in value else value


SHAPES = (
    Shape(
        name="omi-soap",
        source="soap",
        dataset="soap",
        columns=("dialogue", "soap"),
        recognise=lambda row: isinstance(row, dict) and "dialogue" in row and "soap" in row,
        convert=_note,
    ),
    Shape(
        name="mts-dialog",
        source="soap",
        dataset="mts_dialog",
        columns=("section_header", "section_text", "dialogue"),
        recognise=lambda row: isinstance(row, dict) and {"section_header", "section_text", "dialogue"} <= row.keys(),
        convert=_section,
    ),
)
