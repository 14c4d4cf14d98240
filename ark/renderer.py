"""Action paths as plain system, user and assistant turns, byte-equal to what Qwen2.5's chat template renders for tools.

One renderer for training, inference and UI: the prompt of an inference step is a prefix of the training text. A
trainer sees ordinary turns and needs no tool format of its own.

Layout "medtune" (default): `"name"` before `"arguments"`, results of one round as one JSON array: what the template
itself writes. Layout "reference": what the released MedArk models were run with: no system sentence, `"arguments"`
first, one result object a line.

Markers: a text that holds a control marker (`<|im_end|>`, `<tool_call>` …) could end a turn or forge a call. In
training rows such a text is refused (ControlMarker); `escape` gives a harmless spelling for live input. A turn of the
history is one line, so that no text can forge a line of the other speaker.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from ark.actions import Action, Language, Layout, arguments, tools

_MARKER = re.compile(r"<[|｜][\w▁.-]{1,40}[|｜]>|</?(?:tool_call|tool_response|tools|think)\s*>", re.IGNORECASE)
_LABELS: dict[Language, tuple[str, str]] = {"zh": ("患者：", "医生："), "en": ("Patient: ", "Doctor: ")}
_PERSONA: dict[Language, str] = {
    "zh": "你是一名医生助手，通过检索、追问和答复来帮助患者。",
    "en": "You are a doctor's assistant who helps patients by searching, asking and answering.",
}
_INSTRUCTION: dict[Language, str] = {
    "zh": "### 指令\n请选择下一步行动：资料不足时用 RetrievalAction 检索，"
    "患者信息不足时用 AskAction 追问，信息充分时用 TellAction 答复。"
    "每次只执行一个行动。\n\n### 医患历史对话\n",
    "en": "### Instruction\nChoose the next action: RetrievalAction to search when knowledge is lacking, AskAction "
    "when the patient's information is lacking, TellAction when it is sufficient. "
    "Take exactly one action at a time.\n\n### Dialogue so far\n",
}
# The preamble of Qwen2.5's chat template around the tool list, word for word.
_TOOLS_HEAD = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>"
)
_TOOLS_TAIL = (
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
    '<tool_call></tool_call> XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}'
    "\n</tool_call>"
)


class ControlMarker(ValueError):
    """A text holds a control marker; `marker` is the marker, never the text around it."""

    def __init__(self, marker: str):
        super().__init__(f"control marker {marker!r} inside a text")
        self.marker = marker


class Step(NamedTuple):
    """One action and what came back: [{"query", "refined_result"}, …] for a retrieval, None for ask and tell."""

    action: Action
    results: Sequence[dict[str, str]] | None = None


def check(*texts: str) -> None:
    """Raises ControlMarker when one of the texts holds a control marker."""
    for text in texts:
        if "<" in text and (found := _MARKER.search(text)):
            raise ControlMarker(found.group())


def escape(text: str) -> str:
    """`text` with the `<` of every control marker written `＜`, so that it is ordinary text. For live input."""
    return _MARKER.sub(lambda found: "＜" + found.group()[1:], text)


def persona(language: Language) -> str:
    """The system sentence in front of the tool preamble."""
    return _PERSONA[language]


@lru_cache
def system_text(language: Language = "zh", layout: Layout = "medtune") -> str:
    """Content of the system turn: our sentence, a blank line, the template's tool preamble with the three schemas."""
    listed = "".join("\n" + json.dumps(tool, ensure_ascii=False) for tool in tools(language, layout))
    head = "\n" if layout == "reference" else persona(language) + "\n\n"
    return head + _TOOLS_HEAD + listed + _TOOLS_TAIL


def history_text(turns: Sequence[dict[str, Any]], language: Language = "zh") -> str:
    """A conversation prefix as labelled lines, without the last doctor text (the reference reply).

    turns: [{"patient", "doctor"}, …]; line breaks inside a turn become spaces. Raises ControlMarker.
    """
    patient, doctor = _LABELS[language]
    lines = []
    for number, turn in enumerate(turns, 1):
        lines.append(patient + _one_line(turn["patient"]))
        if number < len(turns):
            lines.append(doctor + _one_line(turn["doctor"]))
    return "\n".join(lines)


def user_text(turns: Sequence[dict[str, Any]], language: Language = "zh", layout: Layout = "medtune") -> str:
    """Content of the first user turn: the instruction, then the history. Raises ControlMarker."""
    return _INSTRUCTION[language] + history_text(turns, language) + ("\n\n" if layout == "reference" else "")


def call_text(action: Action, layout: Layout = "medtune") -> str:
    """Content of an assistant turn: one `<tool_call>` block. Raises ControlMarker."""
    name, given = json.dumps(type(action).__name__), arguments(action, layout)
    body = json.dumps(given, ensure_ascii=False)
    check(body)  # JSON escapes nothing that a marker is made of
    pair = f'"arguments": {body}, "name": {name}' if layout == "reference" else f'"name": {name}, "arguments": {body}'
    return "<tool_call>\n{" + pair + "}\n</tool_call>"


def results_json(results: Sequence[dict[str, str]], layout: Layout = "medtune") -> str:
    """One round's results as a tool message's content: a JSON array, or one object a line. Raises ControlMarker."""
    kept = [{"query": result["query"], "refined_result": result["refined_result"]} for result in results]
    lines = [json.dumps(result, ensure_ascii=False) for result in kept]
    check(*lines)
    return "\n".join(lines) if layout == "reference" else "[" + ", ".join(lines) + "]"


def response_text(results: Sequence[dict[str, str]], layout: Layout = "medtune") -> str:
    """Content of the user turn that carries retrieval results. Raises ControlMarker."""
    return "<tool_response>\n" + results_json(results, layout) + "\n</tool_response>"


def messages(
    turns: Sequence[dict[str, Any]], steps: Iterable[Step], language: Language = "zh", layout: Layout = "medtune"
) -> list[dict[str, str]]:
    """A conversation prefix and its action path → plain turns.

    Without a final ask or tell step the result ends with a user turn: the prompt of the next inference step, a prefix
    of the training text. Raises ControlMarker.
    """
    rendered = [
        {"role": "system", "content": system_text(language, layout)},
        {"role": "user", "content": user_text(turns, language, layout)},
    ]
    for step in steps:
        rendered.append({"role": "assistant", "content": call_text(step.action, layout)})
        if step.results is not None:
            rendered.append({"role": "user", "content": response_text(step.results, layout)})
    return rendered


def _one_line(text: str) -> str:
    check(text)
    return " ".join(part for line in text.splitlines() if (part := line.strip()))
