"""Files and folders appear whole or not at all: written aside, synced, renamed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from store.errors import UserError


def sync_folder(path: Path) -> None:
    """Make a rename inside ``path`` durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def atomic_write(path: str | Path, data: bytes | str) -> None:
    """Replace ``path`` by ``data`` in one rename; parents are made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data.encode() if isinstance(data, str) else data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(aside, 0o644)
        os.replace(aside, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)
        raise
    sync_folder(path.parent)


def atomic_json(path: str | Path, content: Any) -> None:
    """Write ``content`` as indented JSON, atomically."""
    atomic_write(path, orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS) + b"\n")


@contextlib.contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty sibling folder; on success it takes the place of ``path``, on any error it is removed.

    An existing ``path`` is moved aside first and deleted last, so that a kill leaves the old or the new folder whole.
    A sibling left by a killed run is removed by the next one. Raises UserError when another process writes ``path`` now.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside, old = path.parent / f".{path.name}.partial", path.parent / f".{path.name}.old"
    handle = _claim(aside, path)
    try:
        if old.exists() and not path.exists():
            os.rename(old, path)  # killed between the two renames below
        shutil.rmtree(old, ignore_errors=True)
        yield aside
        for file in aside.rglob("*"):
            if file.is_file():
                with open(file, "rb") as stream:
                    os.fsync(stream.fileno())
        if path.exists():
            os.rename(path, old)
        os.rename(aside, path)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        if old.exists() and not path.exists():
            os.rename(old, path)
        raise
    finally:
        os.close(handle)
    sync_folder(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def _claim(aside: Path, path: Path) -> int:
    """Make ``aside`` anew and lock it; returns the lock's descriptor. The lock ends with its holder, however it ends."""
    busy = UserError(f"{path}: another process is writing it; wait for it, or write elsewhere")
    try:
        left = os.open(aside, os.O_RDONLY)
    except FileNotFoundError:
        pass
    else:
        try:
            fcntl.flock(left, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(aside)
        except BlockingIOError:
            raise busy from None
        finally:
            os.close(left)
    try:
        aside.mkdir()
    except FileExistsError:
        raise busy from None
    handle = os.open(aside, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    return handle
