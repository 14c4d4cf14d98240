"""Open a file as a stream of its decompressed bytes (plain, gzip, zstd: told by the first bytes), hashing it on the way."""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from pathlib import Path
from typing import BinaryIO

import zstandard

from store.errors import UserError

BLOCK = 1 << 20
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


class HashedFile(io.RawIOBase):
    """A raw file that hashes what is read from it and knows how far it is (`position`, bytes as stored)."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed by close
        self._hash = hashlib.sha256()
        self.position = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, target: memoryview) -> int:  # type: ignore[override]
        """Fill `target` from the file and hash what was read."""
        count = self._file.readinto(target) or 0
        if count:
            self._hash.update(target[:count])
            self.position += count
        return count

    def sha256(self) -> str:
        """SHA-256 of the whole file; what was not read yet is read now."""
        while self.read(BLOCK):
            pass
        return self._hash.hexdigest()

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            self._file.close()
        super().close()


class ZstdFrames:
    """zstd frames one after another. The library's own reader takes a cut-off frame for the end of the file; this one does not."""

    def __init__(self, raw: HashedFile) -> None:
        self._raw = raw
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._ready = b""

    def read(self, size: int) -> bytes:
        """Up to `size` bytes. Raises EOFError when the file ends inside a frame."""
        while not self._ready:
            packed = self._frame.unused_data if self._frame.eof else b""
            packed = packed or self._raw.read(BLOCK) or b""
            if not packed:
                if not self._frame.eof:
                    raise EOFError("the file ends inside a zstd frame")
                return b""
            if self._frame.eof:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            self._ready = self._frame.decompress(packed)
        block, self._ready = self._ready[:size], self._ready[size:]
        return block


class Stream:
    """`read(size)` of decompressed bytes; `position` and `sha256()` are of the stored file."""

    def __init__(self, path: Path, label: str) -> None:
        self.path, self.label = path.resolve(), label
        try:
            with open(path, "rb") as start:
                magic = start.read(4)
            self.raw = HashedFile(path)
        except OSError as error:
            raise UserError(f"{label}: cannot be read ({error.strerror})") from None
        self.packed = magic[:2] == GZIP or magic == ZSTD
        if magic[:2] == GZIP:
            self.stream: BinaryIO = gzip.GzipFile(fileobj=io.BufferedReader(self.raw, BLOCK), mode="rb")  # type: ignore[assignment]
        elif magic == ZSTD:
            self.stream = ZstdFrames(self.raw)  # type: ignore[assignment]
        else:
            self.stream = self.raw  # type: ignore[assignment]

    @property
    def position(self) -> int:
        """Bytes of the stored file read so far."""
        return self.raw.position

    def read(self, size: int = BLOCK) -> bytes:
        """Up to `size` bytes, b"" at the end. Raises UserError for a torn or damaged archive."""
        try:
            block = self.stream.read(size)
        except (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError, OSError) as error:
            raise UserError(
                f"{self.label}: the compressed file is damaged or cut off ({error}); fetch it again"
            ) from None
        return block

    def sha256(self) -> str:
        """SHA-256 of the stored file."""
        return self.raw.sha256()

    def close(self) -> None:
        """Close everything."""
        self.raw.close()
