"""Deletes what is old, in bounded batches, each of which only a leader may do."""

from __future__ import annotations

from typing import NamedTuple

from pgtasks.storage.leaders import Seat
from pgtasks.storage.query import Query, load

__all__ = [
    "BEGINNING",
    "Walked",
    "prune",
    "prune_groups",
    "prune_mail",
    "prune_ticks",
    "prune_workers",
]

SQL = load("pruning.sql")

BEGINNING = "-infinity"
"""The place before every job that has ended."""


class Walked(NamedTuple):
    """One batch of a walk through the jobs that are over, in the order of their end.

    Attributes:
        pruned: How many were deleted.
        seen: How many were looked at.
        place: The end of the last of them; None if there was none.
        led: Whether we were still the leader; else nothing was done.
    """

    pruned: int
    seen: int
    place: str | None
    led: bool


def prune(
    seat: Seat,
    *,
    age: float,
    key: str,
    rules: str,
    after: str = BEGINNING,
    slack: float = 0.0,
    limit: int = 1000,
) -> Query[Walked]:
    """Delete the jobs of one age among the next ``limit`` that ended longer ago than that.

    Args:
        seat: The leader's.
        age: Seconds since the end.
        key: How ``rules`` write that age.
        rules: JSON text: ``states`` (state to age), ``queues`` and ``tasks`` (name to state
            to age). The task's counts, else the queue's, else the state's.
        after: Where to begin, as `Walked.place` says it.
        slack: Seconds before that place to begin at.
        limit: Jobs to look at.
    """
    params = {
        **seat._asdict(),
        "age": age,
        "key": key,
        "rules": rules,
        "after": after,
        "slack": slack,
        "limit": limit,
    }
    return Query(SQL["prune"], params, lambda rows: Walked._make(rows[0]))


def prune_groups(seat: Seat, age: float, *, limit: int = 1000) -> Query[int]:
    """Delete up to ``limit`` results of groups that were saved ``age`` seconds ago."""
    return Query(SQL["prune_groups"], _params(seat, age, limit), len)


def prune_ticks(seat: Seat, age: float, *, limit: int = 1000) -> Query[int]:
    """Delete up to ``limit`` ticks of periodic tasks that were due ``age`` seconds ago."""
    return Query(SQL["prune_ticks"], _params(seat, age, limit), len)


def prune_mail(seat: Seat, *, limit: int = 1000) -> Query[int]:
    """Delete up to ``limit`` commands and as many replies that have expired."""
    return Query(SQL["prune_mail"], {**seat._asdict(), "limit": limit}, len)


def prune_revocations(seat: Seat, age: float, *, limit: int = 1000) -> Query[int]:
    """Forget up to ``limit`` revoked ids and stamps that are ``age`` seconds old."""
    return Query(SQL["prune_revocations"], _params(seat, age, limit), len)


def prune_workers(seat: Seat, age: float, *, limit: int = 100) -> Query[int]:
    """Delete the rows of up to ``limit`` workers that are gone since ``age`` seconds."""
    return Query(SQL["prune_workers"], _params(seat, age, limit), len)


def _params(seat: Seat, age: float, limit: int) -> dict[str, object]:
    return {**seat._asdict(), "age": age, "limit": limit}
