"""LLaMA-Factory: recipe → the YAML it is given, the run, the merge."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from store.environment import interpreter
from store.errors import UserError
from store.models import resolve
from store.writing import atomic_folder, atomic_write
from trainers.environment import trainer_environment
from trainers.prepare import Prepared
from trainers.recipe import Recipe, dump
from trainers.runs import Run

ENVIRONMENT = "llamafactory"
PATCHES = Path(__file__).with_name("llamafactory_patches")
# CPU overrides: what needs a CUDA device is off, said aloud by `cpu_overrides`
CPU = {
    "bf16": False,
    "fp16": False,
    "flash_attn": "auto",
    "enable_liger_kernel": False,
    "deepspeed": None,
    "use_cpu": True,
}


def cpu_overrides(recipe: Recipe) -> dict[str, Any]:
    """Keys to change so that the recipe starts on a CPU: only those it sets otherwise."""
    changes = {key: value for key, value in CPU.items() if recipe.get(key) not in (None, value)}
    changes["use_cpu"] = True
    for key in ("quantization_bit", "use_unsloth"):
        if recipe.get(key):
            changes[key] = None
    return changes


def native(recipe: Recipe, run: Run, prepared: Prepared) -> dict[str, Any]:
    """The trainer's own keys: the recipe's, the prepared rows, our run folder, and telemetry off. Pure.

    ``tokenized_path`` makes this trainer ignore every other data key; `prepare` has done what they say.
    """
    keys = {key: value for key, value in recipe.keys.items() if value is not None}
    for done in (
        "packing",
        "preprocessing_num_workers",
        "max_samples",
        "mask_history",
        "train_on_prompt",
        "default_system",
    ):
        keys.pop(done, None)
    keys["model_name_or_path"] = resolve(keys["model_name_or_path"])
    keys["tokenized_path"] = str(Path(prepared.folder) / "rows")
    keys["output_dir"] = str(run.train)
    keys["overwrite_output_dir"] = False  # true would start over and delete the log instead of resuming
    keys.setdefault("report_to", "none")
    keys.setdefault("seed", 42)
    if not any(count.startswith("validation") and count.endswith("_rows") for count in prepared.counts):
        for key in (
            "eval_dataset",
            "val_size",
            "eval_strategy",
            "eval_steps",
            "per_device_eval_batch_size",
            "load_best_model_at_end",
        ):
            keys.pop(key, None)
        keys["do_eval"] = False
    return keys


def write_native(recipe: Recipe, run: Run, prepared: Prepared) -> None:
    """``llamafactory.yaml`` in the run folder, to be read by people and by the trainer."""
    head = f"# LLaMA-Factory's own file for {recipe.name}: written by medtune, read by llamafactory-cli train\n"
    atomic_write(run.native, head + dump(native(recipe, run, prepared)))


def check(files: list[Path]) -> dict[str, str]:
    """File → the trainer's own complaint, for those it would not accept. One process for all files."""
    done = subprocess.run(
        # -P: or `import llamafactory` would find this very folder's file of that name
        [str(interpreter(ENVIRONMENT)), "-P", str(Path(__file__).with_name("llamafactory_check.py")), *map(str, files)],
        capture_output=True,
        text=True,
        env=trainer_environment({"CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "")}),
    )
    if done.returncode:
        raise UserError(
            f"LLaMA-Factory's checker did not start: {(done.stderr.strip().splitlines() or ['no output'])[-1]}"
        )
    return json.loads(done.stdout.splitlines()[-1])


def refuse_unacceptable(recipe: Recipe, run: Run, prepared: Prepared) -> None:
    """Raise UserError with the trainer's own complaint about the recipe as it would be given; writes nothing that stays."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{recipe.name}.yaml"
        path.write_text(dump(native(recipe, run, prepared)))
        complaint = check([path]).get(str(path))
    if complaint:
        raise UserError(f"recipes/{recipe.name}.yaml: {complaint}")


def train(run: Run, recipe: Recipe, gpus: int | None, lock: int) -> None:
    """Run the trainer in the foreground: its own progress bar is the user's. Raises UserError with its exit code."""
    extra = {}
    count = gpus or 1
    if gpus:
        extra["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(gpus)))
        extra["NPROC_PER_NODE"] = str(count)
    if count > 1 or recipe.get("deepspeed"):
        extra["FORCE_TORCHRUN"] = "1"
    if recipe.get("use_cpu"):
        # a stand-in's matrices are too small to share; on a busy machine waiting threads cost ten times the work
        extra |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    code = _cli(["train", str(run.native)], extra, (lock,))
    if code:
        raise UserError(
            f"LLaMA-Factory stopped with exit code {code} (its own message is above); "
            f"what it was given is {run.native}; the same command continues from the last complete checkpoint"
        )


def merge(run: Run, recipe: Recipe) -> None:
    """Base and adapter → ``merged/``, whole or not at all."""
    with atomic_folder(run.merged) as aside:
        config = run.folder / "merge.yaml"
        keys = {
            "model_name_or_path": resolve(recipe.keys["model_name_or_path"]),
            "adapter_name_or_path": str(run.train),
            "finetuning_type": "lora",
            "template": recipe.keys["template"],
            "export_dir": str(aside),
            "export_size": 5,
            "export_device": "cpu",
            "export_legacy_format": False,
        }
        if recipe.get("trust_remote_code"):
            keys["trust_remote_code"] = True
        atomic_write(config, "# adapter + base → merged/\n" + dump(keys))
        code = _cli(["export", str(config)], {"CUDA_VISIBLE_DEVICES": ""})
        if code or not list(aside.glob("*.safetensors")):
            raise UserError(
                f"merging {run.train} failed with exit code {code} (message above); the same command tries again"
            )


def _cli(arguments: list[str], extra: dict[str, str], inherited: tuple[int, ...] = ()) -> int:
    """llamafactory-cli in its environment. A Ctrl-C reaches it and us, and we wait for it; if we are killed, it ends too."""
    command = [str(interpreter(ENVIRONMENT).parent / "llamafactory-cli"), *arguments]
    process = subprocess.Popen(
        command,
        env=trainer_environment({"PYTHONPATH": str(PATCHES), **extra}),
        pass_fds=inherited,
        preexec_fn=_end_with_parent,
    )
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.wait()
        raise
    finally:
        if process.poll() is None:
            process.kill()


def _end_with_parent() -> None:
    """In the child before it starts: SIGTERM when its parent dies (Linux: PR_SET_PDEATHSIG, man 2 prctl)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)


def versions() -> dict[str, str]:
    """Package versions of the trainer's environment that decide a run's numbers."""
    names = ["llamafactory", "torch", "transformers", "peft", "trl", "accelerate", "datasets"]
    code = f"import importlib.metadata as m, json; print(json.dumps({{n: m.version(n) for n in {names!r}}}))"
    done = subprocess.run([str(interpreter(ENVIRONMENT)), "-c", code], capture_output=True, text=True)
    return json.loads(done.stdout) if done.returncode == 0 else {}
