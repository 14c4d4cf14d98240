"""Command line of the trainers: train, smoke, preview, check, tiny-model. `make help` lists the targets that call it."""

from __future__ import annotations

import argparse
from pathlib import Path

from store.errors import UserError, cli
from trainers.recipe import available, parse_overrides


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = argparse.ArgumentParser(prog="python -m trainers", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    for name, text in (
        ("train", "train a recipe, or continue it"),
        ("ensure", "train a recipe unless its run is complete, whatever options made it"),
        ("smoke", "3 steps of any recipe on a CPU with the stand-in"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("recipe")
        command.add_argument("--backend", default="llamafactory")
        command.add_argument("--run", help="name of a run beside the recipe's first one")
        command.add_argument("--fresh", action="store_true", help="rename the old run and start over")
        command.add_argument("--gpus", type=int)
        command.add_argument("--from", dest="start_from", help="recipe or model folder to start from (dpo)")
        command.add_argument("--set", dest="overrides", default="", help='"key=value …" for this run')
        command.add_argument("--dataset", help="registered name instead of the recipe's")
    preview = commands.add_parser("preview", help="rendered examples, lengths, steps: no GPU")
    preview.add_argument("recipe")
    preview.add_argument("--set", dest="overrides", default="")
    preview.add_argument("--dataset")
    preview.add_argument("--gpus", type=int)
    preview.add_argument("--examples", type=int, default=3)
    check = commands.add_parser("check", help="the trainer's own parser over recipes")
    check.add_argument("recipe", nargs="*")
    tiny = commands.add_parser("tiny-model", help="make the stand-in model")
    tiny.add_argument("--out", default="models/tiny-qwen2")
    tiny.add_argument("--samples", default="datasets/samples")
    tiny.add_argument("--seed", type=int, default=42)
    commands.add_parser("recipes", help="names of all recipes, one a line")
    return top


def main(arguments: list[str]) -> int:
    """Run one command; see `parser`."""
    options = parser().parse_args(arguments)
    if options.command == "recipes":
        print("\n".join(available()))
    elif options.command == "tiny-model":
        from trainers.tiny_model import build

        count = build(options.out, options.samples, options.seed)
        print(
            f"{options.out}: {count:,} parameters, seed {options.seed}: a stand-in to prove the plumbing, not a model to use"
        )
    elif options.command == "check":
        from trainers.check import check_all

        return check_all(options.recipe)
    elif options.command == "preview":
        from trainers.preview import preview

        preview(options.recipe, parse_overrides(options.overrides), options.dataset, options.examples, options.gpus)
    else:
        return run(options)
    return 0


def run(options: argparse.Namespace) -> int:
    """train and smoke."""
    from trainers.train import Options, train

    if options.gpus is not None and options.gpus < 1:
        raise UserError(f"GPUS={options.gpus}: expected a whole number of devices, at least 1")
    if options.command == "smoke":
        from trainers.smoke import smoke

        smoke(options.recipe, options.backend, parse_overrides(options.overrides))
        return 0
    train(
        options.recipe,
        Options(
            backend=options.backend,
            run=options.run,
            fresh=options.fresh,
            gpus=options.gpus,
            start_from=options.start_from,
            overrides=parse_overrides(options.overrides),
            dataset=options.dataset,
            as_it_is=options.command == "ensure",
            root=Path("runs"),
        ),
    )
    return 0


if __name__ == "__main__":
    cli(main)
