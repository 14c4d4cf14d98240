"""One verdict per note and section: pass, fail, or unscored with the reason why the judge gave none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from eval import soap
from eval.recipe import EvalRecipe
from eval.rows import EvalRow
from store.hashing import content_id


class Verdict(BaseModel):
    """What a judge must reply. The reason comes first, so that it is written before the verdict is."""

    model_config = ConfigDict(extra="forbid")

    reason: str
    verdict: Literal["pass", "fail", "cannot_judge"]


@dataclass(frozen=True)
class SectionCase:
    """One question to a judge. ``problem`` is set when there is nothing to judge: the section fails without asking."""

    id: str
    section: str
    dialogue: str
    reference: str
    predicted: str
    problem: str | None

    def key(self, judge_hash: str) -> str:
        """Content hash of the question and of who is asked."""
        return content_id([judge_hash, self.id, self.section, self.dialogue, self.reference, self.predicted])


@dataclass(frozen=True)
class Cases:
    """All cases of one model, its parsed notes by row id, and how many dialogues were found without the marker."""

    cases: list[SectionCase]
    notes: dict[str, soap.Note]
    without_marker: int


def cases_of(rows: list[EvalRow], generations: list[dict[str, Any]], recipe: EvalRecipe) -> Cases:
    """Rows and generations (same order) → four cases per note."""
    cases: list[SectionCase] = []
    notes: dict[str, soap.Note] = {}
    without_marker = 0
    for row, generation in zip(rows, generations, strict=True):
        refused = generation["prediction"] is None
        note = notes[row.id] = soap.parse(generation["prediction"] or "")
        gold = soap.reference_sections(row)
        dialogue, marked = soap.dialogue_of(row, recipe)
        without_marker += not marked
        for key in soap.SECTIONS:
            problem = "no-output" if refused else note.problems.get(key)
            cases.append(SectionCase(row.id, key, dialogue, gold[key], note.sections.get(key, ""), problem))
    return Cases(cases, notes, without_marker)


def verdict_row(case: SectionCase, verdict: str, reason: str, cause: str) -> dict[str, Any]:
    """A line of ``verdicts.jsonl``; ``verdict`` is pass, fail or unscored, ``cause`` says who or what decided."""
    return {
        "id": case.id,
        "section": case.section,
        "verdict": verdict,
        "reason": reason,
        "cause": cause,
        "exact": case.problem is None and case.predicted == case.reference,
    }


def failed_unasked(case: SectionCase) -> dict[str, Any]:
    """The verdict on a section that cannot be judged because the candidate gave none: fail."""
    said = {
        "invalid-json": "the reply is not one JSON object",
        "missing": "the section is missing",
        "empty": "the section is empty",
        "not-a-string": "the section is not a string",
        "no-output": "the server refused the prompt: no output",
    }
    return verdict_row(case, "fail", said[case.problem or "missing"], case.problem or "missing")
