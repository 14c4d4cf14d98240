"""One conversion: inputs → recognise → encode → de-duplicate → split → folder → registered names."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from converters import exports
from converters.batches import Batch
from converters.encode import Job
from converters.inputs import DATA_SUFFIXES, Input, gather
from converters.progress import progress
from converters.reading import NoData, Table, open_table
from converters.recognise import OtherShape, recognise
from converters.shape import Options, Shape
from converters.sources import shapes_of
from converters.splits import DEFAULT, SPLITS, parse_splits, thresholds
from converters.workers import Encoders
from converters.writing import Writer
from store import registry
from store.environment import tool_version
from store.errors import UserError
from store.writing import atomic_folder, atomic_json

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
WRITTEN = {"manifest.json", "rejects.jsonl", "dataset_dict.json", *SPLITS, *(f"{split}.jsonl" for split in SPLITS)}


@dataclass(frozen=True)
class Request:
    """One command line. `out` and `name` default by shape; `limit` is at most so many rows of each input (0: all)."""

    source: str
    inputs: list[str]
    out: Path | None = None
    name: str | None = None
    splits: str = DEFAULT
    seed: int = 42
    format: str = "messages"
    limit: int = 0
    workers: int = 1
    stream: bool = False
    dataset_dir: Path = Path("datasets")
    options: Options = field(default_factory=Options)


@dataclass
class Recognised:
    """An input together with its shape; `record` is its entry in the manifest."""

    entry: Input
    shape: Shape
    record: dict[str, Any]


@dataclass(frozen=True)
class Result:
    """What a conversion left: the folder, its manifest, the names registered for recipes."""

    name: str
    out: Path
    manifest: dict[str, Any]
    registered: list[str]


def refuse_foreign(out: Path, inputs: list[Path]) -> None:
    """OUT is replaced as a whole, so it may hold nothing but an earlier conversion. Raises UserError otherwise."""
    if out.is_file():
        raise UserError(f"OUT={out}: is a file; name a folder")
    inside = [path for path in inputs if path.resolve().is_relative_to(out.resolve())]
    if inside:
        raise UserError(f"OUT={out}: holds the input {inside[0].name} and would be replaced; choose another folder")
    foreign = sorted({path.name for path in out.iterdir()} - WRITTEN) if out.is_dir() else []
    if foreign:
        raise UserError(
            f"OUT={out}: holds {foreign[0]}, which no conversion wrote, and would be replaced; choose another folder or move it"
        )


class _OldStays(Exception):
    """Nothing was kept and OUT holds a good set: the result went to the folder in args[0]."""


def convert(request: Request) -> Result:
    """Run one conversion. Raises UserError; then OUT is as it was before."""
    shapes, shares = shapes_of(request.source), parse_splits(request.splits)
    with Encoders(request.workers) as encoders:
        found, skipped = recognise_all(request, shapes)
        kinds = {item.shape.kind for item in found}
        if len(kinds) > 1:
            raise UserError(
                f"{' '.join(request.inputs)}: both preference pairs and single answers; convert one INPUT at a time"
            )
        kind = kinds.pop()
        names = {item.shape.dataset for item in found}
        name = request.name or (names.pop() if len(names) == 1 else request.source.replace("-", "_"))
        if not NAME.fullmatch(name):
            raise UserError(
                f"NAME={name}: expected letters, digits, '.', '_' and '-', beginning with a letter or digit"
            )
        out = request.out or request.dataset_dir / "converted" / name
        refuse_foreign(out, [item.entry.path for item in found if item.entry.path])
        # test and val first: a row published twice stays on the side that is not trained on, and only their groups are held
        found.sort(key=lambda item: {"test": 0, "val": 1, "train": 2, None: 3}[item.entry.split])
        earlier = _inputs_of(out)
        try:
            with atomic_folder(out) as folder:
                with Writer(folder) as writer:
                    _encode_all(request, found, encoders, writer, thresholds(shares))
                manifest = _manifest(request, found, skipped, writer, name, shares)
                if earlier and earlier != [entry["path"] for entry in manifest["inputs"]]:
                    manifest["replaces"] = earlier
                if request.format != "messages" and manifest["kept"]:
                    exports.export(folder, request.format, kind)
                manifest["outputs"] = _sizes(folder)
                atomic_json(folder / "manifest.json", manifest)
                if not manifest["kept"] and _holds_rows(out):
                    raise _OldStays(_beside(out, folder))
        except _OldStays as moved:
            out = moved.args[0]
    registered = _register(request, name, out, manifest, kind) if manifest["kept"] else []
    return Result(name, out, manifest, registered)


def recognise_all(request: Request, shapes: tuple[Shape, ...]) -> tuple[list[Recognised], list[dict[str, str]]]:
    """(inputs with their shapes, skipped files with reasons). Raises UserError when nothing is of this source."""
    found: list[Recognised] = []
    skipped: list[dict[str, str]] = []
    inputs = gather(request.inputs)
    if any(entry.hub for entry in inputs):
        from converters import hub

        inputs = hub.splits_of(inputs, request.stream)
    for entry in inputs:
        try:
            table = _open(entry, request.stream)
            try:
                batch = next(table.batches, None)
                if batch is None:
                    raise NoData(f"{entry.label}: no rows in it (only a header, or an empty array)")
                shape = recognise(entry.label, batch, shapes)
            finally:
                table.close()
        except UserError as error:
            # a damaged data file stops the run; a file that never claimed to be data (README.md) does not
            about_data = entry.path is None or entry.path.suffix in DATA_SUFFIXES
            if entry.explicit or (about_data and not isinstance(error, (NoData, OtherShape))):
                raise
            reason = str(error).removeprefix(f"{entry.label}: ").split("; source ")[0]
            skipped.append({"path": entry.label, "reason": reason})
            continue
        path = str(entry.path) if entry.path else f"hub:{entry.hub}"
        record = {"path": path, "sha256": None, "bytes": table.size, "format": table.format, "shape": shape.name}
        found.append(Recognised(entry, shape, record | {"split": entry.split, "rows": 0, "kept": 0}))
    if not found:
        first = f"; e.g. {skipped[0]['path']}: {skipped[0]['reason']}" if skipped else ""
        raise UserError(
            f"{' '.join(request.inputs)}: no file of source {request.source} in it ({len(skipped)} skipped{first})"
        )
    return found, skipped


def _open(entry: Input, stream: bool) -> Table:
    if entry.path:
        return open_table(entry.path, entry.label)
    from converters import hub

    return hub.open_split(entry, stream)


def _encode_all(
    request: Request, found: list[Recognised], encoders: Encoders, writer: Writer, bounds: tuple[bytes, bytes]
) -> None:
    published = any(item.entry.split for item in found)
    total, done = sum(item.record["bytes"] for item in found), 0
    with progress(total) as bar:
        for item in found:
            split = SPLITS.index(item.entry.split) if item.entry.split else -1
            job = Job(
                request.source,
                item.shape.name,
                item.entry.label,
                request.options,
                request.seed,
                bounds,
                split,
                published,
            )
            table = _open(item.entry, request.stream)
            try:
                for encoded in encoders.encode(_limited(table.batches, request.limit), job):
                    item.record["kept"] += writer.add(encoded, split)
                    item.record["rows"] += encoded.rows
                    bar.show(done + table.position(), writer.rows_in)
                done += table.size
                item.record["sha256"] = table.sha256()
            finally:
                table.close()


def _limited(batches: Iterator[Batch], limit: int) -> Iterator[Batch]:
    """At most `limit` rows (0: all)."""
    left = limit
    for batch in batches:
        if limit:
            if left <= 0:
                return
            count = len(batch.parse()[1])
            if count > left:
                batch = batch.head(left)
            left -= count
        yield batch


def _manifest(
    request: Request,
    found: list[Recognised],
    skipped: list[dict[str, str]],
    writer: Writer,
    name: str,
    shares: dict[str, float],
) -> dict[str, Any]:
    kept, rejected = sum(writer.kept.values()), sum(writer.reasons.values())
    if writer.rows_in != kept + rejected + writer.duplicates:
        raise AssertionError(
            f"rows_in {writer.rows_in} != {kept} kept + {rejected} rejected + {writer.duplicates} duplicates"
        )
    shapes = list(dict.fromkeys(item.shape.name for item in found))
    return {
        "name": name,
        "source": request.source,
        "shape": shapes[0] if len(shapes) == 1 else shapes,
        "kind": found[0].shape.kind,
        "inputs": [item.record for item in found],
        "rows_in": writer.rows_in,
        "kept": kept,
        "rejected": dict(sorted(writer.reasons.items())),
        "rejected_total": rejected,
        "duplicates": writer.duplicates,
        "repaired": dict(sorted(writer.repaired.items())),
        "splits": writer.kept,
        "published_splits": any(item.entry.split for item in found),
        "groups_across_splits": len(writer.crossing),
        "skipped_files": skipped,
        "seed": request.seed,
        "options": {"splits": shares, "format": request.format, "limit": request.limit, **asdict(request.options)},
        "tool_version": tool_version(),
    }


def _sizes(folder: Path) -> dict[str, int]:
    """Every file of the result with its bytes; whoever reads one hashes it anyway (`trainers/prepare.py`)."""
    return {str(file.relative_to(folder)): file.stat().st_size for file in sorted(folder.rglob("*")) if file.is_file()}


def _inputs_of(out: Path) -> list[str]:
    """What the set in this folder was made from; empty where there is none."""
    try:
        return [entry["path"] for entry in orjson.loads((out / "manifest.json").read_bytes())["inputs"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _holds_rows(out: Path) -> bool:
    """Is there a converted set with rows in this folder already?"""
    try:
        return bool(orjson.loads((out / "manifest.json").read_bytes())["kept"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _beside(out: Path, folder: Path) -> Path:
    """Copy manifest and rejects to `<OUT>.nothing-kept`, so that the good set in OUT stays."""
    beside = out.with_name(f"{out.name}.nothing-kept")
    with atomic_folder(beside) as target:
        for name in ("manifest.json", "rejects.jsonl"):
            shutil.copyfile(folder / name, target / name)
    return beside


def _register(request: Request, name: str, out: Path, manifest: dict[str, Any], kind: str) -> list[str]:
    """Register NAME, NAME_val, NAME_test, an empty split too, so that a recipe finds it; forget a name that now has no file."""
    registered, without = [], []
    for split, suffix in zip(SPLITS, ("", "_val", "_test"), strict=True):
        file = exports.split_file(out, request.format, split)
        layout = exports.layout(request.format, kind, file) if file.is_file() else None
        if layout is None:
            without.append(name + suffix)
            continue
        registry.register(request.dataset_dir, name + suffix, file, kind, layout or None)
        registered.append(name + suffix)
    if without and request.dataset_dir.is_dir():
        registry.unregister(request.dataset_dir, without)
    return registered
