"""Environments: half-built ones are never used, one build at a time, a failed line is named, never CUDA on a CPU."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def project(tmp_path: Path, repo: Path) -> Path:
    """A checkout with the script alone and pin files of our own."""
    folder = tmp_path / "project"
    (folder / "requirements").mkdir(parents=True)
    (folder / "requirements" / "environments.py").write_text((repo / "requirements" / "environments.py").read_text())
    (folder / "requirements.txt").write_text("# nothing needed\n")
    return folder


def clean(project: Path) -> dict[str, str]:
    """Our environment, with a cache beside the project and no ready venv named."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("MEDTUNE_")}
    return {**own, "MEDTUNE_CACHE": str(project / "cache")}


def call(project: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the script with its cache beside the project."""
    return subprocess.run(
        [sys.executable, str(project / "requirements" / "environments.py"), *arguments],
        capture_output=True, text=True, timeout=300, env={**clean(project), **variables},
    )  # fmt: skip


def test_a_built_environment_is_reused_and_a_changed_pin_builds_another(project: Path) -> None:
    first = call(project, "build", "glue")
    assert first.returncode == 0 and Path(first.stdout.strip()).exists() and "ready in" in first.stderr
    again = call(project, "build", "glue")
    assert again.stdout == first.stdout and "installing" not in again.stderr
    (project / "requirements.txt").write_text("# changed\n")
    assert call(project, "path", "glue").stdout != first.stdout
    listed = call(project, "list").stdout
    assert "glue" in listed and "missing" in listed and "old pins" in listed


def test_a_half_built_environment_is_built_again(project: Path) -> None:
    python = Path(call(project, "path", "glue").stdout.strip())
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/false\n")
    done = call(project, "build", "glue")
    assert done.returncode == 0 and "installing" in done.stderr
    assert subprocess.run([str(python), "-c", ""]).returncode == 0


def test_a_line_that_cannot_be_installed_is_named_and_leaves_nothing(project: Path) -> None:
    (project / "requirements" / "broken.txt").write_text("surely-not-a-package-of-this-name==9.9.9\n")
    done = call(project, "build", "broken", PIP_NO_INDEX="1")
    assert done.returncode == 2
    assert "surely-not-a-package-of-this-name==9.9.9" in done.stderr and "run the same command again" in done.stderr
    assert not Path(call(project, "path", "broken").stdout.strip()).exists()


def test_an_unknown_environment_lists_the_known(project: Path) -> None:
    done = call(project, "build", "vlm")
    assert done.returncode == 2 and "no environment 'vlm'" in done.stderr


def test_two_builds_at_once_make_one(project: Path) -> None:
    command = [sys.executable, str(project / "requirements" / "environments.py"), "build", "glue"]
    both = [
        subprocess.Popen(command, env=clean(project), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    errors = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("installing" in error for error in errors) == 1


@pytest.fixture
def script(repo: Path) -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("environments", repo / "requirements" / "environments.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_without_a_driver_torch_is_asked_for_as_a_cpu_build_only(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[list[str]] = []

    def no_wheel_at_hand(_python: Path, arguments: list[str], log: Path) -> bool:
        asked.append(arguments)
        log.write_text("ERROR: No matching distribution\n")
        return "--index-url" in arguments

    monkeypatch.setenv("MEDTUNE_DEVICE", "cpu")
    monkeypatch.setattr(script, "pip", no_wheel_at_hand)
    script.install_torch(Path("python"), "torch==2.13.0", tmp_path / "log")
    assert [arguments[-1] for arguments in asked] == ["torch==2.13.0+cpu"] * 2
    assert script.TORCH_INDEX in asked[-1]
    monkeypatch.setenv("MEDTUNE_DEVICE", "cuda")
    script.pip = lambda _python, arguments, log: asked.append(arguments) or True
    script.install_torch(Path("python"), "torch==2.13.0", tmp_path / "log")
    assert asked[-1] == ["torch==2.13.0"]


def test_the_cuda_part_of_a_pin_file_is_left_out_on_a_cpu(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDTUNE_DEVICE", "cpu")
    torch, rest = script.pins("llamafactory")
    assert torch == "torch==2.13.0" and not any(line.startswith("deepspeed") for line in rest)
    monkeypatch.setenv("MEDTUNE_DEVICE", "cuda")
    assert any(line.startswith("deepspeed==") for line in script.pins("llamafactory")[1])


def test_a_key_differs_between_cpu_and_cuda(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = set()
    for device in ("cpu", "cuda"):
        monkeypatch.setenv("MEDTUNE_DEVICE", device)
        keys.add(script.key("llamafactory"))
    assert len(keys) == 2


def test_the_lock_is_freed_when_its_holder_is_killed(project: Path) -> None:
    command = [sys.executable, str(project / "requirements" / "environments.py"), "build", "glue"]
    process = subprocess.Popen(command, env=clean(project), stderr=subprocess.DEVNULL)
    time.sleep(0.6)
    process.kill()
    process.wait()
    done = call(project, "build", "glue")
    assert done.returncode == 0 and subprocess.run([done.stdout.strip(), "-c", ""]).returncode == 0


def test_dotenv_names_the_cache(project: Path) -> None:
    (project / ".env").write_text(f"# where\nMEDTUNE_CACHE='{project / 'elsewhere'}'\n")
    own = {key: value for key, value in clean(project).items() if key != "MEDTUNE_CACHE"}
    done = subprocess.run(
        [sys.executable, str(project / "requirements" / "environments.py"), "path", "glue"],
        capture_output=True, text=True, env=own,
    )  # fmt: skip
    assert done.stdout.startswith(str(project / "elsewhere"))
