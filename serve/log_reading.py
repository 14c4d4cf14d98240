"""From an engine's log to the few lines that tell why it did not start, and what to do."""

from __future__ import annotations

import re
from pathlib import Path

# (what the log says, what to do); the first that matches wins, so the specific come first
HINTS = (
    (r"address already in use", "the port was taken meanwhile; start again, or choose another with PORT="),
    (
        r"is less than desired CPU memory utilization|is less than requested memory for kv",
        "too little free memory for the KV cache: lower kv-cache-memory-bytes in the serve file, or free some memory",
    ),
    (
        r"CUDA out of memory|No available memory for the cache blocks|Free memory on device",
        "the GPU is too small or in use (nvidia-smi): lower gpu-memory-utilization or max-model-len, "
        "or raise tensor-parallel-size",
    ),
    (
        r"KV cache is needed, which is larger than the available",
        "max-model-len needs more KV cache than there is: lower max-model-len, or raise kv-cache-memory-bytes",
    ),
    (r"greater than the derived max_model_len", "the model is shorter than max-model-len: lower it in the serve file"),
    (r"unrecognized arguments|error: argument", "a line of the serve file is not understood: python -m serve lint"),
    (r"LoRA rank \d+ is greater", "an adapter's rank is above max-lora-rank: remove that line, serve sets it"),
    (
        r"Cannot find any model weights|SafetensorError|deserializing|size mismatch|not initialized from checkpoint|"
        r"AssertionError: Attempted to load weight|shape mismatch|must match the size|exceeds dimension size",
        "weights and config.json do not belong together or are damaged: build or download the model again",
    ),
    (
        r"gated repo|401 Client Error",
        "the hub asks for a licence: accept it there and set HF_TOKEN, or set MODELS_DIR to local weights",
    ),
    (
        r"offline mode|LocalEntryNotFound|couldn't connect|is not a local folder",
        "the model is not on this machine and the hub cannot be reached: set MODELS_DIR to a folder that holds it",
    ),
    (
        r"does not recognize this architecture|are not supported for now|Tokenizer class \S+ does not exist",
        "this engine does not know the model's architecture or tokenizer: another engine (ENGINE=) or a newer one may",
    ),
    (
        r"ModuleNotFoundError|ImportError|cannot open shared object|^cannot start ",
        "the environment is broken: delete its folder (make envs shows it) and start again",
    ),
    (r"MemoryError|Cannot allocate memory", "out of memory: a smaller model or dtype, or more RAM"),
)
CAUSE = re.compile(r"^[\w.]*(Error|Exception): .+|: error: .+|^cannot start .+")
FOLLOWS = re.compile(r"See (root cause|stack trace)|Engine core initialization failed|EngineDeadError")
PREFIX = re.compile(r"^\(\w+(-\d+)? pid=\d+\)\s*|\b(ERROR|WARNING|INFO) \d\d-\d\d \d\d:\d\d:\d\d \[[^\]]*\]\s*")
LINE_LIMIT = 300


def last_line(log: Path) -> str:
    """The engine's latest line, short, for the progress display; "" while there is none."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, file.seek(0, 2) - 4096))
            lines = file.read().decode(errors="replace").replace("\r", "\n").split("\n")
    except OSError:
        return ""
    lines = [PREFIX.sub("", line).strip()[:80] for line in lines if not line.startswith("$ ")]
    return next((line for line in reversed(lines) if line), "")


def why(log: Path, code: int | None, tail: int = 12) -> str:
    """The causes found in the log, its last ``tail`` lines and a hint, as lines of text; ``code`` is the exit status."""
    text = log.read_text(errors="replace") if log.exists() else ""
    lines = [PREFIX.sub("", PREFIX.sub("", line)).rstrip()[:LINE_LIMIT] for line in text.splitlines()]
    lines = [line for line in lines if line.strip()]
    causes = [line.strip() for line in lines if CAUSE.search(line) and not FOLLOWS.search(line)]
    causes = list(dict.fromkeys(causes))
    # a harmless warning may contain a hint's words, so the whole log is searched only when nothing looks like a cause
    searched = "\n".join(causes or lines)
    found = [advice for pattern, advice in HINTS if re.search(pattern, searched, re.IGNORECASE | re.MULTILINE)]
    hint = found[0] if found else "the cause is in the log"
    if not causes and code == 137:
        hint = "the engine was killed from outside, most often for using too much memory: a smaller model or more RAM"
    # of a chain of exceptions the first and the last tell the story
    shown = [f"  cause: {line}" for line in (causes if len(causes) < 3 else [causes[0], causes[-1]])]
    shown += [f"  | {line}" for line in lines[-tail:]]
    return "\n".join([*shown, f"  log: {log}", f"  hint: {hint}"])
