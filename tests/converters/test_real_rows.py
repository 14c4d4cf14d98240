"""Every published file of ../shared/data that this folder converts: shape, rows in, rows kept. Skipped where the files are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.converters.running import read, run

FILES = [
    ("huatuo", "huatuo/huatuo26M-testdatasets/test_datasets.jsonl", "huatuo26m-qa", 150, 150),
    ("huatuo", "huatuo/huatuo_encyclopedia_qa/train_datasets.jsonl", "huatuo-encyclopedia", 71, 71),
    ("huatuo", "huatuo/huatuo_knowledge_graph_qa/train_datasets.jsonl", "huatuo-knowledge-graph", 101, 101),
    ("huatuo", "huatuo/huatuo_consultation_qa/train_datasets.jsonl", "huatuo-consultation", 40, 0),
    ("huatuo", "huatuo/Huatuo26M-Lite/format_data.jsonl", "huatuo26m-lite", 120, 120),
    ("huatuo", "huatuo/HuatuoGPT-sft-data-v1/HuatuoGPT_sft_data_v1.jsonl", "huatuogpt-v1", 120, 120),
    ("huatuo", "huatuo/HuatuoGPT2-SFT-GPT4-140K/HuatuoGPT2-GPT4-SFT-140K.json", "huatuogpt2", 60, 60),
    ("huatuo", "huatuo/medical-o1-reasoning-SFT/medical_o1_sft.json", "medical-o1", 60, 60),
    ("huatuo", "huatuo/Huatuo-Llama-Med-Chinese/llama_data.json", "huatuo-llama", 100, 100),
    ("huatuo", "huatuo/Huatuo-Llama-Med-Chinese/liver_cancer.json", "huatuo-llama-turns", 40, 40),
    ("huatuo", "huatuo/Chinese-medical-dialogue-data/internal_medicine_sample.csv", "toyhom", 100, 100),
    ("patient-doctor", "patient_doctor/pred_status.csv", "patient-doctor", 200, 194),
    ("patient-doctor", "patient_doctor/hierarchical_pairs.jsonl", "patient-doctor", 15, 15),
    ("medical-qa", "medical_qa/medical_data.csv", "medical-qa", 261, 257),
    ("chat", "huatuo/Huatuo-Llama-Med-Chinese/llama_data.json", "chat-alpaca", 100, 100),
    ("chat", "huatuo/HuatuoGPT2-SFT-GPT4-140K/HuatuoGPT2-GPT4-SFT-140K.json", "chat-sharegpt", 60, 60),
]


@pytest.fixture
def data(shared_data: Path | None) -> Path:
    if shared_data is None:
        pytest.skip("no ../shared/data beside this checkout (real rows are not part of it)")
    return shared_data


@pytest.mark.parametrize(("source", "name", "shape", "rows", "kept"), FILES)
def test_published_file(tmp_path: Path, data: Path, source: str, name: str, shape: str, rows: int, kept: int) -> None:
    manifest = run(tmp_path, source, data / name).manifest
    assert (manifest["shape"], manifest["rows_in"], manifest["kept"]) == (shape, rows, kept)


def test_toyhom_in_its_original_encoding(tmp_path: Path, data: Path) -> None:
    path = data / "huatuo/Chinese-medical-dialogue-data/internal_medicine_sample.csv"
    (tmp_path / path.name).write_bytes(path.read_text(encoding="utf-8").encode("gb18030"))
    here, there = (
        run(tmp_path, "huatuo", path, name="here"),
        run(tmp_path, "huatuo", tmp_path / path.name, name="there"),
    )
    assert read(here) == read(there)
    assert there.manifest["inputs"][0]["format"] == "csv (gb18030)"


def test_the_whole_huatuo_folder(tmp_path: Path, data: Path) -> None:
    result = run(tmp_path, "huatuo", data / "huatuo")
    assert result.name == "huatuo"
    assert len(result.manifest["inputs"]) == 15 and len(result.manifest["shape"]) == 11
    assert result.manifest["rejected"] == {"answer-is-url": 40}
    assert [entry["path"] for entry in result.manifest["skipped_files"]] == ["README.md"]
    assert all(not row["messages"][0]["content"].startswith(("问：", "<user>")) for row in read(result))
    assert not any(row["messages"][-1]["content"].startswith("http") for row in read(result))


def test_medical_qa_keeps_a_question_on_one_side(tmp_path: Path, data: Path) -> None:
    result = run(tmp_path, "medical-qa", data / "medical_qa/medical_data.csv", splits="train:0.5,val:0.25,test:0.25")
    assert result.manifest["rejected"] == {"empty-answer": 3} and result.manifest["duplicates"] == 1
    sides = [
        {row["messages"][0]["content"].lower() for row in read(result, split)} for split in ("train", "val", "test")
    ]
    assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]
