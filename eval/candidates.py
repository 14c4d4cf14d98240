"""`--model label=what`: which weights stand behind a label, and what identifies them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from store.errors import UserError
from store.hashing import content_id, file_sha256
from store.models import local

LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
HASHED_WHOLE = 32 * 2**20  # bytes; larger weight files are known by size and time of change


@dataclass(frozen=True)
class Candidate:
    """``weights``: folder to serve, None when a server already runs. ``identity``: changes when the weights do."""

    label: str
    described: str
    identity: str
    weights: Path | None = None
    run: Path | None = None
    template_hash: str | None = None
    enable_thinking: bool | None = None


def folder_identity(folder: Path) -> str:
    """Hash of a model folder: small files by content, large ones by name, size and time of change."""
    known = []
    for file in sorted(folder.iterdir()):
        if file.is_file() and file.suffix in (".json", ".jinja", ".safetensors", ".bin", ".model", ".txt"):
            state = file.stat()
            small = state.st_size <= HASHED_WHOLE
            known.append([file.name, state.st_size, file_sha256(file) if small else state.st_mtime_ns])
    return content_id(known)


def template_hash(folder: Path) -> str | None:
    """Hash of the chat template that will serve the model; None when it has none."""
    if (folder / "chat_template.jinja").is_file():
        return content_id((folder / "chat_template.jinja").read_text("utf-8"))
    config = folder / "tokenizer_config.json"
    found = json.loads(config.read_bytes()).get("chat_template") if config.is_file() else None
    return content_id(found) if found else None


def labelled(specs: list[str]) -> list[tuple[str, str]]:
    """``label=what`` (or ``what``, labelled by its last part) → pairs. Raises UserError for a bad or repeated label."""
    pairs = []
    for spec in specs:
        label, equals, what = spec.partition("=")
        what = what if equals else label
        label = label if equals else Path(label).name
        if not LABEL.fullmatch(label) or not what:
            raise UserError(
                f"--model {spec}: a label is letters, digits, '.', '_' and '-' (label=recipe or label=folder)"
            )
        pairs.append((label, what))
    if len({label for label, _ in pairs}) != len(pairs):
        raise UserError("--model: two models have the same label; give each its own (label=what)")
    return pairs


def resolve(
    specs: list[str], *, backend: str, run: str | None, enable_thinking: bool | None, runs: Path
) -> list[Candidate]:
    """``label=recipe``, ``label=model folder``, a bare recipe, or ``base``: the model that the first tuned run began from."""
    pairs = labelled(specs)
    return [_resolve(label, what, pairs, backend, run, enable_thinking, runs) for label, what in pairs]


def _resolve(
    label: str,
    what: str,
    pairs: list[tuple[str, str]],
    backend: str,
    run: str | None,
    enable_thinking: bool | None,
    runs: Path,
) -> Candidate:
    if what == "base":
        tuned = next((other for _, other in pairs if other != "base" and _run_folder(other, backend, run, runs)), None)
        if tuned is None:
            raise UserError(
                "--model base: name a tuned run too (--model base --model sft=<recipe>), or base=<model folder>"
            )
        return _base_of(label, _run_folder(tuned, backend, run, runs))
    folder = _run_folder(what, backend, run, runs)
    if folder:
        manifest = read_manifest(folder)
        weights = folder / manifest["model"]
        if not (weights / "config.json").is_file():
            raise UserError(
                f"{weights}: the run's manifest names this as its weights, but there is no config.json; train it again"
            )
        return _of_folder(label, what, weights, manifest.get("enable_thinking"), folder, manifest.get("template_hash"))
    if Path("recipes", f"{what}.yaml").is_file():
        raise UserError(
            f"--model {label}={what}: no finished run under {runs / what / backend}; train it first (make {what})"
        )
    return _of_folder(label, what, local(what), enable_thinking)


def _of_folder(
    label: str,
    described: str,
    weights: Path,
    thinking: bool | None,
    run: Path | None = None,
    template: str | None = None,
) -> Candidate:
    return Candidate(
        label=label,
        described=described,
        identity=folder_identity(weights),
        weights=weights,
        run=run,
        template_hash=template or template_hash(weights),
        enable_thinking=thinking,
    )


def _run_folder(what: str, backend: str, run: str | None, runs: Path) -> Path | None:
    for folder in (Path(what), runs / what / backend / (run or "")):
        if _is_run(folder):
            return folder
    return None


def _is_run(folder: Path) -> bool:
    return (folder / "manifest.json").is_file() and "method" in read_json(folder / "manifest.json")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from disk. Raises UserError when it is none."""
    try:
        found = json.loads(path.read_bytes())  # not orjson: a trainer's state may hold NaN
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: expected a JSON object")
    return found


def read_manifest(folder: Path) -> dict[str, Any]:
    """A finished run's manifest. Raises UserError for a run that is not complete."""
    manifest = read_json(folder / "manifest.json")
    if manifest.get("status") != "complete":
        raise UserError(
            f"{folder}: the run is {manifest.get('status', 'unfinished')!r}; start the same make command again"
        )
    return manifest


def _base_of(label: str, folder: Path | None) -> Candidate:
    """Follow the runs back (DPO starts from the weights of a tuned run) to the model that no run of ours made."""
    assert folder is not None
    manifest = read_manifest(folder)
    while True:
        weights = local(manifest.get("base_local") or manifest["base_model"])
        if not _is_run(weights.parent):
            return _of_folder(label, manifest["base_model"], weights, manifest.get("enable_thinking"))
        manifest = read_manifest(weights.parent)
