"""A worker's books: the jobs that it holds, and what becomes of each of them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from pgtasks import signals, states
from pgtasks.app.interruption import limit_reached
from pgtasks.app.traceinfo import LOG_RECEIVED, printable
from pgtasks.app.turns import key_of_turn
from pgtasks.job import Job, Outcome
from pgtasks.storage import queues, revocations
from pgtasks.storage.errors import StorageError
from pgtasks.storage.jobs import Settlement, settle
from pgtasks.worker import state, verdicts
from pgtasks.worker.custom_requests import CustomRequests
from pgtasks.worker.rates import RateLimits
from pgtasks.worker.revocation import carries, is_stamped
from pgtasks.worker.turns import Turns

if TYPE_CHECKING:
    from pgtasks.app.base import Celery
    from pgtasks.worker.acker import Acker
    from pgtasks.worker.consumer import Consumer
    from pgtasks.worker.fetcher import Fetcher
    from pgtasks.worker.gates import Gatekeeper
    from pgtasks.worker.pools.base import Pool
    from pgtasks.worker.reporter import Reporter
    from pgtasks.worker.request import Request
    from pgtasks.worker.stager import Stager

__all__ = ["Books"]

logger = logging.getLogger("celery.worker")
received = logging.getLogger("celery.worker.strategy")
"""Celery's name for who tells of jobs that come in."""

MOST_REASONS = 10_000
"""Revoked jobs whose reasons are remembered."""


