"""Old pickles: the two layouts are read, everything else is refused and nothing in the file runs."""

from __future__ import annotations

import builtins
import collections
import functools
import json
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ark import pickles, unpickler
from store.errors import UserError

CONVERSATION = [{"patient": "咳嗽", "doctor": "多久了？"}, {"patient": "三天", "doctor": "多喝水。"}]


class Calls:
    """Pickles as a call of `function(*given)`."""

    def __init__(self, function: Any, *given: Any):
        self.call = (function, given)

    def __reduce__(self) -> Any:
        return self.call


def write(folder: Path, data: bytes) -> Path:
    path = folder / "file.pkl"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_tagged_conversations_in_every_protocol(tmp_path: Path, protocol: int) -> None:
    path = write(tmp_path, pickle.dumps({"ab12": CONVERSATION, "cd34": CONVERSATION[:1]}, protocol))
    assert pickles.load(path) == [
        {"conv_id": "ab12", "consultation": CONVERSATION},
        {"conv_id": "cd34", "consultation": CONVERSATION[:1]},
    ]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    ("value", "named"),
    [
        (Calls(os.system, "true"), "system"),
        (Calls(builtins.eval, "1"), "eval"),
        (Calls(builtins.getattr, "a", "upper"), "getattr"),
        (Calls(functools.partial, print), "partial"),
        (collections.OrderedDict(a=1), "OrderedDict"),
        (collections.Counter("ab"), "Counter"),
        (Path("x"), "pathlib"),
        (os.system, "system"),
        (print, "print"),
        (json.JSONDecoder, "JSONDecoder"),
    ],
)
def test_other_globals_are_refused_by_name(tmp_path: Path, value: Any, named: str, protocol: int) -> None:
    path = write(tmp_path, pickle.dumps({"ab12": [value]}, protocol))
    with pytest.raises(UserError) as caught:
        pickles.load(path)
    assert str(path) in str(caught.value) and "refused" in str(caught.value)
    assert named in str(caught.value) or "opcode" in str(caught.value)


def test_nothing_runs(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    with pytest.raises(UserError):
        pickles.load(write(tmp_path, pickle.dumps(Calls(os.system, f"touch {trace}"))))
    assert not trace.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"c__main__\nAskAction\n(tR.",  # REDUCE of an allowed class
        b"(i__main__\nAskAction\n.",  # INST
        b"\x80\x02\x82\x01.",  # EXT1
        b"P1\n.",  # persistent id
        b"c__main__\nAskAction.__init__\n.",  # attribute of an allowed class
        b"\x80\x04\x8c\x08__main__\x8c\x12AskAction.__init__\x93.",
        b"cark.unpickler\nPlain\n.",
    ],
)
def test_calls_and_outside_references_are_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(UserError, match="refused"):
        pickles.load(write(tmp_path, data))


def test_memory_bombs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="memo index"):
        pickles.load(write(tmp_path, b"\x80\x04]r" + struct.pack("<I", 2**31 - 1) + b"."))
    for data in (
        b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"x.",
        b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"}.",
    ):
        with pytest.raises(UserError):
            pickles.load(write(tmp_path, data))
    path = write(tmp_path, pickle.dumps({"a": CONVERSATION}))
    with pytest.raises(UserError, match="bytes"):
        unpickler.read(path, max_bytes=10)


def test_torn_and_foreign_files(tmp_path: Path) -> None:
    whole = pickle.dumps({"ab12": CONVERSATION})
    for end in range(len(whole)):
        with pytest.raises(UserError):
            pickles.load(write(tmp_path, whole[:end]))
    for value in (1, "text", [], [1], {1: CONVERSATION}, {"a": 1}, {}, None):
        with pytest.raises(UserError):
            pickles.load(write(tmp_path, pickle.dumps(value)))
    with pytest.raises(UserError, match="missing"):
        pickles.load(tmp_path / "missing.pkl")


@given(st.binary(max_size=200))
def test_garbage_bytes_only_ever_raise_user_errors(tmp_path_factory: Any, data: bytes) -> None:
    path = write(tmp_path_factory.mktemp("garbage"), data)
    try:
        pickles.load(path)
    except UserError as error:
        assert str(path) in str(error)


def state(fields: dict[str, Any]) -> dict[str, Any]:
    """What pydantic v2 pickles as an object's state."""
    return {
        "__dict__": fields,
        "__pydantic_extra__": None,
        "__pydantic_fields_set__": set(fields),
        "__pydantic_private__": None,
    }


