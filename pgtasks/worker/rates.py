"""Rate limits of one worker: ``Task.rate_limit``, and ``control.rate_limit``.

Celery's, kept by each worker for itself; for limits of the whole fleet see `pgtasks.worker.gates`.
A task with a limit begins at even distances, never two at once. What comes too soon waits here
if it is for a moment, and goes back to the table for as long as it takes otherwise: a worker
full of waiting jobs would keep those behind them from running.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from pgtasks.app.traceinfo import printable
from pgtasks.storage import postponing
from pgtasks.storage.errors import StorageError
from pgtasks.utils.time import rate
from pgtasks.worker.service import Service

if TYPE_CHECKING:
    from pgtasks.job import Job
    from pgtasks.storage.database import Database

__all__ = ["Bucket", "RateLimits"]

logger = logging.getLogger("celery.worker")

MOMENT = 2.0
"""Seconds that a job waits in the worker: its way to the table and back would take some
milliseconds of the database."""

HORIZON = 600.0
"""Seconds that a job is put off at most. Another worker, or a program that no longer limits
its task, may come in between; and each return costs 0.2 ms of the database."""

LAG = 0.1
"""Seconds by which a task may be behind and catch up, as no thread wakes to the millisecond."""


class Bucket:
    """When a task may begin next, in one worker.

    Args:
        per_second: How often it may.
    """

    def __init__(self, per_second: float) -> None:
        self.interval = 1.0 / per_second
        self.waiting: deque[Job] = deque()
        self._next_at = 0.0
        self._last_slot = 0.0

    def admit(self, job: Job, now: float) -> float:
        """0 if it may begin now, else the seconds until then: up to `MOMENT` it waits here."""
        if not self.waiting and self._next_at <= now:
            self._next_at = now + self.interval
            return 0.0
        delay = self._next_at + len(self.waiting) * self.interval - now
        if delay <= MOMENT:
            self.waiting.append(job)
            return max(delay, 1e-6)
        slot = max(self._last_slot, now + delay)
        if slot - now > 1.5 * HORIZON:
            # Not in step, and no place in the line: who knows what will be by then.
            return random.uniform(HORIZON, 1.5 * HORIZON)
        self._last_slot = slot + self.interval
        return slot - now

    def due(self, now: float) -> list[Job]:
        """Those that have waited and may begin now."""
        jobs = []
        while self.waiting and self._next_at <= now:
            jobs.append(self.waiting.popleft())
            self._next_at = max(self._next_at, now - LAG) + self.interval
        return jobs

    @property
    def next_at(self) -> float | None:
        """When the next one of those that wait may begin; None if none waits."""
        return self._next_at if self.waiting else None


class RateLimits(Service):
    """Lets jobs through as often as their tasks may begin.

    Its thread begins with the first job that has to wait.

    Args:
        app: Whose tasks they are.
        database: Where jobs go back to.
        run: Has jobs run that have waited.
        put_off: Told of jobs that are no longer held here.
        unbegun: Hands back a job that could not be put off.
    """

    name = "rate limiter"

    def __init__(
        self,
        app: Any,
        database: Callable[[], Database],
        *,
        run: Callable[[list[Job]], None],
        put_off: Callable[[list[Job]], None],
        unbegun: Callable[[Job], None],
    ) -> None:
        super().__init__()
        self._app = app
        self._database = database
        self._let_run = run
        self._put_off = put_off
        self._unbegun = unbegun
        self._lock = threading.Lock()
        self._begun = False
        self._failing = False
        self.buckets: dict[str, Bucket] = {}

    def reset(self, task: str | None = None) -> None:
        """Look up the limits of all tasks, or of one, anew; what waits is asked again.

        Args:
            task: Its name.
        """
        disabled = self._app.conf.worker_disable_rate_limits
        names = list(self._app.tasks) if task is None else [task]
        free: list[Job] = []
        with self._lock:
            for name in names:
                before = self.buckets.pop(name, None)
                waiting = () if before is None else before.waiting
                per_second = 0.0 if disabled else self._rate_of(name)
                if per_second > 0:
                    self.buckets[name] = Bucket(per_second)
                    self.buckets[name].waiting.extend(waiting)
                else:
                    free += waiting
        if free:
            self._let_run(free)
        self.wakeup.set()

    def _rate_of(self, name: str) -> float:
        try:
            return float(rate(getattr(self._app.tasks[name], "rate_limit", None)))
        except (KeyError, TypeError, ValueError) as error:
            logger.error(
                "The rate limit of the task %s cannot be read, so it has none: %s",
                printable(name),
                error,
            )
            return 0.0

    def admit(self, jobs: list[Job]) -> list[Job]:
        """Those that may begin now; the others wait here, or in the table."""
        if not self.buckets:
            return jobs
        now = time.monotonic()
        free, late, waits = [], [], False
        with self._lock:
            for job in jobs:
                bucket = self.buckets.get(job.task)
                delay = 0.0 if bucket is None else bucket.admit(job, now)
                if not delay:
                    free.append(job)
                elif delay <= MOMENT:
                    waits = True
                else:
                    late.append((job, delay))
        if late:
            self._postpone(late)
        if waits:
            self._wait_for_them()
        return free

    def _postpone(self, late: list[tuple[Job, float]]) -> None:
        try:
            self._database().run(postponing.postpone(late))
        except StorageError as error:
            if not self._failing:
                logger.warning("Cannot put jobs off, and hand them back: %s", error)
            self._failing = True
            # Their acknowledgement is repeated until the database takes it; whatever it
            # finds there is fenced.
            for job, _ in late:
                self._unbegun(job)
            return
        self._failing = False
        self._put_off([job for job, _ in late])

    def _wait_for_them(self) -> None:
        with self._lock:
            first, self._begun = not self._begun, True
        if first and not self.stopping:
            self.start()
        self.wakeup.set()

    def take_back(self, task_ids: Iterable[str] | None = None) -> list[Job]:
        """Let go of those that wait here, or of some of them.

        Args:
            task_ids: Their tasks' ids; all by default.
        """
        wanted = None if task_ids is None else set(task_ids)
        found: list[Job] = []
        with self._lock:
            for bucket in self.buckets.values():
                mine = [j for j in bucket.waiting if wanted is None or j.task_id in wanted]
                for job in mine:
                    bucket.waiting.remove(job)
                found += mine
        return found

    def run(self) -> None:
        """Let those run whose time has come."""
        while not self.stopping:
            now = time.monotonic()
            with self._lock:
                jobs = [job for each in self.buckets.values() for job in each.due(now)]
                times = [at for each in self.buckets.values() if (at := each.next_at)]
            if jobs:
                self._let_run(jobs)
            self.wakeup.wait(max(min(times) - time.monotonic(), 0.0) if times else None)
            self.wakeup.clear()
