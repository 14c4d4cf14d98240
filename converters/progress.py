"""A progress bar on a terminal, nothing elsewhere (and then the library is not even imported: it takes as long as 5,000 rows)."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any


class progress:
    """`with progress(total_bytes) as bar: bar.show(bytes_so_far, rows_so_far)`; on stderr."""

    def __init__(self, total: int) -> None:
        self._bar: Any = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, unit="B", unit_scale=True, desc="convert")

    def show(self, done: int, rows: int) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.set_postfix_str(f"{rows:,} rows", refresh=False)
            self._bar.update(done - self._bar.n)

    def __enter__(self) -> progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