def original_class(name: str, module: str = "__main__") -> type:
    """A class that pickles under the original name, by NEWOBJ + BUILD with pydantic's state."""
    return type(name, (), {"__module__": module, "__getstate__": lambda self: state(vars(self).copy())})


def test_original_record_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import __main__

    made = {}
    for name in ("RetrievalAction", "AskAction", "RetrievalRequest", "Response", "MedicalAskContent"):
        made[name] = original_class(name)
        monkeypatch.setattr(__main__, name, made[name], raising=False)

    def build(name: str, **fields: Any) -> Any:
        thing = made[name]()
        vars(thing).update(fields)
        return thing

    lists = {name: [] for name in ("disease", "surgery", "body_part", "medical_check", "concept")}
    lists |= {"symptom": ["发热"], "medcine": ["药"]}
    meta = {
        "query_requests": [build("RetrievalRequest", reasoning="查", queries=["q1"])],
        "query_history_by_turn": [[{"query": "q1", "refined_result": "r1"}]],
        "rag_metas": [[{"vector_store": [], "baidu_search": (None, None)}]],
        "break_because": "deducible",
        "doc_is_asking": False,
        "ask_sentence": "发热吗？",
        "objs": build("MedicalAskContent", **lists),
        "conv_id": "c1",
    }
    parsed = build("Response", reasoning="r", is_asking=True, entities=["咳嗽"], text="发热吗？")
    item = {"conversation": CONVERSATION, "response_structured_with_raw": {"parsed": parsed}, "all_meta": meta}
    search = build("RetrievalAction", reasoning="查", queries=["q1"])
    ask = build("AskAction", reasoning="r2", text="多久？", **lists)
    rows = [[item, [search], ask, [[0.5]]], [item, [], None, []]]

    row, failed = pickles.load(write(tmp_path, pickle.dumps(rows, 4)))
    assert row["turns"] == CONVERSATION and row["reference"]["text"] == "多喝水。" and row["conv_id"] == "c1"
    assert row["teacher"]["final"] == {"action": "ask", "reasoning": "r", "entities_free": ["咳嗽"], "text": "发热吗？"}
    assert row["teacher"]["ask_entities"] == lists
    assert row["teacher"]["path"][0]["results"] == [{"query": "q1", "refined_result": "r1"}]
    assert row["prediction"]["final"] == {"action": "ask", "reasoning": "r2", "text": "多久？", "entities": lists}
    assert row["prediction"]["step_token_probs"] == [[0.5]]
    assert failed["prediction"] == {"path": [], "final": None, "step_token_probs": []}
    json.dumps([row, failed])
    spoiled = pickles.load(write(tmp_path, pickle.dumps([rows[0], ["torn"]], 4)))
    assert spoiled == [row, {"turns": None, "teacher": None, "prediction": ["torn"]}]


def test_consultations_of_four_turns_are_no_records(tmp_path: Path) -> None:
    path = write(tmp_path, pickle.dumps([CONVERSATION * 2, CONVERSATION]))
    assert pickles.load(path) == [{"consultation": CONVERSATION * 2}, {"consultation": CONVERSATION}]


def test_real_records_equal_their_json_lines(shared_data: Path | None) -> None:
    if shared_data is None:
        pytest.skip("real rows are not beside the checkout")
    folder = shared_data / "medark"
    stored: dict[tuple[str, str], list[dict]] = {}
    for line in (folder / "records.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        stored.setdefault((row["item_id"], row["prediction"]["final"]["text"]), []).append(row)
    loaded = pickles.load(folder / "records_sample.pkl")
    assert len(loaded) == 20
    for row in loaded:
        same = stored[(row["item_id"], row["prediction"]["final"]["text"])][0]
        for key in ("turns", "reference", "conv_id", "src_ds"):
            assert row[key] == same[key], key
        assert row["prediction"]["path"] == same["prediction"]["path"]
        assert row["prediction"]["final"] == same["prediction"]["final"]
        for key in ("stop_reason", "final", "ask_sentence", "ask_entities"):
            assert row["teacher"][key] == same["teacher"][key], key
        for mine, theirs in zip(row["teacher"]["path"], same["teacher"]["path"], strict=True):
            assert [mine[k] for k in ("reasoning", "queries", "results")] == [
                theirs[k] for k in ("reasoning", "queries", "results")
            ]
            ids = [[d["id"] for d in query["docs"]] for query in mine["retrieved"]]
            assert ids == [[d["id"] for d in query["docs"]] for query in theirs["retrieved"]]
