"""Progress bars that stay readable in a log file: one line every ten seconds where there is no terminal."""

from __future__ import annotations

import sys

from tqdm import tqdm


def bar(total: int, title: str, unit: str) -> tqdm:
    """A bar on stderr; it shows counts, never a row's text."""
    return tqdm(total=total, desc=title, unit=unit, mininterval=0.5 if sys.stderr.isatty() else 10, file=sys.stderr)
