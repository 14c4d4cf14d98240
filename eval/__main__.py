"""`python -m eval run …` generates, judges and reports; `python -m eval report` rewrites the report alone."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from eval.candidates import Candidate, labelled, read_manifest, resolve
from eval.judges import KINDS, read_judge
from store.errors import UserError, cli

if TYPE_CHECKING:
    from eval.recipe import EvalRecipe
    from eval.run import Job

ENGINES = ("auto", "vllm", "vllm-cpu", "llamafactory")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m eval", description=__doc__)
    verbs = top.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", help="generate on a split, judge, print the table, update the report")
    run.add_argument(
        "--model", action="append", default=[], metavar="LABEL=WHAT", help="recipe, model folder, or `base`; repeatable"
    )
    run.add_argument("--task", default="soap", help="recipes/eval/<task>.yaml, or a path to a recipe")
    run.add_argument(
        "--dataset",
        help="registered name, converted folder, or a .jsonl file (default: the tuned run's own, else the task's)",
    )
    run.add_argument("--split", choices=("train", "val", "test"))
    run.add_argument("--judge", choices=KINDS, default="lexical")
    run.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a recipe key for this run"
    )
    run.add_argument("--limit", type=int, help="the first N rows only; another table than the whole split")
    run.add_argument("--engine", choices=ENGINES, default="auto")
    run.add_argument("--backend", default="llamafactory", help="the trainer whose run is meant")
    run.add_argument("--run", help="a named run of the recipes (RUN=)")
    run.add_argument("--base-url", help="a server that already runs; --model LABEL=NAME then names what it serves")
    run.add_argument(
        "--served-model", action="append", default=[], metavar="NAME", help="with --base-url: short for --model NAME"
    )
    run.add_argument("--fresh", action="store_true", help="set these models' earlier generations aside and ask again")
    run.add_argument("--runs", type=Path, default=Path("runs"))
    run.add_argument("--dataset-dir", type=Path, default=Path("datasets"))
    rows = verbs.add_parser("rows", help="whether a dataset's split can be judged, before anything is trained for it")
    rows.add_argument("--task", default="soap")
    rows.add_argument("--dataset", required=True)
    rows.add_argument("--split", choices=("train", "val", "test"), default="test")
    rows.add_argument("--dataset-dir", type=Path, default=Path("datasets"))
    memory = verbs.add_parser(
        "memory", help="the demo's check: a tuned model repeats its training notes, its base does not"
    )
    memory.add_argument("--dataset", required=True)
    memory.add_argument("--tuned", required=True)
    memory.add_argument("--base", required=True)
    memory.add_argument("--runs", type=Path, default=Path("runs"))
    memory.add_argument("--dataset-dir", type=Path, default=Path("datasets"))
    report = verbs.add_parser("report", help="write runs/report/index.html from all results")
    report.add_argument("--runs", type=Path, default=Path("runs"))
    report.add_argument("--samples", type=int, default=5, help="notes shown side by side per table")
    return top


def main(argv: list[str]) -> int:
    """Returns 0; 1 when verdicts are missing because the judge could not be reached."""
    options = parser().parse_args(argv)
    from eval.report import write_report

    if options.verb == "rows":
        from eval.recipe import read_recipe
        from eval.rows import split_file
        from eval.soap import read_notes

        read_recipe(options.task)
        notes, others = read_notes(split_file(options.dataset, options.split, options.dataset_dir))
        print(f"{options.dataset}, {options.split}: {len(notes)} rows to judge, {others} of another kind")
        return 0
    if options.verb == "memory":
        from eval.memory import check

        return check(options.dataset, options.tuned, options.base, options.runs, options.dataset_dir)
    if options.verb == "report":
        print(f"report: {write_report(options.runs, options.samples)}")
        return 0
    from eval.run import refuse_self_judgement, run, show

    job = _job(options, argv)
    refuse_self_judgement(job)
    if options.fresh:
        for candidate in job.candidates:
            _set_aside(job.folder, candidate.label)
    results, lost = run(job)
    show(results)
    print(f"\nresults: {job.folder}\nreport: {write_report(options.runs)}", flush=True)
    if lost:
        print(
            f"{lost} verdicts are missing: the judge could not be reached. The same command asks for those only.",
            flush=True,
        )
    return 1 if lost else 0


def _job(options: argparse.Namespace, argv: list[str]) -> Job:
    from eval.recipe import read_recipe
    from eval.rows import split_file
    from eval.run import Job, data_folder
    from eval.soap import read_notes
    from store.hashing import content_id

    if options.limit is not None and options.limit < 1:
        raise UserError(f"--limit {options.limit}: expected at least 1")
    specs = options.model + options.served_model
    if not specs:
        raise UserError("no model: --model <label>=<recipe or folder>, or --base-url <url> --served-model <name>")
    if options.served_model and not options.base_url:
        raise UserError("--served-model needs --base-url")
    recipe = read_recipe(options.task, overrides=options.set)
    judge = read_judge(options.judge, recipe)
    if options.base_url:
        # a name is all that is known of a running server's weights: --fresh when they changed behind it
        candidates = [
            Candidate(label, name, content_id(["server", label, name]), enable_thinking=recipe.enable_thinking)
            for label, name in labelled(specs)
        ]
    else:
        candidates = resolve(
            specs, backend=options.backend, run=options.run, enable_thinking=recipe.enable_thinking, runs=options.runs
        )
    dataset, split = options.dataset or _default_dataset(recipe, candidates, options), options.split or recipe.split
    file = split_file(dataset, split, options.dataset_dir)
    rows, others = read_notes(file, options.limit)
    if others:
        print(f"{file}: {others} rows are no SOAP notes and are left out of this task", flush=True)
    return Job(
        recipe=recipe,
        dataset=dataset,
        split=split,
        file=file,
        rows=rows,
        candidates=candidates,
        judge=judge,
        folder=data_folder(options.runs, recipe.task, dataset, split, rows),
        engine=options.engine,
        base_url=options.base_url.rstrip("/") if options.base_url else None,
        command=argv,
    )


def _default_dataset(recipe: EvalRecipe, candidates: list[Candidate], options: argparse.Namespace) -> str:
    """The set the first tuned run was trained on where its rows are notes of this task, else the task's own; said aloud."""
    from eval.rows import split_file
    from eval.soap import read_notes

    for run in (one.run for one in candidates if one.run):
        name = read_manifest(run)["dataset"]["names"][0]
        try:
            notes, _ = read_notes(split_file(name, "train", options.dataset_dir), 1)
        except UserError:
            continue
        if notes:
            print(f"dataset: {name}, which {run.parent.name} was trained on (DATASET= takes another)")
            return name
    print(
        f"dataset: {recipe.dataset}, the task's own: no run here was trained on {recipe.task} rows (DATASET= takes another)"
    )
    return recipe.dataset


def _set_aside(folder: Path, label: str) -> None:
    if (folder / label).is_dir():
        aside = folder / ".old" / f"{label}-{time.strftime('%Y%m%d-%H%M%S')}"
        aside.parent.mkdir(exist_ok=True)
        os.rename(folder / label, aside)
        print(f"{label}: earlier results moved to {aside}")


if __name__ == "__main__":
    cli(main)
