"""The Ark actions: reading, writing, tool schemas."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from ark.actions import ACTIONS, AskAction, RetrievalAction, TellAction, arguments, parse, tools


def test_ask_reads_both_spellings_and_writes_medicine() -> None:
    old = parse("AskAction", {"reasoning": "r", "medcine": ["阿莫西林"], "text": "吃过药吗？"})
    new = parse("AskAction", {"reasoning": "r", "medicine": ["阿莫西林"], "text": "吃过药吗？"})
    assert old == new
    names = ["reasoning", "disease", "symptom", "medicine", "surgery", "body_part", "medical_check", "concept", "text"]
    assert list(arguments(old)) == names
    assert list(arguments(old, "reference")) == ["medcine" if name == "medicine" else name for name in names]
    assert arguments(old, "reference")["medcine"] == ["阿莫西林"]


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("RetrievalAction", {"reasoning": "r", "queries": []}),
        ("RetrievalAction", {"reasoning": "r", "queries": "咽痛"}),
        ("RetrievalAction", {"reasoning": None, "queries": ["q"]}),
        ("AskAction", {"reasoning": "r", "text": ""}),
        ("AskAction", {"reasoning": "r", "text": "t", "symptom": [1]}),
        ("AskAction", {"reasoning": "r", "text": "t", "invented": []}),
        ("TellAction", {"text": "t"}),
    ],
)
def test_malformed_calls_are_refused(name: str, given: dict) -> None:
    with pytest.raises(ValidationError):
        parse(name, given)


def test_unknown_action_name() -> None:
    with pytest.raises(KeyError):
        parse("Shell", {})


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize("layout", ["medtune", "reference"])
def test_schemas_describe_what_the_actions_accept(language: str, layout: str) -> None:
    listed = tools(language, layout)
    assert [tool["function"]["name"] for tool in listed] == list(ACTIONS)
    examples = (
        RetrievalAction(reasoning="r", queries=["q"]),
        AskAction(reasoning="r", text="t"),
        TellAction(reasoning="r", text="t"),
    )
    for tool, action in zip(listed, examples, strict=True):
        parameters = tool["function"]["parameters"]
        written = arguments(action, layout)
        assert list(parameters["properties"]) == list(written)
        for field, schema in parameters["properties"].items():
            assert schema["type"] == ("array" if isinstance(written[field], list) else "string")
            assert schema["description"]
    assert listed[1]["function"]["parameters"]["required"] == ["reasoning", "text"]
    chinese = any("一" <= character <= "鿿" for character in str(listed))
    assert chinese == (language == "zh")
