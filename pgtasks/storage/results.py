"""What became of a job, as `AsyncResult` reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pgtasks.storage.query import Query, Row, load

__all__ = [
    "Member", "Result", "await_", "await_descendants", "delete_group", "forget", "members",
    "prune_groups", "read", "read_failed", "restore_group", "save_group", "store",
]  # fmt: skip

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
    return Query(SQL["read"], {"task_ids": list(task_ids)}, _by_id)


def read_failed(task_ids: Sequence[str]) -> Query[dict[str, Result]]:
    """Those of the jobs with these ids that may have failed, and no others."""
    return Query(SQL["read_failed"], {"task_ids": list(task_ids)}, _by_id)


def _by_id(rows: Sequence[Row]) -> dict[str, Result]:
    found: dict[str, Result] = {}
    for row in rows:
        found.setdefault(row[1], Result._make(row))
    return found


class Member(NamedTuple):
    """What one member of a chord's header came to."""

    task_id: str
    state: str
    status: str | None
    result: str | None
    result_body: bytes | None
    result_content_type: str | None
    traceback: str | None


def members(chord: str) -> Query[list[Member]]:
    """The members of a chord's header that are over, in the order of the header."""
    return Query(
        SQL["members"],
        {"chord": chord},
        lambda rows: [Member._make(row) for row in rows],
    )


def await_(task_ids: Sequence[str]) -> Query[set[str]]:
    """Have the end of these jobs notify ``pgtasks.results`` with their task id.

    Returns:
        The ids of those that were not marked yet.
    """
    params = {"task_ids": list(task_ids)}
    return Query(SQL["await"], params, lambda rows: set(_first_column(rows)))


def await_descendants(
    task_ids: Sequence[str], ancestors: Mapping[str, Sequence[str]]
) -> Query[set[str]]:
    """Have the end of these jobs notify, of which some come into being only later.

    Args:
        task_ids: The jobs.
        ancestors: For those of them that follow from others in a chain: which these are;
            groups among them stand for the bodies of their chords.

    Returns:
        The ids of the jobs and the ancestors that are there, unfinished, and of groups that
        a body waits for. Where one of the ancestors of a job is among them, its end is
        certain to be told.
    """
    heirs: dict[str, list[str]] = {}
    for task_id, before in ancestors.items():
        for ancestor in before:
            heirs.setdefault(ancestor, []).append(task_id)
    params = {
        "task_ids": list(task_ids),
        "ancestors": list(heirs),
        "ancestry": json.dumps(heirs),
    }
    return Query(SQL["await_descendants"], params, _known)


def _known(rows: Sequence[Row]) -> set[str]:
    return {id for row in rows for id in row[:2] if id is not None}


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


def save_group(id: str, members: str) -> Query[None]:
    """Keep the results that make up a group: JSON text."""
    return Query(SQL["save_group"], {"id": id, "members": members}, lambda rows: None)


def restore_group(id: str) -> Query[str | None]:
    """What `save_group` kept, or None."""
    return Query(
        SQL["restore_group"], {"id": id}, lambda rows: rows[0][0] if rows else None
    )


def delete_group(id: str) -> Query[None]:
    """Forget what `save_group` kept."""
    return Query(SQL["delete_group"], {"id": id}, lambda rows: None)


def prune_groups(age: float) -> Query[None]:
    """Forget the groups that were saved more than ``age`` seconds ago."""
    return Query(SQL["prune_groups"], {"age": age}, lambda rows: None)
