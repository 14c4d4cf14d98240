"""The Huatuo family: ten published data sets of Chinese medical questions and consultations.

Rules: first phrasing, first answer; the others go to meta when short. Role marks (问：, 患者：, <user>:) are taken off at the start of a
turn only. An answer that is nothing but an address is rejected. No system prompt is invented. The question sets, the
encyclopedia and the knowledge graph share one layout and differ in nesting and wording, which decides only the set's name.
Sources: data cards of FreedomIntelligence/{huatuo26M-testdatasets, huatuo_encyclopedia_qa, huatuo_knowledge_graph_qa,
huatuo_consultation_qa, Huatuo26M-Lite, HuatuoGPT-sft-data-v1, HuatuoGPT2-SFT-GPT4-140K, medical-o1-reasoning-SFT};
SCIR-HI/Huatuo-Llama-Med-Chinese; Toyhom/Chinese-medical-dialogue-data.
"""

from __future__ import annotations

import re
from typing import Any

from converters.conversation import ASSISTANT, URL_STARTS, USER, first_question, is_url, messages_of, with_thinking
from converters.shape import SHORT, Draft, Options, Reject, Shape, leftover, text

SOURCE = "huatuo"
CHINESE = re.compile("[\u4e00-\u9fff]")
GRAPH_QUESTION = re.compile(r"的.+?(是什么|有些什么|有哪些|是多少|在哪里)[？?]?\s*$")
TURN_MARK = re.compile(r"(问|答|患者|病人|医生|用户|<user>|<bot>|<病人>|<医生>)\s*[：:]\s*")
INLINE_TURN = re.compile(r"(?:^|\s)<(user|bot)>\s*[:：]\s*")
ASKS = frozenset(("问", "患者", "病人", "用户", "<user>", "<病人>"))
NOTHING = frozenset(("", "无", "无。", "没有"))


