"""The user's own rows: alpaca, sharegpt, messages or prompt-completion, as LLaMA-Factory and TRL write them.

Rows with tool calls or roles other than system, user and assistant are rejected ("tool-turn", "unknown-role"): training
text for tools is written by the Ark converter. THINK=drop takes a leading `<think>…</think>` off the answers.
"""

from __future__ import annotations

from typing import Any

from converters.conversation import ASSISTANT, SYSTEM, USER, Message, drop_thinking, first_question, messages_of
from converters.shape import Draft, Options, Reject, Shape, leftover, text

SOURCE = "chat"
ROLES = {
    "system": SYSTEM,
    "user": USER,
    "human": USER,
    "assistant": ASSISTANT,
    "gpt": ASSISTANT,
    "bot": ASSISTANT,
    "model": ASSISTANT,
}
TOOL_ROLES = frozenset(
    ("tool", "tools", "function", "function_call", "observation", "ipython", "tool_call", "tool_response")
)

Turns = list[tuple[str, Any]]


def role_of(name: object) -> str:
    """A public role name → system, user or assistant. Raises Reject."""
    role = ROLES.get(name.strip().lower()) if isinstance(name, str) else None
    if role is None:
        raise Reject("tool-turn" if isinstance(name, str) and name.strip().lower() in TOOL_ROLES else "unknown-role")
    return role


def turns_of(value: object) -> Turns:
    """A list of {from, value} or {role, content} → turns. Raises Reject."""
    if not isinstance(value, list) or not value:
        raise Reject("no-turns")
    turns: Turns = []
    for turn in value:
        if not isinstance(turn, dict):
            raise Reject("turn-is-not-an-object")
        if turn.get("tool_calls") or turn.get("function_call"):
            raise Reject("tool-turn")
        role = role_of(turn["role"] if "role" in turn else turn.get("from"))
        turns.append((role, _plain(turn["content"] if "content" in turn else turn.get("value"))))
    return turns


def _plain(content: object) -> object:
    """OpenAI content parts → their text; images and other parts reject the row."""
    if not isinstance(content, list):
        return content
    if not all(
        isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str) for part in content
    ):
        raise Reject("content-is-not-text")
    return "".join(part["text"] for part in content)


def draft(turns: Turns, system: object, options: Options, meta: dict[str, Any]) -> Draft:
    """Turns and an optional system text of its own → a draft. Raises Reject."""
    if isinstance(system, str) and system.strip():
        if turns and turns[0][0] == SYSTEM:
            turns = turns[1:] if turns[0][1] == system else turns
        if not (turns and turns[0][0] == SYSTEM):
            turns = [(SYSTEM, system), *turns]
    messages, repaired = messages_of(turns)
    if options.think == "drop":
        messages = [_without_thinking(message) for message in messages]
    if repaired:
        meta = {**meta, "repaired": repaired}
    return Draft({"messages": messages}, first_question(messages), meta)


def _without_thinking(message: Message) -> Message:
    if message["role"] != ASSISTANT:
        return message
    return {"role": ASSISTANT, "content": text(drop_thinking(message["content"]), "empty-answer")}


def _has(row: object, *names: str) -> bool:
    return isinstance(row, dict) and all(name in row for name in names)


# --- messages and sharegpt -----------------------------------------------------------------------------------------------------

LIST_NAMES = ("messages", "conversations", "conversation")
LIST_USED = frozenset((*LIST_NAMES, "system", "tools"))


def _list_of(row: object) -> list[Any] | None:
    if isinstance(row, dict):
        for name in LIST_NAMES:
            if isinstance(row.get(name), list):
                return row[name]
    return None


def _is_messages(row: object) -> bool:
    turns = _list_of(row) or [None]
    return isinstance(turns[0], dict) and "role" in turns[0] and isinstance(row, dict) and "chosen" not in row


def _is_sharegpt(row: object) -> bool:
    turns = _list_of(row) or [None]
    return isinstance(turns[0], dict) and "from" in turns[0] and isinstance(row, dict) and "chosen" not in row


def _turn_list(row: Any, options: Options) -> Draft:
    turns = _list_of(row)
    if turns is None:
        raise Reject("not-this-shape")
    if row.get("tools"):
        raise Reject("tool-turn")
    return draft(turns_of(turns), row.get("system"), options, leftover(row, LIST_USED))


# --- alpaca -----------------------------------------------------------------------------------------------------------------------

ALPACA_USED = frozenset(("instruction", "input", "output", "history", "system"))


def _alpaca(row: Any, options: Options) -> Draft:
    """instruction + a line break + input, as LLaMA-Factory joins them; history is [[question, answer], …]."""
    turns: Turns = []
    history = row.get("history") or []
    if not isinstance(history, list):
        raise Reject("history-is-not-pairs")
    for pair in history:
        if not isinstance(pair, list) or len(pair) != 2:
            raise Reject("history-is-not-pairs")
        turns += [(USER, pair[0]), (ASSISTANT, pair[1])]
    words = [
        part.strip() for part in (row.get("instruction"), row.get("input")) if isinstance(part, str) and part.strip()
    ]
    turns += [(USER, "\n".join(words)), (ASSISTANT, text(row.get("output"), "empty-answer"))]
    return draft(turns, row.get("system"), options, leftover(row, ALPACA_USED))


# --- prompt-completion -------------------------------------------------------------------------------------------------------------

PROMPT_USED = frozenset(("prompt", "completion", "system"))


def _prompt_completion(row: Any, options: Options) -> Draft:
    """Plain text, or TRL's lists of messages."""
    prompt, completion = row.get("prompt"), row.get("completion")
    turns = turns_of(prompt) if isinstance(prompt, list) else [(USER, text(prompt, "empty-question"))]
    if isinstance(completion, list):
        turns += turns_of(completion)
    else:
        turns.append((ASSISTANT, text(completion, "empty-answer")))
    return draft(turns, row.get("system"), options, leftover(row, PROMPT_USED))


SHAPES = (
    Shape("chat-messages", SOURCE, "chat", ("messages",), _is_messages, _turn_list),
    Shape("chat-sharegpt", SOURCE, "chat", ("conversations",), _is_sharegpt, _turn_list),
    Shape(
        "chat-alpaca",
        SOURCE,
        "chat",
        ("instruction", "output"),
        lambda row: _has(row, "instruction", "output"),
        _alpaca,
    ),
    Shape(
        "chat-prompt-completion",
        SOURCE,
        "chat",
        ("prompt", "completion"),
        lambda row: _has(row, "prompt", "completion"),
        _prompt_completion,
    ),
)
