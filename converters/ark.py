"""Ark sources: action paths of a teacher (dialogues, records, plain paths) and whole consultations.

A path becomes one example: system turn with the tools, user turn with the history up to the patient's last words,
then tool calls and tool responses; the trained reply is the teacher's. The doctor's own last reply never enters the
prompt; it is kept in meta when short. A whole consultation becomes one plain example per doctor turn.

Dropped by rule: the texts of retrieved documents (their ids stay in meta), token probabilities, the teacher's free
entity list. Turns and the text around a call must not hold control markers (`ark.renderer.check`): such a row is
rejected as "control-marker".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from ark.actions import LISTS, AskAction, Language, RetrievalAction, TellAction
from ark.renderer import ControlMarker, Step, check, messages
from converters.conversation import ASSISTANT, USER, messages_of
from converters.shape import SHORT, Draft, Options, Reject, Shape, leftover

_PATH_USED = frozenset(
    {"turns", "reference", "teacher", "prediction", "path", "final", "stop_reason", "ask_sentence", "ask_entities"}
)
_FINALS = {"ask", "tell"}
_CHINESE = re.compile("[一-鿿]")


def _turns(value: object) -> list[dict[str, str]]:
    """The turns of a prefix: every text present but the last doctor's, which is the reference."""
    if not isinstance(value, list) or not value:
        raise Reject("no-turns")
    for number, turn in enumerate(value, 1):
        if not isinstance(turn, dict):
            raise Reject("turn-is-not-an-object")
        for speaker in ("patient", "doctor"):
            said = turn.get(speaker)
            if speaker == "doctor" and number == len(value):
                continue
            if not isinstance(said, str) or not said.strip():
                raise Reject(f"empty-{speaker}-turn")
    return value


def _language(turns: list[dict[str, str]]) -> Language:
    """Chinese when any patient text holds a Chinese character: the labels and tool descriptions follow the dialogue."""
    return "zh" if any(_CHINESE.search(turn["patient"]) for turn in turns) else "en"


def _lists(entities: object) -> dict[str, list[str]]:
    """The seven lists, missing ones empty; `medcine` is the stored spelling."""
    stored = entities if isinstance(entities, dict) else {}
    if "medicine" in stored and "medcine" not in stored:
        stored = {**stored, "medcine": stored["medicine"]}
    return {name: stored.get(name) or [] for name in LISTS}


def _steps(path: dict[str, Any]) -> list[Step]:
    """A teacher's path → retrieval steps and the final step."""
    stored = path.get("path")
    if not isinstance(stored, list):
        raise Reject("no-path")
    steps = []
    for step in stored:
        if not isinstance(step, dict) or step.get("action") != "retrieve":
            raise Reject("unknown-action-in-path")
        results = step.get("results")
        if not isinstance(results, list) or not results:
            raise Reject("retrieval-without-results")
        for result in results:
            if not isinstance(result, dict) or not all(
                isinstance(result.get(k), str) for k in ("query", "refined_result")
            ):
                raise Reject("malformed-result")
        steps.append(
            Step(RetrievalAction.model_validate({key: step.get(key) for key in ("reasoning", "queries")}), results)
        )
    final = path.get("final")
    if not isinstance(final, dict) or final.get("action") not in _FINALS:
        raise Reject("no-final-action")
    said, reasoning = final.get("text"), final.get("reasoning")
    if not isinstance(said, str) or not said.strip():
        raise Reject("empty-answer")
    if final["action"] == "tell":
        return [*steps, Step(TellAction.model_validate({"reasoning": reasoning, "text": said}))]
    entities = path.get("ask_entities")
    lists = _lists(final.get("entities") if entities is None else entities)
    return [*steps, Step(AskAction.model_validate({"reasoning": reasoning, **lists, "text": said}))]


def _path_example(row: dict[str, Any], path: dict[str, Any]) -> Draft:
    turns = _turns(row.get("turns"))
    try:
        rendered = messages(turns, _steps(path), _language(turns))
    except ControlMarker:
        raise Reject("control-marker") from None
    except ValidationError:
        raise Reject("malformed-action") from None
    return Draft({"messages": rendered}, turns[0]["patient"], _meta(row, path))


