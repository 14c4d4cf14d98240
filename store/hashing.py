"""Content ids: the same content has the same id on every machine and in every run."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import orjson


def canonical(content: Any) -> bytes:
    """UTF-8 JSON with sorted keys and no spaces. Raises TypeError for what JSON cannot hold."""
    return orjson.dumps(content, option=orjson.OPT_SORT_KEYS)


def content_id(content: Any) -> str:
    """First 16 hex digits of the SHA-256 of ``canonical(content)``."""
    return hashlib.sha256(canonical(content)).hexdigest()[:16]


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, 64 hex digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
