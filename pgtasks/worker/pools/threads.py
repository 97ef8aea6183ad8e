"""Runs jobs in threads of the worker, or in the worker's own main thread (solo)."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pgtasks.worker.pools.base import Pace, Pool, Reports
from pgtasks.worker.pools.run import Run

if TYPE_CHECKING:
    from pgtasks.job import Job, Outcome
    from pgtasks.worker.begun import BegunFile, Slot

__all__ = ["ThreadPool"]

logger = logging.getLogger("celery.pool")


class ThreadPool(Pool):
    """As many threads as jobs may run at a time, before one queue.

    Python cannot interrupt a thread, so time limits are not kept here, as in Celery;
    the worker says so once.

    Args:
        reports: The worker.
        concurrency: How many threads.
        begun: Where they note the jobs that they begin.
        lease: Seconds that a heartbeat is good for.
        execute: Runs a job and says what became of it.
    """

    name = "threads"
    patience: float | None = None
    """Seconds after which an idle thread looks up; None is never."""

    def __init__(
        self,
        reports: Reports,
        concurrency: int,
        begun: BegunFile,
        *,
        lease: float,
        execute: Callable[[Job], Outcome],
    ) -> None:
        super().__init__(reports, concurrency, begun, lease=lease)
        self._execute = execute
        self._waiting: deque[Job] = deque()
        self._running: dict[int, Run] = {}
        self._changed = threading.Condition()
        self._pace = Pace()
        self._draining = False
        self._stopping = False
        self._done = 0
        self._threads: set[threading.Thread] = set()

    def start(self) -> None:
        """Start the threads."""
        with self._changed:
            self._fill()

    def _fill(self) -> None:
        """Start the threads that are missing."""
        while len(self._threads) < self.concurrency and not self._stopping:
            slot = self.slots.take()
            name = f"pgtasks-job-{slot.number}"
            thread = threading.Thread(
                target=self._work, args=(slot,), name=name, daemon=True
            )
            self._threads.add(thread)
            thread.start()

    def _resize(self, places: int) -> None:
        with self._changed:
            self.concurrency = places
            self._fill()
            # Those that are too many leave when they have nothing to do.
            self._changed.notify_all()

    @property
    def demand(self) -> int:
        """Idle threads, and a little ahead where jobs are short."""
        with self._changed:
            if self._draining:
                return 0
            ahead = self._pace.ahead * self.concurrency
            has = len(self._running) + len(self._waiting)
            return ahead - has if has <= max(ahead // 2, self.concurrency - 1) else 0

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue jobs for the next free threads."""
        with self._changed:
            if not self._draining:
                self._waiting.extend(jobs)
                self._changed.notify(len(jobs))
                return
        for job in jobs:
            self.reports.unbegun(job)

    def recall(self) -> None:
        """Hand back what waits."""
        self._hand_back()

    def drain(self) -> None:
        """Hand back what no thread has begun, now and later."""
        with self._changed:
            self._draining = True
        self._hand_back()

    def _hand_back(self) -> None:
        with self._changed:
            left = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        for job in left:
            self.reports.unbegun(job)

    def wait(self, timeout: float | None) -> bool:
        """Wait until no thread runs a job."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._running, timeout)

    def kill(self) -> None:
        """Report running jobs lost: they end with the process, not before."""
        self.drain()
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Let the threads end."""
        with self._changed:
            self._draining = self._stopping = True
            threads = list(self._threads)
            self._changed.notify_all()
        # One second for all of them: a cold stop leaves as many at work as there are.
        deadline = time.monotonic() + 1.0
        for thread in threads:
            if thread is not threading.current_thread() and thread.is_alive():
                thread.join(max(0.0, deadline - time.monotonic()))

    def running(self) -> dict[int, tuple[int, float]]:
        """The jobs that the threads run now."""
        with self._changed:
            return {job: (os.getpid(), run.since) for job, run in self._running.items()}

    def describe(self) -> dict[str, object]:
        """Facts for ``inspect stats``, under Celery's names."""
        with self._changed:
            return {
                **super().describe(),
                "max-concurrency": self.concurrency,
                "threads": sum(thread.is_alive() for thread in self._threads),
                "writes": {"total": self._done},
            }

    def _work(self, slot: Slot) -> None:
        try:
            while (run := self._next(slot)) is not None:
                slot.begin(run.job.id)
                try:
                    outcome = self._perform(run)
                finally:
                    slot.end()
                run.report(outcome, self.reports, shows=self.begun.watched)
                with self._changed:
                    self._running.pop(run.job.id, None)
                    self._done += 1
                    self._pace.note(time.monotonic() - run.since)
                    hungry = len(self._waiting) <= self._pace.ahead // 2
                    if not self._running:
                        self._changed.notify_all()
                if hungry:
                    self.reports.room()
        except BaseException as error:
            logger.critical("A thread of the pool died: %r", error, exc_info=True)
            self.reports.died("pool", error)

    def _next(self, slot: Slot) -> Run | None:
        """Wait for a job; None if this thread is not needed any more."""
        with self._changed:
            while not self._stopping:
                if len(self._threads) > self.concurrency:
                    self._threads.discard(threading.current_thread())
                    self.slots.give_back(slot)
                    return None
                if self._waiting:
                    run = Run(self._waiting.popleft(), slot)
                    self._running[run.job.id] = run
                    return run
                self._changed.wait(self.patience)
        return None

    def _perform(self, run: Run) -> Outcome | None:
        """Run a job; None if it was interrupted."""
        self.tell_of_limits(run.job)
        return self._execute(run.job)
