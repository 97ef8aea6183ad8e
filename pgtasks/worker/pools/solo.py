"""Runs one job at a time in the worker's main thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from pgtasks.worker.pools.base import Pool
from pgtasks.worker.pools.threads import ThreadPool

if TYPE_CHECKING:
    from pgtasks.job import Job, Outcome
    from pgtasks.worker.begun import BegunFile
    from pgtasks.worker.pools.base import Reports

__all__ = ["SoloPool"]


class SoloPool(ThreadPool):
    """The pool for debuggers and for libraries that want the main thread.

    `serve` is the main thread's part: it runs jobs until the pool is stopped, and
    looks after the worker's signals in between.
    """

    name = "solo"
    # The kernel may give a signal to any thread; Python handles it when this one moves.
    patience = 0.5

    def __init__(
        self,
        reports: Reports,
        concurrency: int,
        begun: BegunFile,
        *,
        lease: float,
        execute: Callable[[Job], Outcome],
    ) -> None:
        super().__init__(reports, 1, begun, lease=lease, execute=execute)
        self.thread: threading.Thread | None = None

    def start(self) -> None:
        """There is nothing to start: see `serve`."""

    def serve(self) -> None:
        """Run jobs in the calling thread until `stop` or `kill`."""
        self.thread = threading.current_thread()
        self._work(self.slots.take())

    def _resize(self, places: int) -> None:
        # It has one place, that of the main thread.
        Pool._resize(self, places)
