"""What people do to jobs from outside: cancel, retry, delete, hold, release, change them.

Each is one statement on up to some thousand ids, which leaves alone what its state does not
allow and what ``filter`` no longer finds: between the question and the deed a job may have
begun, or somebody else may have been quicker.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pgtasks.storage.query import Query, Row, load

__all__ = [
    "cancel",
    "cancellable",
    "delete",
    "hold",
    "release",
    "retry",
    "running",
    "stamped",
    "update",
]

SQL = load("admin.sql")

EVERY = "{}"
"""The filter that leaves nothing out."""


def cancellable(task_ids: Sequence[str]) -> Query[list[tuple[int, str, str]]]:
    """Row, id and ``embed`` of those jobs that lead to others and can be cancelled."""
    return Query(
        SQL["cancellable"],
        {"task_ids": list(task_ids)},
        lambda rows: [(row[0], row[1], row[2]) for row in rows],
    )


def cancel(
    task_ids: Sequence[str],
    *,
    result: str | None,
    result_body: bytes | None = None,
    result_content_type: str | None = None,
    stillborn: Sequence[Mapping[str, Any]] = (),
    note: str | None = None,
    filter: str = EVERY,
) -> Query[list[str]]:
    """End jobs that have not begun as cancelled.

    Args:
        task_ids: Their ids; those of jobs that run, or are over, are left alone.
        result: The exception that whoever waits is given, serialized.
        result_body: The same in a binary serializer's form.
        result_content_type: MIME type of either when it is not JSON.
        stillborn: Rows of history for the tasks that would have come next; each names
            with ``follows`` the row that it followed.
        note: By whom and why, for the job's ``errors``; None leaves no word there.
        filter: What they must be still, as JSON.

    Returns:
        Ids of the jobs that were cancelled.
    """
    params = {
        "task_ids": list(task_ids),
        "result": result,
        "result_body": result_body,
        "result_content_type": result_content_type,
        "stillborn": json.dumps(list(stillborn)),
        "note": note,
        "filter": filter,
    }
    return Query(SQL["cancel"], params, _ids)


def running(task_ids: Sequence[str], *, filter: str = EVERY) -> Query[list[str]]:
    """Which of these jobs run now: only their workers can end them."""
    params = {"task_ids": list(task_ids), "filter": filter}
    return Query(SQL["running"], params, _ids)


def stamped(stamps: str) -> Query[list[str]]:
    """Ids of the waiting jobs that carry one of ``stamps``: JSON, lists by name."""
    return Query(SQL["stamped"], {"stamps": stamps}, _ids)


def retry(task_ids: Sequence[str], *, filter: str = EVERY) -> Query[list[str]]:
    """Have jobs run (again) now: those that are over, and those that wait for their time.

    Returns:
        Ids of the jobs that may run now.
    """
    return Query(SQL["retry"], {"task_ids": list(task_ids), "filter": filter}, _ids)


def delete(task_ids: Sequence[str], *, filter: str = EVERY) -> Query[list[str]]:
    """Delete jobs that do not run; the answer holds their ids."""
    return Query(SQL["delete"], {"task_ids": list(task_ids), "filter": filter}, _ids)


def hold(task_ids: Sequence[str], *, filter: str = EVERY) -> Query[list[str]]:
    """Have jobs not run until they are released; the answer holds their ids."""
    return Query(SQL["hold"], {"task_ids": list(task_ids), "filter": filter}, _ids)


def release(task_ids: Sequence[str], *, filter: str = EVERY) -> Query[list[str]]:
    """Release held jobs; the answer holds their ids."""
    return Query(SQL["release"], {"task_ids": list(task_ids), "filter": filter}, _ids)


def update(
    task_ids: Sequence[str],
    changes: Mapping[str, Any],
    *,
    readable: bool = False,
    filter: str = EVERY,
) -> Query[list[str]]:
    """Change jobs that have not begun.

    Args:
        task_ids: Their ids; those whose rows are locked are left alone.
        changes: New values by column; ``delay`` or ``eta`` say when it is due,
            ``expires_in``, ``expires`` or ``expires_never`` when it expires.
        readable: Only those whose arguments are JSON, neither packed nor signed.
        filter: What they must be still, as JSON.

    Returns:
        Ids of the jobs that were changed.
    """
    params = {
        "task_ids": list(task_ids),
        "changes": json.dumps(dict(changes)),
        "readable": readable,
        "filter": filter,
    }
    return Query(SQL["update"], params, _ids)


def _ids(rows: Sequence[Row]) -> list[str]:
    # Beside them stand the notifications that were sent.
    return [row[0] for row in rows if row[0] is not None]
