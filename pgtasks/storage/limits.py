"""Limits that hold for the whole fleet: claims through gates, and places given back.

A *limit* is a rule: so many jobs at a time, so many within a period. A *gate* is what the
rule is kept at: one for each value of the limit's key. A *place* is what a running job holds
behind a gate. Jobs that find a gate full wait in its *line*, apart from what claims walk
through; so a full gate costs the others nothing, however many wait for it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from operator import itemgetter
from typing import NamedTuple

from pgtasks.job import KEY, Job
from pgtasks.storage.jobs import Claimed, Mark, asked
from pgtasks.storage.query import Query, Row, load

__all__ = [
    "Known", "Limit", "Passed", "declare", "fetch", "forget", "gate_name", "lines", "list_",
    "occupy", "release", "set_", "tidy",
]  # fmt: skip

SQL = load("limits.sql")

AHEAD = 50
"""Jobs with limits that a claim looks at beyond its demand: so many full gates do not keep
it from those behind them."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A rule.

    Attributes:
        name: ``concurrency:<task>``, ``rate:<task>`` or ``queue:<queue>``.
        concurrency: Jobs at a time.
        rate: Jobs that may start within any ``period``.
        period: In seconds.
    """

    name: str
    concurrency: int | None = None
    rate: int | None = None
    period: float | None = None


class Known(NamedTuple):
    """A limit in the table: its rule, who said it, and what it is doing."""

    name: str
    concurrency: int | None
    rate: int | None
    period: float | None
    by_hand: bool
    running: int
    keys: int


class Passed(NamedTuple):
    """What a claim through gates brought.

    Attributes:
        claimed: The jobs.
        placed: Ids of those that hold places.
        again: Gates to look at again at once, and how many may be tried from their lines.
        later: Gates that let so many through after so many seconds.
        busy: Others held gates that were needed, or there is more to look at: it pays to ask
            again in a moment.
    """

    claimed: Claimed
    placed: set[int]
    again: dict[str, int]
    later: list[tuple[str, int, float]]
    busy: bool


def gate_name(limit: str, key: str | None) -> str:
    """The gate of a limit for one value of its key; None if it has no key."""
    return limit if key is None else f"{limit}{KEY}{key}"


def fetch(
    marks: Mapping[str, Mark],
    *,
    demand: int,
    worker: str,
    token: str,
    rerunnable: Sequence[str] = (),
    max_size: int = 2**30,
    node: str = "",
    rooms: Mapping[str, int] | None = None,
    freed: Mapping[str, int] | None = None,
) -> Query[Passed]:
    """Claim jobs of any kind, through the gates of those that have limits.

    Args:
        marks: As of `jobs.fetch`, which this does the work of.
        demand: How many at most; 0 only looks at ``freed``.
        worker: Id of the claiming worker.
        token: Random, new for each call (R3).
        rerunnable: Names of the tasks that may run again after a crash.
        max_size: Arguments of more bytes than this are left in the table.
        node: Name of the worker, to which a queue may be paused.
        rooms: How many at most of these queues.
        freed: Gates that have room again, and for how many: those come from their lines.
    """
    given = freed or {}
    params = {
        **asked(marks, demand, rooms),
        "demand": demand,
        "ahead": AHEAD if demand else 0,
        "worker": worker,
        "token": token,
        "rerunnable": list(rerunnable),
        "max_size": max_size,
        "node": node,
        "freed": list(given),
        "freed_jobs": list(given.values()),
    }
    return Query(SQL["fetch"], params, _passed)


_KIND, _GATE, _JOBS, _WAIT, _PLAIN, _PLACED, _ID = range(7)


def _passed(rows: Sequence[Row]) -> Passed:
    # Priority, due time and id of the jobs, as `jobs.fetch` sorts them.
    taken = sorted(
        [row for row in rows if row[_ID] is not None],
        key=itemgetter(_ID + 4, _ID + 16, _ID),
    )
    due = _ID + len(Job._fields)
    # Those with limits stand in an order of their own.
    marks = {
        row[_ID + 3]: Mark(row[_ID + 4], row[due], row[_ID]) for row in taken if row[_PLAIN]
    }
    again: dict[str, int] = {}
    for row in rows:
        if row[_KIND] == "again":
            again[row[_GATE]] = again.get(row[_GATE], 0) + row[_JOBS]
    return Passed(
        Claimed([Job._make(row[_ID:due]) for row in taken], marks),
        {row[_ID] for row in taken if row[_PLACED]},
        again,
        [(row[_GATE], row[_JOBS], row[_WAIT]) for row in rows if row[_KIND] == "later"],
        any(row[_KIND] == "busy" for row in rows),
    )


def release(ids: Sequence[int] | None) -> Query[dict[str, int]]:
    """Give back the places of jobs that have ended or given up their turn.

    Args:
        ids: Rows of the jobs; None looks at all places, which finds those that were held
            by workers that died, or by rows that somebody deleted.

    Returns:
        How many places came free, by gate.
    """
    params = {"ids": None if ids is None else list(ids)}
    return Query(SQL["release"], params, _by_gate)


def lines(after: str = "", *, limit: int = 1000) -> Query[tuple[str, dict[str, int]]]:
    """Gates that have room although jobs wait in their lines.

    Args:
        after: Name of the gate to begin behind.
        limit: How many lines to look at.

    Returns:
        Where to begin the next time, and the room by gate.
    """

    def read(rows: Sequence[Row]) -> tuple[str, dict[str, int]]:
        last = rows[-1][0] if len(rows) == limit else ""
        return last, {gate: min(room, limit) for gate, room in rows if room > 0}

    return Query(SQL["lines"], {"after": after, "limit": limit}, read)


def tidy() -> Query[int]:
    """Drop gates that nobody needs; the answer is how many."""
    return Query(SQL["tidy"], {}, len)


def declare(limits: Sequence[Limit]) -> Query[list[str]]:
    """Write down the rules of the code; the answer names those that changed."""
    params = {"limits": json.dumps([asdict(limit) for limit in limits])}
    return Query(SQL["declare"], params, lambda rows: [row[0] for row in rows])


def set_(limit: Limit, *, queue: str | None = None) -> Query[None]:
    """Write down a rule that goes before what the code says."""
    return Query(SQL["set"], {**asdict(limit), "queue": queue}, lambda rows: None)


def occupy(queue: str) -> Query[None]:
    """Count what runs of a queue that has just been given a limit."""
    return Query(SQL["occupy"], {"queue": queue}, lambda rows: None)


def forget(name: str, *, queue: str | None = None) -> Query[bool]:
    """Drop a rule; the answer is whether there was one."""
    params = {"name": name, "queue": queue}
    return Query(SQL["forget"], params, lambda rows: bool(rows[0][1]))


def list_() -> Query[list[Known]]:
    """All rules."""
    return Query(SQL["list"], {}, lambda rows: [Known._make(row) for row in rows])


def _by_gate(rows: Sequence[Row]) -> dict[str, int]:
    return {gate: jobs for gate, jobs in rows}
