"""Conversations whose masks are easy to get wrong: one-word answers that stand in the question, several turns, a system turn."""

from __future__ import annotations

SYSTEM = {"role": "system", "content": "You are a careful doctor."}


def chat(*turns: str, system: bool = False) -> list[dict[str, str]]:
    """Alternating user and assistant turns."""
    roles = ("user", "assistant")
    return [SYSTEM] * system + [{"role": roles[at % 2], "content": text} for at, text in enumerate(turns)]


CONVERSATIONS = [
    chat("I have a cough.", "Since when?"),
    chat("Answer yes or no. Is aspirin a drug?", "yes"),
    chat("Which one? A. heparin B. aspirin", "A", system=True),
    chat("头痛三天了", "多大年纪？", "三十五岁", "先量血压。"),
    chat("Say it again: take rest.", "take rest."),
]
