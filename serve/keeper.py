"""Runs one engine and outlives everyone who could forget it.

``python keeper.py PARENT_PID LOG_FILE COMMAND…`` is started by serve.server with a pipe as its stdin. The engine and all
the processes it starts (vLLM: EngineCore, workers) are ended when

* the pipe closes or the parent is gone (chain ended, Ctrl-C, SIGTERM, ``kill -9``),
* the keeper gets SIGTERM, SIGINT or SIGHUP,
* the engine itself ends (a crashed API server leaves an EngineCore behind).

The one way to leave something behind: the keeper and its parent both killed with -9 in the same moment (vLLM's EngineCore
then waits for an API server that is gone).

Standard library only, imported by nobody: it must start in milliseconds and under any interpreter.
Linux adopts orphans by PR_SET_CHILD_SUBREAPER (man 2 prctl), so a grandchild cannot escape by losing its parent.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
TERM_WAIT_S = 8.0  # what an engine gets to stop by itself before SIGKILL


def prctl(option: int, value: int) -> None:
    """Linux prctl(2); elsewhere nothing (the pipe and the parent's pid still work)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def descendants(root: int) -> list[int]:
    """Pids below ``root``, children before grandchildren, read from /proc; zombies are left out."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc") if os.path.isdir("/proc") else []:
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", "rb") as stat:
                state, parent = stat.read().rpartition(b")")[2].split()[:2]
        except OSError:
            continue
        if state != b"Z":
            children.setdefault(int(parent), []).append(int(entry))
    found, queue = [], [root]
    while queue:
        for pid in children.get(queue.pop(0), []):
            found.append(pid)
            queue.append(pid)
    return found


def signal_all(pids: list[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def reap() -> None:
    """Collect adopted children that have ended, so that they do not stay as zombies."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def end(engine: subprocess.Popen[bytes]) -> None:
    """Stop the engine and everything below it; returns when nothing is left."""
    with contextlib.suppress(ProcessLookupError):
        engine.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        engine.wait(TERM_WAIT_S)
    while left := descendants(os.getpid()):
        signal_all(left, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            engine.wait(0.05)
        reap()
        time.sleep(0.05)


def main(argv: list[str]) -> int:
    parent, log_path, command = int(argv[0]), argv[1], argv[2:]
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda got, _frame: asked.append(got))
    with open(log_path, "ab", buffering=0) as log:
        try:
            engine = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # should the keeper itself be killed with -9, the engine's first process goes with it
                preexec_fn=lambda: prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
            )
        except OSError as error:
            log.write(f"cannot start {command[0]}: {error}\n".encode())
            return 127
    poll = select.poll()
    poll.register(0, select.POLLIN | select.POLLHUP)
    while engine.poll() is None and not asked and os.getppid() == parent:
        if poll.poll(200) and not os.read(0, 1):
            break
    code = engine.poll()
    end(engine)
    if code is None:
        return 0
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