def _meta(row: dict[str, Any], path: dict[str, Any]) -> dict[str, Any]:
    """What the example does not show: ids, the doctor's reply when short, document ids, a prediction in short."""
    meta = leftover(row, _PATH_USED)
    reference = row.get("reference")
    if isinstance(reference, dict):
        meta |= {
            "reference_" + key: value
            for key, value in leftover(reference, frozenset()).items()
            if key != "ask_sentence"
        }
    if isinstance(path.get("stop_reason"), str):
        meta["stop_reason"] = path["stop_reason"][:SHORT]
    documents = [str(d["id"]) for d in _documents(path.get("path")) if isinstance(d.get("id"), str | int)]
    if documents:
        meta["retrieved"] = documents
    prediction = row.get("prediction")
    if isinstance(prediction, dict):
        final = prediction["final"] if isinstance(prediction.get("final"), dict) else {}
        rounds = prediction["path"] if isinstance(prediction.get("path"), list) else []
        meta["prediction"] = leftover({k: final.get(k) for k in ("action", "text")}, frozenset()) | {
            "rounds": len(rounds)
        }
    return meta


def _documents(path: object) -> Iterable[dict[str, Any]]:
    for step in path if isinstance(path, list) else []:
        retrieved = step.get("retrieved") if isinstance(step, dict) else None
        for query in retrieved if isinstance(retrieved, list) else []:
            found = query.get("docs") if isinstance(query, dict) else None
            yield from (d for d in (found if isinstance(found, list) else []) if isinstance(d, dict))


def _teacher_row(row: dict[str, Any], options: Options) -> Draft:
    teacher = row.get("teacher")
    if not isinstance(teacher, dict):
        raise Reject("no-teacher-path")
    return _path_example(row, teacher)


def _path_row(row: dict[str, Any], options: Options) -> Draft:
    return _path_example(row, row)


def _doctor_turns(row: object) -> Iterable[dict[str, Any]]:
    """A whole consultation → {"turns": prefix, "turn": number, "conv_id" if known} per turn; at least one item."""
    consultation = row.get("consultation") if isinstance(row, dict) else row
    known = {"conv_id": row["conv_id"]} if isinstance(row, dict) and isinstance(row.get("conv_id"), str) else {}
    if not isinstance(consultation, list) or not consultation:
        yield {"turns": consultation, "turn": 1, **known}
        return
    for number in range(1, len(consultation) + 1):
        yield {"turns": consultation[:number], "turn": number, **known}


def _consultation_item(item: dict[str, Any], options: Options) -> Draft:
    """User = patient, assistant = doctor. An empty turn earlier in the prefix is skipped and its neighbours are joined."""
    turns = item.get("turns")
    if not isinstance(turns, list) or not turns:
        raise Reject("empty-consultation")
    spoken: list[tuple[str, str]] = []
    for number, turn in enumerate(turns, 1):
        if not isinstance(turn, dict):
            raise Reject("turn-is-not-an-object")
        for speaker, role in (("patient", USER), ("doctor", ASSISTANT)):
            said = turn.get(speaker)
            if isinstance(said, str) and said.strip():
                spoken.append((role, said))
            elif number == len(turns):
                raise Reject(f"empty-{speaker}-turn")
    rendered, repaired = messages_of(spoken)
    try:
        check(*(turn["content"] for turn in rendered))
    except ControlMarker:
        raise Reject("control-marker") from None
    meta: dict[str, Any] = {key: item[key] for key in ("conv_id", "turn") if key in item}
    if repaired:
        meta["repaired"] = repaired
    return Draft({"messages": rendered}, spoken[0][1], meta)


def _is_consultation(row: object) -> bool:
    turns = row.get("consultation") if isinstance(row, dict) else row
    return (
        isinstance(turns, list)
        and bool(turns)
        and all(isinstance(t, dict) and ("patient" in t or "doctor" in t) for t in turns)
    )


def _has(row: object, *names: str) -> bool:
    return isinstance(row, dict) and all(name in row for name in names)


SHAPES = (
    Shape(
        name="ark-records",
        source="ark",
        dataset="ark_records",
        columns=("turns", "teacher", "prediction"),
        recognise=lambda row: _has(row, "turns", "teacher", "prediction"),
        convert=_teacher_row,
    ),
    Shape(
        name="ark-dialogues",
        source="ark",
        dataset="ark",
        columns=("turns", "teacher"),
        recognise=lambda row: _has(row, "turns", "teacher") and not _has(row, "prediction"),
        convert=_teacher_row,
    ),
    Shape(
        name="ark-paths",
        source="ark",
        dataset="ark_paths",
        columns=("turns", "path", "final"),
        recognise=lambda row: _has(row, "turns", "path", "final") and not _has(row, "teacher"),
        convert=_path_row,
    ),
    Shape(
        name="ark-consultations",
        source="ark",
        dataset="ark_consultations",
        columns=("patient", "doctor"),
        recognise=_is_consultation,
        convert=_consultation_item,
        expand=_doctor_turns,
    ),
)
