"""Ark sources: golden paths and consultations, leaks, files that are no training rows, garbage, real counts."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ark.pickles import load
from converters.ark import SHAPES
from converters.shape import Options, Reject, Shape

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
LISTS: dict[str, list[str]] = {
    name: [] for name in ("disease", "symptom", "medcine", "surgery", "body_part", "medical_check", "concept")
}
TEACHER = {
    "path": [
        {
            "action": "retrieve",
            "reasoning": "查",
            "queries": ["咽痛的原因"],
            "results": [{"query": "咽痛的原因", "refined_result": "多为病毒感染。"}],
            "retrieved": [{"docs": [{"id": "D1", "question": "q", "answer": "很长" * 500}], "web": None}],
        }
    ],
    "stop_reason": "deducible",
    "final": {"action": "ask", "reasoning": "缺少病史", "entities_free": ["咽痛"], "text": "发热吗？吃药了吗？"},
    "ask_sentence": "发热吗？吃药了吗？",
    "ask_entities": {**LISTS, "symptom": ["发热"], "medcine": ["药"]},
}
DIALOGUE = {
    "id": "d1",
    "turns": [{"patient": "嗓子疼", "doctor": "多久了？"}, {"patient": "三天", "doctor": "医生的真实回复，不可泄露"}],
    "reference": {"text": "医生的真实回复，不可泄露", "is_asking": True, "ask_sentence": "x", "ask_entities": LISTS},
    "teacher": TEACHER,
}


def shape_of(row: object) -> Shape | None:
    found = [shape for shape in SHAPES if shape.recognise(row)]
    assert len(found) <= 1
    return found[0] if found else None


def convert(row: Any) -> Any:
    shape = shape_of(row)
    assert shape is not None
    return shape.convert(row, Options())


def changed(*path: Any, value: Any) -> dict[str, Any]:
    """DIALOGUE with one nested field replaced."""
    row = copy.deepcopy(DIALOGUE)
    inner: Any = row
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return row


def reason(row: Any) -> str:
    with pytest.raises(Reject) as caught:
        convert(row)
    return caught.value.reason


def call(turn: dict[str, str]) -> dict[str, Any]:
    return json.loads(turn["content"].removeprefix("<tool_call>\n").removesuffix("\n</tool_call>"))


def test_golden_path() -> None:
    draft = convert(DIALOGUE)
    turns = draft.body["messages"]
    assert [turn["role"] for turn in turns] == ["system", "user", "assistant", "user", "assistant"]
    assert turns[1]["content"].endswith("患者：嗓子疼\n医生：多久了？\n患者：三天")
    assert call(turns[2]) == {"name": "RetrievalAction", "arguments": {"reasoning": "查", "queries": ["咽痛的原因"]}}
    assert (
        turns[3]["content"]
        == '<tool_response>\n[{"query": "咽痛的原因", "refined_result": "多为病毒感染。"}]\n</tool_response>'
    )
    final = call(turns[4])
    assert final["name"] == "AskAction" and final["arguments"]["medicine"] == ["药"]
    assert final["arguments"]["text"] == TEACHER["final"]["text"]
    assert draft.group == "嗓子疼"
    assert draft.meta == {
        "id": "d1",
        "reference_text": DIALOGUE["reference"]["text"],
        "reference_is_asking": True,
        "reference_ask_entities": LISTS,
        "stop_reason": "deducible",
        "retrieved": ["D1"],
    }


def test_tell_english_and_missing_entities() -> None:
    row = changed("teacher", "final", "action", value="tell")
    row["turns"] = [{"patient": "My throat hurts", "doctor": "x"}]
    turns = convert(row).body["messages"]
    assert turns[1]["content"].endswith("Patient: My throat hurts") and call(turns[4])["name"] == "TellAction"
    assert (
        call(convert(changed("teacher", "ask_entities", value=None)).body["messages"][4])["arguments"]["symptom"] == []
    )


def test_plain_path_and_record() -> None:
    plain = {"turns": DIALOGUE["turns"], **TEACHER}
    assert shape_of(plain).name == "ark-paths"  # type: ignore[union-attr]
    assert convert(plain).body == convert(DIALOGUE).body
    prediction = {
        "path": [{"action": "retrieve"}],
        "final": {"action": "tell", "text": "休息"},
        "step_token_probs": [[1.0]],
    }
    record = {**DIALOGUE, "prediction": prediction}
    assert shape_of(record).name == "ark-records"  # type: ignore[union-attr]
    assert convert(record).body == convert(DIALOGUE).body
    assert convert(record).meta["prediction"] == {"action": "tell", "text": "休息", "rounds": 1}


def test_the_reference_reply_never_enters_the_example() -> None:
    assert "不可泄露" not in json.dumps(convert(DIALOGUE).body, ensure_ascii=False)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (changed("turns", value=[]), "no-turns"),
        (changed("turns", 0, value="x"), "turn-is-not-an-object"),
        (changed("turns", 1, "patient", value=" "), "empty-patient-turn"),
        (changed("turns", 0, "doctor", value=None), "empty-doctor-turn"),
        (changed("turns", 0, "patient", value="a<|im_end|>b"), "control-marker"),
        (changed("teacher", value=None), "no-teacher-path"),
        (changed("teacher", "path", value=None), "no-path"),
        (changed("teacher", "path", 0, "action", value="shell"), "unknown-action-in-path"),
        (changed("teacher", "path", 0, "results", value=[]), "retrieval-without-results"),
        (changed("teacher", "path", 0, "results", 0, value={"query": "q"}), "malformed-result"),
        (changed("teacher", "path", 0, "queries", value=[]), "malformed-action"),
        (changed("teacher", "path", 0, "results", 0, "refined_result", value="</tool_response>"), "control-marker"),
        (changed("teacher", "final", value=None), "no-final-action"),
        (changed("teacher", "final", "text", value=""), "empty-answer"),
        (changed("teacher", "final", "text", value="好</tool_call>"), "control-marker"),
        (changed("teacher", "final", "reasoning", value=None), "malformed-action"),
        (changed("teacher", "ask_entities", "symptom", value=[3]), "malformed-action"),
    ],
)
def test_bad_rows_are_rejected(row: Any, expected: str) -> None:
    assert reason(row) == expected


def items(row: Any) -> list[Any]:
    """Draft or reject reason of every item of one stored consultation."""
    shape = shape_of(row)
    assert shape is not None and shape.expand is not None
    made: list[Any] = []
    for item in shape.expand(row):
        try:
            made.append(shape.convert(item, Options()))
        except Reject as reject:
            made.append(reject.reason)
    return made


def test_a_consultation_gives_one_item_per_doctor_turn() -> None:
    consultation = [{"patient": f"p{n}", "doctor": f"d{n}"} for n in range(3)]
    made = items({"conv_id": "c", "consultation": consultation})
    assert [[turn["content"] for turn in draft.body["messages"]] for draft in made] == [
        ["p0", "d0"],
        ["p0", "d0", "p1", "d1"],
        ["p0", "d0", "p1", "d1", "p2", "d2"],
    ]
    assert [draft.meta for draft in made] == [{"conv_id": "c", "turn": n} for n in (1, 2, 3)]
    assert {draft.group for draft in made} == {"p0"}
    assert [draft.body for draft in items(consultation)] == [draft.body for draft in made]


def test_empty_turns_of_a_consultation() -> None:
    made = items([{"patient": "a", "doctor": ""}, {"patient": "b", "doctor": "c"}, {"patient": "", "doctor": "d"}])
    assert made[0] == "empty-doctor-turn" and made[2] == "empty-patient-turn"
    assert [turn["content"] for turn in made[1].body["messages"]] == ["a\nb", "c"] and made[1].meta[
        "repaired"
    ] == "joined-turns"
    assert items([{"patient": "", "doctor": "a"}, {"patient": "b", "doctor": "c"}])[1] == "starts-with-answer"
    assert items([{"patient": "a<|im_end|>", "doctor": "b"}]) == ["control-marker"]


@pytest.mark.parametrize(
    "row",
    [
        {"id": "D1", "question": "q", "answer": "a", "department": None, "name": None},
        {
            "id": "p",
            "turns": [{"patient": "a", "doctor": "b"}],
            "model": "bianque_v2",
            "instruction": "i",
            "output": {"text": "t"},
        },
        {"model": "text", "src": {"instruction": "i", "conversation": []}},
        {"messages": []},
        [],
        [1],
        [{"role": "user"}],
        None,
    ],
)
def test_files_beside_the_training_rows_are_not_recognised(row: Any) -> None:
    assert shape_of(row) is None


FIELDS = ["turns", "teacher", "prediction", "path", "final", "reference", "consultation", "ask_entities", "conv_id"]


@given(st.dictionaries(st.sampled_from(FIELDS), json_values), st.sampled_from(SHAPES))
def test_garbage_rows_are_only_ever_rejected(garbage: dict[str, Any], shape: Shape) -> None:
    for row in (
        garbage,
        {**DIALOGUE, **garbage},
        {**DIALOGUE, "teacher": {**TEACHER, **garbage}},
        list(garbage.values()),
    ):
        found = list(shape.expand(row)) if shape.expand else [row]
        assert found
        for item in found:
            if not isinstance(item, dict):
                continue  # only what `recognise` accepts reaches `convert`
            try:
                draft = shape.convert(item, Options())
            except Reject as reject:
                assert reject.reason
            else:
                assert draft.body["messages"][-1]["role"] == "assistant"
                json.dumps(draft.meta)


@given(json_values)
def test_recognise_never_raises(value: Any) -> None:
    assert shape_of(value) is None or isinstance(value, dict | list)


def test_a_folder_through_the_command(tmp_path: Path, samples: Path, repo: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    (folder / "dialogues.jsonl").write_bytes((samples / "ark" / "dialogues.jsonl").read_bytes())
    (folder / "kb_docs.jsonl").write_text('{"id": "D1", "question": "q", "answer": "a"}\n', encoding="utf-8")
    tagged = {"k": [{"patient": "咳嗽", "doctor": "多久？"}, {"patient": "三天", "doctor": ""}], "empty": []}
    (folder / "tagged.pkl").write_bytes(pickle.dumps(tagged, 4))
    command = [
        sys.executable,
        "-m",
        "converters",
        "ark",
        str(folder),
        "--out",
        str(out),
        "--dataset-dir",
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=repo, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert {item["shape"] for item in manifest["inputs"]} == {"ark-dialogues", "ark-consultations"}
    assert [Path(item["path"]).name for item in manifest["skipped_files"]] == ["kb_docs.jsonl"]
    assert manifest["rejected"] == {
        "control-marker": 1,
        "empty-patient-turn": 1,
        "no-final-action": 1,
        "empty-doctor-turn": 1,
        "empty-consultation": 1,
    }
    assert (manifest["rows_in"], manifest["kept"], manifest["duplicates"]) == (31, 25, 1)

    (folder / "tagged.pkl").write_bytes(pickle.dumps(subprocess.run))
    command[4] = str(folder / "tagged.pkl")
    refused = subprocess.run(command, cwd=repo, capture_output=True, text=True, timeout=120)
    assert refused.returncode == 2 and "refused global subprocess.run" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1


def test_samples(samples: Path) -> None:
    kept, rejected = [], []
    for line in (samples / "ark" / "dialogues.jsonl").read_text(encoding="utf-8").splitlines():
        try:
            kept.append(convert(json.loads(line)))
        except Reject as reject:
            rejected.append(reject.reason)
    assert len(kept) == 25 and sorted(rejected) == ["control-marker", "empty-patient-turn", "no-final-action"]
    finals = [call(draft.body["messages"][-1])["name"] for draft in kept]
    assert min(finals.count("AskAction"), finals.count("TellAction")) >= 10


def test_real_rows(shared_data: Path | None) -> None:
    if shared_data is None:
        pytest.skip("real rows are not beside the checkout")
    folder = shared_data / "medark"
    for name, count, distinct in (("dialogues.jsonl", 150, 150), ("records.jsonl", 120, 70)):
        rows = [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]
        drafts = [convert(row) for row in rows]
        assert len(drafts) == count and len({json.dumps(draft.body) for draft in drafts}) == distinct
        for row, draft in zip(rows, drafts, strict=True):
            history = draft.body["messages"][1]["content"].split("\n")
            assert history[-1] == "患者：" + " ".join(row["turns"][-1]["patient"].split("\n")).strip()
            assert call(draft.body["messages"][-1])["arguments"]["text"] == row["teacher"]["final"]["text"]
    drafts = [convert(row) for row in load(folder / "records_sample.pkl")]
    assert len({json.dumps(draft.body) for draft in drafts}) == 20
    consultation = json.loads((folder / "dialogues.jsonl").open(encoding="utf-8").readline())["turns"]
    assert len(items(consultation)) == len(consultation)
    for name in ("kb_docs.jsonl", "peer_outputs.jsonl"):
        assert all(shape_of(json.loads(line)) is None for line in (folder / name).open(encoding="utf-8"))
    for path in (folder / "raw").iterdir():
        assert all(shape_of(row) is None for row in json.loads(path.read_text(encoding="utf-8")))
