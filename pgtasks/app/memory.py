"""``broker_url = "memory://"``: jobs in a heap of this process, for tests.

No thread, no database. The queue has what a worker needs: it hands out jobs and takes back
outcomes, as the tables do; the body of a chord is suspended until its header has ended.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

from pgtasks import serialization, signals, states
from pgtasks.app.memory_chords import ChordBook, as_ended
from pgtasks.app.memory_uniques import KeyBook, TurnBook, replace
from pgtasks.job import Job, NewJob, Outcome
from pgtasks.storage.jobs import Inserted
from pgtasks.storage.results import Member

__all__ = ["MemoryQueue", "queue_of"]


def queue_of(app: Any) -> MemoryQueue:
    """The jobs in memory of ``app``."""
    queue: MemoryQueue | None = app.__dict__.get("_memory_queue")
    if queue is None:
        queue = app.__dict__.setdefault("_memory_queue", MemoryQueue(app))
    return queue


@dataclass
class _Row:
    new: NewJob
    id: int
    state: str
    scheduled_at: float
    inserted_at: float
    expires_at: float | None
    retries: int
    attempt: int = 0
    crashes: int = 0
    claim_token: str = ""


class MemoryQueue:
    """Unfinished jobs, in the order in which the tables would give them out.

    Args:
        app: Whose result backend is told of outcomes.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._ids = itertools.count(1)
        self._rows: dict[int, _Row] = {}
        self._by_task_id: dict[str, int] = {}
        # Heaps of what waits; what has left since is skipped when it is popped.
        self._ready: dict[str, list[tuple[int, float, int]]] = {}
        self._due: list[tuple[float, int]] = []
        self._chords = ChordBook()
        self._keys = KeyBook()
        self._turns = TurnBook()
        self._changed = threading.Condition(threading.RLock())

    def put(self, jobs: Sequence[NewJob]) -> list[Inserted]:
        """Insert ``jobs``; one whose id or unique key is taken makes a conflict."""
        with self._changed:
            inserted = [self._insert(job) for job in jobs]
            self._changed.notify_all()
        return inserted

    def _insert(self, job: NewJob) -> Inserted:
        if job.task_id in self._by_task_id:
            return Inserted(None, job.task_id, True)
        now = time.time()
        due = _moment(job.delay, job.eta, now) or now
        holder = self._keys.holder(job, now)
        if holder is not None:
            if replace(holder, job, due, now):
                self._wait(holder)
            return Inserted(holder.id, holder.new.task_id, True)
        row = _Row(
            job,
            next(self._ids),
            states.AVAILABLE,
            due,
            now,
            _moment(job.expires_in, job.expires, now),
            job.retries,
        )
        if job.awaits is not None:
            row.state = states.SUSPENDED
        elif row.scheduled_at > now:
            row.state = states.SCHEDULED
        self._rows[row.id] = row
        self._by_task_id[job.task_id] = row.id
        self._chords.sent(row.id, job)
        self._keys.taken(row, now)
        self._wait(row)
        return Inserted(row.id, job.task_id, False)

    def _wait(self, row: _Row) -> None:
        if row.state == states.AVAILABLE:
            place = (row.new.priority, row.scheduled_at, row.id)
            heapq.heappush(self._ready.setdefault(row.new.queue, []), place)
        elif row.state != states.SUSPENDED:
            heapq.heappush(self._due, (row.scheduled_at, row.id))

    def _release(self, chord: str | None, parent_id: str) -> None:
        """Have the body of a chord run, if the last member has ended."""
        now = time.time()
        for id in self._chords.released(chord):
            row = self._rows[id]
            new = row.new
            new.parent_id = parent_id
            # Its delays begin now.
            row.scheduled_at = max(_moment(new.delay, new.eta, now) or now, now)
            row.expires_at = _moment(new.expires_in, new.expires, now)
            row.state = states.SCHEDULED if row.scheduled_at > now else states.AVAILABLE
            self._wait(row)

    # ── for a worker ────────────────────────────────────────────────────────────────────

    def get(
        self,
        queues: Iterable[str],
        demand: int = 1,
        timeout: float | None = 0,
        stopped: Callable[[], bool] = lambda: False,
    ) -> list[Job]:
        """Claim up to ``demand`` jobs of ``queues``, most urgent first.

        Args:
            queues: Names of the queues.
            demand: How many at most.
            timeout: Seconds to wait for the first; None waits until there is one.
            stopped: Ends the waiting; asked again after `wake`.
        """
        queues = list(queues)
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while True:
                if stopped():
                    return []
                self._stage()
                claimed = [
                    job for job in (self._claim(queues) for _ in range(demand)) if job
                ]
                if claimed:
                    return claimed
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return []
                due = self._due[0][0] - time.time() if self._due else None
                naps = [nap for nap in (left, due) if nap is not None]
                self._changed.wait(max(0.0, min(naps)) if naps else None)

    def _stage(self) -> None:
        now = time.time()
        while self._due and self._due[0][0] <= now:
            due, id = heapq.heappop(self._due)
            row = self._rows.get(id)
            waits = row is not None and row.state in (states.SCHEDULED, states.RETRYABLE)
            if row is not None and waits and row.scheduled_at == due:
                row.state = states.AVAILABLE
                self._wait(row)

    def _claim(self, queues: list[str]) -> Job | None:
        while True:
            fronts = [
                (self._ready[name][0], name) for name in queues if self._ready.get(name)
            ]
            if not fronts:
                return None
            (_, _, id), name = min(fronts)
            heapq.heappop(self._ready[name])
            row = self._rows.get(id)
            if row is None or row.state != states.AVAILABLE or row.new.queue != name:
                continue
            place = (row.new.priority, row.scheduled_at, id)
            if self._turns.begins(id, row.new, place):
                self._turns.began(id, row.new)
                return self._start(row)

    def _start(self, row: _Row) -> Job:
        row.state = states.EXECUTING
        row.attempt += 1
        row.claim_token = str(uuid4())
        return self._as_job(row)

    def _as_job(self, row: _Row) -> Job:
        new = row.new
        body = None if new.body is None else bytes(new.body)
        return Job(
            id=row.id,
            task_id=new.task_id,
            task=new.task,
            queue=new.queue,
            priority=new.priority,
            attempt=row.attempt,
            retries=row.retries,
            max_attempts=new.max_attempts,
            crashes=row.crashes,
            lost=0,
            args=new.args,
            kwargs=new.kwargs,
            body=body,
            content_type=new.content_type,
            content_encoding=new.content_encoding,
            size=len(body) if body is not None else max(len(new.args), len(new.kwargs)),
            scheduled_at=row.scheduled_at,
            inserted_at=row.inserted_at,
            expires_at=row.expires_at,
            expired=row.expires_at is not None and row.expires_at <= time.time(),
            time_limit=new.time_limit,
            soft_time_limit=new.soft_time_limit,
            ignore_result=new.ignore_result,
            root_id=new.root_id,
            parent_id=new.parent_id,
            group_id=new.group_id,
            group_index=new.group_index,
            chord=new.chord,
            awaits=new.awaits,
            origin=new.origin,
            headers=new.headers,
            embed=new.embed,
            meta=new.meta,
            tags=new.tags,
            claim_token=row.claim_token,
        )

    def settle(self, outcomes: Iterable[Outcome], worker: str | None = None) -> set[int]:
        """Write what became of jobs; the answer holds those that were ours to settle.

        Args:
            outcomes: What became of them.
            worker: Name of the worker that ran them.
        """
        settled = set()
        for outcome in outcomes:
            with self._changed:
                row = self._rows.get(outcome.id)
                if row is None or row.claim_token != outcome.claim_token:
                    continue
                settled.add(outcome.id)
                self._settle(row, outcome, worker)
                self._changed.notify_all()
        return settled

    def _settle(self, row: _Row, outcome: Outcome, worker: str | None) -> None:
        job = row.new
        over = outcome.state in states.FINISHED_JOB_STATES
        waiting = self._turns.left(row.id, job)
        if over:
            self._delete(row)
            self._keys.ended(row, outcome.state)
        else:
            self._continue(row, outcome)
        for id in waiting:
            if id in self._rows:
                self._wait(self._rows[id])
        # Before the waiters are told: who sees the end sees what follows too.
        for new in outcome.follow_ups:
            # Others wait for it, whoever has its key.
            new.uniqueness = None
            self._insert(new)
        if over:
            self._chords.ended(row.id, job, outcome)
            for stillborn in outcome.stillborn:
                unborn, end = as_ended(stillborn)
                self._app.backend.store_outcome(unborn, end)
                self._release(unborn.group_id, job.task_id)
            self._release(job.chord, job.task_id)
        if not outcome.replaced:
            self._app.backend.store_outcome(job, outcome, worker)

    def _delete(self, row: _Row) -> None:
        del self._rows[row.id], self._by_task_id[row.new.task_id]

    def _continue(self, row: _Row, outcome: Outcome) -> None:
        new = row.new
        for name in ("args", "kwargs", "body", "headers", "embed", "queue", "priority"):
            value = getattr(outcome, name)
            if value is not None:
                setattr(new, name, value)
        row.attempt -= outcome.give_back
        if outcome.give_back and outcome.state == states.SCHEDULED:
            meta = serialization.loads(new.meta) if new.meta else {}
            count = meta.get("snoozed", 0)
            if isinstance(count, int):
                new.meta = serialization.dumps({**meta, "snoozed": count + 1})
        row.retries += outcome.retried
        row.crashes += outcome.crashed
        row.claim_token = ""
        row.state = outcome.state
        now = time.time()
        row.scheduled_at = _moment(outcome.delay, outcome.eta, now) or row.scheduled_at
        new.retries = row.retries
        self._wait(row)

    def members(self, group_id: str) -> list[Member]:
        """The members of a chord that have ended, in the order of its header."""
        with self._changed:
            return self._chords.members(group_id)

    def cancel(self, task_ids: Iterable[str], reason: str = "revoked") -> list[str]:
        """End jobs that have not begun as REVOKED.

        Args:
            task_ids: Their ids.
            reason: What `TaskRevokedError` says.

        Returns:
            The ids of those that were revoked: not of those that run or are over.
        """
        with self._changed:
            rows = [
                self._rows[self._by_task_id[task_id]]
                for task_id in dict.fromkeys(map(str, task_ids))
                if task_id in self._by_task_id
            ]
            jobs = [self._start(row) for row in rows if row.state != states.EXECUTING]
            self.settle([_revoked(self._app, job, reason) for job in jobs])
        return [job.task_id for job in jobs]

    def wake(self) -> None:
        """Have those who wait for jobs ask whether they are to stop."""
        with self._changed:
            self._changed.notify_all()

    # ── for people and tests ────────────────────────────────────────────────────────────

    def waiting(self, queue: str | None = None) -> list[NewJob]:
        """The jobs that wait, in one queue or in all, in the order of their insertion."""
        with self._changed:
            return [
                row.new
                for row in self._rows.values()
                if row.state != states.EXECUTING and queue in (None, row.new.queue)
            ]

    def rows(self) -> list[tuple[Job, str]]:
        """The unfinished jobs with their states, in the order of their insertion."""
        with self._changed:
            return [(self._as_job(row), row.state) for row in self._rows.values()]

    def start(self, id: int) -> Job | None:
        """Claim this job, be it due or not; None if it runs already or is over."""
        with self._changed:
            row = self._rows.get(id)
            if row is None or row.state == states.EXECUTING:
                return None
            return self._start(row)

    def purge(self, queues: Iterable[str] | None = None) -> int:
        """Delete what waits, in some queues or in all; the answer is how many."""
        wanted = None if queues is None else set(queues)
        with self._changed:
            gone = [
                row
                for row in self._rows.values()
                if row.state != states.EXECUTING
                and (wanted is None or row.new.queue in wanted)
            ]
            for row in gone:
                self._delete(row)
                self._keys.ended(row, "purged")
                self._chords.purged(row.id, row.new)
            for row in gone:
                self._release(row.new.chord, row.new.task_id)
            self._changed.notify_all()
            return len(gone)

    def __len__(self) -> int:
        return len(self._rows)


def _revoked(app: Any, job: Job, reason: str) -> Outcome:
    from pgtasks.app import incoming
    from pgtasks.app.context import Context
    from pgtasks.app.outcome import Ending

    task = app._tasks.get(job.task)
    ending = Ending(app, job, app.backend if task is None else task.backend)
    ending.begin()
    try:
        request = Context(incoming.reader(app).request(job, None), called_directly=False)
        ending.mark_as_revoked(
            job.task_id, reason, request=request, store_result=not job.ignore_result
        )
        signals.task_revoked.send(
            sender=task, request=request, terminated=False, signum=None, expired=False
        )
    finally:
        ending.end()
    return ending.finish(None)


def _moment(seconds: float | None, date: str | None, now: float) -> float | None:
    if seconds is not None:
        return now + seconds
    return None if date is None else datetime.fromisoformat(date).timestamp()
