"""Interpreters of the engines' environments, and what a trainer's process may see of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from store.environment import REPO, TELEMETRY_OFF
from store.errors import UserError


def interpreter(name: str) -> Path:
    """The python of an environment, built if it is missing (progress on stderr). Raises UserError when it cannot be built."""
    script = REPO / "requirements" / "environments.py"
    done = subprocess.run(
        [sys.executable, str(script), "build", name], stdout=subprocess.PIPE, text=True, env=_base_python()
    )
    if done.returncode:
        raise UserError(f"environment {name!r} could not be built (see the lines above)")
    return Path(done.stdout.strip())


def _base_python() -> dict[str, str]:
    """Our environment without what would tie a new venv to this one."""
    return {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}


def trainer_environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    """Environment of a trainer: telemetry off, no shared compile cache. ``extra`` wins, but not over the user's own threads."""
    threads = os.environ.get("OMP_NUM_THREADS") or (extra or {}).get("OMP_NUM_THREADS") or str(os.cpu_count() or 1)
    return {
        **_base_python(),
        **TELEMETRY_OFF,
        # a stale lock in the shared cache makes later DeepSpeed runs hang
        "TORCH_EXTENSIONS_DIR": str(REPO / "runs" / ".torch_extensions"),
        **(extra or {}),
        "OMP_NUM_THREADS": threads,
    }
