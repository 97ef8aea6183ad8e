"""What people do to jobs from outside: cancel them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pgtasks.storage.query import Query, load

__all__ = ["cancel", "cancellable", "stamped"]

SQL = load("admin.sql")


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
) -> Query[list[str]]:
    """End jobs that have not begun as cancelled.

    Args:
        task_ids: Their ids; those of jobs that run, or are over, are left alone.
        result: The exception that whoever waits is given, serialized.
        result_body: The same in a binary serializer's form.
        result_content_type: MIME type of either when it is not JSON.
        stillborn: Rows of history for the tasks that would have come next; each names
            with ``follows`` the row that it followed.

    Returns:
        Ids of the jobs that were cancelled.
    """
    params = {
        "task_ids": list(task_ids),
        "result": result,
        "result_body": result_body,
        "result_content_type": result_content_type,
        "stillborn": json.dumps(list(stillborn)),
    }
    return Query(
        SQL["cancel"], params, lambda rows: [row[0] for row in rows if row[0] is not None]
    )


def stamped(stamps: str) -> Query[list[str]]:
    """Ids of the waiting jobs that carry one of ``stamps``: JSON, lists by name."""
    return Query(SQL["stamped"], {"stamps": stamps}, lambda rows: [row[0] for row in rows])
