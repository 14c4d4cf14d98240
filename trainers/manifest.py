"""A finished run's manifest: everything needed to say what a number was made from."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import orjson

from store.environment import git_state, tool_version
from store.models import resolve
from trainers import llamafactory
from trainers.prepare import Prepared
from trainers.recipe import Recipe, names
from trainers.runs import Run


def describe(
    run: Run,
    recipe: Recipe,
    backend: str,
    gpus: int | None,
    prepared: Prepared,
    parent: dict[str, Any] | None,
    started: float,
) -> dict[str, Any]:
    """The manifest: everything needed to say what a number was made from."""
    base = recipe.keys["model_name_or_path"]
    state = orjson.loads((run.train / "trainer_state.json").read_bytes())
    return {
        "recipe": recipe.name,
        "backend": backend,
        "method": recipe.verb,
        "status": "complete",
        "finished": time.strftime("%Y-%m-%d %H:%M:%S"),
        "wall_s": round(time.time() - started, 1),
        "model": "train" if recipe.verb == "sft" else "merged",
        "adapter": None if recipe.verb == "sft" else "train",
        "base_model": base,
        "base_local": resolve(base) if Path(resolve(base)).is_dir() else None,
        "from": {key: parent[key] for key in ("recipe", "data_hash", "finished")} if parent else None,
        "template": recipe.keys["template"],
        "enable_thinking": recipe.get("enable_thinking"),
        "dataset": {"names": names(recipe.keys["dataset"]), "sha256": prepared.datasets},
        "data_hash": prepared.data_hash,
        "template_hash": prepared.template_hash,
        "rows": prepared.counts,
        "overrides": recipe.overrides,
        "seed": recipe.get("seed", 42),
        "steps": state["global_step"],
        "tool_version": tool_version(),
        "git": git_state(),
        "versions": llamafactory.versions(),
        "hardware": hardware(),
        "gpus": gpus,
    }


def cards() -> list[str]:
    """Names of the NVIDIA devices, empty without a driver."""
    try:
        smi = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True
        )
    except FileNotFoundError:
        return []
    return smi.stdout.strip().splitlines() if smi.returncode == 0 else []


def devices(gpus: int | None) -> int:
    """Devices a run uses: GPUS=, else every visible one, else the CPU as one. They decide the batch and the rows' order."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return gpus or (len(names(visible)) if visible else len(cards())) or 1


def hardware() -> dict[str, Any]:
    """Processor, cores, memory, GPUs by name."""
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        "?",
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gib": round(memory),
        "gpus": cards(),
        "system": platform.platform(),
    }
