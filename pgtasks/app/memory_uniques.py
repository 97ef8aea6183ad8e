"""Unique jobs that are kept in memory: who has a key, and whose turn it is.

What the tables answer by statement is looked up here by hand. Whoever calls holds the lock
of the queue.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Any

from pgtasks import states
from pgtasks.app.turns import key_of_turn
from pgtasks.job import NewJob

__all__ = ["KeyBook", "TurnBook", "replace"]


@dataclass
class _Holder:
    row: Any
    #: How it ended; None while it has not.
    end: str | None = None


class KeyBook:
    """Who has taken each key last."""

    def __init__(self) -> None:
        self._holders: dict[str, _Holder] = {}

    def holder(self, job: NewJob, now: float) -> Any:
        """The row that keeps ``job`` out, or None."""
        rule = job.uniqueness
        holder = self._holders.get(job.unique_key or "")
        if rule is None or rule.get("forced") or holder is None:
            return None
        row = holder.row
        since = row.scheduled_at if rule.get("by_schedule") else row.inserted_at
        period = rule.get("period")
        lately = period is None or since >= now - period
        return row if lately and (holder.end or row.state) in rule["blocks"] else None

    def taken(self, row: Any, now: float) -> None:
        """A job was inserted: it has its key, unless it went in although another has it."""
        job = row.new
        if job.uniqueness is None or job.unique_key is None:
            return
        asked = {key: value for key, value in job.uniqueness.items() if key != "forced"}
        plain = NewJob(job.task, "", unique_key=job.unique_key, uniqueness=asked)
        if self.holder(plain, now) is None:
            self._holders[job.unique_key] = _Holder(row)

    def ended(self, row: Any, state: str) -> None:
        """A job is over."""
        holder = self._holders.get(row.new.unique_key or "")
        if holder is not None and holder.row is row:
            holder.end = state


def replace(row: Any, job: NewJob, due: float, now: float) -> bool:
    """Change the job that keeps ``job`` out, as that one says.

    Args:
        row: The one that is changed.
        job: The one that is kept out.
        due: When that one would be due.
        now: The time.

    Returns:
        Whether the row may have to wait anew.
    """
    rule: dict[str, Any] = job.uniqueness or {}
    names = rule.get("replaces", {}).get(row.state, ())
    new = row.new
    for name in names:
        if name != "scheduled_at":
            setattr(new, name, getattr(job, name))
    if "args" in names or "kwargs" in names:
        one_piece = new.body is not None or job.body is not None
        if one_piece or new.content_type != job.content_type:
            for name in ("args", "kwargs", "body", "content_type", "content_encoding"):
                setattr(new, name, getattr(job, name))
    waits = row.state in (states.SCHEDULED, states.AVAILABLE, states.RETRYABLE)
    if "scheduled_at" in names:
        row.scheduled_at = due
        if row.state != states.RETRYABLE and waits:
            row.state = states.SCHEDULED if due > now else states.AVAILABLE
    return waits and bool(names)


class TurnBook:
    """Whose turn it is, of jobs of which one runs at a time."""

    def __init__(self) -> None:
        self._running: dict[str, int] = {}
        self._line: dict[str, list[tuple[int, float, int]]] = {}

    def begins(self, id: int, job: NewJob, place: tuple[int, float, int]) -> bool:
        """Whether a job may begin; if not, it stands in line until another has ended."""
        key = key_of_turn(job.headers)
        if key is None or self._running.get(key, id) == id:
            return True
        heapq.heappush(self._line.setdefault(key, []), place)
        return False

    def began(self, id: int, job: NewJob) -> None:
        """A job runs."""
        key = key_of_turn(job.headers)
        if key is not None:
            self._running[key] = id

    def left(self, id: int, job: NewJob) -> list[int]:
        """A job does not run any more; the answer is who may try now."""
        key = key_of_turn(job.headers)
        if key is None or self._running.get(key) != id:
            return []
        del self._running[key]
        return [each for _, _, each in self._line.pop(key, ())]
