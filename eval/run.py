"""One evaluation: serve and generate, model after model; then judge; then count. Every phase continues where it stopped."""

from __future__ import annotations

import os
import platform
import shlex
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import orjson

from eval import judge_llm, table
from eval.candidates import Candidate, read_manifest
from eval.generate import generate, read_generations, ungenerated
from eval.judges import Judge, lexical_rows, llm_rows, served
from eval.recipe import EvalRecipe
from eval.results import counts, metrics
from eval.rows import EvalRow, data_hash
from eval.verdicts import cases_of
from llm import Endpoint
from store.environment import tool_version
from store.errors import UserError
from store.hashing import content_id, file_sha256
from store.writing import atomic_json, atomic_write


@dataclass(frozen=True)
class Job:
    """What one `eval run` does. ``base_url``: a server that already runs; ``folder``: ``runs/eval/<task>/<data>``."""

    recipe: EvalRecipe
    dataset: str
    split: str
    file: Path
    rows: list[EvalRow]
    candidates: list[Candidate]
    judge: Judge
    folder: Path
    engine: str
    base_url: str | None
    command: list[str]


def data_folder(runs: Path, task: str, dataset: str, split: str, rows: list[EvalRow]) -> Path:
    """``runs/eval/<task>/<dataset>-<split>-<data hash>``."""
    name = Path(dataset).stem if "/" in dataset or dataset.endswith(".jsonl") else dataset
    return runs / "eval" / task / f"{name}-{split}-{data_hash(rows)[:8]}"


def run(job: Job) -> tuple[list[dict[str, Any]], int]:
    """Results of every model, and how many verdicts are missing because the judge could not be reached."""
    for candidate in job.candidates:
        _generate(job, candidate)
    results = _judge(job)
    lost = sum(result["counts"]["causes"].get("transport", 0) for result in results)
    return results, lost


def _generate(job: Job, candidate: Candidate) -> None:
    folder = job.folder / candidate.label
    missing = ungenerated(job.rows, candidate, job.recipe, folder)
    print(
        f"{candidate.label}: {len(job.rows) - missing} of {len(job.rows)} generations are there ({candidate.described})",
        flush=True,
    )
    begun, engine = time.monotonic(), "a running server"
    if not missing:
        generated = generate(job.rows, candidate, None, job.recipe, folder)
    elif job.base_url:
        key = os.environ.get("OPENAI_API_KEY", "").strip() or "none"
        generated = generate(job.rows, candidate, Endpoint(job.base_url, candidate.described, key), job.recipe, folder)
    else:
        from serve import running

        assert candidate.weights is not None
        with running(candidate.weights, name=candidate.label, engine=job.engine, log_dir=folder / "serve") as server:
            engine = server.engine
            print(f"{candidate.label}: served by {engine} after {time.monotonic() - begun:.0f} s", flush=True)
            endpoint = Endpoint(server.base_url, server.model, server.api_key)
            generated = generate(job.rows, candidate, endpoint, job.recipe, folder)
    said = {
        "cut_by_length": "cut by length",
        "refused": "refused by the server",
        "to_context_end": "sent without max_tokens",
    }
    for name, words in said.items():
        if generated[name]:
            print(f"{candidate.label}: {generated[name]} of {len(job.rows)} rows {words}", flush=True)
    if missing:
        seconds = round(time.monotonic() - begun, 1)
        atomic_json(folder / "generation.json", {"engine": engine, "asked": missing, "wall_s": seconds, "date": _now()})


