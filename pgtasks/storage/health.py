"""Questions that ``pgtasks doctor`` asks the database."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, NamedTuple

from pgtasks.storage.query import Query, in_schema, load

if TYPE_CHECKING:
    from pgtasks.storage.database import Database

__all__ = [
    "Backlog",
    "DeadRows",
    "Holder",
    "Overdue",
    "Server",
    "Worker",
    "backlog",
    "dead_rows",
    "driver",
    "echo",
    "horizon",
    "overdue",
    "ping",
    "server",
    "workers",
]

SQL = load("health.sql")


class Server(NamedTuple):
    """The server, and how it is set up.

    Attributes:
        version: As it calls itself.
        number: The same as a number, 150004.
        standby: It only repeats what its primary does.
        room: Connections that ordinary roles may have in all.
        connections: Those that there are.
        clock: Its time, in seconds since the epoch.
    """

    version: str
    number: int
    database: str
    user: str
    standby: bool
    fsync: bool
    full_page_writes: bool
    synchronous_commit: str
    room: int
    connections: int
    clock: float


class Worker(NamedTuple):
    """A worker that lives, or that was declared dead lately.

    Attributes:
        machine: Kernel boot and process namespace that ``pid`` belongs to.
        process_started: When that process began, in the kernel's clock ticks.
        silence: Seconds since its last heartbeat.
        lease: Seconds that one heartbeat is good for.
        dead: It was declared dead.
    """

    name: str
    hostname: str
    pid: int
    machine: str
    process_started: float
    queues: list[str]
    pool: str
    concurrency: int
    version: str
    silence: float
    lease: float
    dead: bool


class Backlog(NamedTuple):
    """The jobs of a queue.

    Attributes:
        waiting: Those that could run now.
        later: Those that are not due.
        running: Those that run.
        age: Seconds that the oldest waiting one has been due.
    """

    queue: str
    waiting: int
    later: int
    running: int
    age: float | None


class Overdue(NamedTuple):
    """Jobs whose time has come without anybody noticing."""

    jobs: int
    age: float | None


class Holder(NamedTuple):
    """What keeps the oldest snapshot, and for how many seconds."""

    what: str
    age: float


class DeadRows(NamedTuple):
    """Rows of the jobs' table by the server's estimate, and seconds since the last vacuum."""

    live: int
    dead: int
    vacuumed: float | None


def ping() -> Query[bool]:
    """Ask whether it answers."""
    return Query(SQL["ping"], {}, bool)


def server() -> Query[Server]:
    """What the server is, and how it is set up."""
    return Query(SQL["server"], {}, lambda rows: Server._make(rows[0]))


def workers() -> Query[list[Worker]]:
    """The workers that live, and those that died within a day."""
    return Query(SQL["workers"], {}, lambda rows: [Worker._make(row) for row in rows])


def backlog() -> Query[list[Backlog]]:
    """The unfinished jobs by queue."""
    return Query(SQL["backlog"], {}, lambda rows: [Backlog._make(row) for row in rows])


def overdue() -> Query[Overdue]:
    """The jobs that nobody has noticed to be due."""
    return Query(SQL["overdue"], {}, lambda rows: Overdue._make(rows[0]))


def horizon() -> Query[Holder | None]:
    """What holds the oldest snapshot in this database; None if nothing does."""
    return Query(SQL["horizon"], {}, lambda rows: Holder._make(rows[0]) if rows else None)


def dead_rows() -> Query[DeadRows]:
    """How much of the jobs' table is dead rows."""
    return Query(SQL["dead_rows"], {}, lambda rows: DeadRows._make(rows[0]))


def driver() -> tuple[str, str]:
    """The version of psycopg, and what it is made of: ``binary``, ``c`` or ``python``."""
    import psycopg

    return psycopg.__version__, psycopg.pq.__impl__


def echo(database: Database, timeout: float = 2.0) -> float | None:
    """Seconds that a notification takes to come back; None if it does not.

    It is sent the way producers send and awaited the way workers listen, so that it
    tells of a pooler in either.
    """
    from psycopg import sql

    channel = in_schema("pgtasks.echo", database.schema)
    word = secrets.token_hex(8)
    notify = Query(
        "select pg_notify(%(channel)s::text, %(word)s::text)",
        {"channel": channel, "word": word},
        len,
    )
    with database.connection() as session:
        session.execute(sql.SQL("listen {}").format(sql.Identifier(channel)))
        sent = time.monotonic()
        database.run(notify)
        for notification in session.notifies(timeout=timeout):
            if notification.payload == word:
                return time.monotonic() - sent
    return None
