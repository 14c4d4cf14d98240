"""A checkout-like folder to serve from, a stand-in engine in vLLM's place, and a look at which processes are left."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest


class Marked:
    """Finds every process that inherited this test's mark, whatever its parent, group or session is."""

    def __init__(self) -> None:
        self.mark = uuid.uuid4().hex

    def pids(self) -> list[int]:
        found = []
        for process in psutil.process_iter():
            try:
                if process.status() != psutil.STATUS_ZOMBIE and process.environ().get("TEST_MARK") == self.mark:
                    found.append(process.pid)
            except psutil.Error:
                continue
        return found

    def wait_gone(self, seconds: float) -> list[int]:
        """The pids still there after at most ``seconds``."""
        end = time.monotonic() + seconds
        while (left := self.pids()) and time.monotonic() < end:
            time.sleep(0.1)
        return left


@pytest.fixture
def marked() -> Marked:
    return Marked()


@pytest.fixture
def place(tmp_path: Path, repo: Path) -> Path:
    """An empty working folder with the repository's recipes."""
    (tmp_path / "recipes").symlink_to(repo / "recipes")
    return tmp_path


@pytest.fixture
def stand_in(tmp_path: Path, marked: Marked, repo: Path) -> Callable[[str], dict[str, str]]:
    """mode → environment in which engine vllm-cpu is the stand-in engine."""
    script = Path(__file__).with_name("stand_in_engine.py")
    python = tmp_path / "stand-in" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {script} "$@"\n')
    python.chmod(0o755)

    def environment(mode: str) -> dict[str, str]:
        hidden = ("SERVE_API_KEY", "VLLM_API_KEY")
        return {
            **{key: value for key, value in os.environ.items() if key not in hidden},
            "PYTHONPATH": str(repo),
            "MEDTUNE_ENV_VLLM_CPU": str(python.parent.parent),
            "TEST_MARK": marked.mark,
            "STAND_IN": mode,
        }

    return environment


@pytest.fixture
def serve(place: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts `python -m serve …` in ``place``."""

    def start(*arguments: str | Path, env: dict[str, str]) -> subprocess.Popen[str]:
        command = [sys.executable, "-u", "-m", "serve", *map(str, arguments)]
        return subprocess.Popen(
            command, cwd=place, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    return start
