"""Golden rows of huatuo, patient-doctor, medical-qa and chat: one stored row → exactly these messages, or exactly this reason."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.batches import Batch
from converters.encode import Job, encode
from converters.shape import Options, Reject
from converters.sources import MODULES, shapes_of
from converters.splits import DEFAULT, parse_splits, thresholds

U, A, S = "user", "assistant", "system"
ANSWER = "多喝水。"
URL = "https://example.invalid/1.html"

# (source, shape, row, messages as (role, text), meta)
GOLDEN: list[tuple[str, str, Any, list[tuple[str, str]], dict[str, Any]]] = [
    (
        "huatuo",
        "huatuo26m-qa",
        {"questions": ["头痛？", "头疼？"], "answers": [ANSWER]},
        [(U, "头痛？"), (A, ANSWER)],
        {"other_questions": ["头疼？"]},
    ),
    (
        "huatuo",
        "huatuo26m-qa",
        {"question": "头痛怎么办", "answer": f" {ANSWER}\n"},
        [(U, "头痛怎么办"), (A, ANSWER)],
        {},
    ),
    (
        "huatuo",
        "huatuo-encyclopedia",
        {"questions": [["甲亢？", "甲亢呢"]], "answers": [ANSWER]},
        [(U, "甲亢？"), (A, ANSWER)],
        {"other_questions": ["甲亢呢"]},
    ),
    (
        "huatuo",
        "huatuo-knowledge-graph",
        {"questions": ["斑秃的病因是什么？"], "answers": ["甲；乙"]},
        [(U, "斑秃的病因是什么？"), (A, "甲；乙")],
        {},
    ),
    (
        "huatuo",
        "huatuo26m-lite",
        {"id": 3, "answer": ANSWER, "score": 5, "label": "内科", "question": "咳嗽", "related_diseases": ""},
        [(U, "咳嗽"), (A, ANSWER)],
        {"id": 3, "score": 5, "label": "内科"},
    ),
    (
        "huatuo",
        "huatuogpt-v1",
        {"data": ["问：甲\n", "答：答：乙", "问:丙", "医生：丁问：戊"]},
        [(U, "甲"), (A, "答：乙"), (U, "丙"), (A, "丁问：戊")],
        {},
    ),
    ("huatuo", "huatuogpt-v1", {"data": ["甲", "乙"]}, [(U, "甲"), (A, "乙")], {}),
    (
        "huatuo",
        "huatuogpt-v1",
        {"data": ["问：甲", "答：乙", "问：丙"]},
        [(U, "甲"), (A, "乙")],
        {"repaired": "cut-last-question"},
    ),
    (
        "huatuo",
        "huatuogpt-v1",
        {"data": ["问：甲", "问：乙", "答：丙"]},
        [(U, "甲\n乙"), (A, "丙")],
        {"repaired": "joined-turns"},
    ),
    (
        "huatuo",
        "huatuogpt2",
        {"id": "0", "conversations": [{"from": "human", "value": "甲"}, {"from": "gpt", "value": "乙"}]},
        [(U, "甲"), (A, "乙")],
        {"id": "0"},
    ),
    ("huatuo", "medical-o1", {"Question": "Q", "Complex_CoT": "Hmm.", "Response": "R"}, [(U, "Q"), (A, "R")], {}),
    ("huatuo", "huatuo-llama", {"instruction": "甲", "input": "乙", "output": "丙"}, [(U, "甲\n\n乙"), (A, "丙")], {}),
    (
        "huatuo",
        "huatuo-llama-turns",
        {"instruction": " <user>: 甲 <bot>: 乙 <user>: 丙", "input": "", "output": "丁", "id": "9"},
        [(U, "甲"), (A, "乙"), (U, "丙"), (A, "丁")],
        {"id": "9"},
    ),
    (
        "huatuo",
        "toyhom",
        {"department": "肝病科", "title": "题", "ask": "无", "answer": ANSWER},
        [(U, "题"), (A, ANSWER)],
        {"department": "肝病科"},
    ),
    (
        "huatuo",
        "toyhom",
        {"department": "肝病科", "title": "题", "ask": "问", "answer": ANSWER},
        [(U, "问"), (A, ANSWER)],
        {"department": "肝病科", "title": "题"},
    ),
    (
        "patient-doctor",
        "patient-doctor",
        {"Status": "Medium severity:\r", "Doctor": "rest", "Description": "is it flu", "Patient": "i have a fever"},
        [(U, "is it flu\n\ni have a fever"), (A, "rest")],
        {"status": "medium severity"},
    ),
    (
        "patient-doctor",
        "patient-doctor",
        {"Status": "urgent", "Doctor": "rest", "Description": "is it flu", "Patient": "is it flu i have a fever"},
        [(U, "is it flu i have a fever"), (A, "rest")],
        {"status": "urgent", "repaired": "unknown-status-kept"},
    ),
    (
        "medical-qa",
        "medical-qa",
        {"Question": "Q ?", "Answer": "A", "source": "NIH"},
        [(U, "Q ?"), (A, "A")],
        {"source": "NIH"},
    ),
    (
        "chat",
        "chat-alpaca",
        {"instruction": "i", "input": "x", "output": "o", "system": "s", "history": [["q", "a"]]},
        [(S, "s"), (U, "q"), (A, "a"), (U, "i\nx"), (A, "o")],
        {},
    ),
    (
        "chat",
        "chat-sharegpt",
        {
            "conversations": [
                {"from": "system", "value": "s"},
                {"from": "human", "value": "q"},
                {"from": "gpt", "value": "<think>t</think>\n\na"},
            ]
        },
        [(S, "s"), (U, "q"), (A, "a")],
        {},
    ),
    (
        "chat",
        "chat-messages",
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "q"}]},
                {"role": "assistant", "content": "a"},
            ]
        },
        [(U, "q"), (A, "a")],
        {},
    ),
    ("chat", "chat-prompt-completion", {"prompt": "q", "completion": " a", "n": 1}, [(U, "q"), (A, "a")], {"n": 1}),
    (
        "chat",
        "chat-prompt-completion",
        {"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "a"}]},
        [(U, "q"), (A, "a")],
        {},
    ),
]

REJECTED: list[tuple[str, str, Any, str]] = [
    ("huatuo", "huatuo-consultation", {"questions": ["q"], "answers": [URL]}, "answer-is-url"),
    ("huatuo", "huatuo26m-qa", {"questions": [], "answers": ["a"]}, "empty-question"),
    ("huatuo", "huatuo26m-qa", {"questions": ["q"], "answers": ["  "]}, "empty-answer"),
    ("huatuo", "huatuo26m-lite", {"question": "q", "answer": None}, "not-this-shape"),
    ("huatuo", "huatuo26m-lite", {"question": "q", "answer": " "}, "empty-answer"),
    ("huatuo", "huatuo26m-lite", {"question": "q", "answer": URL}, "answer-is-url"),
    ("huatuo", "huatuogpt-v1", {"data": ["答：甲", "问：乙"]}, "starts-with-answer"),
    ("huatuo", "huatuogpt-v1", {"data": ["问：甲"]}, "no-answer"),
    ("huatuo", "huatuogpt-v1", {"data": []}, "no-turns"),
    ("huatuo", "huatuogpt-v1", {"data": ["问：甲", "答： "]}, "empty-answer"),
    ("huatuo", "huatuogpt-v1", {"data": ["问：", "答：甲"]}, "empty-question"),
    ("huatuo", "huatuogpt-v1", {"data": ["问：甲", "答：", "问：乙", "答：丙"]}, "empty-turn"),
    ("huatuo", "huatuogpt-v1", {"data": ["问：甲", 5]}, "turn-is-not-text"),
    ("huatuo", "huatuogpt2", {"conversations": [{"from": "tool", "value": "x"}]}, "unknown-role"),
    ("huatuo", "toyhom", {"title": "无", "ask": "", "answer": "a"}, "empty-question"),
    ("patient-doctor", "patient-doctor", {"Description": "d", "Doctor": None, "Patient": "p"}, "empty-answer"),
    (
        "patient-doctor",
        "patient-doctor",
        {"Description": "d", "Doctor": "x", "Patient": "p", "_conversion_success": False},
        "conversion-failed",
    ),
    ("medical-qa", "medical-qa", {"question": "q", "answer": ""}, "empty-answer"),
    (
        "chat",
        "chat-messages",
        {"messages": [{"role": "user", "content": "q"}, {"role": "tool", "content": "r"}]},
        "tool-turn",
    ),
    ("chat", "chat-messages", {"messages": [{"role": "critic", "content": "q"}]}, "unknown-role"),
    (
        "chat",
        "chat-messages",
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        "content-is-not-text",
    ),
    ("chat", "chat-alpaca", {"instruction": "i", "output": "o", "history": ["x"]}, "history-is-not-pairs"),
    ("chat", "chat-alpaca", {"instruction": "i", "output": "<think>only"[:7] + "x</think>"}, "empty-answer"),
]


def shape(source: str, name: str):
    return next(found for found in shapes_of(source) if found.name == name)


@pytest.mark.parametrize(("source", "name", "row", "messages", "meta"), GOLDEN)
def test_golden_row(source: str, name: str, row: Any, messages: list[tuple[str, str]], meta: dict[str, Any]) -> None:
    recognised = [found.name for found in shapes_of(source) if found.recognise(row)]
    assert recognised[0] == name
    body, group, kept = shape(source, name).convert(row, Options())
    assert [(message["role"], message["content"]) for message in body["messages"]] == messages
    assert kept == meta
    assert group


@pytest.mark.parametrize(("source", "name", "row", "reason"), REJECTED)
def test_rejected_row(source: str, name: str, row: Any, reason: str) -> None:
    with pytest.raises(Reject) as caught:
        shape(source, name).convert(row, Options())
    assert caught.value.reason == reason


def test_think_keep_puts_the_reasoning_before_the_answer() -> None:
    row = {"Question": "Q", "Complex_CoT": " Hmm. ", "Response": "R"}
    body, _, _ = shape("huatuo", "medical-o1").convert(row, Options(think="keep"))
    assert body["messages"][1]["content"] == "<think>\nHmm.\n</think>\n\nR"
    kept, _, _ = shape("chat", "chat-alpaca").convert(
        {"instruction": "i", "output": "<think>t</think>\n\na"}, Options(think="keep")
    )
    assert kept["messages"][1]["content"] == "<think>t</think>\n\na"


def test_reply_original_takes_the_reply_before_rewriting() -> None:
    row = {
        "Description": "d",
        "Patient": "p",
        "Doctor": "- list",
        "_original_doctor": "flat",
        "_conversion_success": True,
    }
    body, _, meta = shape("patient-doctor", "patient-doctor").convert(row, Options(reply="original"))
    assert body["messages"][1]["content"] == "flat"
    assert meta == {}


KEYS = [
    "questions",
    "question",
    "answers",
    "answer",
    "data",
    "conversations",
    "messages",
    "instruction",
    "input",
    "output",
    "history",
    "system",
    "prompt",
    "completion",
    "Question",
    "Response",
    "Complex_CoT",
    "title",
    "ask",
    "Description",
    "Doctor",
    "Patient",
    "Status",
    "_original_doctor",
    "_conversion_success",
    "label",
    "score",
    "dialogue",
    "soap",
    "section_header",
    "section_text",
    "chosen",
    "rejected",
    "turns",
    "patient",
    "doctor",
    "path",
    "final",
    "reference",
    "teacher",
    "tools",
    "role",
    "content",
    "from",
    "value",
]
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 2**70)
    | st.floats(allow_nan=True)
    | st.text(max_size=12)
    | st.sampled_from(["问：a", "答：b", "user", "human", " <user>: x <bot>:", "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(row=VALUES | st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=8), think=st.sampled_from(["keep", "drop"]))
def test_garbage_is_converted_or_rejected_never_a_traceback(row: Any, think: str) -> None:
    for source in MODULES:
        for found in shapes_of(source):
            assert found.recognise(row) in (True, False)
            job = Job(source, found.name, "garbage", Options(think=think), 42, thresholds(parse_splits(DEFAULT)))
            done = encode(Batch("garbage", 1, rows=[row]), job)
            assert done.rows == len(done.ids) + sum(done.reasons.values())
            assert not [reason for reason in done.reasons if reason.startswith("defect")]
            for line in b"".join(done.blobs).splitlines():
                example = json.loads(line)
                turns = example["messages"] + [example[side] for side in ("chosen", "rejected") if side in example]
                assert all(isinstance(turn["content"], str) and turn["content"].strip() for turn in turns)
                assert all(turn["role"] in ("system", "user", "assistant") for turn in turns)