def _judge(job: Job) -> list[dict[str, Any]]:
    prepared = []
    for candidate in job.candidates:
        generations = read_generations(job.folder / candidate.label / "generations.jsonl")
        prepared.append((candidate, cases_of(job.rows, generations, job.recipe), generations))
    if job.judge.kind == "lexical":
        return [_finish(job, one, found, said, lexical_rows(found.cases, job.recipe)) for one, found, said in prepared]

    def place(candidate: Candidate) -> Path:
        return job.folder / candidate.label / job.judge.folder_name()

    todo = sum(
        judge_llm.unjudged([case for case in found.cases if case.problem is None], place(one), job.judge.hash)
        for one, found, _ in prepared
    )
    print(
        f"{job.judge.label}: {todo} verdicts to ask for, {sum(len(f.cases) for _, f, _ in prepared) - todo} known",
        flush=True,
    )

    def judged(endpoint: Endpoint | None) -> Iterable[dict[str, Any]]:
        for one, found, said in prepared:
            rows = llm_rows(found.cases, job.judge, endpoint, job.recipe, place(one), one.label)
            yield _finish(job, one, found, said, rows)

    if not todo:
        return list(judged(None))
    with served(job.judge, job.recipe, job.folder / "judge-serve") as endpoint:
        return list(judged(endpoint))


def _finish(
    job: Job, candidate: Candidate, found: Any, generations: list[dict[str, Any]], rows: list[dict[str, Any]]
) -> dict[str, Any]:
    """Write ``verdicts.jsonl`` and ``results.json`` of one model and judge; return the latter."""
    folder = job.folder / candidate.label
    generated = {
        "cut_by_length": sum(row["meta"].get("finish_reason") == "length" for row in generations),
        "refused": sum(row["prediction"] is None for row in generations),
        "to_context_end": sum(bool(row["meta"].get("to_context_end")) for row in generations),
    }
    made = folder / "generation.json"
    result = {
        "task": job.recipe.task,
        "n": len(job.rows),
        "label": candidate.label,
        "model": candidate.described,
        "run": str(candidate.run) if candidate.run else None,
        "dataset": job.dataset,
        "split": job.split,
        "file": str(job.file),
        "memory_of_training_rows": trained_on(job),
        "hashes": {
            "data": data_hash(job.rows),
            "judge": job.judge.hash,
            "prompt": job.judge.prompt_hash,
            "generation": content_id(job.recipe.sampling()),
            "model": candidate.identity,
            "template": candidate.template_hash,
        },
        "judge": job.judge.described(job.recipe),
        "sampling": {**job.recipe.sampling(), "enable_thinking": candidate.enable_thinking},
        "metrics": metrics(rows),
        "counts": counts(rows, found.notes, found.without_marker, generated),
        "bootstrap": {"seed": job.recipe.bootstrap_seed, "resamples": job.recipe.bootstrap_resamples},
        "generated": orjson.loads(made.read_bytes()) if made.is_file() else None,
        "versions": _versions(),
        "command": shlex.join(["python", "-m", "eval", *job.command]),
        "date": _now(),
    }
    place = folder / job.judge.folder_name()
    atomic_write(place / "verdicts.jsonl", b"".join(orjson.dumps(row) + b"\n" for row in rows))
    atomic_json(place / "results.json", result)
    return result


def trained_on(job: Job) -> bool:
    """True when the rows come from a train split, or from a file that a run's manifest names as training data."""
    if job.split == "train":
        return True
    hashes = {file_sha256(job.file)}

    def strings(found: Any) -> set[str]:
        if isinstance(found, str):
            return {found}
        inside = found.values() if isinstance(found, dict) else found if isinstance(found, list) else []
        return set().union(*map(strings, inside))

    used = [strings(read_manifest(one.run).get("dataset")) for one in job.candidates if one.run]
    return any(hashes & known for known in used)


def _versions() -> dict[str, str]:
    found = {"medtune": tool_version(), "python": platform.python_version()}
    for package in ("openai", "inspect_ai", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def show(results: list[dict[str, Any]]) -> None:
    """Print the table of one run's results."""
    print("\n" + table.console(results), flush=True)


def refuse_self_judgement(job: Job) -> None:
    """A model that judges itself proves nothing. Raises UserError."""
    endpoint = job.judge.endpoint
    for candidate in job.candidates:
        served_here = endpoint and job.base_url and endpoint.base_url.rstrip("/") == job.base_url.rstrip("/")
        if (served_here and endpoint and endpoint.model == candidate.described) or candidate.described == job.judge.id:
            raise UserError(f"{candidate.label} would judge itself ({job.judge.id}); name another judge")
