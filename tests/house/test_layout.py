"""The house rules that a reader relies on: imports flow one way, data folders hold data, names say what they are."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

# folder → the project's folders it may import (DESIGN's import column)
MAY_IMPORT = {
    "store": set(),
    "llm": {"store"},
    "ark": {"store"},
    "converters": {"store", "ark"},
    "trainers": {"store"},
    "serve": {"store"},
    "eval": {"store", "llm", "ark", "serve"},
}
FOLDERS = set(MAY_IMPORT) | {"benchmarks", "tests"}


def imports(path: Path) -> set[str]:
    """Top-level names a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("folder", sorted(MAY_IMPORT))
def test_imports_follow_the_data(repo: Path, folder: str) -> None:
    files = list((repo / folder).rglob("*.py"))
    assert files
    for path in files:
        if path.name == "llamafactory_check.py":
            continue  # runs in the trainer's environment, where `llamafactory` is the package
        wrong = (imports(path) & FOLDERS) - MAY_IMPORT[folder] - {folder}
        assert not wrong, f"{path.relative_to(repo)} imports {wrong}"


def tracked(repo: Path) -> list[str]:
    """Files git tracks or would track."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=repo,
        capture_output=True,
        text=True,
        check=True,
    )
    return listed.stdout.splitlines()


def test_no_code_under_datasets_and_no_weights_in_the_tree(repo: Path) -> None:
    for name in tracked(repo):
        assert not (name.startswith("datasets/") and name.endswith(".py")), name
        assert not name.endswith((".safetensors", ".bin", ".pt", ".pkl", ".gguf")), name
        assert Path(name).name != ".env", name


def test_files_are_one_idea(repo: Path) -> None:
    for name in tracked(repo):
        if name.endswith(".py"):
            assert len((repo / name).read_text().splitlines()) <= 350, f"{name} is longer than 350 lines"
            assert not any(word in Path(name).stem for word in ("utils", "helpers", "manager", "base_")), name


def test_every_requirement_is_pinned(repo: Path) -> None:
    for path in [repo / "requirements.txt", *(repo / "requirements").glob("*.txt")]:
        lines = [line.split("#")[0].strip() for line in path.read_text().splitlines()]
        loose = [line for line in lines if line and "==" not in line]
        assert not loose, f"{path.name}: {loose}"
        names = [line.split("==")[0].lower().replace("_", "-") for line in lines if line]
        assert len(names) == len(set(names)), path.name
