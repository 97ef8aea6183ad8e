"""Runs jobs in greenlets, of which a thousand cost little: the pool of threads, patched."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from pgtasks.app.interruption import Interruption
from pgtasks.exceptions import ImproperlyConfigured
from pgtasks.worker.pools.threads import ThreadPool

if TYPE_CHECKING:
    from pgtasks.job import Job, Outcome
    from pgtasks.worker.begun import BegunFile
    from pgtasks.worker.pools.base import Reports
    from pgtasks.worker.pools.run import Run

__all__ = ["GeventPool"]

INSIST = 1.0
"""Seconds after which a greenlet that goes on is interrupted once more."""

FAREWELL = 2.0
"""Seconds that greenlets have for their ``finally`` when a worker stops cold."""


class GeventPool(ThreadPool):
    """Threads that gevent has made greenlets of.

    All of the worker runs so, and waits without holding anybody up. What a greenlet can do
    and a thread cannot is be interrupted where it waits: at time limits, when its job is
    revoked, and when the worker stops cold.

    Raises:
        ImproperlyConfigured: gevent has not patched the standard library.
    """

    name = "gevent"
    kills = True

    def __init__(
        self,
        reports: Reports,
        concurrency: int,
        begun: BegunFile,
        *,
        lease: float,
        execute: Callable[[Job], Outcome],
    ) -> None:
        monkey: Any = sys.modules.get("gevent.monkey")
        if monkey is None or not monkey.is_module_patched("threading"):
            raise ImproperlyConfigured(
                "The pool 'gevent' needs a standard library that gevent has patched before "
                "anything else was imported. Start the worker with the option -P gevent, "
                "which does so, or make gevent.monkey.patch_all() the first lines of your "
                "program. The setting worker_pool comes too late for that."
            )
        super().__init__(reports, concurrency, begun, lease=lease, execute=execute)
        import gevent

        self._current = gevent.getcurrent
        self._loop = gevent.get_hub().loop

    def _perform(self, run: Run) -> Outcome | None:
        run.body = self._current()
        self._keep_limits(run)
        try:
            return self._execute(run.job)
        except Interruption:
            return None
        finally:
            # Whatever would interrupt it runs in the hub, which is not reached from here.
            run.body = None
            for timer in run.limits:
                timer.stop()
                timer.close()

    def _keep_limits(self, run: Run) -> None:
        soft, hard = self.reports.limits(run.job)
        if soft is not None:
            self._later(run, soft, self._soft_limit, soft)
        if hard is not None:
            told = partial(self.reports.timed_out, run.job, hard, soft=False)
            self._later(run, hard, self._end, told)

    def signal(self, job_id: int, number: int) -> bool:
        """Interrupt the greenlet that runs this job, whatever the signal."""
        with self._changed:
            run = self._running.get(job_id)
        if run is None or run.body is None:
            return False
        told = partial(self.reports.lost, run.job, number)
        self._loop.run_callback(self._end, run, told)
        return True

    def kill(self) -> None:
        """Interrupt the greenlets; whoever stops the worker gives up what they ran."""
        self.drain()
        with self._changed:
            runs = list(self._running.values())
        for run in runs:
            self._loop.run_callback(self._end, run, lambda: None)
        self.wait(FAREWELL)
        super().kill()

    # ── in the hub, where no greenlet runs meanwhile ────────────────────────────────────

    def _later(
        self, run: Run, seconds: float, what: Callable[..., None], *args: Any
    ) -> None:
        timer = self._loop.timer(seconds)
        timer.start(what, run, *args)
        run.limits.append(timer)

    def _soft_limit(self, run: Run, seconds: float) -> None:
        if run.body is not None:
            self.reports.timed_out(run.job, seconds, soft=True)
            run.body.throw(self.reports.overdue(run.job))

    def _end(self, run: Run, verdict: Callable[[], object]) -> None:
        if run.body is not None:
            run.decide(verdict)
            # Some catch it and go on.
            self._later(run, INSIST, self._end, verdict)
            run.body.throw(Interruption())
