"""Medical question–answer tables (MedQuAD and its copies): columns question, answer, in any case and order.

The question is the group, so one question with several answers stays on one side of a split.
"""

from __future__ import annotations

from typing import Any

from converters.conversation import ASSISTANT, USER, is_url
from converters.shape import Draft, Options, Reject, Shape, leftover, text

USED = frozenset(("question", "answer"))


def _is_qa(row: object) -> bool:
    """A row of columns question and answer that is none of the sets with marks of their own (Huatuo26M-Lite, Toyhom)."""
    if not isinstance(row, dict):
        return False
    names = {name.lower() for name in row if isinstance(name, str)}
    return names >= USED and not names & {"label", "related_diseases", "ask", "complex_cot"}


def _convert(row: Any, options: Options) -> Draft:
    if "question" not in row or "answer" not in row:
        row = {name.lower() if isinstance(name, str) else name: value for name, value in row.items()}
    question = text(row.get("question"), "empty-question")
    answer = text(row.get("answer"), "empty-answer")
    if is_url(answer):
        raise Reject("answer-is-url")
    messages = [{"role": USER, "content": question}, {"role": ASSISTANT, "content": answer}]
    return Draft({"messages": messages}, question, leftover(row, USED))


SHAPES = (Shape("medical-qa", "medical-qa", "medical_qa", ("question", "answer"), _is_qa, _convert),)
