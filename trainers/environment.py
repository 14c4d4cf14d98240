"""What a trainer's process may see of our environment."""

from __future__ import annotations

import os
from pathlib import Path

from store.environment import TELEMETRY_OFF


def trainer_environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    """Environment of a trainer: telemetry off, no shared compile cache. ``extra`` wins, but not over the user's own threads."""
    own = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    threads = os.environ.get("OMP_NUM_THREADS") or (extra or {}).get("OMP_NUM_THREADS") or str(os.cpu_count() or 1)
    return {
        **own,
        **TELEMETRY_OFF,
        # a stale lock in the shared cache makes later DeepSpeed runs hang
        "TORCH_EXTENSIONS_DIR": str(Path("runs/.torch_extensions").absolute()),
        **(extra or {}),
        "OMP_NUM_THREADS": threads,
    }
