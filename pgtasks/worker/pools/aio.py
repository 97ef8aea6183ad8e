"""Runs coroutines side by side on one event loop, and what is none in threads beside it."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from pgtasks.app import coroutines
from pgtasks.app.coroutines import Body, Cancelled
from pgtasks.app.interruption import Interruption
from pgtasks.worker.pools.base import MOST_AHEAD, Pace, Pool, Reports
from pgtasks.worker.pools.hands import Hands
from pgtasks.worker.pools.run import Run

if TYPE_CHECKING:
    from pgtasks.job import Job, Outcome
    from pgtasks.worker.begun import BegunFile

__all__ = ["AsyncioPool"]

logger = logging.getLogger("celery.pool")

INSIST = 1.0
"""Seconds after which a coroutine that goes on is cancelled once more."""

FAREWELL = 2.0
"""Seconds that coroutines have for their ``finally`` when a worker stops cold."""


class AsyncioPool(Pool):
    """One event loop in a thread of its own, and threads for tasks that are no coroutines.

    A coroutine is interrupted where it waits: at its time limits, and when its job is
    revoked. What does not wait cannot be interrupted, as in a thread, and holds up all the
    others: it belongs into a task that is no coroutine, which has a thread for itself.

    Args:
        reports: The worker.
        concurrency: How many jobs of either kind.
        begun: Where the jobs that begin are noted.
        lease: Seconds that a heartbeat is good for.
        execute: Runs a job in the thread that calls it, and says what became of it.
        aexecute: Does so on the loop that runs; its body can be interrupted by a `Body`.
        is_async: Whether a job can be run so.
    """

    name = "asyncio"
    kills = True

    def __init__(
        self,
        reports: Reports,
        concurrency: int,
        begun: BegunFile,
        *,
        lease: float,
        execute: Callable[[Job], Outcome],
        aexecute: Callable[[Job, Body], Awaitable[Outcome]],
        is_async: Callable[[Job], bool],
    ) -> None:
        super().__init__(reports, concurrency, begun, lease=lease)
        self._execute = execute
        self._aexecute = aexecute
        self._is_async = is_async
        self._waiting: deque[Job] = deque()
        self._running: dict[int, Run] = {}
        self._changed = threading.Condition()
        self._pace = Pace()
        self._draining = False
        self._done = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(
            target=self._serve, name="pgtasks-loop", daemon=True
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._hands = Hands("pgtasks-job", self._on_death)

    def start(self) -> None:
        """Start the loop."""
        # Not before: the worker forks, and a loop must not be shared.
        self._loop = asyncio.new_event_loop()
        self._thread.start()

    @property
    def demand(self) -> int:
        """Free places, and some ahead where jobs are short."""
        with self._changed:
            if self._draining:
                return 0
            places = self.concurrency
            ahead = max(places, min(places * self._pace.ahead, places + MOST_AHEAD))
            has = len(self._running) + len(self._waiting)
            return ahead - has if has <= max(ahead // 2, places - 1) else 0

    def submit(self, jobs: Sequence[Job]) -> None:
        """Have jobs begin, as many as there are places for."""
        with self._changed:
            taken = not self._draining
            if taken:
                self._waiting.extend(jobs)
        if taken:
            self._call(self._begin)
            return
        for job in jobs:
            self.reports.unbegun(job)

    def recall(self) -> None:
        """Hand back what waits."""
        self._hand_back()

    def drain(self) -> None:
        """Begin nothing any more; hand back what waits."""
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
        """Wait until no job runs."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._running, timeout)

    def kill(self) -> None:
        """Cancel the coroutines; whoever stops the worker gives up what is left."""
        self.drain()
        with self._changed:
            runs = list(self._running.values())
        for run in runs:
            self._call(self._cancel, run, lambda: None)
        with self._changed:
            # Threads cannot be interrupted, and are not waited for.
            self._changed.wait_for(
                lambda: not any(run.body is not None for run in self._running.values()),
                FAREWELL,
            )

    def stop(self) -> None:
        """Stop the loop and the threads; nothing runs any more."""
        self.drain()
        self._call(self._end)
        self._hands.stop(1.0)
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(FAREWELL)

    # ── changing its size ───────────────────────────────────────────────────────────────

    def _resize(self, places: int) -> None:
        with self._changed:
            self.concurrency = places
        self._call(self._begin)

    # ── what runs ───────────────────────────────────────────────────────────────────────

    def signal(self, job_id: int, number: int) -> bool:
        """Cancel the coroutine of this job, whatever the signal; False if it has none."""
        with self._changed:
            run = self._running.get(job_id)
        if run is None or run.body is None:
            return False
        self._call(self._cancel, run, partial(self.reports.lost, run.job, number))
        return True

    def running(self) -> dict[int, tuple[int, float]]:
        """The jobs that run now."""
        with self._changed:
            return {job: (os.getpid(), run.since) for job, run in self._running.items()}

    def describe(self) -> dict[str, object]:
        """Facts for ``inspect stats``."""
        with self._changed:
            return {
                **super().describe(),
                "max-concurrency": self.concurrency,
                "threads": self._hands.count,
                "coroutines": sum(run.body is not None for run in self._running.values()),
                "writes": {"total": self._done},
            }

    # ── the loop's thread ───────────────────────────────────────────────────────────────

    def _serve(self) -> None:
        loop = self._loop
        assert loop is not None
        try:
            asyncio.set_event_loop(loop)
            loop.run_forever()
            loop.run_until_complete(loop.shutdown_asyncgens())
        except BaseException as error:
            logger.critical("The pool's loop died: %r", error, exc_info=True)
            self._on_death(error)
        finally:
            loop.close()

    def _end(self) -> None:
        assert self._loop is not None
        self._loop.stop()

    def _call(self, what: Callable[..., object], *args: Any) -> None:
        try:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(what, *args)
        except RuntimeError:
            pass  # It has been closed, and nothing runs any more.

    def _begin(self) -> None:
        """Begin what waits, as far as there are places."""
        try:
            while (run := self._next()) is not None:
                run.slot.begin(run.job.id)
                if self._is_async(run.job):
                    run.body = Body()
                    assert self._loop is not None
                    # A loop knows its tasks by weak references only.
                    task = self._loop.create_task(self._arun(run, run.body))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
                else:
                    self._hands.do(partial(self._run, run))
        except BaseException as error:
            logger.critical("The pool could not begin a job: %r", error, exc_info=True)
            self._on_death(error)

    def _next(self) -> Run | None:
        with self._changed:
            if not self._waiting or len(self._running) >= self.concurrency:
                return None
            run = Run(self._waiting.popleft(), self.slots.take())
            self._running[run.job.id] = run
            return run

    async def _arun(self, run: Run, body: Body) -> None:
        self._keep_limits(run)
        try:
            outcome: Outcome | None = await self._aexecute(run.job, body)
        except Interruption:
            outcome = None
        except BaseException as error:
            logger.critical("The pool could not run a job: %r", error, exc_info=True)
            self._on_death(error)
            return
        self._over(run, outcome)

    def _run(self, run: Run) -> None:
        """Run a job in this thread; a coroutine that it leads to is run on the loop."""
        try:
            outcome: Outcome | None = copy_context().run(self._execute_at_home, run)
        except Interruption:
            outcome = None
        self._over(run, outcome)

    def _execute_at_home(self, run: Run) -> Outcome:
        coroutines.home.set(partial(self._run_on_loop, run))
        self.tell_of_limits(run.job)
        return self._execute(run.job)

    def _run_on_loop(self, run: Run, coroutine: Coroutine[Any, Any, Any]) -> Any:
        async def result(body: Body) -> tuple[Any, BaseException | None]:
            run.body = body
            self._keep_limits(run)
            try:
                return await body.run(coroutine), None
            except BaseException as error:
                return None, error
            finally:
                self._forget(run)

        assert self._loop is not None
        value, error = asyncio.run_coroutine_threadsafe(result(Body()), self._loop).result()
        if error is not None:
            raise error
        return value

    def _over(self, run: Run, outcome: Outcome | None) -> None:
        self._forget(run)
        run.slot.end()
        run.report(outcome, self.reports, shows=self.begun.watched)
        with self._changed:
            self._running.pop(run.job.id, None)
            self.slots.give_back(run.slot)
            self._done += 1
            self._pace.note(time.monotonic() - run.since)
            waiting = bool(self._waiting)
            hungry = len(self._waiting) <= self._pace.ahead // 2
            self._changed.notify_all()
        if waiting:
            self._call(self._begin)
        if hungry:
            self.reports.room()

    def _on_death(self, error: BaseException) -> None:
        self.reports.died("pool", error)

    # ── limits (in the loop's thread) ───────────────────────────────────────────────────

    def _keep_limits(self, run: Run) -> None:
        soft, hard = self.reports.limits(run.job)
        if soft is not None:
            self._later(run, soft, self._soft_limit, soft)
        if hard is not None:
            told = partial(self.reports.timed_out, run.job, hard, soft=False)
            self._later(run, hard, self._cancel, told)

    def _later(
        self, run: Run, seconds: float, what: Callable[..., None], *args: Any
    ) -> None:
        assert self._loop is not None
        run.limits.append(self._loop.call_later(seconds, what, run, *args))

    @staticmethod
    def _forget(run: Run) -> None:
        run.body = None
        while run.limits:
            run.limits.pop().cancel()

    def _soft_limit(self, run: Run, seconds: float) -> None:
        if run.body is not None and run.body.interrupt(self.reports.overdue(run.job)):
            self.reports.timed_out(run.job, seconds, soft=True)

    def _cancel(self, run: Run, verdict: Callable[[], object]) -> None:
        # Where it has ended by itself meanwhile, its end stands.
        if run.body is not None and run.body.interrupt(Cancelled()):
            run.decide(verdict)
            # Some catch it and go on.
            self._later(run, INSIST, self._cancel, verdict)
