"""A working folder beside the checkout: real recipes and samples, its own runs, datasets and models."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory, repo: Path) -> Path:
    """Recipes by link, samples copied (registering writes beside them), the code by PYTHONPATH."""
    folder = tmp_path_factory.mktemp("workspace")
    (folder / "recipes").symlink_to(repo / "recipes")
    shutil.copytree(repo / "datasets" / "samples", folder / "datasets" / "samples")
    shutil.copy(repo / "datasets" / "sources.yaml", folder / "datasets")
    return folder


@pytest.fixture(scope="session")
def environment(repo: Path) -> dict[str, str]:
    """The environment of every command of these tests."""
    return {**os.environ, "PYTHONPATH": str(repo), "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="session")
def run(workspace: Path, environment: dict[str, str]) -> Run:
    """``run("trainers", "train", "sft-tiny")`` → the finished process, its output captured."""

    def go(*arguments: str, timeout: int = 600) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=workspace,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return go


@pytest.fixture(scope="session")
def converted(run: Run) -> None:
    """The SOAP and preference samples, converted and registered in the workspace."""
    for source, file, name in (
        ("soap", "soap.jsonl", "soap_sample"),
        ("preference", "preference/soap_pairs.json", "preference_sample"),
    ):
        done = run("converters", source, f"datasets/samples/{file}", "--name", name)
        assert done.returncode == 0, done.stderr
