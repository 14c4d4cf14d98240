"""Reading recipes: numbers as the trainer reads them, clear refusals, overrides recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

from store.errors import UserError
from trainers.recipe import available, differences, dump, load, names, parse_overrides, read_yaml

BLOCKS = ["### model", "### method", "### dataset", "### output", "### train", "### eval"]


def test_scientific_numbers_are_numbers(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text("a: 1e-4\nb: 1.0e-5\nc: 5e3\nd: 1e\ne: 3\nf: 'x'\n")
    assert read_yaml(file) == {"a": 1e-4, "b": 1e-5, "c": 5e3, "d": "1e", "e": 3, "f": "x"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1\n", r"r.yaml:\d: not valid YAML"),
        ("- a\n", "expected `key: value` lines"),
        ("a: 1\na: 2\n", "stands twice"),
    ],
)
def test_broken_yaml_names_file_and_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(UserError, match=said):
        read_yaml(tmp_path / "r.yaml")


def test_overrides_are_read_as_yaml() -> None:
    assert parse_overrides("learning_rate=1e-5 bf16=false name='a b' max_steps=3 deepspeed=") == {
        "learning_rate": 1e-5,
        "bf16": False,
        "name": "a b",
        "max_steps": 3,
        "deepspeed": None,
    }
    with pytest.raises(UserError, match="not key=value"):
        parse_overrides("learning_rate 1e-5")


def test_an_unknown_recipe_names_the_nearest(repo: Path) -> None:
    with pytest.raises(UserError, match="did you mean sft-qwen7b"):
        load("sft-qwen7", folder=repo / "recipes")


def test_a_missing_key_is_named(tmp_path: Path, repo: Path) -> None:
    text = (repo / "recipes" / "sft-tiny.yaml").read_text().replace("cutoff_len: 1024\n", "")
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(UserError, match="'cutoff_len' is missing"):
        load("mine", folder=tmp_path)


def test_lists_of_names() -> None:
    assert names("a, b") == names(["a", "b"]) == ["a", "b"]
    assert names(None) == []


def test_differences_name_old_and_new() -> None:
    assert differences({"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 4}) == ["b: 2 → 3", "c: 'absent' → 4"]


def test_dump_reads_back() -> None:
    keys = {"learning_rate": 1e-5, "dataset": "a,b", "list": [1, 2], "flag": True, "text": "1e-4x"}
    import yaml

    assert yaml.safe_load(dump(keys)) == keys


@pytest.mark.parametrize("name", available(Path(__file__).parents[2] / "recipes"))
def test_every_recipe_has_its_header_and_the_six_blocks(repo: Path, name: str) -> None:
    lines = (repo / "recipes" / f"{name}.yaml").read_text().splitlines()
    assert all(line.startswith("# ") for line in lines[:3])
    assert lines[1].startswith("# Needs: ") and f"make {name}" in lines[2]
    assert [line for line in lines if line.startswith("###")] == BLOCKS
    recipe = load(name, folder=repo / "recipes")
    assert name.split("-")[0] == recipe.verb
    assert recipe.get("max_samples") is None and not recipe.get("overwrite_output_dir")
    assert recipe.keys["output_dir"] == f"runs/{name}/llamafactory/train"
    if recipe.get("deepspeed"):
        assert (repo / recipe.keys["deepspeed"]).is_file()


def test_the_eighteen_recipes_and_the_three_stand_ins_are_there(repo: Path) -> None:
    sizes = ["0.5b", "1.5b", "3b", "7b", "14b", "32b"]
    wanted = {f"{verb}-qwen{size}" for verb in ("sft", "lora", "dpo") for size in sizes}
    wanted |= {f"{verb}-tiny" for verb in ("sft", "lora", "dpo")}
    assert wanted <= set(available(repo / "recipes"))
    for verb in ("sft", "lora"):
        for size in sizes:
            keys = load(f"{verb}-qwen{size}", folder=repo / "recipes").keys
            assert keys["model_name_or_path"] == f"Qwen/Qwen2.5-{size.upper()}-Instruct"
            assert keys["dataset"] == "huatuo_lite"
            dpo = load(f"dpo-qwen{size}", folder=repo / "recipes").keys
            assert dpo["model_name_or_path"] == f"runs/lora-qwen{size}/llamafactory/merged"
            assert dpo["dataset"] == "huatuo_pairs"
