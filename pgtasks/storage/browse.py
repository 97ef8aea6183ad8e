"""Looking for jobs, waiting, running and over: by id, by page, by count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pgtasks.storage.query import Query, Row, load

__all__ = [
    "COLUMNS",
    "SORTS",
    "Found",
    "JobRow",
    "Tally",
    "find",
    "list_",
    "look_up",
    "tally",
]

SQL = load("browse.sql")

COLUMNS = ("state", "queue", "task", "worker", "priority")
"""What jobs can be counted by."""

SORTS = ("inserted", "scheduled", "attempted", "finished", "priority", "attempt")
"""What they can be listed by."""

LARGEST = 100_000
"""Bytes of one text that a page of jobs shows; larger ones are left out."""


class JobRow(NamedTuple):
    """Everything that the tables know about a job.

    Times are seconds since the epoch, read as numbers: a row may hold a date that no
    datetime can (R4). Texts are undecoded, and None where they are too large.
    """

    id: int
    task_id: str
    task: str
    queue: str
    state: str
    priority: int
    attempt: int
    retries: int
    max_attempts: int | None
    crashes: int
    lost: int
    inserted_at: float
    scheduled_at: float
    attempted_at: float | None
    expires_at: float | None
    worker: str | None
    worker_name: str | None
    args: str | None
    kwargs: str | None
    body: bytes | None
    content_type: str | None
    content_encoding: str | None
    size: int
    errors: str | None
    meta: str | None
    tags: list[str]
    root_id: str | None
    parent_id: str | None
    group_id: str | None
    group_index: int | None
    chord: str | None
    awaits: str | None
    origin: str | None
    time_limit: float | None
    soft_time_limit: float | None
    headers: str | None
    embed: str | None
    finished_at: float | None
    held: str | None
    unique_key: str | None
    status: str | None
    result: str | None
    traceback: str | None
    place: float
    """Where it stands in the order that was asked for."""


class Found(NamedTuple):
    """A job that an operation is about."""

    id: int
    task_id: str
    state: str


class Tally(NamedTuple):
    """How many jobs have these in common; what was not asked for is None."""

    state: str | None
    queue: str | None
    task: str | None
    worker: str | None
    priority: int | None
    jobs: int


def look_up(task_ids: Sequence[str], *, max_size: int = 2**26) -> Query[dict[str, JobRow]]:
    """The jobs with these ids; one that does not exist is absent from the answer."""

    def by_id(rows: Sequence[Row]) -> dict[str, JobRow]:
        found: dict[str, JobRow] = {}
        for row in sorted(map(JobRow._make, rows), key=lambda row: row.place):
            found.setdefault(row.task_id, row)
        return found

    params = {"task_ids": list(task_ids), "max_size": max_size}
    return Query(SQL["look_up"], params, by_id)


def list_(
    filter: str,
    *,
    sort: str,
    descending: bool,
    limit: int,
    after: tuple[float, str] | None = None,
    max_size: int = LARGEST,
) -> Query[list[JobRow]]:
    """A page of the jobs that ``filter`` finds.

    Args:
        filter: What they must be, as JSON.
        sort: One of `SORTS`.
        descending: The last of them first.
        limit: How many at most.
        after: ``place`` and id of the last job of the page before.
        max_size: Bytes of texts; larger ones are left out.
    """
    params = {
        "filter": filter,
        "sort": sort,
        "direction": -1 if descending else 1,
        "limit": limit,
        "after_place": None if after is None else after[0],
        "after_id": None if after is None else after[1],
        "max_size": max_size,
    }

    def read(rows: Sequence[Row]) -> list[JobRow]:
        page = map(JobRow._make, rows)
        return sorted(page, key=lambda row: (row.place, row.task_id.encode()))

    return Query(SQL["list"], params, read)


def tally(filter: str, *, by: Sequence[str] = ()) -> Query[list[Tally]]:
    """How many jobs there are, by some of `COLUMNS`; one number without."""
    params = {"filter": filter, "by": list(by)}
    return Query(SQL["tally"], params, lambda rows: [Tally._make(row) for row in rows])


def find(
    filter: str, *, after: tuple[int, str] = (-(2**63), ""), limit: int = 100_000
) -> Query[list[Found]]:
    """Which jobs an operation is about, in the order of their insertion.

    Args:
        filter: What they must be, as JSON.
        after: Row and id of the last one of the answer before.
        limit: How many at most.
    """
    params = {"filter": filter, "after": after[0], "after_id": after[1], "limit": limit}
    return Query(SQL["find"], params, lambda rows: [Found._make(row) for row in rows])
