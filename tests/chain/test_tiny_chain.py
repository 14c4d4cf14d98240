"""The chain for real on the stand-in: train, kill, resume, DPO from the merged model, serve, generate, judge."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.chain.conftest import Run

pytestmark = pytest.mark.engine
SET = "num_train_epochs=8 save_steps=8 logging_steps=1 learning_rate=3e-3"
STEPS = 48  # 22 training rows, 4 a step


def history(folder: Path) -> dict[int, float]:
    """Step → training loss."""
    state = json.loads((folder / "trainer_state.json").read_text())
    return {entry["step"]: entry["loss"] for entry in state["log_history"] if "loss" in entry}


@pytest.fixture(scope="module")
def trained(workspace: Path, run: Run, converted: None, environment: dict[str, str]) -> Path:
    """sft-tiny, killed with -9 after its first checkpoint and continued by the same command."""
    command = [sys.executable, "-m", "trainers", "train", "sft-tiny", "--set", SET]
    process = subprocess.Popen(
        command, cwd=workspace, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    folder = workspace / "runs" / "sft-tiny" / "llamafactory"
    deadline = time.monotonic() + 300
    while not list(folder.glob("train/checkpoint-*/trainer_state.json")) and time.monotonic() < deadline:
        assert process.poll() is None, "the trainer ended before its first checkpoint"
        time.sleep(0.2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and (done := run("trainers", "train", "sft-tiny", "--set", SET)).returncode:
        assert "another process is training this run" in done.stderr, done.stderr
        time.sleep(1)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "continuing from" in done.stdout
    return folder


def test_a_killed_run_continues_to_the_same_weights_as_an_unbroken_one(trained: Path, run: Run) -> None:
    done = run("trainers", "train", "sft-tiny", "--set", SET, "--run", "whole")
    assert done.returncode == 0, done.stderr
    losses, unbroken = history(trained / "train"), history(trained / "whole" / "train")
    assert sorted(unbroken) == list(range(1, STEPS + 1)) == sorted(losses)
    assert losses == pytest.approx(unbroken, abs=1e-3)
    left, right = (load_file(folder / "train" / "model.safetensors") for folder in (trained, trained / "whole"))
    assert max(float(np.abs(left[name] - right[name]).max()) for name in left) < 1e-4


def test_the_run_folder_is_evidence(trained: Path, run: Run) -> None:
    manifest = json.loads((trained / "manifest.json").read_text())
    assert manifest["status"] == "complete" and manifest["model"] == "train" and manifest["steps"] == STEPS
    assert manifest["rows"]["kept"] == 22 and manifest["overrides"]["save_steps"] == 8
    assert manifest["versions"]["llamafactory"] == "0.9.5"
    assert (trained / "train" / "training_loss.png").is_file()
    again = run("trainers", "train", "sft-tiny", "--set", SET)
    assert again.returncode == 0 and "complete since" in again.stdout


def test_a_changed_recipe_is_refused_with_the_difference(trained: Path, run: Run) -> None:
    done = run("trainers", "train", "sft-tiny", "--set", SET.replace("3e-3", "1e-3"))
    assert done.returncode == 2
    assert "learning_rate: 0.003 → 0.001" in done.stderr and "FRESH=1" in done.stderr


@pytest.fixture(scope="module")
def preferred(workspace: Path, run: Run, trained: Path) -> Path:
    """dpo-tiny from the merged SFT run."""
    done = run("trainers", "train", "dpo-tiny", "--from", "sft-tiny", "--set", "num_train_epochs=1")
    assert done.returncode == 0, done.stdout + done.stderr
    return workspace / "runs" / "dpo-tiny" / "llamafactory"


def test_dpo_starts_at_ln_2_and_learns(preferred: Path) -> None:
    losses = history(preferred / "train")
    assert losses[1] == pytest.approx(math.log(2), abs=2e-4)
    assert min(losses.values()) < math.log(2) - 1e-4
    manifest = json.loads((preferred / "manifest.json").read_text())
    assert manifest["model"] == "merged" and manifest["from"]["recipe"] == "sft-tiny"


LOGITS = """
import json, sys, torch
from transformers import AutoConfig, AutoModelForCausalLM
torch.set_num_threads(1)
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
ids = torch.arange(3, 403).unsqueeze(0)
with torch.no_grad():
    logits = model(ids).logits[0, ::40, ::16]
