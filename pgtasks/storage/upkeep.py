"""What keeps the tables in shape, and what is counted of them for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from pgtasks.storage.database import Database
from pgtasks.storage.leaders import Seat
from pgtasks.storage.query import Query, Row, load

__all__ = [
    "Index",
    "Kept",
    "QueueState",
    "bloated",
    "counts",
    "drop",
    "invalid",
    "keep",
    "kept",
    "reindex",
    "workers",
]

SQL = load("upkeep.sql")


class Index(NamedTuple):
    """An index that takes more room than it needs, or is of no use.

    Attributes:
        owner: The role that it belongs to.
        ours: Whether we may do what its owner may.
        size: Bytes that it takes.
        needed: Bytes that it would take if it were made anew, more or less.
    """

    name: str
    owner: str
    ours: bool
    size: int
    needed: int


class QueueState(NamedTuple):
    """How many jobs of one queue are in one state.

    Attributes:
        age: Seconds that the oldest has been due; None for those that are over, which are
            those of the last moments only.
    """

    queue: str
    state: str
    jobs: int
    age: float | None


class Kept(NamedTuple):
    """What was counted last.

    Attributes:
        document: What that was.
        taken_at: When, in seconds since the epoch.
        age: Seconds since then.
    """

    document: dict[str, Any]
    taken_at: float
    age: float


def bloated(schema: str, *, ratio: float, least: int) -> Query[list[Index]]:
    """The indexes that take ``ratio`` times what they need, and ``least`` bytes."""
    params = {"schema": schema, "ratio": ratio, "least": least}
    return Query(SQL["bloated"], params, _indexes)


def invalid(schema: str) -> Query[list[Index]]:
    """The indexes that attempts to make others anew have left behind."""
    return Query(SQL["invalid"], {"schema": schema}, _indexes)


def _indexes(rows: Sequence[Row]) -> list[Index]:
    return [Index._make(row) for row in rows]


def reindex(database: Database, index: str, *, patience: float) -> None:
    """Make an index anew while others read and write.

    Args:
        database: Where it is; a connection of its own is made, without a limit of time.
        index: Its name, without the schema.
        patience: Seconds to wait for each transaction that stands in the way. What has
            been made until then stays behind, invalid.

    Raises:
        StorageError: It could not be done.
    """
    _alone(database, sql.SQL("reindex index concurrently {}"), index, patience)


def drop(database: Database, index: str, *, patience: float) -> None:
    """Drop an index, like `reindex`."""
    _alone(database, sql.SQL("drop index concurrently if exists {}"), index, patience)


def _alone(database: Database, statement: sql.SQL, index: str, patience: float) -> None:
    settings = {"statement_timeout": "0", "lock_timeout": f"{int(patience * 1000)}"}
    with database.connection(settings) as session:
        cursor: psycopg.Cursor[Row] = psycopg.Cursor(session)
        cursor.execute(statement.format(sql.Identifier(database.schema, index)))


def counts(window: float) -> Query[list[QueueState]]:
    """The unfinished jobs, and those that ended in the last ``window`` seconds."""
    return Query(
        SQL["counts"],
        {"window": window},
        lambda rows: [QueueState._make(row) for row in rows],
    )


def workers() -> Query[list[dict[str, Any]]]:
    """The workers that live: name, queues, concurrency, started_at."""
    names = ("name", "queues", "concurrency", "started_at")
    return Query(
        SQL["workers"],
        {},
        lambda rows: [dict(zip(names, row, strict=True)) for row in rows],
    )


def keep(seat: Seat, name: str, document: Mapping[str, Any]) -> Query[bool]:
    """Keep what was counted, in place of what was before; False if we do not lead."""
    params = {**seat._asdict(), "name": name, "document": json.dumps(document)}
    return Query(SQL["keep"], params, bool)


def kept(name: str) -> Query[Kept | None]:
    """What was counted last; None if nothing was."""

    def read(rows: Sequence[Row]) -> Kept | None:
        if not rows:
            return None
        text, taken_at, age = rows[0]
        return Kept(json.loads(text), taken_at, age)

    return Query(SQL["kept"], {"name": name}, read)
