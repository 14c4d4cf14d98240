"""The reference system's pickles as plain rows: `records.pkl` (offline inference), `tagged.pkl` (whole consultations).

`load` returns rows in the layout of `records.jsonl`, or `{"conv_id", "consultation"}` rows; what retrieval returned
is reduced to document ids. Nothing in the file is executed (`unpickler.py`).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ark.actions import LISTS
from ark.unpickler import Plain, read
from store.errors import UserError


def load(path: str | Path) -> list[dict[str, Any]]:
    """Rows of a `records.pkl` or `tagged.pkl`. Raises UserError for another layout, a refused global or a torn file."""
    content = read(path)
    if isinstance(content, dict) and all(isinstance(key, str) for key in content):
        if any(isinstance(turns, list) for turns in content.values()):
            return [{"conv_id": key, "consultation": plain(turns)} for key, turns in content.items()]
    elif isinstance(content, list):
        if any(_is_record(row) for row in content):
            return [_record(*row) if _is_record(row) else _no_record(row) for row in content]
        if any(isinstance(row, list) for row in content):
            return [{"consultation": plain(row)} for row in content]
    raise UserError(
        f"{path}: expected records.pkl (a list of [item, retrieval_actions, final_action, step_token_probs]) or tagged.pkl "
        f"(a dict: hash → [{{patient, doctor}}, …]); found a {type(content).__name__} of something else"
    )


def _is_record(row: object) -> bool:
    """A stored record: four parts, the first a dict that holds a conversation."""
    return isinstance(row, list | tuple) and len(row) == 4 and isinstance(row[0], dict) and "conversation" in row[0]


def _no_record(row: object) -> dict[str, Any]:
    """A row among records that is none: the converter rejects and counts it."""
    return {"turns": None, "teacher": None, "prediction": plain(row)}


def plain(value: Any, depth: int = 12) -> Any:
    """`value` as JSON has it: stand-ins as dicts, sets as sorted lists, the unknown as text, None below `depth`."""
    if value is None or isinstance(value, str | int | float):
        return value
    if depth == 0:
        return None
    if isinstance(value, Plain):
        value = value.fields
    if isinstance(value, dict):
        return {str(key): plain(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, depth - 1) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(str(item) for item in value)
    return str(value)


def _fields(value: object) -> dict[str, Any]:
    """The fields of a stand-in or dict; {} for anything else."""
    fields = value.fields if isinstance(value, Plain) else value
    return fields if isinstance(fields, dict) else {}


def _list(value: object) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _entities(value: object) -> dict[str, Any] | None:
    fields = _fields(value)
    return {name: plain(fields[name]) for name in LISTS if name in fields} or None


def _record(item: dict[str, Any], retrievals: object, final: object, probabilities: object) -> dict[str, Any]:
    """One `[item, retrieval_actions, final_action, step_token_probs]` in the layout of records.jsonl."""
    source = _fields(item.get("all_meta")) or item
    turns = plain(item.get("conversation"))
    last = turns[-1] if isinstance(turns, list) and turns and isinstance(turns[-1], dict) else {}
    return {
        "item_id": hashlib.sha256(json.dumps(turns, ensure_ascii=False, sort_keys=True).encode()).hexdigest()[:16],
        "conv_id": plain(source.get("conv_id")),
        "src_ds": plain(source.get("src_ds")),
        "turns": turns,
        "reference": {
            "text": last.get("doctor"),
            "is_asking": plain(source.get("doc_is_asking")),
            "ask_sentence": plain(source.get("doc_ask_sentence")),
            "ask_entities": _entities(source.get("doc_objs")),
        },
        "prediction": _prediction(_list(retrievals), final, probabilities),
        "teacher": _teacher(source, _fields(item.get("response_structured_with_raw"))),
    }


def _prediction(retrievals: list[Any], final: object, probabilities: object) -> dict[str, Any]:
    fields = _fields(final)
    action = None
    if fields:
        action = {
            "action": "ask" if type(final).__name__ == "AskAction" else "tell",
            "reasoning": plain(fields.get("reasoning")),
        }
        action["text"] = plain(fields.get("text"))
        if action["action"] == "ask":
            action["entities"] = _entities(final)
    path = [
        {"action": "retrieve", **{k: plain(_fields(r).get(k)) for k in ("reasoning", "queries")}} for r in retrievals
    ]
    return {"path": path, "final": action, "step_token_probs": plain(probabilities)}


def _teacher(source: dict[str, Any], response: dict[str, Any]) -> dict[str, Any]:
    """The first pass (plan, look up, check, respond) of one item: path, stop reason, final action, its entity lists."""
    results, documents = _list(source.get("query_history_by_turn")), _list(source.get("rag_metas"))
    path = []
    for number, request in enumerate(_list(source.get("query_requests"))):
        if number == len(results):
            break  # a request that was never looked up: the path ended there
        fields = _fields(request)
        path.append(
            {
                "action": "retrieve",
                "reasoning": plain(fields.get("reasoning")),
                "queries": plain(fields.get("queries")),
                "results": plain(results[number]),
                "retrieved": _documents(documents[number] if number < len(documents) else []),
            }
        )
    parsed = _fields(response.get("parsed"))
    final = None
    if parsed:
        final = {
            "action": "ask" if parsed.get("is_asking") else "tell",
            "reasoning": plain(parsed.get("reasoning")),
            "entities_free": plain(parsed.get("entities")),
            "text": plain(parsed.get("text")),
        }
    return {
        "path": path,
        "stop_reason": plain(source.get("break_because")),
        "final": final,
        "ask_sentence": plain(source.get("ask_sentence")),
        "ask_entities": _entities(source.get("objs")),
    }


def _documents(round_meta: object) -> list[dict[str, Any]]:
    """Document ids per query of one retrieval round; the texts belong to the knowledge base."""
    found = []
    for query in _list(round_meta):
        stored = (_fields(document).get("metadata") for document in _list(_fields(query).get("vector_store")))
        found.append({"docs": [{"id": plain(_fields(metadata).get("id"))} for metadata in stored]})
    return found
