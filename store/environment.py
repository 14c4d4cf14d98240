"""What surrounds a run: `.env`, the tool's own version, the git state."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

from store.errors import UserError

REPO = Path(__file__).resolve().parent.parent
VERSION = "0.1.0"

# Telemetry of every library we import or start, off. Trackers are the recipe's `report_to`, none by default.
TELEMETRY_OFF = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",  # "none of PyTorch …": the glue needs the tokenizers only
}


@functools.cache
def load_dotenv_once() -> None:
    """Read ``.env`` of the working folder (or the checkout) into the environment; variables already set win."""
    from dotenv import load_dotenv

    for folder in (Path.cwd(), REPO):
        if (folder / ".env").is_file():
            load_dotenv(folder / ".env", override=False)
            break
    for key, value in TELEMETRY_OFF.items():
        os.environ.setdefault(key, value)


def interpreter(name: str) -> Path:
    """The python of an engine's environment, built first if it is missing (progress on stderr).

    Raises UserError when it cannot be built. The builder's own lines, above, say which pin failed and why.
    """
    script = REPO / "requirements" / "environments.py"
    # the new venv must not see what ties a process to this one
    own = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    done = subprocess.run([sys.executable, str(script), "build", name], stdout=subprocess.PIPE, text=True, env=own)
    printed = done.stdout.strip().splitlines()
    if done.returncode or not printed:
        raise UserError(f"environment {name!r} could not be built; the lines above say why")
    return Path(printed[-1])


@functools.cache
def git_state() -> dict[str, str | bool | None]:
    """``{"commit": short hash or None, "dirty": bool or None}`` of the checkout."""

    def git(*args: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(REPO), *args], capture_output=True, text=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "--short=12", "HEAD")
    changes = git("status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def tool_version() -> str:
    """``0.1.0+<git short hash>``, or ``0.1.0+nogit`` outside a checkout."""
    return f"{VERSION}+{git_state()['commit'] or 'nogit'}"
