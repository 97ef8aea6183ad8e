"""A database and a registered worker, and the calls that a worker makes."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import psycopg

from pgtasks.job import Job, NewJob, Outcome
from pgtasks.storage import jobs, results, workers
from pgtasks.storage.database import Database
from pgtasks.storage.query import Query


class Bench:
    """One worker at work on one database, by hand.

    Args:
        url: The database.
    """

    def __init__(self, url: str) -> None:
        self.database = Database(url)
        self.connection = psycopg.connect(url, autocommit=True)
        self.worker = self.register()

    def register(self, lease: float = 20.0) -> str:
        id = str(uuid4())
        self.run(
            workers.register(
                id=id,
                name="celery@test",
                hostname="test",
                pid=1,
                machine="elsewhere",
                process_started=1.0,
                begun_file=None,
                lease=lease,
                queues=["celery"],
                pool="prefork",
                concurrency=2,
                version="0",
                info={},
            )
        )
        return id

    def run(self, query: Query[Any]) -> Any:
        return self.database.run(query)

    def insert(self, *new: NewJob, **options) -> list[jobs.Inserted]:
        return self.run(jobs.insert(new, **options))

    def claim(self, demand: int = 10, *, worker: str | None = None, **options) -> list[Job]:
        marks = options.pop("marks", {"celery": jobs.LOWEST})
        claimed = self.run(
            jobs.fetch(
                marks,
                demand=demand,
                worker=worker or self.worker,
                token=str(uuid4()),
                **options,
            )
        )
        return claimed.jobs

    def ack(self, job: Job, state: str = "completed", **fields) -> bool:
        outcome = Outcome(job.id, job.claim_token, state, **fields)
        return job.id in self.run(jobs.ack([jobs.settle(outcome, job.task_id)])).ids

    def read(self, task_id: str) -> results.Result:
        return self.run(results.read([task_id]))[task_id]

    def rows(self, statement: str, *params) -> list[tuple]:
        return self.connection.execute(statement, params).fetchall()
