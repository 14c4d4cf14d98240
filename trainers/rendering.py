"""Messages → token ids and labels, exactly as the server will see them. Pure: a tokenizer in, rows out.

For every trained assistant turn the preceding ids are the ids of the generation prompt the chat template gives for the
messages before it; the label is the turn's text and the end token, nothing else.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from store.errors import UserError

IGNORE = -100
Messages = list[dict[str, str]]


@dataclass(frozen=True)
class Row:
    """``ids`` and ``labels`` have one length; ``labels`` is -100 where nothing is learned."""

    ids: Sequence[int]
    labels: Sequence[int]

    @property
    def trained(self) -> int:
        """Number of tokens that carry loss (the first token of a row never does)."""
        return sum(label != IGNORE for label in self.labels[1:])


@dataclass(frozen=True)
class Renderer:
    """One chat template, with the settings that change what it writes."""

    tokenizer: Any
    enable_thinking: bool | None = None
    default_system: str | None = None

    def text(self, messages: Messages, generate: bool) -> str:
        """The template's text for ``messages``; with ``generate`` it ends where the assistant begins to speak."""
        if self.default_system and (not messages or messages[0]["role"] != "system"):
            messages = [{"role": "system", "content": self.default_system}, *messages]
        extra = {} if self.enable_thinking is None else {"enable_thinking": self.enable_thinking}
        return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generate, **extra)

    def encode(self, text: str) -> list[int]:
        """Ids of a piece of rendered text; the template has written every special token already."""
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def prompt(self, messages: Messages) -> list[int]:
        """Ids the server starts to generate from."""
        return self.encode(self.text(messages, generate=True))

    def answer(self, content: str) -> list[int]:
        """Ids of an assistant turn: its text, then the end token."""
        return [*self.encode(content), self.tokenizer.eos_token_id]


def check_template(renderer: Renderer) -> None:
    """An assistant turn must be closed by the tokenizer's end token, or generation would never stop where training does.

    Raises UserError naming the tokenizer.
    """
    probe = "probe answer"
    messages = [{"role": "user", "content": "probe"}, {"role": "assistant", "content": probe}]
    name = renderer.tokenizer.name_or_path
    if not renderer.tokenizer.chat_template:
        raise UserError(f"{name}: its tokenizer has no chat template; use an instruction-tuned model")
    text = renderer.text(messages, generate=False)
    after = text.rpartition(probe)[2]
    if not after.startswith(renderer.tokenizer.eos_token or "\0"):
        raise UserError(
            f"{name}: its template closes a turn with {after.strip()!r}, its eos_token is {renderer.tokenizer.eos_token!r}; "
            "they must be equal"
        )


def sft_rows(
    renderer: Renderer, messages: Messages, mask_history: bool = False, train_on_prompt: bool = False
) -> list[Row]:
    """Training rows of one conversation: one row where the template only appends, else one row per assistant turn.

    ``mask_history`` trains the last turn only; ``train_on_prompt`` puts the loss on every token.
    A template that rewrites earlier turns (Qwen3's thinking) makes the earlier ids differ from what is served, so such a
    conversation is cut into one row per assistant turn.
    """
    turns = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    if not turns or turns[-1] != len(messages) - 1:
        raise ValueError("a training conversation ends with an assistant turn")
    pieces = [(renderer.prompt(messages[:turn]), renderer.answer(messages[turn]["content"])) for turn in turns]
    if mask_history:
        pieces = pieces[-1:]
    elif len(pieces) > 1 and not _appends(pieces):
        return [_row([piece], train_on_prompt) for piece in pieces]
    return [_row(pieces, train_on_prompt)]


def _appends(pieces: list[tuple[list[int], list[int]]]) -> bool:
    """Whether each prompt begins with the whole of the turn before it."""
    return all(
        after[0][: len(before[0]) + len(before[1])] == before[0] + before[1]
        for before, after in itertools.pairwise(pieces)
    )


def _row(pieces: list[tuple[list[int], list[int]]], train_on_prompt: bool) -> Row:
    ids: list[int] = []
    labels: list[int] = []
    for prompt, answer in pieces:
        gap = prompt[len(ids) :]
        ids += gap + answer
        labels += (gap if train_on_prompt else [IGNORE] * len(gap)) + answer
    return Row(ids, labels)


def preference_rows(renderer: Renderer, messages: Messages, chosen: str, rejected: str) -> tuple[Row, Row]:
    """(chosen, rejected) rows over one prompt; labels cover the answers and their end tokens."""
    prompt = renderer.prompt(messages)
    return tuple(  # type: ignore[return-value]
        Row(prompt + answer, [IGNORE] * len(prompt) + answer)
        for answer in (renderer.answer(chosen), renderer.answer(rejected))
    )
