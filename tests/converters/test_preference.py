"""Preference pairs: golden rows of every format, refused pairs, garbage, real counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters.preference import SHAPES
from converters.shape import Options, Reject, Shape
from converters.soap import SHAPES as SOAP_SHAPES
from converters.soap import note_prompt

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["from", "value", "role", "content"]), inner)
    ),
    max_leaves=8,
)
USER = [{"role": "user", "content": "Is it a cold?"}]
BODY = {
    "messages": USER,
    "chosen": {"role": "assistant", "content": "Most likely, yes."},
    "rejected": {"role": "assistant", "content": "No idea."},
}


def shape_of(row: object) -> Shape:
    found = [shape for shape in SHAPES if shape.recognise(row)]
    assert len(found) == 1, [shape.name for shape in found]
    return found[0]


def convert(row: Any) -> Any:
    return shape_of(row).convert(row, Options())


def reason(row: Any) -> str:
    with pytest.raises(Reject) as caught:
        convert(row)
    return caught.value.reason


def turn(speaker: str, said: str) -> dict[str, str]:
    return {"from": speaker, "value": said}


PUBLIC = {
    "pair-prompt": {"prompt": "Is it a cold?", "chosen": "Most likely, yes.", "rejected": "No idea."},
    "pair-sharegpt": {
        "conversations": [turn("human", "Is it a cold?")],
        "chosen": turn("gpt", "Most likely, yes."),
        "rejected": turn("gpt", "No idea."),
    },
    "pair-sharegpt-text": {
        "conversations": [turn("human", "Is it a cold?")],
        "chosen": "Most likely, yes.",
        "rejected": "No idea.",
    },
    "pair-question": {
        "question": "Is it a cold?",
        "response_chosen": "Most likely, yes.",
        "response_rejected": "No idea.",
        "system": "",
        "history": [],
    },
    "pair-messages": BODY,
}


@pytest.mark.parametrize("name", PUBLIC)
def test_every_format_gives_the_canonical_pair(name: str) -> None:
    row = {**PUBLIC[name], "score": 3}
    assert shape_of(row).name == name and shape_of(row).kind == "preference"
    draft = convert(row)
    assert draft.body == BODY and draft.group == "Is it a cold?" and draft.meta == {"score": 3}


def test_thinking_is_dropped_unless_kept() -> None:
    row = {**PUBLIC["pair-prompt"], "chosen": "<think>\nA cold?\n</think>\n\nMost likely, yes."}
    assert convert(row).body == BODY
    kept = shape_of(row).convert(row, Options(think="keep"))
    assert kept.body["chosen"]["content"] == row["chosen"]


def test_system_and_history() -> None:
    row = {**PUBLIC["pair-question"], "system": "Be brief.", "history": [["Hello", "Good day"]]}
    draft = convert(row)
    assert [turn["role"] for turn in draft.body["messages"]] == ["system", "user", "assistant", "user"]
    assert draft.group == "Hello"  # what every prefix of this conversation shares
    assert reason({**row, "history": "Hello"}) == "history-not-a-list"
    assert reason({**row, "history": [["Hello"]]}) == "history-not-pairs"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"chosen": turn("gpt", " ")}, "empty-chosen"),
        ({"rejected": turn("gpt", "")}, "empty-rejected"),
        ({"rejected": turn("gpt", " Most likely, yes.\n")}, "chosen-equals-rejected"),
        ({"chosen": turn("human", "x")}, "reply-not-the-assistants"),
        ({"conversations": []}, "no-turns"),
        ({"conversations": [turn("system", "x")]}, "empty-prompt"),
        ({"conversations": [turn("human", "a"), turn("gpt", "b")]}, "last-turn-not-user"),
        ({"conversations": [turn("human", "a"), turn("human", "b")]}, "turns-not-alternating"),
        ({"conversations": [turn("gpt", "a"), turn("human", "b")]}, "turns-not-alternating"),
        ({"conversations": [turn("observation", "a")]}, "tool-turn"),
        ({"conversations": [turn("human", "")]}, "empty-turn"),
        ({"conversations": ["a"]}, "turn-is-not-an-object"),
        ({"conversations": [turn("system", "x"), turn("human", "a")], "system": "y"}, "two-system-turns"),
    ],
)
def test_bad_pairs_are_rejected(change: dict[str, Any], expected: str) -> None:
    assert reason({**PUBLIC["pair-sharegpt"], **change}) == expected


@pytest.mark.parametrize(
    ("prompt", "chosen", "leaks"),
    [
        (
            "Doctor: it is a viral infection of the throat.",
            "It is a viral infection of the throat.",
            False,
        ),  # other case
        ("Doctor: it is a viral  infection\nof the throat.", "it is a viral infection of the throat.", True),
        ("患者：咳嗽\n医生：这是普通感冒，多喝水多休息。", "这是普通感冒，多喝水多休息。", True),
        ("Answer yes or no: is it a cold?", "yes", False),
        ("是不是感冒？", "感冒", False),
    ],
)
def test_prompt_that_contains_the_chosen_answer(prompt: str, chosen: str, leaks: bool) -> None:
    row = {"prompt": prompt, "chosen": chosen, "rejected": "别的"}
    if leaks:
        assert reason(row) == "prompt-contains-chosen"
    else:
        assert convert(row).body["chosen"]["content"] == chosen


def test_a_note_pair_is_grouped_by_its_dialogue() -> None:
    dialogue = "Doctor: Cough?\nPatient: Yes."
    row = {"messages": note_prompt(dialogue), "chosen": BODY["chosen"], "rejected": BODY["rejected"]}
    note = {"dialogue": dialogue, "soap": "S: a\nO: b\nA: c\nP: d"}
    group = SOAP_SHAPES[0].convert(note, Options()).group
    assert convert(row).group == group == dialogue
    plain = {
        "prompt": "Create a medical SOAP summary of this dialogue. ### Dialogue:\n" + dialogue,
        "chosen": "a",
        "rejected": "b",
    }
    assert convert(plain).group == convert({**plain, "prompt": dialogue}).group == group


def test_sample_pairs_continue_the_soap_task(samples: Path) -> None:
    notes, pairs = {}, []
    for line in (samples / "soap.jsonl").read_text(encoding="utf-8").splitlines():
        try:
            draft = SOAP_SHAPES[0].convert(json.loads(line), Options())
        except Reject:
            continue
        notes[draft.group] = draft.body["messages"]
    for row in json.loads((samples / "preference" / "soap_pairs.json").read_text(encoding="utf-8")):
        try:
            pairs.append(convert(row))
        except Reject:
            continue
    assert len(pairs) == 25 and {pair.group for pair in pairs} == notes.keys()  # one pair twice
    for pair in pairs:
        assert [*pair.body["messages"], pair.body["chosen"]] == notes[pair.group]
        chosen, rejected = (json.loads(pair.body[side]["content"]) for side in ("chosen", "rejected"))
        assert sum(chosen[letter] != rejected[letter] for letter in "SOAP") == 1


@given(st.sampled_from(sorted(PUBLIC)), st.data())
def test_garbage_rows_are_only_ever_rejected(name: str, data: st.DataObject) -> None:
    fields = [*PUBLIC[name], "system", "history"]
    row = {**PUBLIC[name], **data.draw(st.dictionaries(st.sampled_from(fields), json_values))}
    shape = next(shape for shape in SHAPES if shape.name == name)
    try:
        draft = shape.convert(row, Options())
    except Reject as reject:
        assert reject.reason
    else:
        assert draft.body["messages"][-1]["role"] == "user"
        assert draft.body["chosen"]["content"] != draft.body["rejected"]["content"]


@given(
    json_values
    | st.dictionaries(st.sampled_from(["prompt", "messages", "conversations", "chosen", "rejected"]), json_values)
)
def test_recognise_never_raises(value: Any) -> None:
    assert sum(shape.recognise(value) for shape in SHAPES if isinstance(value, dict)) <= len(SHAPES)
    assert not any(shape.recognise(value) for shape in SHAPES if not isinstance(value, dict))


def test_real_rows(shared_data: Path | None) -> None:
    if shared_data is None:
        pytest.skip("real rows are not beside the checkout")
    folder = shared_data / "preference"
    lines = (folder / "dpo_zh_500.jsonl").read_text(encoding="utf-8").splitlines()
    files = {
        "pair-prompt": json.loads((folder / "medical_soap_dpo.json").read_text(encoding="utf-8")),
        "pair-sharegpt": json.loads((folder / "dpo_zh_demo.json").read_text(encoding="utf-8")),
        "pair-sharegpt-text": [json.loads(line) for line in lines],
    }
    counts = {}
    for name, rows in files.items():
        assert {shape_of(row).name for row in rows} == {name}
        counts[name] = len([convert(row) for row in rows])
    assert counts == {"pair-prompt": 33, "pair-sharegpt": 8, "pair-sharegpt-text": 9}
