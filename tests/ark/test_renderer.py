"""The renderer against Qwen2.5's chat template, byte for byte, and what no text may do to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from ark import renderer
from ark.actions import AskAction, RetrievalAction, TellAction, arguments, tools
from ark.renderer import ControlMarker, Step

TURNS = {
    "zh": [
        {"patient": "嗓子疼三天了", "doctor": "发烧吗？"},
        {"patient": '没有，"就是"疼\n晚上更重', "doctor": "REFERENCE"},
    ],
    "en": [
        {"patient": "My throat hurts.", "doctor": "Any fever?"},
        {"patient": "None, <38 °C.", "doctor": "REFERENCE"},
    ],
}
SEARCH = RetrievalAction(reasoning="需要查资料 <咽痛> & 其他", queries=["咽痛的原因", "sore \\ throat"])
RESULTS = [
    {"query": "咽痛的原因", "refined_result": "多为\n病毒感染。"},
    {"query": "sore \\ throat", "refined_result": "It's viral."},
]
ASK = AskAction(reasoning="缺少病史", symptom=["发热"], medicine=["头孢"], text="请问发热吗？")
TELL = TellAction(reasoning="信息充分", text="多喝水。\n三天不好请就医。")


@pytest.fixture(scope="module")
def template(repo: Path) -> PreTrainedTokenizerFast:
    """An empty tokenizer with the chat template that the trainers' stand-in model uses, which is Qwen2.5's."""
    text = (repo / "trainers" / "chatml_template.jinja").read_text(encoding="utf-8")
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), chat_template=text)


def as_calls(turns: list[dict[str, str]], steps: list[Step], language: Any) -> list[dict[str, Any]]:
    """The same path as a tool-calling client would send it."""
    sent: list[dict[str, Any]] = [
        {"role": "system", "content": renderer.persona(language)},
        {"role": "user", "content": renderer.user_text(turns, language)},
    ]
    for step in steps:
        function = {"name": type(step.action).__name__, "arguments": arguments(step.action)}
        sent.append({"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": function}]})
        if step.results is not None:
            sent.append({"role": "tool", "content": renderer.results_json(step.results)})
    return sent


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize("final", [ASK, TELL])
@pytest.mark.parametrize("rounds", [0, 1, 2])
def test_plain_turns_equal_the_template_with_tools(template: Any, language: Any, final: Any, rounds: int) -> None:
    steps = [Step(SEARCH, RESULTS)] * rounds + [Step(final)]
    plain = template.apply_chat_template(renderer.messages(TURNS[language], steps, language), tokenize=False)
    called = template.apply_chat_template(
        as_calls(TURNS[language], steps, language), tools=tools(language), tokenize=False
    )
    assert plain == called


@pytest.mark.parametrize("layout", ["medtune", "reference"])
def test_inference_prompt_is_a_prefix_of_the_training_text(template: Any, layout: Any) -> None:
    steps = [Step(SEARCH, RESULTS), Step(TELL)]
    whole = template.apply_chat_template(renderer.messages(TURNS["zh"], steps, "zh", layout), tokenize=False)
    for done in range(2):
        turns = renderer.messages(TURNS["zh"], steps[:done], "zh", layout)
        prompt = template.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        assert whole.startswith(prompt)


def test_golden_turns() -> None:
    turns = renderer.messages(TURNS["zh"], [Step(SEARCH, RESULTS), Step(ASK)])
    assert [turn["role"] for turn in turns] == ["system", "user", "assistant", "user", "assistant"]
    assert turns[1]["content"].endswith(
        '### 医患历史对话\n患者：嗓子疼三天了\n医生：发烧吗？\n患者：没有，"就是"疼 晚上更重'
    )
    assert turns[2]["content"] == (
        '<tool_call>\n{"name": "RetrievalAction", "arguments": {"reasoning": "需要查资料 <咽痛> & 其他", '
        '"queries": ["咽痛的原因", "sore \\\\ throat"]}}\n</tool_call>'
    )
    assert turns[3]["content"] == (
        '<tool_response>\n[{"query": "咽痛的原因", "refined_result": "多为\\n病毒感染。"}, '
        '{"query": "sore \\\\ throat", "refined_result": "It\'s viral."}]\n</tool_response>'
    )
    body = json.loads(turns[4]["content"].removeprefix("<tool_call>\n").removesuffix("\n</tool_call>"))
    assert body == {"name": "AskAction", "arguments": arguments(ASK)}
    assert "medicine" in body["arguments"] and "medcine" not in turns[4]["content"]


def test_reference_layout() -> None:
    turns = renderer.messages(TURNS["zh"], [Step(SEARCH, RESULTS), Step(ASK)], "zh", "reference")
    assert turns[0]["content"].startswith("\n# Tools\n")
    assert turns[1]["content"].endswith("晚上更重\n\n")
    assert turns[2]["content"].startswith('<tool_call>\n{"arguments": {"reasoning": "')
    assert turns[2]["content"].endswith('"name": "RetrievalAction"}\n</tool_call>')
    lines = turns[3]["content"].split("\n")
    assert [json.loads(line) for line in lines[1:-1]] == RESULTS
    assert '"medcine": ["头孢"]' in turns[4]["content"] and "medcine" in turns[0]["content"]


def test_english_labels() -> None:
    assert (
        renderer.history_text(TURNS["en"], "en")
        == "Patient: My throat hurts.\nDoctor: Any fever?\nPatient: None, <38 °C."
    )


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_reference_reply_never_enters_the_prompt(language: Any) -> None:
    turns = renderer.messages(TURNS[language], [Step(SEARCH, RESULTS), Step(TELL)], language)
    assert "REFERENCE" not in json.dumps(turns)


MARKERS = (
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tools>",
    "<|IM_END|>",
)


@pytest.mark.parametrize("marker", MARKERS)
def test_control_markers_are_refused_everywhere(marker: str) -> None:
    spoiled = f"疼{marker}了"
    with pytest.raises(ControlMarker):
        renderer.messages([{"patient": spoiled, "doctor": ""}], [Step(TELL)])
    with pytest.raises(ControlMarker):
        renderer.messages([{"patient": "疼", "doctor": spoiled}, {"patient": "是", "doctor": ""}], [Step(TELL)])
    with pytest.raises(ControlMarker):
        renderer.messages(TURNS["zh"], [Step(TellAction(reasoning=spoiled, text="好"))])
    with pytest.raises(ControlMarker):
        renderer.messages(TURNS["zh"], [Step(AskAction(reasoning="r", symptom=[spoiled], text="好"))])
    with pytest.raises(ControlMarker):
        renderer.messages(TURNS["zh"], [Step(SEARCH, [{"query": "q", "refined_result": spoiled}])])
    with pytest.raises(ControlMarker) as caught:
        renderer.check(spoiled)
    assert "疼" not in str(caught.value)  # no patient text in an error


@given(st.lists(st.sampled_from([*MARKERS, "<", "|", ">", "医生：", "\n", "a", " "]), max_size=12).map("".join))
def test_escaped_text_passes_and_loses_nothing_else(text: str) -> None:
    escaped = renderer.escape(text)
    renderer.check(escaped)
    assert len(escaped) == len(text) and escaped.replace("＜", "<") == text


@given(st.text(), st.text())
def test_no_text_forges_a_line_of_the_other_speaker(first: str, second: str) -> None:
    try:
        lines = renderer.history_text([{"patient": first, "doctor": second}, {"patient": second, "doctor": ""}]).split(
            "\n"
        )
    except ControlMarker:
        return
    assert [line[:3] for line in lines] == ["患者：", "医生：", "患者："]
