"""Turns of any public layout → messages, by one set of rules.

A system turn may open. After it, the first turn must be the user's ("starts-with-answer" otherwise). Consecutive turns of one
speaker are joined with a line break (repaired: "joined-turns"); a last question without an answer is cut (repaired:
"cut-last-question"), and if nothing remains the row is rejected ("no-answer"). An empty turn rejects the row: "empty-answer"
when it is the last answer, "empty-question" when it is the first question, else "empty-turn".
"""

from __future__ import annotations

from typing import Any

from converters.shape import Reject

Message = dict[str, str]

USER, ASSISTANT, SYSTEM = "user", "assistant", "system"


URL_STARTS = frozenset(("http", "www."))  # of four characters, for the hot path


def is_url(answer: str) -> bool:
    """The whole answer is one address, as in the consultation set: nothing to train on."""
    return answer.startswith(("http://", "https://", "www.")) and len(answer.split(None, 1)) == 1


def messages_of(turns: list[tuple[str, Any]]) -> tuple[list[Message], str]:
    """(role, text) turns → (messages that alternate user, assistant, …; what was repaired or ""). Raises Reject.

    Roles are "system", "user", "assistant"; texts are stripped.
    """
    found: list[Message] = []
    repaired = ""
    last = ""
    for role, text in turns:
        if not isinstance(text, str):
            raise Reject("turn-is-not-text")
        text = text.strip()
        if not text:
            if role == SYSTEM and not found:
                continue
            raise Reject(_empty(role, found, turns))
        if role == last and role != SYSTEM:
            found[-1]["content"] += "\n" + text
            repaired = "joined-turns"
            continue
        if role == SYSTEM and found:
            raise Reject("system-turn-inside")
        if role == ASSISTANT and last != USER:
            raise Reject("starts-with-answer")
        found.append({"role": role, "content": text})
        last = role
    if last == USER:
        found.pop()
        repaired = "cut-last-question"
        last = found[-1]["role"] if found else ""
    if last != ASSISTANT:
        raise Reject("no-answer" if turns else "no-turns")
    if is_url(found[-1]["content"]):
        raise Reject("answer-is-url")
    return found, repaired


def _empty(role: str, found: list[Message], turns: list[tuple[str, Any]]) -> str:
    if role == USER and not any(message["role"] == USER for message in found):
        return "empty-question"
    if role == ASSISTANT and not any(isinstance(text, str) and text.strip() for _, text in turns[len(found) + 1 :]):
        return "empty-answer"
    return "empty-turn"


def first_question(messages: list[Message]) -> str:
    """The group of a conversation: its first question. The same opening never falls on two sides of a split."""
    return messages[1]["content"] if messages[0]["role"] == SYSTEM else messages[0]["content"]


def with_thinking(reasoning: object, answer: str, think: str) -> str:
    """The answer, with the source's reasoning before it in the form of the Qwen3 template when `think` is "keep"."""
    if think == "keep" and isinstance(reasoning, str) and reasoning.strip():
        return f"<think>\n{reasoning.strip()}\n</think>\n\n{answer}"
    return answer


def drop_thinking(answer: str) -> str:
    """The answer without a leading `<think>…</think>` block."""
    start = answer.lstrip()
    if start.startswith("<think>"):
        _, closed, rest = start.partition("</think>")
        if closed:
            return rest.strip()
    return answer
