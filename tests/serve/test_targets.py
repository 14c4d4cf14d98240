"""What a name means: recipe, run, folder; and which folders are refused before an engine starts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from serve import engines, targets, weights
from store.errors import UserError


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with one finished LoRA run."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "lora-tiny" / "llamafactory"
    folder.mkdir(parents=True)
    manifest = {
        "recipe": "lora-tiny",
        "status": "complete",
        "model": "merged",
        "adapter": "train",
        "base_model": "Org/Base",
        "base_local": "/models/base",
        "template": "qwen",
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return tmp_path / "runs"


def test_recipe_gives_merged_weights_under_its_name(runs: Path) -> None:
    target = targets.find("lora-tiny", "llamafactory", None, adapter=False)
    assert (target.model, target.name) == ("runs/lora-tiny/llamafactory/merged", "lora-tiny")
    assert target.folder == Path("runs/lora-tiny/llamafactory/serve")


def test_adapter_beside_its_base(runs: Path) -> None:
    target = targets.find("lora-tiny", "llamafactory", None, adapter=True)
    assert target.model == "/models/base"
    assert target.adapters == {"lora-tiny": Path("runs/lora-tiny/llamafactory/train")}


def test_refusals_say_what_to_run(runs: Path) -> None:
    folder = runs / "lora-tiny" / "llamafactory"
    (folder / "second").mkdir()
    (folder / "manifest.json").rename(folder / "second" / "manifest.json")
    with pytest.raises(UserError, match=r"make lora-tiny, or name one of its runs with RUN= \(second\)"):
        targets.find("lora-tiny", "llamafactory", None, adapter=False)
    assert targets.find("lora-tiny", "llamafactory", "second", adapter=False).name == "lora-tiny"
    (folder / "second" / "manifest.json").write_text('{"status": "training"}')
    with pytest.raises(UserError, match="the run is training; finish it with: make lora-tiny"):
        targets.find("lora-tiny", "llamafactory", "second", adapter=False)
    with pytest.raises(UserError, match="is no recipe, run or model folder"):
        targets.find("sft-qwen8b", "llamafactory", None, adapter=False)


def test_serve_file_by_model_then_engine(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repo)
    assert targets.serve_file("dpo-qwen32b", "vllm").name == "qwen32b.yaml"
    assert targets.serve_file("sft-qwen7b", "vllm").name == "vllm.yaml"
    assert targets.serve_file("dpo-qwen32b", "vllm-cpu").name == "vllm-cpu.yaml"


def test_damaged_models_are_refused_by_file(tiny_model: Path, tmp_path: Path) -> None:
    weights.check(tiny_model)
    broken = tmp_path / "model"

    def anew() -> Path:
        shutil.rmtree(broken, ignore_errors=True)
        shutil.copytree(tiny_model, broken)
        return broken

    file = anew() / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"model\.safetensors: is cut off"):
        weights.find(str(broken))
    (anew() / "model.safetensors").unlink()
    with pytest.raises(UserError, match="no weights"):
        weights.find(str(broken))
    (broken / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-00001-of-00002.safetensors"}}')
    with pytest.raises(UserError, match=r"model-00001-of-00002\.safetensors, named in"):
        weights.find(str(broken))
    (anew() / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json: is not valid JSON"):
        weights.find(str(broken))
    (anew() / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="no tokenizer"):
        weights.find(str(broken))
    with pytest.raises(UserError, match="neither a folder nor a hub id"):
        weights.find("runs/absent/llamafactory/merged")


def test_hub_ids_that_cannot_be_had_are_refused_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match=r"neither under MODELS_DIR .* HF_HUB_OFFLINE is set"):
        weights.find("No-Such-Org/No-Such-Model")
    monkeypatch.delenv("HF_HUB_OFFLINE")

    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", refuse)
    with pytest.raises(UserError, match=r"the hub cannot be reached \(ConnectionError\); set MODELS_DIR"):
        weights.find("No-Such-Org/No-Such-Model")


def test_hub_ids_resolve_under_models_dir(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Qwen").mkdir()
    (tmp_path / "Qwen" / "Qwen3-8B").symlink_to(tiny_model)
    monkeypatch.setenv("MODELS_DIR", str(tmp_path))
    assert weights.find("Qwen/Qwen3-8B") == str(tmp_path / "Qwen" / "Qwen3-8B")


def test_lora_rank_rounds_up_to_what_vllm_takes(tmp_path: Path) -> None:
    for rank, expected in ((1, 1), (4, 8), (8, 8), (65, 128), (512, 512)):
        (tmp_path / "adapter_config.json").write_text(json.dumps({"r": rank}))
        assert engines.lora_rank({"a": tmp_path}) == expected
    (tmp_path / "adapter_config.json").write_text('{"r": 513}')
    with pytest.raises(UserError, match="513"):
        engines.lora_rank({"a": tmp_path})
    with pytest.raises(UserError, match=r"adapter_config\.json"):
        engines.lora_rank({"a": tmp_path / "absent"})


def test_fallback_is_said_aloud(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ready = tmp_path / "bin" / "python"
    ready.parent.mkdir()
    ready.touch()
    monkeypatch.setattr(engines, "has_nvidia", lambda: False)
    monkeypatch.setattr(engines, "simd", lambda: "avx2")
    monkeypatch.setenv("MEDTUNE_ENV_LLAMAFACTORY", str(tmp_path))
    monkeypatch.setenv("MEDTUNE_ENV_VLLM_CPU", str(tmp_path / "absent"))
    engine, reason, python = engines.choose("auto")
    assert (engine, python) == ("llamafactory", ready)
    assert "FALLBACK" in reason and "JSON schemas" in reason
    with pytest.raises(UserError, match="vllm-cpu"):
        engines.choose("vllm-cpu")
    with pytest.raises(UserError, match="is not known"):
        engines.choose("tgi")
