"""The stand-in for Qwen on a machine without a hub: Qwen2 architecture, random weights, its own tokenizer.

Made in seconds from the bundled samples, byte-identical for one seed. It proves the plumbing; no quality claim is ever
made from it. Weights are drawn with numpy and written as safetensors, so no torch is needed.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import orjson
from safetensors.numpy import save_file

from store.errors import UserError
from store.writing import atomic_folder

TEMPLATE = Path(__file__).with_name("chatml_template.jinja")
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
# Qwen2's own pre-tokenisation: a newline never merges with the text after it, so a prompt's ids stay a prefix.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
VOCAB, HIDDEN, LAYERS, HEADS, KV_HEADS, MLP, CONTEXT = 4096, 128, 3, 4, 2, 384, 32768


def texts(folder: Path) -> list[str]:
    """Every string value of the bundled samples, in file order: what the tokenizer is trained on."""
    found: list[str] = []

    def walk(value: object) -> None:
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, dict):
            for item in value.values():
                walk(item)
        elif isinstance(value, list):
            for item in value:
                walk(item)

    for path in sorted(folder.rglob("*")):
        if path.suffix == ".csv":
            found.append(path.read_text())
        elif path.suffix in (".jsonl", ".json"):
            data = path.read_text()
            try:
                walk(orjson.loads(data))
            except orjson.JSONDecodeError:
                for line in data.splitlines():
                    try:
                        walk(orjson.loads(line))
                    except orjson.JSONDecodeError:
                        found.append(line)
    if not found:
        raise UserError(f"{folder}: no samples to train the stand-in's tokenizer on; restore the folder with git")
    return found


def build_tokenizer(corpus: list[str], folder: Path) -> int:
    """Byte-level BPE with Qwen's special tokens and chat template into ``folder``; returns the vocabulary's size."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=SPECIAL,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
        model_max_length=CONTEXT,
        # without this the tokenizer emits token_type_ids, which Qwen2's generate() refuses
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
        chat_template=TEMPLATE.read_text().rstrip("\n"),
    )
    fast.save_pretrained(folder)
    return len(fast)


def weights(vocabulary: int, seed: int) -> dict[str, np.ndarray]:
    """Qwen2 parameters by name, float32: normal(0, 0.02) matrices, zero biases, unit norms."""
    draw = np.random.default_rng(seed)

    def matrix(rows: int, columns: int) -> np.ndarray:
        return draw.normal(0.0, 0.02, (rows, columns)).astype(np.float32)

    width = HIDDEN // HEADS
    tensors = {"model.embed_tokens.weight": matrix(vocabulary, HIDDEN)}
    for layer in range(LAYERS):
        name = f"model.layers.{layer}."
        for part, rows in (("q", HIDDEN), ("k", KV_HEADS * width), ("v", KV_HEADS * width)):
            tensors[f"{name}self_attn.{part}_proj.weight"] = matrix(rows, HIDDEN)
            tensors[f"{name}self_attn.{part}_proj.bias"] = np.zeros(rows, np.float32)
        tensors[f"{name}self_attn.o_proj.weight"] = matrix(HIDDEN, HIDDEN)
        tensors[f"{name}mlp.gate_proj.weight"] = matrix(MLP, HIDDEN)
        tensors[f"{name}mlp.up_proj.weight"] = matrix(MLP, HIDDEN)
        tensors[f"{name}mlp.down_proj.weight"] = matrix(HIDDEN, MLP)
        tensors[f"{name}input_layernorm.weight"] = np.ones(HIDDEN, np.float32)
        tensors[f"{name}post_attention_layernorm.weight"] = np.ones(HIDDEN, np.float32)
    tensors["model.norm.weight"] = np.ones(HIDDEN, np.float32)
    return tensors


def build(out: str | Path, samples: str | Path, seed: int = 42) -> int:
    """Write the model folder ``out``; returns the number of parameters (under 5 million, output layer tied)."""
    with atomic_folder(out) as folder:
        vocabulary = build_tokenizer(texts(Path(samples)), folder)
        tensors = weights(vocabulary, seed)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        config = {
            "architectures": ["Qwen2ForCausalLM"],
            "model_type": "qwen2",
            "vocab_size": vocabulary,
            "hidden_size": HIDDEN,
            "intermediate_size": MLP,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": KV_HEADS,
            "max_position_embeddings": CONTEXT,
            # Qwen2.5's theta: a stand-in with the default of 10000 would hide that transformers 5 drops it for 4
            "rope_theta": 1000000.0,
            "rms_norm_eps": 1e-06,
            "hidden_act": "silu",
            "attention_dropout": 0.0,
            "initializer_range": 0.02,
            "tie_word_embeddings": True,
            "use_sliding_window": False,
            "use_cache": True,
            "bos_token_id": 0,
            "eos_token_id": 2,
            "pad_token_id": 0,
            "torch_dtype": "float32",
        }
        generation = {"bos_token_id": 0, "eos_token_id": [2, 0], "pad_token_id": 0, "do_sample": False}
        for name, content in (("config.json", config), ("generation_config.json", generation)):
            (folder / name).write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n")
        for path in folder.iterdir():
            os.chmod(path, 0o644)
    return sum(tensor.size for tensor in tensors.values())
