"""Preference pairs: the public formats → one canonical pair {"messages" (ends with user), "chosen", "rejected"}.

A pair is rejected when a side is empty, both sides are equal, the last turn is not the user's, turns do not
alternate, or the prompt already contains the chosen answer. Very short answers may occur in the prompt ("yes", a
name): see LEAK_WIDTH.
"""

from __future__ import annotations

from typing import Any
from unicodedata import east_asian_width

from converters.chat import turns_of
from converters.conversation import ASSISTANT, SYSTEM, USER, Message, drop_thinking, first_question
from converters.shape import Draft, Options, Reject, Shape, leftover, text

DIALOGUE_HEAD = "### Dialogue:"
# A chosen answer at least this wide, in columns (a Chinese character has two), must not stand in the prompt.
LEAK_WIDTH = 24

_PAIR_USED = frozenset({"prompt", "conversations", "messages", "chosen", "rejected", "system"})
_QUESTION_USED = frozenset({"question", "response_chosen", "response_rejected", "system", "history"})


def _turns(items: object) -> list[Message]:
    """A list of {from, value} or {role, content} → messages; rejects any unknown role or empty turn."""
    return [{"role": role, "content": text(said, "empty-turn")} for role, said in turns_of(items)]


def _reply(side: object, reason: str, options: Options) -> str:
    """A chosen or rejected side, text or one assistant turn → its text, by THINK=drop without a leading `<think>` block."""
    if isinstance(side, dict):
        (role, side), *_ = turns_of([side])
        if role != ASSISTANT:
            raise Reject("reply-not-the-assistants")
    said = text(side, reason)
    return text(drop_thinking(said), reason) if options.think == "drop" else said


def _pair(turns: list[Message], chosen: str, rejected: str, meta: dict[str, Any]) -> Draft:
    """Checks a pair and gives it its group."""
    spoken = turns[1:] if turns and turns[0]["role"] == SYSTEM else turns
    if not spoken:
        raise Reject("empty-prompt")
    if spoken[-1]["role"] != USER:
        raise Reject("last-turn-not-user")
    for number, turn in enumerate(spoken):
        if turn["role"] != (ASSISTANT if number % 2 else USER):
            raise Reject("turns-not-alternating")
    if chosen == rejected:
        raise Reject("chosen-equals-rejected")
    if _leaks(turns, chosen):
        raise Reject("prompt-contains-chosen")
    body = {
        "messages": turns,
        "chosen": {"role": ASSISTANT, "content": chosen},
        "rejected": {"role": ASSISTANT, "content": rejected},
    }
    return Draft(body, group_of(spoken), meta)


def group_of(spoken: list[Message]) -> str:
    """What decides the split: the dialogue of a note-writing prompt, else the text that opens the conversation.

    The first is what converters.soap groups by. The opening, not the last turn, is what all prefixes of one
    conversation share.
    """
    for turn in spoken:
        if turn["role"] == USER and DIALOGUE_HEAD in turn["content"]:
            dialogue = turn["content"].split(DIALOGUE_HEAD, 1)[1].strip()
            if dialogue:
                return dialogue
    return first_question(spoken)


def _leaks(turns: list[Message], chosen: str) -> bool:
    """Does the chosen answer stand in a turn of the prompt, whatever the white space between its words?"""
    if len(chosen) < LEAK_WIDTH and sum(1 + (east_asian_width(each) in "WF") for each in chosen) < LEAK_WIDTH:
        return False
    probes = chosen.split(None, 8)[:8]  # rarely all in a prompt: then nothing longer is compared
    return any(
        all(probe in turn["content"] for probe in probes)
        and " ".join(chosen.split()) in " ".join(turn["content"].split())
        for turn in turns
    )


def _with_system(row: dict[str, Any], turns: list[Message]) -> list[Message]:
    system = row.get("system")
    if system is None or (isinstance(system, str) and not system.strip()):
        return turns
    if not isinstance(system, str):
        raise Reject("system-not-text")
    if turns and turns[0]["role"] == SYSTEM:
        raise Reject("two-system-turns")
    return [{"role": SYSTEM, "content": system.strip()}, *turns]


def _conversations(row: dict[str, Any], options: Options) -> Draft:
    turns = _with_system(row, _turns(row.get("conversations", row.get("messages"))))
    chosen = _reply(row.get("chosen"), "empty-chosen", options)
    return _pair(turns, chosen, _reply(row.get("rejected"), "empty-rejected", options), leftover(row, _PAIR_USED))


def _prompt(row: dict[str, Any], options: Options) -> Draft:
    turns = _with_system(row, [{"role": USER, "content": text(row.get("prompt"), "empty-prompt")}])
    chosen = _reply(row.get("chosen"), "empty-chosen", options)
    return _pair(turns, chosen, _reply(row.get("rejected"), "empty-rejected", options), leftover(row, _PAIR_USED))


def _question(row: dict[str, Any], options: Options) -> Draft:
    turns = []
    history = row.get("history")
    if history is None or history == "" or history == "[]":
        history = []
    if not isinstance(history, list):
        raise Reject("history-not-a-list")
    for exchange in history:
        if not isinstance(exchange, list | tuple) or len(exchange) != 2:
            raise Reject("history-not-pairs")
        turns.append({"role": USER, "content": text(exchange[0], "empty-turn")})
        turns.append({"role": ASSISTANT, "content": text(exchange[1], "empty-turn")})
    turns.append({"role": USER, "content": text(row.get("question"), "empty-prompt")})
    chosen = _reply(row.get("response_chosen"), "empty-chosen", options)
    rejected = _reply(row.get("response_rejected"), "empty-rejected", options)
    return _pair(_with_system(row, turns), chosen, rejected, leftover(row, _QUESTION_USED))


def _is_pair(row: object, prompt: str, side: type) -> bool:
    """A row with that prompt column whose sides are of that type (a side may be null)."""
    if not isinstance(row, dict) or not {prompt, "chosen", "rejected"} <= row.keys():
        return False
    return isinstance(row["chosen"], side) or (row["chosen"] is None and isinstance(row["rejected"], side))


def _shape(name: str, prompt: str, side: type, convert: Any) -> Shape:
    return Shape(
        name=name,
        source="preference",
        dataset="preference",
        columns=(prompt, "chosen", "rejected"),
        recognise=lambda row: _is_pair(row, prompt, side),
        convert=convert,
        kind="preference",
    )


SHAPES = (
    _shape("pair-messages", "messages", dict, _conversations),
    _shape("pair-sharegpt", "conversations", dict, _conversations),
    _shape("pair-sharegpt-text", "conversations", str, _conversations),
    Shape(
        name="pair-question",
        source="preference",
        dataset="preference",
        columns=("question", "response_chosen", "response_rejected"),
        recognise=lambda row: (
            isinstance(row, dict) and {"question", "response_chosen", "response_rejected"} <= row.keys()
        ),
        convert=_question,
        kind="preference",
    ),
    _shape("pair-prompt", "prompt", str, _prompt),
)
