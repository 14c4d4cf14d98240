"""What may be continued, what may not, and that nothing is deleted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from store.errors import UserError
from trainers.recipe import Recipe
from trainers.runs import Run, checkpoints, freeze, run_for, start_over
from trainers.train import clear_for_resume


def checkpoint(run: Run, step: int) -> Path:
    """A whole checkpoint as the trainer writes it."""
    folder = run.train / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    save_file({"w": np.zeros((64, 64), np.float32)}, folder / "model.safetensors")
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    return folder


def test_a_changed_recipe_is_refused_with_the_difference(tmp_path: Path) -> None:
    run = run_for("sft-x", "llamafactory", root=tmp_path)
    freeze(run, Recipe("sft-x", {"learning_rate": 1e-4, "seed": 1}), {"data_hash": "data1"})
    freeze(run, Recipe("sft-x", {"learning_rate": 1e-4, "seed": 1}), {"data_hash": "data1"})
    with pytest.raises(UserError, match=r"learning_rate: 0\.0001 → 0\.001(?s:.*)FRESH=1"):
        freeze(run, Recipe("sft-x", {"learning_rate": 1e-3, "seed": 1}), {"data_hash": "data1"})
    with pytest.raises(UserError, match="data_hash: 'data1' → 'data2'"):
        freeze(run, Recipe("sft-x", {"learning_rate": 1e-4, "seed": 1}), {"data_hash": "data2"})


def test_files_of_a_run_made_by_hand_are_not_taken_over(tmp_path: Path) -> None:
    run = run_for("sft-x", "llamafactory", root=tmp_path)
    checkpoint(run, 5)
    with pytest.raises(UserError, match="not started by make"):
        freeze(run, Recipe("sft-x", {}), {"data_hash": "data1"})


def test_fresh_renames_and_keeps_runs_beside_it(tmp_path: Path) -> None:
    run, beside = run_for("sft-x", "llamafactory", root=tmp_path), run_for("sft-x", "llamafactory", "second", tmp_path)
    freeze(run, Recipe("sft-x", {}), {"data_hash": "d"})
    freeze(beside, Recipe("sft-x", {}), {"data_hash": "d"})
    checkpoint(run, 5)
    old = start_over(run)
    assert old and (old / "train" / "checkpoint-5" / "model.safetensors").is_file() and (old / "recipe.yaml").is_file()
    assert not run.recipe.exists() and beside.recipe.is_file()
    assert start_over(run) is None


def test_a_checkpoint_cut_off_at_any_byte_is_not_complete(tmp_path: Path) -> None:
    run = run_for("sft-x", "llamafactory", root=tmp_path)
    whole = checkpoint(run, 5)
    assert checkpoints(run) == ([whole], [])
    weights = (whole / "model.safetensors").read_bytes()
    state = (whole / "trainer_state.json").read_bytes()
    for cut in (0, 4, 20, len(weights) // 2, len(weights) - 1):
        (whole / "model.safetensors").write_bytes(weights[:cut])
        assert checkpoints(run) == ([], [whole])
    (whole / "model.safetensors").write_bytes(weights)
    for cut in range(len(state)):
        (whole / "trainer_state.json").write_bytes(state[:cut])
        assert checkpoints(run) == ([], [whole])


def test_resuming_sets_broken_checkpoints_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_for("sft-x", "llamafactory", root=tmp_path)
    checkpoint(run, 5)
    broken = checkpoint(run, 10)
    (broken / "trainer_state.json").unlink()
    clear_for_resume(run)
    assert (run.train / "checkpoint-10.broken-1" / "model.safetensors").is_file()
    assert "continuing from" in capsys.readouterr().out
    assert [path.name for path in checkpoints(run)[0]] == ["checkpoint-5"]


def test_a_run_killed_before_its_first_checkpoint_starts_again(tmp_path: Path) -> None:
    run = run_for("sft-x", "llamafactory", root=tmp_path)
    run.train.mkdir(parents=True)
    (run.train / "trainer_log.jsonl").write_text("{}\n")
    clear_for_resume(run)
    assert not run.train.exists() and (run.folder / "train.before-1" / "trainer_log.jsonl").is_file()


@pytest.mark.parametrize("name", ["a/b", ".hidden", "train", "merged"])
def test_a_run_name_that_would_collide_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="RUN="):
        run_for("sft-x", "llamafactory", name)
