"""Jobs as tests see them: what is enqueued, and the next one to run here and now."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from pgtasks.job import Job
from pgtasks.storage.query import Query, Row, load

__all__ = ["Waiting", "enqueued", "newest", "take"]

SQL = load("trials.sql")

_STATE = len(Job._fields) + 1


class Waiting(NamedTuple):
    """A job that has not begun, and its state."""

    job: Job
    state: str


def enqueued() -> Query[list[Waiting]]:
    """The jobs that have not begun, newest first."""

    def read(rows: Sequence[Row]) -> list[Waiting]:
        return [Waiting(_job(row), row[_STATE]) for row in rows]

    return Query(SQL["enqueued"], {"max_size": 2**30}, read)


def newest() -> Query[int]:
    """The last row; those that come later have larger ids."""
    return Query(SQL["newest"], {}, lambda rows: int(rows[0][0]))


def take(
    *,
    worker: str,
    token: str,
    began: str,
    queues: Collection[str] | None = None,
    until: str | None = None,
    upto: int | None = None,
    but: Collection[int] = (),
) -> Query[Job | None]:
    """Claim the next job.

    Args:
        worker: Id of whoever runs it; it need not be registered.
        token: Random, new for each call.
        began: The date before which all jobs count as due alike, so that the most urgent
            goes first; ISO 8601.
        queues: From these only; None takes from all.
        until: Jobs that are due until then count as due; now by default. ISO 8601, or
            ``infinity``.
        upto: Only rows up to this id.
        but: Not these rows.
    """
    params = {
        "worker": worker,
        "token": token,
        "began": began,
        "queues": None if queues is None else list(queues),
        "until": until,
        "upto": upto,
        "but": list(but),
        "max_size": 2**30,
    }
    return Query(SQL["take"], params, lambda rows: _job(rows[0]) if rows else None)


def _job(row: Row) -> Job:
    job = Job._make(row[: len(Job._fields)])
    # Of some drivers it is a view of theirs.
    return job if job.body is None else job._replace(body=bytes(job.body))
