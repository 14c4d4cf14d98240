"""The stand-in: small, deterministic, Qwen2's architecture and template."""

from __future__ import annotations

import json
from pathlib import Path

from store.hashing import file_sha256
from trainers.tiny_model import build


def test_the_same_seed_makes_the_same_bytes_and_another_seed_others(tmp_path: Path, samples: Path) -> None:
    count = build(tmp_path / "a", samples)
    assert count == build(tmp_path / "b", samples) <= 5_000_000
    for name in ("model.safetensors", "tokenizer.json", "config.json", "tokenizer_config.json"):
        assert file_sha256(tmp_path / "a" / name) == file_sha256(tmp_path / "b" / name)
    build(tmp_path / "c", samples, seed=7)
    assert file_sha256(tmp_path / "a" / "model.safetensors") != file_sha256(tmp_path / "c" / "model.safetensors")


def test_what_transformers_would_lose_or_invent_is_written_out(tiny_model: Path) -> None:
    config = json.loads((tiny_model / "config.json").read_text())
    assert config["architectures"] == ["Qwen2ForCausalLM"] and config["rope_theta"] == 1e6
    tokenizer = json.loads((tiny_model / "tokenizer_config.json").read_text())
    assert tokenizer["model_input_names"] == ["input_ids", "attention_mask"]
    assert tokenizer["eos_token"] == "<|im_end|>" and tokenizer["pad_token"] == "<|endoftext|>"


def test_a_newline_before_an_answer_never_merges_with_it(tiny_model: Path) -> None:
    from trainers.prepare import load_tokenizer

    tokenizer = load_tokenizer(str(tiny_model))
    head = tokenizer("<|im_start|>assistant\n")["input_ids"]
    for answer in ("yes", "A", "头痛", "123", "- list"):
        assert tokenizer("<|im_start|>assistant\n" + answer)["input_ids"][: len(head)] == head
