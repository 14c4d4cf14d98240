"""`python -m converters fetch <name>`: a data set of datasets/sources.yaml, by its registered name, downloaded and converted.

Offline, or for a set without a hub copy: one line with the command to run on a local file, exit 2.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from converters.hub import OFFLINE_HINT
from converters.run import Request, Result, convert
from store.errors import UserError


@dataclass(frozen=True)
class Published:
    """One entry of sources.yaml."""

    name: str
    source: str
    hub: str | None
    licence: str
    config: str | None = None
    shape: str | None = None
    splits: dict[str, int] = field(default_factory=dict)
    size: str | None = None
    note: str | None = None

    @property
    def hub_id(self) -> str | None:
        """`Org/Name` or `Org/Name:config`, as INPUT takes it."""
        return f"{self.hub}:{self.config}" if self.hub and self.config else self.hub

    def local_command(self) -> str:
        """The line to run when the hub cannot be reached."""
        return f"make data-{self.source} INPUT=<local copy> NAME={self.name}"


def published(dataset_dir: Path) -> dict[str, Published]:
    """All entries of `<dataset_dir>/sources.yaml` by name. Raises UserError when the file is missing or broken."""
    path = dataset_dir / "sources.yaml"
    try:
        entries: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError:
        raise UserError(f"{path}: missing; it lists the public data sets by name") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML ({str(error).splitlines()[0]})") from None
    found = {}
    for name, entry in (entries or {}).items():
        try:
            found[name] = Published(name=name, **entry)
        except TypeError as error:
            raise UserError(f"{path}: entry {name!r}: {str(error).split('__init__() ')[-1]}") from None
    return found


def fetch(name: str, dataset_dir: Path, request: Request | None = None) -> Result:
    """Download and convert one published set under its own name. Raises UserError: unknown name, no hub copy, no network."""
    known = published(dataset_dir)
    if name not in known:
        raise UserError(
            f"dataset {name!r} is not registered and not in {dataset_dir / 'sources.yaml'}; there are {', '.join(known)}"
        )
    entry = known[name]
    print(
        f"{name}: {entry.hub_id or 'no hub copy'}, licence {entry.licence}{f', {entry.size}' if entry.size else ''}",
        flush=True,
    )
    if entry.hub_id is None:
        raise UserError(f"dataset {name!r} has no hub copy; get the file and run: {entry.local_command()}")
    base = request or Request(source=entry.source, inputs=[], dataset_dir=dataset_dir)
    try:
        return convert(
            replace(base, source=entry.source, inputs=[entry.hub_id], name=base.name or name, dataset_dir=dataset_dir)
        )
    except UserError as error:
        raise UserError(
            str(error).replace(f"{OFFLINE_HINT}INPUT=<file or folder>", f"{OFFLINE_HINT}{entry.local_command()}")
        ) from None


def main(argv: list[str]) -> int:
    """The `fetch` subcommand. Exit codes as of a conversion."""
    from converters import __main__ as cli
    from converters import report

    parser = argparse.ArgumentParser(
        prog="python -m converters fetch", description="Download and convert a set of datasets/sources.yaml."
    )
    parser.add_argument("name")
    cli.add_options(parser, with_name=False)
    args = parser.parse_args(argv)
    result = fetch(args.name, args.dataset_dir, cli.request(args, "", []))
    print("\n".join(report.lines(result)))
    return 0 if result.manifest["kept"] else 1