def _pair(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": USER, "content": question}, {"role": ASSISTANT, "content": answer}]}


def _answer(value: object) -> str:
    answer = text(value, "empty-answer")
    if is_url(answer):
        raise Reject("answer-is-url")
    return answer


def _phrasings(row: object, plural: str, singular: str) -> list[Any] | None:
    """The strings under `plural` or `singular`, one level of nesting opened; None when neither is there."""
    if not isinstance(row, dict):
        return None
    value = row.get(plural, row.get(singular))
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        return None
    flat: list[Any] = []
    for entry in value:
        if isinstance(entry, list):
            flat += entry
        else:
            flat.append(entry)
    return flat


def _is_question_set(row: object) -> bool:
    """Plural lists, or a public copy with singular names: that one only when Chinese, as English pairs are medical-qa."""
    questions, answers = _phrasings(row, "questions", "question"), _phrasings(row, "answers", "answer")
    if questions is None or answers is None or not isinstance(row, dict):
        return False
    return "questions" in row or "answers" in row or bool(questions and CHINESE.search(str(questions[0])))


def _is_consultation(row: object) -> bool:
    answers = _phrasings(row, "answers", "answer") or [None]
    return _is_question_set(row) and isinstance(answers[0], str) and is_url(answers[0].strip())


def _is_encyclopedia(row: object) -> bool:
    return (
        _is_question_set(row)
        and isinstance(row, dict)
        and isinstance(row.get("questions"), list)
        and any(isinstance(entry, list) for entry in row["questions"])
    )


def _is_graph(row: object) -> bool:
    questions = _phrasings(row, "questions", "question") or [""]
    return _is_question_set(row) and bool(GRAPH_QUESTION.search(str(questions[0])))


QUESTION_SET_USED = frozenset(("questions", "question", "answers", "answer"))


def _question_set(row: Any, options: Options) -> Draft:
    questions, answers = _phrasings(row, "questions", "question"), _phrasings(row, "answers", "answer")
    if questions is None or answers is None:
        raise Reject("not-this-shape")
    question = text(_first(questions), "empty-question")
    answer = _answer(_first(answers))
    meta = leftover(row, QUESTION_SET_USED) if len(row) > 2 else {}
    if len(questions) > 1 or len(answers) > 1:
        meta = {**meta, **_others("other_questions", questions, question), **_others("other_answers", answers, answer)}
    return Draft(_pair(question, answer), question, meta)


def _first(values: list[Any]) -> Any:
    for value in values:
        if isinstance(value, str) and value.strip():
            return value
    return None


def _others(name: str, values: list[Any], taken: str) -> dict[str, Any]:
    others = [value for value in values if isinstance(value, str) and value.strip() and value.strip() != taken]
    if not others:
        return {}
    short = [value for value in others if len(value) <= SHORT]
    return (
        {name: short}
        if sum(map(len, short)) <= 5 * SHORT and len(short) == len(others)
        else {f"{name}_count": len(others)}
    )


LITE_USED = frozenset(("question", "answer"))


def _is_lite(row: object) -> bool:
    return (
        isinstance(row, dict)
        and "question" in row
        and "answer" in row
        and "label" in row
        and ("score" in row or "related_diseases" in row)
    )


def _lite(row: Any, options: Options) -> Draft:
    try:
        question, answer = row["question"].strip(), row["answer"].strip()
    except (KeyError, TypeError, AttributeError):
        raise Reject("not-this-shape") from None
    if not question:
        raise Reject("empty-question")
    if not answer:
        raise Reject("empty-answer")
    if answer[:4] in URL_STARTS and is_url(answer):
        raise Reject("answer-is-url")
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": messages}, question, leftover(row, LITE_USED)  # type: ignore[return-value]  # a bare tuple is cheaper


O1_USED = frozenset(("Question", "Complex_CoT", "Response"))


def _is_o1(row: object) -> bool:
    return isinstance(row, dict) and "Question" in row and "Response" in row


def _o1(row: Any, options: Options) -> Draft:
    question = text(row.get("Question"), "empty-question")
    answer = with_thinking(row.get("Complex_CoT"), _answer(row.get("Response")), options.think)
    return Draft(_pair(question, answer), question, leftover(row, O1_USED))


TOYHOM_USED = frozenset(("ask", "answer"))


def _is_toyhom(row: object) -> bool:
    return isinstance(row, dict) and {"title", "ask", "answer"} <= row.keys()


def _toyhom(row: Any, options: Options) -> Draft:
    """`ask` is the question; where the patient left it at "无", the title is."""
    ask = row.get("ask")
    used = TOYHOM_USED
    if not isinstance(ask, str) or ask.strip() in NOTHING:
        ask, used = row.get("title"), TOYHOM_USED | {"title"}
    question = text(ask, "empty-question")
    if question in NOTHING:
        raise Reject("empty-question")
    return Draft(_pair(question, _answer(row.get("answer"))), question, leftover(row, used))


INSTRUCTION_USED = frozenset(("instruction", "input", "output"))


def _is_instruction(row: object) -> bool:
    return (
        isinstance(row, dict)
        and "instruction" in row
        and "output" in row
        and "history" not in row
        and "system" not in row
    )


def _is_inline(row: object) -> bool:
    return (
        _is_instruction(row)
        and isinstance(row, dict)
        and isinstance(row["instruction"], str)
        and bool(INLINE_TURN.match(row["instruction"].strip()))
    )


def _instruction(row: Any, options: Options) -> Draft:
    """instruction, and a non-empty input after a blank line; turns inside the instruction are taken apart."""
    question = text(row.get("instruction"), "empty-question")
    if INLINE_TURN.match(question):
        return _inline(question, row)
    extra = row.get("input")
    if isinstance(extra, str) and extra.strip():
        question = f"{question}\n\n{extra.strip()}"
    return Draft(_pair(question, _answer(row.get("output"))), question, leftover(row, INSTRUCTION_USED))


def _inline(instruction: str, row: dict[str, Any]) -> Draft:
    parts = INLINE_TURN.split(instruction)
    turns: list[tuple[str, Any]] = [
        (USER if mark == "user" else ASSISTANT, said) for mark, said in zip(parts[1::2], parts[2::2], strict=True)
    ]
    if turns[-1][0] == ASSISTANT and not turns[-1][1].strip():
        turns.pop()  # "<bot>:" as the cue for the output
    if isinstance(row.get("input"), str) and row["input"].strip():
        turns.append((USER, row["input"]))
    messages, repaired = messages_of([*turns, (ASSISTANT, text(row.get("output"), "empty-answer"))])
    return _conversation_draft(messages, repaired, leftover(row, INSTRUCTION_USED))


def _conversation_draft(messages: list[dict[str, str]], repaired: str, meta: dict[str, Any]) -> Draft:
    if repaired:
        meta = {**meta, "repaired": repaired}
    return Draft({"messages": messages}, first_question(messages), meta)


def _is_marked_turns(row: object) -> bool:
    return (
        isinstance(row, dict)
        and isinstance(row.get("data"), list)
        and bool(row["data"])
        and all(isinstance(turn, str) for turn in row["data"])
    )


def _marked_turns(row: Any, options: Options) -> Draft:
    """`data`: ["问：…", "答：…", …]. A turn without a mark speaks for whose turn it is: even the patient's, odd the doctor's."""
    data = row.get("data") if isinstance(row, dict) else None
    if not isinstance(data, list):
        raise Reject("not-this-shape")
    try:
        # the published layout, strictly alternating and at most 128 turns, without a detour
        texts = [turn[2:].strip() for turn in data]
        alternate = 0 < len(texts) <= len(ROLES) and not len(texts) & 1 and all(map(str.startswith, data, MARKS))
        if alternate and all(texts) and not is_url(texts[-1]):
            messages = [{"role": role, "content": said} for role, said in zip(ROLES, texts)]  # noqa: B905 - ROLES is longer
            meta = leftover(row, MARKED_USED) if len(row) > 1 else {}
            return {"messages": messages}, texts[0], meta  # type: ignore[return-value]  # a bare tuple is cheaper
    except (TypeError, AttributeError):
        pass  # a turn that is no text: told by name below
    messages, repaired = messages_of([_marked(turn, index) for index, turn in enumerate(data)])
    return _conversation_draft(messages, repaired, leftover(row, MARKED_USED))


MARKED_USED = frozenset(("data",))
MARKS, ROLES = ("问：", "答：") * 64, (USER, ASSISTANT) * 64


def _marked(turn: object, index: int) -> tuple[str, Any]:
    role = ASSISTANT if index & 1 else USER
    if isinstance(turn, str) and (mark := TURN_MARK.match(turn.lstrip())):
        role = USER if mark.group(1) in ASKS else ASSISTANT
        turn = turn.lstrip()[mark.end() :]
    return role, turn


SPEAKERS = {"human": USER, "user": USER, "gpt": ASSISTANT, "assistant": ASSISTANT}
CONVERSATION_USED = frozenset(("conversations",))


def _is_gpt_conversation(row: object) -> bool:
    turns = row.get("conversations") if isinstance(row, dict) else None
    return (
        isinstance(turns, list)
        and bool(turns)
        and all(isinstance(turn, dict) and "from" in turn and "value" in turn for turn in turns)
    )


def _gpt_conversation(row: Any, options: Options) -> Draft:
    turns = row.get("conversations") if isinstance(row, dict) else None
    if not isinstance(turns, list):
        raise Reject("not-this-shape")
    try:
        pairs = [(SPEAKERS[turn["from"]], turn["value"]) for turn in turns]
    except (KeyError, TypeError):
        raise Reject("unknown-role") from None
    messages, repaired = messages_of(pairs)
    return _conversation_draft(messages, repaired, leftover(row, CONVERSATION_USED))


SHAPES = (
    Shape(
        "huatuo-consultation", SOURCE, "huatuo_consultation", ("questions", "answers"), _is_consultation, _question_set
    ),
    Shape("huatuo26m-lite", SOURCE, "huatuo_lite", ("id", "question", "answer", "label", "score"), _is_lite, _lite),
    Shape(
        "huatuo-encyclopedia", SOURCE, "huatuo_encyclopedia", ("questions", "answers"), _is_encyclopedia, _question_set
    ),
    Shape(
        "huatuo-knowledge-graph", SOURCE, "huatuo_knowledge_graph", ("questions", "answers"), _is_graph, _question_set
    ),
    Shape("toyhom", SOURCE, "toyhom", ("department", "title", "ask", "answer"), _is_toyhom, _toyhom),
    Shape("huatuo26m-qa", SOURCE, "huatuo26m_qa", ("questions", "answers"), _is_question_set, _question_set),
    Shape("huatuogpt-v1", SOURCE, "huatuogpt_v1", ("data",), _is_marked_turns, _marked_turns),
    Shape("huatuogpt2", SOURCE, "huatuogpt2", ("conversations",), _is_gpt_conversation, _gpt_conversation),
    Shape("medical-o1", SOURCE, "medical_o1", ("Question", "Complex_CoT", "Response"), _is_o1, _o1),
    Shape("huatuo-llama-turns", SOURCE, "liver_cancer", ("instruction", "input", "output"), _is_inline, _instruction),
    Shape("huatuo-llama", SOURCE, "huatuo_llama", ("instruction", "input", "output"), _is_instruction, _instruction),
)
