"""Parquet files and Arrow folders (`Dataset.save_to_disk`) as batches of dicts, one record batch in memory at a time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from converters.batches import BATCH_ROWS, Batch
from store.errors import UserError
from store.hashing import file_sha256


def parquet_batches(path: Path, label: str) -> Iterator[Batch]:
    """Batches of a Parquet file. Raises UserError for a damaged file."""
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            yield from _batches(file.iter_batches(batch_size=BATCH_ROWS), label)
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{label}: not a whole Parquet file ({_line(error)}); fetch it again") from None


def arrow_batches(path: Path, label: str) -> Iterator[Batch]:
    """Batches of one `.arrow` file (stream or file layout). Raises UserError for a damaged file."""
    yield from _arrow_files([path], label)


def arrow_folder_batches(folder: Path, label: str) -> Iterator[Batch]:
    """Batches of a folder written by `Dataset.save_to_disk`, files in the order of its state.json. Raises UserError."""
    yield from _arrow_files(arrow_files(folder, label), label)


def is_arrow_folder(folder: Path) -> bool:
    """A saved `Dataset` (not a `DatasetDict`)."""
    return (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()


def dataset_dict_splits(folder: Path) -> list[str]:
    """The splits of a saved `DatasetDict`; empty when the folder is none. Raises UserError for a broken one."""
    path = folder / "dataset_dict.json"
    if not path.is_file():
        return []
    try:
        splits = json.loads(path.read_text())["splits"]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: not what save_to_disk writes; expected {{'splits': […]}}") from None
    for split in splits:
        if not is_arrow_folder(folder / split):
            raise UserError(
                f"{folder}: dataset_dict.json names split {split!r}, but {folder / split} is no saved Dataset"
            )
    return splits


def arrow_files(folder: Path, label: str) -> list[Path]:
    """The data files of a saved `Dataset`. Raises UserError when one is missing."""
    try:
        names = [entry["filename"] for entry in json.loads((folder / "state.json").read_text())["_data_files"]]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{label}: state.json is not what save_to_disk writes") from None
    for name in names:
        if not (folder / name).is_file():
            raise UserError(f"{label}: state.json names {name}, which is missing; fetch the folder again")
    return [folder / name for name in names]


def folder_sha256(files: list[Path]) -> str:
    """SHA-256 over the SHA-256 of each file, in order."""
    return hashlib.sha256("".join(file_sha256(file) for file in files).encode()).hexdigest()


def _arrow_files(paths: list[Path], label: str) -> Iterator[Batch]:
    import pyarrow

    first = 1
    for path in paths:
        try:
            with pyarrow.memory_map(str(path)) as source:
                for batch in _batches(_record_batches(source), label, first):
                    yield batch
                    first += len(batch.rows or ())
        except (pyarrow.ArrowException, OSError) as error:
            raise UserError(
                f"{label}: {path.name} is not a whole Arrow file ({_line(error)}); fetch it again"
            ) from None


def _record_batches(source):
    import pyarrow

    if source.size() >= 6 and source.read_at(6, 0) == b"ARROW1":
        reader = pyarrow.ipc.open_file(source)
        for index in range(reader.num_record_batches):
            yield reader.get_batch(index)
    else:
        yield from pyarrow.ipc.open_stream(source)


def _batches(record_batches, label: str, first: int = 1) -> Iterator[Batch]:
    for records in record_batches:
        for start in range(0, records.num_rows, BATCH_ROWS):
            rows = records.slice(start, BATCH_ROWS).to_pylist()
            yield Batch(label, first, rows=rows)
            first += len(rows)


def _line(error: BaseException) -> str:
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__
