"""One kind of error for everything a user can mend, and the wrapper every command line runs in."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NoReturn


class UserError(Exception):
    """Bad input or a missing piece. The message is one line: where (file, row, key), what was expected, what to do."""


def cli(main: Callable[[list[str]], int | None]) -> NoReturn:
    """Run ``main(argv)`` and exit: its return code, 2 with ``error: …`` for a UserError, 130 after Ctrl-C."""
    from store.environment import load_dotenv_once

    load_dotenv_once()
    try:
        code = main(sys.argv[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        code = 2
    except BrokenPipeError:
        # `… | head` closed the pipe; python would complain again while flushing at exit
        sys.stderr.close()
        code = 1
    except KeyboardInterrupt:
        print("\ninterrupted; the same command continues where it stopped", file=sys.stderr, flush=True)
        code = 130
    raise SystemExit(code or 0)
