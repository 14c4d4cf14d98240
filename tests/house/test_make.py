"""The Makefile as a user meets it: help from what is on disk, typos stopped, README commands real."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

README_COMMANDS = re.compile(r"^(make [^#\n]+?)\s*(?:#.*)?$", re.M)


def make(repo: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make in the checkout."""
    return subprocess.run(["make", *arguments], cwd=repo, capture_output=True, text=True, timeout=120)


def test_help_lists_every_recipe_and_variable(repo: Path) -> None:
    done = make(repo, "help")
    assert done.returncode == 0
    for path in (repo / "recipes").glob("*.yaml"):
        assert f"  {path.stem} " in done.stdout
    for word in ("data-<source>", "smoke-<recipe>", "serve-<recipe>", "eval-<recipe>", "INPUT", "DATASET", "JUDGE"):
        assert word in done.stdout


def test_help_is_the_default(repo: Path) -> None:
    assert make(repo).stdout == make(repo, "help").stdout


@pytest.mark.parametrize("word", ["BAKCEND=axolotl", "Set=x", "LR=1"])
def test_a_variable_no_target_knows_stops_make(repo: Path, word: str) -> None:
    done = make(repo, "-n", "sft-tiny", word)
    assert done.returncode == 2 and f"variable {word.split('=')[0]}=" in done.stderr


def test_an_unknown_target_lists_what_there_is(repo: Path) -> None:
    done = make(repo, "sft-qwen8b")
    assert done.returncode == 2 and "no target 'sft-qwen8b'" in done.stderr and "sft-qwen7b" in done.stderr


def test_targets_named_like_folders_are_not_up_to_date(repo: Path) -> None:
    for target in ("test", "serve", "lora-qwen0.5b"):
        done = make(repo, "-n", target)
        assert done.returncode == 0 and "up to date" not in done.stdout and "-m " in done.stdout


@pytest.mark.parametrize("page", ["README.md", "README.zh.md"])
def test_every_make_line_of_the_readme_is_a_target_with_known_variables(repo: Path, page: str) -> None:
    text = (repo / page).read_text()
    commands = [
        line for block in re.findall(r"```bash\n(.*?)```", text, re.S) for line in README_COMMANDS.findall(block)
    ]
    assert len(commands) >= 12
    for command in commands:
        done = subprocess.run(
            command.replace("make ", "make -n ", 1), shell=True, cwd=repo, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{page}: {command}: {done.stderr}"


def test_both_readmes_show_the_same_commands(repo: Path) -> None:
    pages = [(repo / name).read_text() for name in ("README.md", "README.zh.md")]
    english, chinese = (
        {line for block in re.findall(r"```bash\n(.*?)```", page, re.S) for line in README_COMMANDS.findall(block)}
        for page in pages
    )
    assert english == chinese


def test_every_verb_of_the_readme_table_is_in_the_makefile(repo: Path) -> None:
    shown = set(re.findall(r"`make ([a-z-]+)[<` ]", (repo / "README.md").read_text()))
    listed = make(repo, "help").stdout
    for verb in shown:
        assert re.search(rf"^  {re.escape(verb)}", listed, re.M), verb


def test_links_of_the_readme_exist(repo: Path) -> None:
    for page in ("README.md", "README.zh.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", (repo / page).read_text()):
            assert (repo / target).exists(), f"{page}: {target}"
