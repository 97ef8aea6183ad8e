"""Makes scheduled and retryable jobs available when they are due."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from pgtasks.storage import jobs
from pgtasks.storage.errors import StorageError
from pgtasks.telemetry import registry as telemetry
from pgtasks.worker.service import Service

if TYPE_CHECKING:
    from pgtasks.storage.database import Database

__all__ = ["Stager"]

logger = logging.getLogger("celery.worker")

LIMIT = 1000

NET = 60.0
"""Seconds between two looks while somebody else looks around."""

AGAIN = 0.25
"""Seconds after which one that was told of a job looks once more."""

SLACK = 0.01
"""Seconds by which a job must be due sooner than what is waited for to be news."""


class Stager(Service):
    """Sleeps until the next job is due, not until the next whole second.

    News of a job that is due sooner come by notification while the worker sleeps. A
    busy one gets none: ``is_busy`` tells it to look twenty times a second, which costs
    the server 3 ms of work.

    Args:
        database: Where the jobs are.
        worker: Gives the id of the present incarnation.
        on_staged: Called when jobs have become available.
        is_busy: Whether notifications are switched off just now.
        poll_interval: Longest pause, in seconds.
        watched: Whether somebody looks around who would tell of jobs that are due sooner.
        limit: Most jobs that one statement makes available.
    """

    name = "stager"

    def __init__(
        self,
        database: Database,
        *,
        worker: Callable[[], str],
        on_staged: Callable[[], None],
        is_busy: Callable[[], bool],
        poll_interval: float = 1.0,
        watched: Callable[[], bool] = lambda: False,
        limit: int = LIMIT,
    ) -> None:
        super().__init__()
        self._database = database
        self._worker = worker
        self._on_staged = on_staged
        self._is_busy = is_busy
        self._poll_interval = poll_interval
        self._watched = watched
        self._limit = limit
        self._due_at = 0.0
        self._told = False

    def run(self) -> None:
        """Stage what is due, then wait for the next."""
        failing = False
        while not self.stopping:
            try:
                staged = self._stage()
            except StorageError as error:
                if not failing:
                    logger.warning(
                        "Cannot stage scheduled jobs, will go on trying: %s", error
                    )
                failing = True
                self.wakeup.wait(random.uniform(0.2, 1.0))
                continue
            failing = False
            if staged.queues:
                self._on_staged()
            if sum(staged.queues.values()) < self._limit:
                self._wait(staged.wait)

    def _stage(self) -> jobs.Staged:
        with telemetry.span("pgtasks.plugin", {"plugin": self.name}) as known:
            staged = self._database.run(
                jobs.stage(worker=self._worker(), limit=self._limit)
            )
            known["staged_count"] = sum(staged.queues.values())
        return staged

    def hint(self, delay: float) -> None:
        """A job is due in ``delay`` seconds: wake in time for it."""
        if time.monotonic() + delay < self._due_at - SLACK:
            self.wakeup.set()

    def _wait(self, due_in: float | None) -> None:
        pause = NET if self._watched() else self._poll_interval
        pause = pause if due_in is None else min(due_in, pause)
        if self._is_busy():
            pause = min(pause, 0.05)
        elif self._told:
            # Of two jobs that come together only one is told of, and the other may not
            # have been there to be seen yet.
            pause = min(pause, AGAIN)
        self._due_at = time.monotonic() + pause
        # A job due in no time must not make this loop spin.
        self._told = self.wakeup.wait(max(pause, 0.001))
        self.wakeup.clear()
