"""SOAP notes and note sections: golden rows, odd notes, garbage, real counts."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters.shape import Options, Reject
from converters.soap import DIALOGUE_HEAD, INSTRUCTION, SECTIONS, SHAPES, SYSTEM, parse_note

NOTE, SECTION = SHAPES
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


def reason(note: str) -> str:
    with pytest.raises(Reject) as caught:
        parse_note(note)
    return caught.value.reason


def test_golden_note() -> None:
    dialogue = "Doctor: How are you?\nPatient: I cough."
    row = {
        "dialogue": dialogue,
        "soap": "S: Cough.\nO: Lungs “clear”.\nA: Cold.\nP: Rest.\nTea.",
        "prompt": "Create a medical SOAP summary of this dialogue.",
        "messages": "[{'role': 'user', 'content': 'a copy in a CSV is Python text'}]",
        "messages_nosystem": [{"role": "user", "content": "…"}],
        "extra": 7,
    }
    draft = NOTE.convert(row, Options())
    assert draft.body == {
        "messages": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": INSTRUCTION + "\n\n### Dialogue:\n" + dialogue},
            {
                "role": "assistant",
                "content": '{"S": "Cough.", "O": "Lungs “clear”.", "A": "Cold.", "P": "Rest.\\nTea."}',
            },
        ]
    }
    assert draft.group == dialogue
    assert draft.meta == {"prompt": row["prompt"], "extra": 7}


@pytest.mark.parametrize(
    ("note", "sections"),
    [
        ("S: a\nO: b\nA: c\nP: d", "abcd"),
        (" s : a\n\tO:b\n\n a:c\nP：d\n", "abcd"),
        ("S: a A: x P: y\nO: b\nA: c\nP: d", ["a A: x P: y", "b", "c", "d"]),
        ("S: a\nO: b\nA: c\nP: d\nA: e\nP: f", ["a", "b", "c", "d\nA: e\nP: f"]),
        ("S: a\nP: early\nO: b\nA: c\nP: d", ["a\nP: early", "b", "c", "d"]),
        ("S: a\nS: again\nO: b\nA: c\nP: d", ["a\nS: again", "b", "c", "d"]),
        ("S:\n- a\n- b\nO: b\nA: c\nP: d", ["- a\n- b", "b", "c", "d"]),
        ("S: HLA: B27, Vitamin A: low\nO: b\nA: c\nP: d", ["HLA: B27, Vitamin A: low", "b", "c", "d"]),
    ],
)
def test_sections_begin_at_line_starts_in_order(note: str, sections: Any) -> None:
    assert list(parse_note(note).values()) == list(sections)
    assert list(parse_note(note)) == list("SOAP")


@pytest.mark.parametrize(
    ("note", "expected"),
    [
        ("", "note-without-S"),
        ("The patient coughs.", "note-without-S"),
        ("S: a\nO: b\nP: d", "note-without-A"),
        ("S: a\nO: b\nP: d\nA: c", "note-without-P"),
        ("O: b\nA: c\nP: d", "note-without-S"),
        ("S: a\nO: \nA: c\nP: d", "note-with-empty-O"),
        ("S: a\nO: b\nA: c\nP:", "note-with-empty-P"),
        ("Here is the note:\nS: a\nO: b\nA: c\nP: d", "note-with-text-before-S"),
    ],
)
def test_unusable_notes_are_rejected(note: str, expected: str) -> None:
    assert reason(note) == expected


@given(
    st.lists(st.sampled_from(["S:", "O:", "A:", "P:", "\n", " ", "x", "a:", "\r\n", "："]), max_size=30).map("".join)
)
def test_a_parsed_note_holds_every_word_of_the_text(note: str) -> None:
    try:
        sections = parse_note(note)
    except Reject:
        return
    assert "".join(sections.values()).count("x") == note.count("x")


def test_golden_section() -> None:
    row = {
        "ID": "7",
        "section_header": "FAM/SOCHX",
        "section_text": " Married. ",
        "dialogue": "Doctor: Married?\r\nPatient: Yes.",
    }
    draft = SECTION.convert(row, Options())
    turns = draft.body["messages"]
    assert "family and social history" in turns[1]["content"]
    assert turns[1]["content"].endswith(DIALOGUE_HEAD + "Doctor: Married?\nPatient: Yes.")
    assert turns[2] == {"role": "assistant", "content": "Married."}
    assert draft.group == "Doctor: Married?\nPatient: Yes."
    assert draft.meta == {"ID": "7", "section_header": "FAM/SOCHX"}
    with pytest.raises(Reject, match="unknown-section-header"):
        SECTION.convert({**row, "section_header": "NOSUCH"}, Options())


def test_shapes_tell_their_rows_apart() -> None:
    note, section = (
        {"dialogue": "d", "soap": "s"},
        {"ID": 1, "section_header": "CC", "section_text": "t", "dialogue": "d"},
    )
    assert [s.recognise(note) for s in SHAPES] == [True, False]
    assert [s.recognise(section) for s in SHAPES] == [False, True]
    assert not any(
        s.recognise(row) for s in SHAPES for row in ({"dialogue": "d"}, {"question": "q", "answer": "a"}, [], None, 1)
    )


@given(
    st.dictionaries(
        st.sampled_from(["dialogue", "soap", "messages", "section_header", "section_text", "ID"]), json_values
    )
)
def test_garbage_rows_are_only_ever_rejected(row: dict[str, Any]) -> None:
    for shape in SHAPES:
        try:
            draft = shape.convert(row, Options())
        except Reject as reject:
            assert reject.reason
        else:
            assert all(turn["content"].strip() for turn in draft.body["messages"])


@given(json_values)
def test_recognise_never_raises(value: Any) -> None:
    assert not any(shape.recognise(value) for shape in SHAPES) or isinstance(value, dict)


def test_samples(samples: Path) -> None:
    kept, rejected = [], []
    for line in (samples / "soap.jsonl").read_text(encoding="utf-8").splitlines():
        try:
            kept.append(NOTE.convert(json.loads(line), Options()))
        except Reject as reject:
            rejected.append(reject.reason)
    assert len(kept) == 25 and len({draft.group for draft in kept}) == 24  # one of them twice
    assert sorted(rejected) == ["empty-note", "note-without-A", "note-without-S"]
    for draft in kept:  # a model of 3M parameters has to learn these by heart
        assert len(draft.group.split()) <= 90
        note = json.loads(draft.body["messages"][2]["content"])
        assert list(note) == list("SOAP") and all(len(section.split()) <= 18 for section in note.values())


def test_real_rows(shared_data: Path | None) -> None:
    if shared_data is None:
        pytest.skip("real rows are not beside the checkout")
    folder = shared_data / "soap"
    rows = [json.loads(line) for name in ("train.json", "test.json") for line in (folder / name).open(encoding="utf-8")]
    rows += json.loads((folder / "validation.json").read_text(encoding="utf-8"))
    assert len(rows) == 60
    for row in rows:
        sections = json.loads(NOTE.convert(row, Options()).body["messages"][2]["content"])
        assert "\n".join(f"{letter}: {body}" for letter, body in sections.items()).split() == row["soap"].split()
    with (folder / "mts_dialog_sample.csv").open(encoding="utf-8", newline="") as file:
        sections = [SECTION.convert(row, Options()) for row in csv.DictReader(file)]
    assert len(sections) == 60 and {draft.meta["section_header"] for draft in sections} <= SECTIONS.keys()
