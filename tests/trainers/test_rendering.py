"""Labels = the assistant's text and its end token; what precedes them = what the server generates from."""

from __future__ import annotations

from pathlib import Path

import pytest

from store.errors import UserError
from tests.trainers.conversations import CONVERSATIONS, chat
from trainers.prepare import load_tokenizer
from trainers.rendering import IGNORE, Renderer, Row, check_template, preference_rows, sft_rows

# rewrites earlier turns, as Qwen3's template does: the empty thinking block stands only before the turn to generate
REWRITING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n\n</think>\n\n{% endif %}"
)


@pytest.fixture(scope="module")
def renderer(tiny_model: Path) -> Renderer:
    """The stand-in's own template, which equals Qwen2.5's."""
    return Renderer(load_tokenizer(str(tiny_model)))


def trained_texts(renderer: Renderer, row: Row) -> list[str]:
    """Each run of labelled tokens, decoded."""
    texts: list[str] = []
    for at, label in enumerate(row.labels):
        if label != IGNORE:
            assert label == row.ids[at]
            if at and row.labels[at - 1] != IGNORE:
                texts[-1] += renderer.tokenizer.decode([label])
            else:
                texts.append(renderer.tokenizer.decode([label]))
    return texts


@pytest.mark.parametrize("messages", CONVERSATIONS)
def test_labels_are_the_assistant_turns_and_their_end_token(renderer: Renderer, messages: list[dict[str, str]]) -> None:
    (row,) = sft_rows(renderer, messages)
    # decoded piece by piece, a multi-byte character may be split, so compare through the ids
    expected = [id_ for turn in messages if turn["role"] == "assistant" for id_ in renderer.answer(turn["content"])]
    assert [label for label in row.labels if label != IGNORE] == expected
    assert len(row.ids) == len(row.labels)


def test_an_answer_that_occurs_in_the_question_is_labelled_where_it_is_answered(renderer: Renderer) -> None:
    (row,) = sft_rows(renderer, chat("Answer yes or no. Is aspirin a drug?", "yes"))
    assert trained_texts(renderer, row) == ["yes<|im_end|>"]
    answered = len(renderer.answer("yes"))
    assert all(label == IGNORE for label in row.labels[:-answered])


@pytest.mark.parametrize("messages", CONVERSATIONS)
def test_each_trained_turn_follows_the_generation_prompt(renderer: Renderer, messages: list[dict[str, str]]) -> None:
    (row,) = sft_rows(renderer, messages)
    starts = [at for at, label in enumerate(row.labels) if label != IGNORE and row.labels[at - 1] == IGNORE]
    turns = [at for at, message in enumerate(messages) if message["role"] == "assistant"]
    served = [renderer.encode(renderer.text(messages[:turn], generate=True)) for turn in turns]
    assert [list(row.ids[:start]) for start in starts] == served


def test_a_row_without_system_turn_has_the_same_default_in_training_and_serving(renderer: Renderer) -> None:
    assert "You are Qwen" in renderer.text(chat("hello"), generate=True)
    with_system = Renderer(renderer.tokenizer, default_system="Be brief.")
    assert "Be brief." in with_system.text(chat("hello"), generate=True)
    assert "You are Qwen" not in with_system.text(chat("hello"), generate=True)


def test_a_template_that_rewrites_earlier_turns_gives_a_row_for_each(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model))
    tokenizer.chat_template = REWRITING
    renderer = Renderer(tokenizer)
    messages = chat("a headache", "Since when?", "yesterday", "Take rest.")
    rows = sft_rows(renderer, messages)
    assert [trained_texts(renderer, row) for row in rows] == [["Since when?<|im_end|>"], ["Take rest.<|im_end|>"]]
    for row, turn in zip(rows, (1, 3), strict=True):
        start = next(at for at, label in enumerate(row.labels) if label != IGNORE)
        assert list(row.ids[:start]) == renderer.prompt(messages[:turn])


def test_mask_history_trains_the_last_turn_only(renderer: Renderer) -> None:
    (row,) = sft_rows(renderer, chat("a", "first", "b", "second"), mask_history=True)
    assert trained_texts(renderer, row) == ["second<|im_end|>"]


def test_train_on_prompt_trains_everything(renderer: Renderer) -> None:
    (row,) = sft_rows(renderer, chat("a", "first"), train_on_prompt=True)
    assert list(row.labels) == list(row.ids)


def test_pairs_share_their_prompt_and_differ_in_the_answer(renderer: Renderer) -> None:
    chosen, rejected = preference_rows(renderer, chat("a cough"), "See a doctor.", "Ignore it.")
    prompt = renderer.prompt(chat("a cough"))
    assert chosen.ids[: len(prompt)] == rejected.ids[: len(prompt)] == prompt
    assert trained_texts(renderer, chosen) == ["See a doctor.<|im_end|>"]
    assert trained_texts(renderer, rejected) == ["Ignore it.<|im_end|>"]


def test_a_template_that_never_writes_the_end_token_is_refused(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model))
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    with pytest.raises(UserError, match="eos_token"):
        check_template(Renderer(tokenizer))
