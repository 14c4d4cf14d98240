"""A pickle, read without running anything that is in it.

The unpickler knows exactly the class names that the published files of the reference system need, maps each to an
inert stand-in that only holds fields, and refuses every other global, every call and every reference outside the file
by name.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any

from store.errors import UserError

MAX_BYTES = 2 * 1024**3  # a pickle is read whole; the largest published one is well under this

# Opcodes that call something, load by number or reach outside the file. The known layouts need none of them.
REFUSED_OPCODES = frozenset(
    {
        "REDUCE",
        "INST",
        "OBJ",
        "NEWOBJ_EX",
        "EXT1",
        "EXT2",
        "EXT4",
        "PERSID",
        "BINPERSID",
        "NEXT_BUFFER",
        "READONLY_BUFFER",
    }
)


class Plain:
    """An inert stand-in: holds the fields of the object that was pickled, has no behaviour."""

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}

    def __new__(cls, *_: object) -> Plain:
        self = object.__new__(cls)
        self.fields = {}
        return self

    def __setstate__(self, state: object) -> None:
        """Pydantic v2 keeps the fields under `__dict__`; a plain object's state is the fields themselves."""
        if isinstance(state, dict):
            inner = state.get("__dict__", state)
            self.fields = inner if isinstance(inner, dict) else {}


def _stand_in(name: str) -> type[Plain]:
    return type(name, (Plain,), {})


STAND_INS: dict[tuple[str, str], type[Plain]] = {
    (module, name): _stand_in(name)
    for module, name in (
        ("__main__", "RetrievalAction"),
        ("__main__", "AskAction"),
        ("__main__", "TellAction"),
        ("__main__", "RetrievalRequest"),
        ("__main__", "Response"),
        ("__main__", "MedicalAskContent"),
        ("langchain_core.messages.ai", "AIMessage"),
        ("langchain_core.documents.base", "Document"),
    )
}


class _Refused(Exception):
    """A global or opcode that is not allowed; the text says which."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return STAND_INS[(module, name)]
        except KeyError:
            raise _Refused(f"global {module}.{name}") from None

    def persistent_load(self, pid: object) -> Any:
        raise _Refused("a persistent id")


def _scan(data: bytes) -> None:
    """Walk the opcodes before anything is loaded: refuses calls, memo indices that only eat memory, and torn files."""
    for count, (opcode, arg, _) in enumerate(pickletools.genops(data), 1):
        if opcode.name in REFUSED_OPCODES:
            raise _Refused(f"opcode {opcode.name}")
        if opcode.name == "GLOBAL" and tuple(str(arg).split(" ", 1)) not in STAND_INS:
            raise _Refused("global " + str(arg).replace(" ", "."))
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(str(arg)) > count:
            raise _Refused(f"memo index {arg} after {count} opcodes")


def read(path: str | Path, max_bytes: int = MAX_BYTES) -> Any:
    """The pickled object, every known class a `Plain`. Raises UserError naming what was refused, or that it is torn."""
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise UserError(
                f"{path}: {size} bytes; pickles over {max_bytes} bytes are not read; convert it to JSON lines first"
            )
        data = path.read_bytes()
    except OSError as e:
        raise UserError(f"{path}: cannot be read: {e.strerror}") from None
    if data[:2] == b"\x1f\x8b" or data[:4] == b"\x28\xb5\x2f\xfd":
        raise UserError(f"{path}: compressed pickles are not read; unpack it first (gunzip or unzstd)")
    try:
        _scan(data)
        return _Unpickler(io.BytesIO(data)).load()
    except _Refused as e:
        raise UserError(
            f"{path}: refused {e}; only {len(STAND_INS)} class names of the published files are accepted "
            "(write other data as JSON lines, or records with pickle protocol 4)"
        ) from None
    except MemoryError:
        raise UserError(f"{path}: asks for more memory than there is; not a file of the known layouts") from None
    except Exception as e:
        raise UserError(f"{path}: not a complete pickle ({type(e).__name__}: {str(e)[:80]})") from None
