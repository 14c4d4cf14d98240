"""Encode batches in order, here or in WORKERS processes; the results are the same."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from converters.batches import Batch
from converters.encode import Encoded, Job, encode
from store.errors import UserError

if TYPE_CHECKING:
    from concurrent.futures import Future, ProcessPoolExecutor


class Encoders:
    """`WORKERS=1` encodes here; more start that many processes, at most two batches ahead for each of them."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        gc.disable()  # rows hold no cycles; the collector would walk every live row again and again
        self._pool: ProcessPoolExecutor | None = None
        if workers > 1:
            from concurrent.futures import ProcessPoolExecutor
            from multiprocessing import get_context

            # started before any reader has threads, so that forking is safe
            self._pool = ProcessPoolExecutor(
                workers, mp_context=get_context("fork"), initializer=_prepare, initargs=(os.getpid(),)
            )
            self._pool.submit(int).result()

    def encode(self, batches: Iterable[Batch], job: Job) -> Iterator[Encoded]:
        """One result per batch, in order. Raises what `encode` and the reader raise; UserError when a worker dies."""
        if self._pool is None:
            for batch in batches:
                yield encode(batch, job)
            return
        from concurrent.futures.process import BrokenProcessPool

        ahead: deque[Future[Encoded]] = deque()
        try:
            for batch in batches:
                ahead.append(self._pool.submit(encode, batch, job))
                if len(ahead) > 2 * self._workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        except BrokenProcessPool:
            raise UserError(f"{job.label}: a worker process died (out of memory?); try WORKERS=1") from None

    def close(self) -> None:
        """End the processes without waiting for work nobody will read."""
        gc.enable()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Encoders:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _prepare(parent: int) -> None:
    """A worker leaves Ctrl-C to its parent, and ends when the parent was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
