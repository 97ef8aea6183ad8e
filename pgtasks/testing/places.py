"""Where the jobs of a test are: in tables, in a transaction of the test's, or in memory."""

from __future__ import annotations

import time
from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any, Protocol, TypeVar
from uuid import uuid4

from pgtasks import states
from pgtasks.app import transactions
from pgtasks.app.connection import keeps_jobs_in_memory
from pgtasks.app.memory import queue_of
from pgtasks.job import Job, Outcome
from pgtasks.storage import borrowed, jobs, trials
from pgtasks.storage.query import Query
from pgtasks.storage.trials import Waiting

__all__ = ["FOREVER", "Place", "place_of"]

T = TypeVar("T")

#: A date until which everything is due.
FOREVER = datetime.max.replace(tzinfo=timezone.utc)


class Place(Protocol):
    """What tests do with jobs, wherever they are."""

    def waiting(self) -> list[Waiting]:
        """The jobs that have not begun, newest first."""

    def newest(self) -> int:
        """The last row."""

    def take(
        self,
        queues: Collection[str] | None,
        until: datetime | None,
        upto: int | None,
        but: Collection[int],
    ) -> Job | None:
        """Claim the next job; see `trials.take`."""

    def settle(self, job: Job, outcome: Outcome) -> None:
        """Write what became of a job that was taken here."""

    def within(self) -> AbstractContextManager[Any]:
        """Have what is sent meanwhile be in the same place."""


def place_of(app: Any, connection: Any = None) -> Place:
    """Where the jobs of ``app`` are that are sent here and now.

    Args:
        app: The application.
        connection: The connection whose transaction they are in; by default the one that
            jobs sent now belong to, and otherwise the application's own.
    """
    if keeps_jobs_in_memory(app):
        return _Memory(app)
    return _Tables(app, transactions.current(app) if connection is None else connection)


class _Tables:
    def __init__(self, app: Any, connection: Any) -> None:
        self._app = app
        self._connection = connection
        self._worker = str(uuid4())
        self._began = datetime.now(timezone.utc).isoformat()

    def _run(self, query: Query[T]) -> T:
        if self._connection is None:
            answer: T = self._app.database.run(query)
            return answer
        schema = self._app.conf.database_schema
        return borrowed.run(query, on=self._connection, schema=schema)

    def waiting(self) -> list[Waiting]:
        return self._run(trials.enqueued())

    def newest(self) -> int:
        return self._run(trials.newest())

    def take(
        self,
        queues: Collection[str] | None,
        until: datetime | None,
        upto: int | None,
        but: Collection[int],
    ) -> Job | None:
        moment = None if until is None else until.isoformat()
        return self._run(
            trials.take(
                worker=self._worker,
                token=str(uuid4()),
                began=self._began,
                queues=queues,
                until="infinity" if until is FOREVER else moment,
                upto=upto,
                but=but,
            )
        )

    def settle(self, job: Job, outcome: Outcome) -> None:
        query = jobs.ack([jobs.settle(outcome, job.task_id)])
        # asyncpg, below a lent session, takes no array as text.
        self._run(replace(query, params={**query.params, "ids": [job.id]}))

    def within(self) -> AbstractContextManager[Any]:
        if self._connection is None:
            return nullcontext()
        return transactions.using(self._connection)


class _Memory:
    def __init__(self, app: Any) -> None:
        self._queue = queue_of(app)

    def waiting(self) -> list[Waiting]:
        return [
            Waiting(job, state)
            for job, state in reversed(self._queue.rows())
            if state != states.EXECUTING
        ]

    def newest(self) -> int:
        return max((job.id for job, _ in self._queue.rows()), default=0)

    def take(
        self,
        queues: Collection[str] | None,
        until: datetime | None,
        upto: int | None,
        but: Collection[int],
    ) -> Job | None:
        now = time.time()
        limit = now if until is None else until.timestamp()
        runnable = [
            job
            for job, state in self._queue.rows()
            if state not in (states.EXECUTING, states.SUSPENDED)
            and job.scheduled_at <= limit
            and (queues is None or job.queue in queues)
            and (upto is None or job.id <= upto)
            and job.id not in but
        ]
        if not runnable:
            return None
        return self._queue.start(min(runnable, key=lambda job: _turn(job, now)).id)

    def settle(self, job: Job, outcome: Outcome) -> None:
        self._queue.settle([outcome])

    def within(self) -> AbstractContextManager[Any]:
        return nullcontext()


def _turn(job: Job, now: float) -> tuple[float, int, float, int]:
    """The place of a job: what is due by its urgency, the rest as it becomes due."""
    return max(job.scheduled_at, now), job.priority, job.scheduled_at, job.id
