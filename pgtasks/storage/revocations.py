"""What was revoked before it came: ids that claims look up, and stamps that workers know."""

from __future__ import annotations

from collections.abc import Iterable

from pgtasks.storage.query import Query, load

__all__ = ["forget", "newest", "note", "note_stamps", "stamps"]

SQL = load("revocations.sql")


def note(
    task_ids: Iterable[str],
    reason: str | None = None,
    *,
    result: str | None = None,
    result_body: bytes | None = None,
    result_content_type: str | None = None,
) -> Query[list[str]]:
    """Remember that tasks shall not run; the answer is the ids that are not over.

    Args:
        task_ids: Their ids.
        reason: By whom and why.
        result: The exception, as results are kept, of those that have not come.
        result_body: The same in a binary serializer's form.
        result_content_type: MIME type of either when it is not JSON.
    """
    params = {
        "task_ids": list(task_ids),
        "reason": reason,
        "result": result,
        "result_body": result_body,
        "result_content_type": result_content_type,
    }
    return Query(SQL["note"], params, lambda rows: [row[0] for row in rows])


def forget(task_ids: Iterable[str]) -> Query[int]:
    """Forget it: they are to run after all."""
    return Query(SQL["forget"], {"task_ids": list(task_ids)}, len)


def newest(limit: int) -> Query[list[str]]:
    """The ids that were revoked last."""
    return Query(SQL["newest"], {"limit": limit}, lambda rows: [row[0] for row in rows])


def note_stamps(pairs: Iterable[tuple[str, str]]) -> Query[int]:
    """Remember that tasks with these stamps shall not run.

    Args:
        pairs: Name of the header, and the stamp as JSON text.
    """
    headers, texts = [list(column) for column in zip(*pairs, strict=True)] or [[], []]
    return Query(SQL["note_stamps"], {"headers": headers, "stamps": texts}, len)


def stamps() -> Query[list[tuple[str, str]]]:
    """All of them."""
    return Query(SQL["stamps"], {}, lambda rows: [(row[0], row[1]) for row in rows])