print(json.dumps(logits.tolist()))
"""


def test_a_merged_model_has_the_same_logits_in_every_environment(preferred: Path) -> None:
    """transformers 5 writes and reads rope_theta elsewhere than 4; a lost theta of 1e6 would show at position 400."""
    from serve.engines import by_hardware
    from store.environment import interpreter

    found = []
    for name in ("llamafactory", by_hardware()[0]):
        done = subprocess.run(
            [str(interpreter(name)), "-c", LOGITS, str(preferred / "merged")],
            capture_output=True, text=True, timeout=300,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found.append(np.array(json.loads(done.stdout.splitlines()[-1])))
    assert float(np.abs(found[0] - found[1]).max()) < 1e-4
    assert found[0].std() > 0.05


def test_the_tuned_model_remembers_its_notes_and_the_base_does_not(workspace: Path, run: Run, converted: None) -> None:
    """The demo's claim, on the recipe as it is: at least 80% of the training sections exactly, the base none."""
    done = run("trainers", "train", "sft-tiny", "--run", "demo")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    done = run(
        "eval", "run", "--model", "base=base", "--model", "sft=sft-tiny", "--run", "demo", "--split", "train",
        "--judge", "lexical", "--set", "max_tokens=256",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "lexical stand-in" in done.stdout.lower() and "memory of training rows" in done.stdout.lower()
    memory = run("eval", "memory", "--dataset", "soap_sample", "--tuned", "sft", "--base", "base")
    assert memory.returncode == 0 and "base 0 of 88" in memory.stdout, memory.stdout
    results = json.loads(next(workspace.glob("runs/eval/soap/*/sft/*/results.json")).read_text())
    assert results["metrics"]["exact_all_sections"]["value"] >= 0.8
    page = (workspace / "runs" / "report" / "index.html").read_text()
    assert "Lexical stand-in" in page and f"n={results['metrics']['exact_all_sections']['n']}" in page
    assert "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page
    swapped = run("eval", "memory", "--dataset", "soap_sample", "--tuned", "base", "--base", "sft")
    assert swapped.returncode == 1 and "NOT as expected" in swapped.stdout


def test_a_recipe_for_gpus_starts_on_a_cpu_with_the_stand_in(run: Run, converted: None) -> None:
    for name in ("sft-qwen7b", "lora-qwen32b", "dpo-qwen0.5b"):
        done = run("trainers", "smoke", name)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        assert f"{name}: done" in done.stdout and "changed for it" in done.stdout


def test_a_typo_in_a_key_is_named_with_the_nearest(run: Run, converted: None) -> None:
    done = run("trainers", "train", "sft-tiny", "--run", "typo", "--set", "learnin_rate=1e-3")
    assert done.returncode == 2 and "'learnin_rate'" in done.stderr and "'learning_rate'" in done.stderr
    again = run("trainers", "train", "sft-tiny", "--run", "typo", "--set", "warmup_steps=abc")
    assert again.returncode == 2 and "warmup_steps" in again.stderr


def test_every_recipe_passes_the_trainers_own_parser(run: Run) -> None:
    done = run("trainers", "check")
    assert done.returncode == 0, done.stdout
    assert done.stdout.count(" ok\n") >= 21


def test_a_dataset_that_is_not_there_says_the_line_to_run(run: Run) -> None:
    done = run("trainers", "train", "sft-tiny", "--run", "nodata", "--dataset", "medical_qa")
    assert done.returncode == 2
    assert "make data-medical-qa INPUT=" in done.stdout + done.stderr
