"""Questions about one job that does not run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pgtasks.job import KEY
from pgtasks.storage.query import Query, Row, load

__all__ = [
    "MOST_AHEAD", "Ahead", "Gate", "Members", "Occupied", "ahead", "gates", "members", "now",
    "occupied", "paused", "turn",
]  # fmt: skip

SQL = load("diagnosis.sql")

MOST_AHEAD = 10_000
"""Jobs in front of one that are counted; more are 'at least' as many."""


class Ahead(NamedTuple):
    """What stands in front of a job that may run.

    Attributes:
        jobs: How many go before it in its queue, at most `MOST_AHEAD`.
        locked: Somebody holds its row locked, so that claims step over it.
        now: The database's time, in seconds since the epoch.
    """

    jobs: int
    locked: bool
    now: float


class Occupied(NamedTuple):
    """One of the jobs that a worker has run for the longest time.

    Attributes:
        since: Seconds that it has been running.
        running: How many jobs that worker runs in all.
    """

    worker: str
    task: str
    task_id: str
    queue: str
    since: float
    running: int


class Members(NamedTuple):
    """Up to ten members of a chord that have not ended: id, task, state; and how many there are."""

    some: list[tuple[str, str, str]]
    left: int


class Gate(NamedTuple):
    """A limit that a job must go through.

    Attributes:
        limit: Its name.
        key: What it counts for; empty if it counts for all.
        waits: The job stands in its line.
        running: Jobs that it counts now.
        concurrency: How many there may be.
        rate: How many may start within ``period`` seconds.
        free_at: When the next may start, in seconds since the epoch.
    """

    limit: str
    key: str
    waits: bool
    running: int
    concurrency: int | None
    rate: int | None
    period: float | None
    free_at: float

    @property
    def full(self) -> bool:
        """Whether as many run as may."""
        return self.concurrency is not None and self.running >= self.concurrency


def ahead(id: int) -> Query[Ahead | None]:
    """What stands in front of a job; None if it is not there any more."""
    return Query(
        SQL["surroundings"],
        {"id": id, "most": MOST_AHEAD},
        lambda rows: Ahead._make(rows[0]) if rows else None,
    )


def now() -> Query[float]:
    """The database's time, in seconds since the epoch."""
    return Query(SQL["now"], {}, lambda rows: float(rows[0][0]))


def occupied(workers: Sequence[str]) -> Query[list[Occupied]]:
    """What these workers run, three jobs of each at most."""
    return Query(
        SQL["occupied"],
        {"workers": list(workers)},
        lambda rows: [Occupied._make(row) for row in rows],
    )


def members(chord: str) -> Query[Members]:
    """Who has not ended yet in a chord."""
    return Query(
        SQL["members"],
        {"chord": chord},
        lambda rows: Members(
            [(row[0], row[1], row[2]) for row in rows], rows[0][3] if rows else 0
        ),
    )


def paused(queue: str) -> Query[float | None]:
    """Since when the fleet is told not to take the jobs of a queue; None if it may."""
    return Query(
        SQL["paused"], {"queue": queue}, lambda rows: float(rows[0][0]) if rows else None
    )


def gates(id: int) -> Query[list[Gate]]:
    """The limits that a job must go through, the one that it waits for first."""

    def read(rows: Sequence[Row]) -> list[Gate]:
        return [Gate(*row[0].partition(KEY)[::2], *row[1:]) for row in rows]

    return Query(SQL["gates"], {"id": id}, read)


def turn(id: int) -> Query[str | None]:
    """The job that has the turn for which this one waits; None if it waits for none."""
    return Query(SQL["turn"], {"id": id}, lambda rows: rows[0][0] if rows else None)
