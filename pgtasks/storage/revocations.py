"""What was revoked before it came: ids that claims look up, and stamps that workers know."""

from __future__ import annotations

from collections.abc import Iterable

from pgtasks.storage.query import Query, load

__all__ = ["forget", "newest", "note", "note_stamps", "stamps"]

SQL = load("revocations.sql")


def note(task_ids: Iterable[str], reason: str | None = None) -> Query[list[str]]:
    """Remember that tasks shall not run; the answer is the ids that are not over.

    Args:
        task_ids: Their ids.
        reason: By whom and why.
    """
    params = {"task_ids": list(task_ids), "reason": reason}
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
