"""What became of a job, as `AsyncResult` reads it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pgtasks.storage.query import Query, Row, load

__all__ = ["Result", "await_", "forget", "read", "store"]

SQL = load("results.sql")


class Result(NamedTuple):
    """One job's row, finished or not, in the terms of a result.

    Attributes:
        state: The job state.
        status: Celery's state where the job state does not tell it: a custom state
            while executing, ``IGNORED``, ``REJECTED`` … at the end.
        result: Result, stored exception, or meta of the custom state, serialized.
        errors: JSON text: the failed attempts.
    """

    id: int
    task_id: str
    task: str
    state: str
    status: str | None
    result: str | None
    result_body: bytes | None
    result_content_type: str | None
    traceback: str | None
    children: str | None
    args: str
    kwargs: str
    body: bytes | None
    content_type: str | None
    content_encoding: str | None
    queue: str
    retries: int
    worker: str | None
    group_id: str | None
    parent_id: str | None
    root_id: str | None
    ignore_result: bool | None
    inserted_at: float
    attempted_at: float | None
    finished_at: float | None
    errors: str
    headers: str | None

    @property
    def finished(self) -> bool:
        """Whether the job has reached a final state."""
        return self.finished_at is not None


def read(task_ids: Sequence[str]) -> Query[dict[str, Result]]:
    """The jobs with these ids; one that never existed is absent from the answer."""

    def by_id(rows: Sequence[Row]) -> dict[str, Result]:
        found: dict[str, Result] = {}
        for row in rows:
            found.setdefault(row[1], Result._make(row))
        return found

    return Query(SQL["read"], {"task_ids": list(task_ids)}, by_id)


def await_(task_ids: Sequence[str]) -> Query[list[str]]:
    """Have the end of these jobs notify ``pgtasks.results`` with their task id."""
    return Query(SQL["await"], {"task_ids": list(task_ids)}, _first_column)


def forget(task_ids: Sequence[str]) -> Query[list[str]]:
    """Drop the results of these jobs; their rows stay until they are pruned."""
    return Query(SQL["forget"], {"task_ids": list(task_ids)}, _first_column)


def store(
    task_id: str,
    *,
    state: str,
    status: str | None,
    result: str | None,
    result_body: bytes | None = None,
    result_content_type: str | None = None,
    traceback: str | None = None,
    children: str | None = None,
    task: str = "",
) -> Query[bool]:
    """Store a final result for ``task_id`` by hand, whether or not there was a job."""
    params = {
        "task_id": task_id,
        "task": task,
        "state": state,
        "status": status,
        "result": result,
        "result_body": result_body,
        "result_content_type": result_content_type,
        "traceback": traceback,
        "children": children,
    }
    return Query(SQL["store"], params, bool)


def _first_column(rows: Sequence[Row]) -> list[str]:
    return [row[0] for row in rows]
