"""Entries of schedules as rows: who sends which, what its last tick was, what was said of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pgtasks.storage.leaders import Seat
from pgtasks.storage.query import Query, Row, load

__all__ = [
    "Entry", "Granted", "Seen", "add", "adopt", "claim", "delete", "entries", "forget", "grant",
    "in_table", "lapsed", "look", "pause", "rename", "resume", "update",
]  # fmt: skip

SQL = load("crons.sql")


class Seen(NamedTuple):
    """What a leader's look has found.

    Attributes:
        now: The database's time, in seconds since the epoch.
        leads: Whether our term goes on.
        state: Another text where entries have changed.
        other: Seconds since a program with a scheduler of its own gave its last sign;
            negative while it runs, infinite where there never was one.
    """

    now: float
    leads: bool
    state: str
    other: float


class Entry(NamedTuple):
    """An entry's row.

    Attributes:
        id: Of the row.
        name: Its name.
        source: ``code`` for one of a program, ``table`` for one made by hand.
        task: Name of the task.
        schedule: When, as text.
        timezone: Zone of its hours; None for the application's.
        args: JSON, as the two that follow; of entries in the table only.
        kwargs: Keyword arguments.
        options: Of ``apply_async``.
        catch_up: What becomes of ticks that were missed.
        overlap: What becomes of a tick while the job before is not over.
        jitter: Seconds by which jobs are put off at random.
        deadline: Seconds that a tick may be late.
        identity: What an entry of a program does and when.
        office: Whose leader sends it.
        last_tick: The last moment that was dealt with, as the database writes it.
        last_at: The same in seconds since the epoch.
        last_task_id: Task id of the job that was sent last.
        runs: How many ticks were sent.
        error: Why the last one could not be.
        paused_at: Since when it is paused, in seconds since the epoch.
        paused_by: By whom.
        revision: Counts its changes by hand and by deploys.
        led: Whether there is a leader who sends it.
    """

    id: int
    name: str
    source: str
    task: str
    schedule: str
    timezone: str | None
    args: str
    kwargs: str
    options: str
    catch_up: str
    overlap: str
    jitter: float
    deadline: float | None
    identity: str | None
    office: str | None
    last_tick: str
    last_at: float
    last_task_id: str | None
    runs: int
    error: str | None
    paused_at: float | None
    paused_by: str | None
    revision: int
    led: bool

    @staticmethod
    def state(entries: Sequence[Entry]) -> str:
        """What `Seen.state` is while nothing else changes."""
        return f"{len(entries)} {sum(each.revision for each in entries)}"


class Granted(NamedTuple):
    """Which ticks are ours to send.

    Attributes:
        busy: By the id of its row, for each entry that is ours, whether nothing is sent of
            it, as the job before is not over.
        last: Likewise its last tick now, as the database writes it.
        task_ids: The jobs that are to be inserted; of a tick that was noted before, none is.
    """

    busy: dict[int, bool]
    last: dict[int, str]
    task_ids: set[str]


# ── of leaders ──────────────────────────────────────────────────────────────────────────


def lapsed(office: str, seconds: float) -> Query[bool]:
    """Whether nobody has led an office for so many seconds."""
    params = {"office": office, "seconds": seconds}
    return Query(SQL["lapsed"], params, _said)


def look(seat: Seat, *, app: str, other: str) -> Query[Seen]:
    """Renew a term, and see whether there is news.

    Args:
        seat: Who we are.
        app: Name of the application.
        other: Office of programs with schedulers of their own.
    """
    params = {**seat._asdict(), "app": app, "other": other}
    return Query(SQL["look"], params, lambda rows: Seen._make(rows[0]))


def in_table(app: str) -> Query[bool]:
    """Whether there are entries that were made by hand."""
    return Query(SQL["in_table"], {"app": app}, _said)


def rename(
    seat: Seat, pairs: Sequence[Mapping[str, Any]], *, app: str, fresh: bool
) -> Query[list[str]]:
    """Give entries of a program their new names.

    Args:
        seat: Who we are.
        pairs: The ``id`` of each row, and its ``name`` from now on.
        app: Name of the application.
        fresh: A new release begins, which goes before others.
    """
    params = {
        **seat._asdict(), "app": app, "pairs": json.dumps(list(pairs)), "fresh": fresh
    }  # fmt: skip
    return Query(SQL["rename"], params, _firsts)


def claim(
    seat: Seat, *, app: str, entries: Sequence[Mapping[str, Any]], fresh: bool
) -> Query[list[str]]:
    """Become the one who sends the entries of a program.

    Args:
        seat: Who we are.
        app: Name of the application.
        entries: As the columns of the table, and ``by_hours``: the schedule tells hours of
            the day, so that a change does not look back.
        fresh: A new release begins, which goes before others.

    Returns:
        Names of those that have changed hands.
    """
    params = {
        **seat._asdict(), "app": app, "entries": json.dumps(list(entries)), "fresh": fresh
    }  # fmt: skip
    return Query(SQL["claim"], params, _firsts)


def entries(app: str) -> Query[list[Entry]]:
    """All entries of an application."""
    return Query(
        SQL["entries"], {"app": app}, lambda rows: [Entry._make(row) for row in rows]
    )


def grant(seat: Seat, entries: Sequence[Mapping[str, Any]]) -> Query[Granted]:
    """Note ticks as sent; for the transaction that inserts their jobs.

    Args:
        seat: Who we are.
        entries: Of each entry ``id``, ``follows`` (its last tick as we know it), ``last``
            (its last tick from now on), ``runs``, ``task_id`` and ``error``; and its
            ``ticks``, each with the ``task_id`` of its job.

    Returns:
        What is ours; of the others somebody else was faster, or they have changed.
    """
    params = {**seat._asdict(), "entries": json.dumps(list(entries))}

    def read(rows: Sequence[Row]) -> Granted:
        ours = [row for row in rows if row[0] is not None]
        return Granted(
            {id: busy for id, busy, _, _ in ours},
            {id: last for id, _, last, _ in ours},
            {row[3] for row in rows if row[0] is None},
        )

    return Query(SQL["grant"], params, read)


def forget(seat: Seat, *, app: str, pattern: str) -> Query[int]:
    """Delete what no program has had for a week, and offices that are like ``pattern``."""
    params = {**seat._asdict(), "app": app, "pattern": pattern}
    return Query(SQL["forget"], params, lambda rows: int(rows[0][0]))


# ── of people ───────────────────────────────────────────────────────────────────────────


def add(app: str, name: str, **fields: Any) -> Query[bool]:
    """Make an entry; False if there is one of that name."""
    return Query(SQL["add"], {"app": app, "name": name, **fields}, bool)


def update(app: str, name: str, **fields: Any) -> Query[bool]:
    """Change an entry that was made by hand; False if there is none."""
    return Query(SQL["update"], {"app": app, "name": name, **fields}, bool)


def delete(app: str, name: str) -> Query[bool]:
    """Delete an entry that was made by hand; False if there is none."""
    return Query(SQL["delete"], {"app": app, "name": name}, bool)


def pause(app: str, name: str, *, by: str, known: bool) -> Query[bool]:
    """Have an entry send nothing; False if there is none.

    Args:
        app: Name of the application.
        name: Of the entry.
        by: Who says so.
        known: The program has it, whether there is a row or not.
    """
    return Query(SQL["pause"], {"app": app, "name": name, "by": by, "known": known}, bool)


def resume(app: str, name: str) -> Query[bool]:
    """Have it send again, from now on; False if there is none."""
    return Query(SQL["resume"], {"app": app, "name": name}, bool)


def adopt(app: str, runs: Sequence[Mapping[str, Any]]) -> Query[list[str]]:
    """Take over when entries were last sent by another scheduler.

    Args:
        app: Name of the application.
        runs: Of each entry ``name``, ``last`` and ``runs``.

    Returns:
        Those of which that was news.
    """
    return Query(SQL["adopt"], {"app": app, "runs": json.dumps(list(runs))}, _firsts)


def _said(rows: Sequence[Row]) -> bool:
    return bool(rows[0][0])


def _firsts(rows: Sequence[Row]) -> list[str]:
    return [row[0] for row in rows]
