"""What people say about queues: paused, scaled, served; and how queues are doing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from pgtasks.storage.query import Query, Row, load

__all__ = [
    "Standing", "Word", "Words", "claiming", "list_", "pause", "scale", "serve", "waiting",
    "words",
]  # fmt: skip

SQL = load("queues.sql")


class Word(NamedTuple):
    """What was said about a queue, to a node or (with an empty name) to the fleet."""

    queue: str
    node: str
    paused: bool | None
    served: bool | None
    worker_limit: int | None
    limited: bool


class Words(NamedTuple):
    """What concerns one worker.

    Attributes:
        about: By queue, the most particular word first.
        limits: Whether there are limits for the fleet, of any kind.
    """

    about: dict[str, list[Word]]
    limits: bool

    @property
    def served(self) -> dict[str, bool]:
        """Queues to serve, or not, whatever the worker was started with."""
        found = {}
        for queue, said in self.about.items():
            for word in said:
                if word.served is not None:
                    found[queue] = word.served
                    break
        return found

    @property
    def worker_limits(self) -> dict[str, int]:
        """How many jobs of a queue may run in this worker at a time."""
        found = {}
        for queue, said in self.about.items():
            for word in said:
                if word.worker_limit is not None:
                    found[queue] = word.worker_limit
                    break
        return found


class Standing(NamedTuple):
    """How a queue is doing.

    Attributes:
        queue: Its name; ``*`` carries what was said about all of them.
        states: How many unfinished jobs it has, by state.
        age: Seconds since the oldest that may run became due.
        running: How many of its jobs run, by worker.
        workers: The workers that serve it.
        said: What was said about it, the word to the fleet first.
        concurrency: How many may run at a time in the whole fleet.
        rate: How many may start within ``period`` seconds in the whole fleet.
        period: In seconds.
    """

    queue: str
    states: dict[str, int]
    age: float | None
    running: dict[str, int]
    workers: list[str]
    said: list[dict[str, Any]]
    concurrency: int | None
    rate: int | None
    period: float | None


def pause(queue: str, *, paused: bool, node: str, by: str) -> Query[None]:
    """Say that no job of ``queue`` is to be claimed, or that they are again.

    Args:
        queue: Its name; ``*`` is all of them.
        paused: Which of the two.
        node: Name of the worker; empty is the fleet.
        by: Who says so.
    """
    params = {"queue": queue, "paused": paused, "node": node, "by": by}
    return Query(SQL["pause"], params, _nothing)


def serve(queue: str, *, served: bool, node: str, worker_limit: int | None) -> Query[None]:
    """Have workers serve a queue, or not, whatever they were started with."""
    params = {
        "queue": queue, "served": served, "node": node, "worker_limit": worker_limit,
    }  # fmt: skip
    return Query(SQL["serve"], params, _nothing)


def scale(queue: str, *, worker_limit: int | None, node: str) -> Query[None]:
    """Say how many of its jobs may run in one worker; None is what it was started with."""
    params = {"queue": queue, "worker_limit": worker_limit, "node": node}
    return Query(SQL["scale"], params, _nothing)


def claiming() -> Query[set[str]]:
    """Transactions that may claim by what was said before."""
    return Query(SQL["claiming"], {}, lambda rows: {row[0] for row in rows})


def words(node: str) -> Query[Words]:
    """What concerns the worker of this name."""

    def read(rows: Sequence[Row]) -> Words:
        about: dict[str, list[Word]] = {}
        for row in sorted(rows, key=lambda row: row[1] or "", reverse=True):
            if row[0] is not None:
                about.setdefault(row[0], []).append(Word(*row[:6]))
        return Words(about, rows[-1][6])

    return Query(SQL["words"], {"node": node}, read)


def waiting(queues: Sequence[str], most: int) -> Query[int]:
    """How many jobs of these queues could be claimed; ``most``, if there are more."""
    params = {"queues": list(queues), "most": most}
    return Query(SQL["waiting"], params, lambda rows: int(rows[0][0]))


def list_() -> Query[list[Standing]]:
    """How all queues are doing that have jobs, workers, or something said about them."""

    def read(rows: Sequence[Row]) -> list[Standing]:
        return [
            Standing(
                row[0],
                json.loads(row[1] or "{}"),
                row[2],
                json.loads(row[3] or "{}"),
                row[4],
                json.loads(row[5] or "[]"),
                *row[6:],
            )
            for row in rows
        ]

    return Query(SQL["list"], {}, read)


def _nothing(rows: Sequence[Row]) -> None:
    return None
