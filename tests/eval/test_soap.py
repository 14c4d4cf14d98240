"""A candidate's reply → sections; what is forgiven and what fails."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval import soap
from eval.recipe import read_recipe
from eval.rows import EvalRow
from store.errors import UserError

GOOD = {"S": "s", "O": "o", "A": "a", "P": "p"}


def test_a_good_note() -> None:
    note = soap.parse(f"\n {json.dumps(GOOD)} ")
    assert note.sections == GOOD
    assert not note.problems and not note.invalid_json


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "no json",
        "[]",
        '"S"',
        "null",
        json.dumps(GOOD) + " Hope this helps.",
        "Here it is: " + json.dumps(GOOD),
        json.dumps(GOOD)[:-1],
        '{"S": "a", "S": "b", "O": "o", "A": "a", "P": "p"}',
        '{"S": "line\nbreak", "O": "o", "A": "a", "P": "p"}',
        "<think>" + json.dumps(GOOD),
        "[" * 100_000,
    ],
)
def test_invalid_json_fails_all_four(reply: str) -> None:
    note = soap.parse(reply)
    assert note.invalid_json
    assert note.problems == dict.fromkeys(soap.SECTIONS, "invalid-json")
    assert note.sections == {}


def test_one_fence_and_one_thought_are_forgiven_and_counted() -> None:
    note = soap.parse(f"<think>hm</think>\n```json\n{json.dumps(GOOD)}\n```")
    assert note.sections == GOOD and note.fenced and note.thinking
    assert soap.parse(f"```\n```json\n{json.dumps(GOOD)}\n```\n```").invalid_json


def test_each_section_fails_alone() -> None:
    note = soap.parse('{"S": "s", "O": " ", "A": ["a"], "X": 1, "plan": "p"}')
    assert note.sections == {"S": "s"}
    assert note.problems == {"O": "empty", "A": "not-a-string", "P": "missing"}
    assert note.extra_keys == ("X", "plan")
    assert not note.invalid_json


def test_a_lone_surrogate_can_be_written() -> None:
    note = soap.parse(r'{"S": "x\ud800", "O": "o", "A": "a", "P": "p", "\udfff": 1}')
    assert note.sections["S"].encode() and "".join(note.extra_keys).encode()


@given(
    st.one_of(
        st.text(),
        st.recursive(
            st.none() | st.booleans() | st.text() | st.floats(),
            lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*"SOAPX"]), inner),
        ).map(json.dumps),
    )
)
def test_any_reply_is_sorted_into_sections_or_problems(reply: str) -> None:
    note = soap.parse(reply)
    assert set(note.sections) | set(note.problems) == set(soap.SECTIONS)
    assert not set(note.sections) & set(note.problems)


def test_a_broken_reference_is_an_error_of_the_data() -> None:
    row = EvalRow("1", [{"role": "user", "content": "u"}], "S: free text", {"origin": "notes.csv:7"})
    with pytest.raises(UserError, match=r"notes\.csv:7.*invalid-json"):
        soap.reference_sections(row)


def test_dialogue_after_the_marker(repo) -> None:
    recipe = read_recipe("soap", repo / "recipes" / "eval")
    said = [{"role": "user", "content": f"Make a note. {recipe.dialogue_marker}\nDoctor: hi"}]
    assert soap.dialogue_of(EvalRow("1", said, "", {}), recipe) == ("Doctor: hi", True)
    assert soap.dialogue_of(EvalRow("1", [{"role": "user", "content": "Doctor: hi"}], "", {}), recipe) == (
        "Doctor: hi",
        False,
    )
