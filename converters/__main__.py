"""`python -m converters <source> INPUT… [options]` and `python -m converters fetch <name>`; see `--help`."""

from __future__ import annotations

import argparse
from pathlib import Path

from converters import report
from converters.exports import FORMATS
from converters.run import Request, convert
from converters.shape import Options
from converters.sources import MODULES
from converters.splits import DEFAULT
from store.errors import UserError, cli


def main(argv: list[str]) -> int:
    """Exit codes: 0 something was kept, 1 nothing was kept, 2 bad input."""
    if argv[:1] == ["fetch"]:
        from converters.fetch import main as fetch

        return fetch(argv[1:])
    args = parser().parse_args(argv)
    if args.workers < 1 or args.limit < 0:
        raise UserError("WORKERS must be at least 1 and LIMIT at least 0")
    try:
        result = convert(request(args, args.source, args.inputs))
    except OSError as error:
        raise UserError(f"{error.filename or 'output'}: {error.strerror or error}") from None
    print("\n".join(report.lines(result)))
    return 0 if result.manifest["kept"] else 1


def request(args: argparse.Namespace, source: str, inputs: list[str]) -> Request:
    """The parsed options as a request."""
    return Request(
        source=source,
        inputs=inputs,
        out=args.out,
        name=getattr(args, "name", None),
        splits=args.splits,
        seed=args.seed,
        format=args.format,
        limit=args.limit,
        workers=args.workers,
        stream=args.stream,
        dataset_dir=args.dataset_dir,
        options=Options(think=args.think, reply=args.reply),
    )


def add_options(parser: argparse.ArgumentParser, with_name: bool = True) -> None:
    """The options that a conversion and a fetch share."""
    parser.add_argument("--out", type=Path, help="output folder (default: <dataset-dir>/converted/<NAME>)")
    if with_name:
        parser.add_argument("--name", help="name to register (default: by shape, e.g. huatuo_lite)")
    parser.add_argument("--splits", default=DEFAULT, help=f"shares by a hash of the group (default {DEFAULT})")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--format", choices=FORMATS, default="messages")
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="at most N rows of each input (0: all)")
    parser.add_argument("--think", choices=("drop", "keep"), default="drop", help="the source's reasoning text")
    parser.add_argument("--reply", default="auto", help="which stored reply is the target, where a source has several")
    parser.add_argument("--workers", type=int, default=1, metavar="N")
    parser.add_argument("--stream", action="store_true", help="stream a hub id instead of downloading it")
    parser.add_argument("--dataset-dir", type=Path, default=Path("datasets"), help="where dataset_info.json is")


def parser() -> argparse.ArgumentParser:
    """The command line of a conversion."""
    found = argparse.ArgumentParser(prog="python -m converters", description="Source rows → training rows.")
    found.add_argument("source", choices=tuple(MODULES))
    found.add_argument("inputs", nargs="+", metavar="INPUT", help="file, folder or hub id")
    add_options(found)
    return found


if __name__ == "__main__":
    cli(main)