class Books:
    """What the services and the pool report to: the middle of a worker.

    A job is entered when it has been claimed and crossed out when its end is written;
    what stands here in between is what the worker answers for. May be called from any
    thread.

    Args:
        app: The application whose tasks run.
        soft_limit: Soft time limit in seconds of tasks that set none.
        hard_limit: Hard limit, likewise.
    """

    pool: Pool
    acker: Acker
    fetcher: Fetcher
    stager: Stager
    gates: Gatekeeper
    queues: list[str]
    hostname: str
    consumer: Consumer
    reporter: Reporter | None = None

    received_level = logging.DEBUG
    """At which level it is logged that a job came in. Celery's is INFO; one line a job, of its
    end, is enough for a log that people read."""

    def __init__(
        self, app: Celery, *, soft_limit: float | None, hard_limit: float | None
    ) -> None:
        self.app = app
        self.totals: Counter[str] = Counter()
        self._soft_limit = soft_limit
        self._hard_limit = hard_limit
        self._held: dict[int, Job] = {}
        self._cold = False
        self._terminated: dict[int, int] = {}
        self._reasons: dict[str, str] = {}
        self._obeyed: set[str] = set()
        #: Reads what has been said from remote, when it matters that nothing is missed.
        self._hear: Callable[[], object] = lambda: None
        self._rerunnable: tuple[int, list[str]] = (-1, [])
        self._limits: dict[str, tuple[float | None, float | None]] = {}
        #: Told of jobs that have been claimed: what scales the pool.
        self._on_received: Callable[[Sequence[Job]], object] | None = None
        self._turns = Turns(lambda: self.app.database, self.unbegun, self._on_runnable)
        self._requests = CustomRequests(app, lambda: self.hostname)
        self.rates = RateLimits(
            app,
            lambda: self.app.database,
            run=self._run,
            put_off=self._put_off,
            unbegun=self.unbegun,
        )

    def _take(self, jobs: list[Job]) -> None:
        jobs = self._turns.admit(jobs)
        for job in jobs:
            self._held[job.id] = job
        if any(map(is_stamped, jobs)):
            # That their stamps are revoked may have been said before they were sent.
            self._hear()
        if (
            state.revoked
            or state.revoked_stamps
            or any(job.revoked is not None for job in jobs)
        ):
            jobs = self._without_revoked(jobs)
        self._run(self.rates.admit(jobs))

    def _run(self, jobs: list[Job]) -> None:
        for job in jobs:
            self.totals[job.task] += 1
            state.total_count[job.task] += 1
        state.all_total_count[0] += len(jobs)
        if signals.task_received.receivers or received.isEnabledFor(self.received_level):
            self._tell_received(jobs)
        if self.reporter is not None and self.reporter.awake:
            self.reporter.received(jobs)
        self._requests.received(jobs)
        self.pool.submit(jobs)
        if self._on_received is not None:
            self._on_received(jobs)

    def _tell_received(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            request = self._request(job)
            if request is None:
                continue
            signals.task_received.send(sender=self.consumer, request=request)
            shown = {
                "id": printable(request.id),
                "name": printable(request.name),
                "args": request.argsrepr,
                "kwargs": request.kwargsrepr,
                "eta": request.eta,
            }
            received.log(self.received_level, LOG_RECEIVED, shown, extra={"data": shown})

    def _request(self, job: Job) -> Request | None:
        from pgtasks.worker.request import Request

        try:
            return Request.of_job(self.app, job, hostname=self.hostname)
        except Exception:
            return None  # Unknown here, or unreadable, which has signals of its own.

    def _without_revoked(self, jobs: list[Job]) -> list[Job]:
        if any(job.task_id in state.revoked for job in jobs):
            # Somebody may have wanted it to run after all: then that was said before the
            # job could be claimed, and is there to be read.
            self._hear()
        left = []
        for job in jobs:
            if self._is_revoked(job):
                self._revoke(job)
            else:
                left.append(job)
        return left

    def _is_revoked(self, job: Job) -> bool:
        return (
            job.revoked is not None
            or job.task_id in state.revoked
            or bool(carries(job, state.revoked_stamps))
        )

    def _revoke(self, job: Job) -> None:
        logger.info(
            "Discarding revoked task: %s[%s]", printable(job.task), printable(job.task_id)
        )
        self._obeyed.add(job.task_id)
        reason = self._reasons.get(job.task_id) or job.revoked or None
        outcome = verdicts.revoked(self.app, job, reason=reason)
        self.acker.put(settle(outcome, job.task_id))

    def note_reason(self, task_ids: Iterable[str], reason: str) -> None:
        """Remember why these jobs are revoked, to be kept with them."""
        self._reasons.update(dict.fromkeys(task_ids, reason))
        while len(self._reasons) > MOST_REASONS:
            self._reasons.pop(next(iter(self._reasons)))

    def settled(self, settlement: Settlement, job: Job | None) -> None:
        """A job has ended or given up its turn."""
        self.acker.put(settlement)

    def unbegun(self, job: Job) -> None:
        """Hand back a job that was not begun here."""
        if (state.revoked or state.revoked_stamps) and self._is_revoked(job):
            self._revoke(job)
            return
        outcome = Outcome(job.id, job.claim_token, "available", give_back=True)
        self.acker.put(settle(outcome, job.task_id))

    def _put_off(self, jobs: Sequence[Job]) -> None:
        """Jobs are in the table again, and due later."""
        for job in jobs:
            self._held.pop(job.id, None)
        self.gates.ended([job.id for job in jobs])
        self.stager.wakeup.set()
        self._turns.over(key for job in jobs if (key := key_of_turn(job.headers)))

    def let_go(self, task_ids: Iterable[str] | None = None) -> None:
        """Hand back the jobs that wait for their rate limits, or some of them."""
        for job in self.rates.take_back(task_ids):
            self.unbegun(job)

    def lost(self, job: Job, status: int) -> None:
        """The process that ran this job died."""
        number = self._terminated.pop(job.id, None)
        if number is not None:
            self._obeyed.add(job.task_id)
            reason = self._reasons.get(job.task_id)
            if self.reporter is not None:
                self.reporter.terminated(job, number)
            outcome = verdicts.revoked(self.app, job, signum=number, reason=reason)
        else:
            outcome = verdicts.child_died(self.app, job, status, planned=self._cold)
        self.acker.put(settle(outcome, job.task_id))

    def terminate_job(self, job: Job, number: int) -> bool:
        """Signal the process that runs a job, which is then revoked; False if none does."""
        self._terminated[job.id] = number
        found = self.pool.signal(job.id, number)
        if not found:
            self._terminated.pop(job.id, None)
        return found

    def timed_out(self, job: Job, limit: float, *, soft: bool) -> None:
        """A time limit was reached; at the hard one the child has been killed."""
        kind = "Soft" if soft else "Hard"
        logger.log(
            logging.WARNING if soft else logging.ERROR,
            "%s time limit (%ss) exceeded for %s[%s]",
            kind,
            limit,
            printable(job.task),
            printable(job.task_id),
        )
        self._requests.timed_out(job, limit, soft=soft)
        if not soft:
            outcome = verdicts.timed_out(self.app, job, limit)
            self.acker.put(settle(outcome, job.task_id))

    def _on_abandoned(self, job: Job) -> None:
        self._held[job.id] = job
        outcome = verdicts.worker_vanished(self.app, job)
        self.acker.put(settle(outcome, job.task_id))

    def _on_settled(self, batch: Sequence[Settlement]) -> None:
        again, turns = False, []
        if self.reporter is not None and self.reporter.awake:
            # Before they are crossed out: it looks there for those that run.
            self.reporter.settled([(each, self._held.get(each.id)) for each in batch])
        for settlement in batch:
            held = self._held.get(settlement.id)
            # Not if the row was made available by hand and claimed by us once more.
            if held is not None and held.claim_token == settlement.claim_token:
                self._held.pop(settlement.id, None)
                self._terminated.pop(settlement.id, None)
                if (key := key_of_turn(held.headers)) is not None:
                    turns.append(key)
            again = again or settlement.state in ("scheduled", "retryable")
            if settlement.state == "completed":
                state.successful_requests.add(settlement.task_id)
        self._requests.settled(batch)
        if self._obeyed or state.revoked:
            self._forget_revocations(batch)
        self.gates.ended([settlement.id for settlement in batch])
        if again:
            self.stager.wakeup.set()
        self._turns.over(turns)

    def _forget_revocations(self, batch: Sequence[Settlement]) -> None:
        """What was revoked has ended, be it so or because it ran: its id may be used again."""
        over = {each.task_id for each in batch if each.state in states.FINISHED_JOB_STATES}
        done = {id for id in over if id in self._obeyed or id in state.revoked}
        self._obeyed -= done
        if done:
            try:
                self.app.database.run(revocations.forget(done))
            except StorageError:
                pass  # The pruner finds them.

    def _on_runnable(self, queues: set[str]) -> None:
        if not queues.isdisjoint(self.queues):
            self.fetcher.wakeup.set()

    def room(self) -> None:
        """The pool can take more jobs."""
        # Where nothing waits there is nothing to claim, and asking in vain would hold up
        # the acknowledgement (0.4 ms of a chain's 4 a link).
        if not self.fetcher.dry and not self.fetcher.wakeup.is_set():
            self.fetcher.wakeup.set()

    def limits(self, job: Job) -> tuple[float | None, float | None]:
        """Soft and hard limit: the call's, else the task's, else the worker's."""
        if job.time_limit is not None or job.soft_time_limit is not None:
            soft, hard = self._task_limits(job.task)
            return job.soft_time_limit or soft, job.time_limit or hard
        return self._task_limits(job.task)

    def _task_limits(self, name: str) -> tuple[float | None, float | None]:
        found = self._limits.get(name)
        if found is None:
            task = self.app.tasks.get(name)
            found = self._limits[name] = (
                getattr(task, "soft_time_limit", None) or self._soft_limit,
                getattr(task, "time_limit", None) or self._hard_limit,
            )
        return found

    def overdue(self, job: Job) -> Exception:
        """What is raised in the task of this job at its soft time limit."""
        return limit_reached(self.app.tasks.get(job.task))

    def load(self, most: int) -> int:
        """How many jobs there are to do: held here, or waiting for a place in this worker.

        Args:
            most: More are not counted.
        """
        held = len(self._held)
        if held < self.pool.num_processes or held >= most:
            return held  # with room here nothing waits for long
        rooms = self.gates.rooms()
        wanted = [queue for queue in list(self.queues) if rooms.get(queue, 1)]
        try:
            return held + self.app.database.run(queues.waiting(wanted, most - held))
        except StorageError:
            return held

    def forget_limits(self, name: str) -> None:
        """Look up the time limits of a task anew."""
        self._limits.pop(name, None)

    @property
    def default_limits(self) -> tuple[float, float]:
        """Soft and hard limit of tasks that set none; 0 for none."""
        return self._soft_limit or 0, self._hard_limit or 0

    def held(self) -> list[Job]:
        """The jobs that are claimed here and not settled, whether they run or wait."""
        return list(self._held.values())

    def rerunnable(self) -> list[str]:
        """Names of the tasks that may run again after a crash."""
        count, names = self._rerunnable
        tasks = self.app.tasks
        if count != len(tasks):
            names = [name for name, task in tasks.items() if task.acks_late]
            self._rerunnable = (len(tasks), names)
        return names
