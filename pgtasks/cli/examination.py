"""The questions of ``pgtasks doctor``: each answer is a finding, with what to do about it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from pgtasks.cli import work
from pgtasks.cli.findings import PATIENCE, Finding, split

if TYPE_CHECKING:
    from pgtasks.app.base import Celery
    from pgtasks.cli.invocation import Invocation
    from pgtasks.storage.database import Database

__all__ = ["Finding", "examine"]

OLDEST = 14
"""The oldest major version of PostgreSQL that we work with."""

SLOW_ECHO = 0.05
CLOCK = 1.0


def examine(app: Celery, invocation: Invocation) -> Iterator[Finding]:
    """Ask everything that can be asked; without a connection that is not much."""
    from pgtasks.exceptions import PgtasksError

    yield from _driver()
    try:
        database = app.database
        yield from _connection(app, database)
    except PgtasksError as error:
        yield Finding("connection", "fail", *split(str(error)))
        return
    tables = list(_schema(database))
    yield from tables
    questions: dict[str, Callable[[], Iterator[Finding]]] = {
        "pooler": lambda: _pooler(database),
        "notifications": lambda: _notifications(database),
    }
    if not any(finding.verdict == "fail" for finding in tables):
        name = invocation.named if isinstance(invocation.named, str) else "proj"
        questions |= {
            "workers": lambda: work.workers(database),
            "queues": lambda: work.queues(database, name),
            "transactions": lambda: work.horizon(database),
            "dead rows": lambda: work.dead_rows(database),
        }
    for about, question in questions.items():
        try:
            yield from question()
        except PgtasksError as error:
            yield Finding(about, "warn", *split(str(error)))


def _driver() -> Iterator[Finding]:
    from pgtasks.storage import health

    version, made_of = health.driver()
    data = {"version": version, "implementation": made_of}
    if made_of == "python":
        yield Finding(
            "psycopg",
            "warn",
            f"psycopg {version} in pure Python, which is several times slower",
            "pip install 'pgtasks[binary]'",
            data,
        )
    else:
        yield Finding("psycopg", "ok", f"psycopg {version} ({made_of})", data=data)


def _connection(app: Celery, database: Database) -> Iterator[Finding]:
    from pgtasks.storage import health

    database.run(health.ping(), timeout=PATIENCE)
    begun = time.monotonic()
    database.run(health.ping())
    trip = time.monotonic() - begun
    where = f"{database.endpoint.address}, {trip * 1000:.1f} ms there and back"
    data = {"address": database.endpoint.address, "milliseconds": round(trip * 1000, 3)}
    if app._connections.embedded:
        yield Finding(
            "connection",
            "warn",
            f"the embedded server: for development only, never for production ({where})",
            "Name a database: set PGTASKS_DATABASE_URL, or broker_url, to postgresql://…",
            {**data, "embedded": True},
        )
    else:
        yield Finding("connection", "ok", where, data={**data, "embedded": False})
    yield from _server(database)


def _server(database: Database) -> Iterator[Finding]:
    from pgtasks.storage import health

    before = time.time()
    server = database.run(health.server(), timeout=PATIENCE)
    after = time.time()
    data = {"version": server.version, "user": server.user, "database": server.database}
    if server.number < OLDEST * 10000:
        yield Finding(
            "PostgreSQL",
            "fail",
            f"version {server.version}, and pgtasks needs {OLDEST} or newer",
            "Upgrade the server.",
            data,
        )
    else:
        text = (
            f"version {server.version}, as {server.user!r} in database {server.database!r}"
        )
        yield Finding("PostgreSQL", "ok", text, data=data)
    yield _durability(server)
    yield _room(server)
    yield _clock(server.clock, before, after)


def _durability(server: Any) -> Finding:
    data = {
        "fsync": server.fsync,
        "full_page_writes": server.full_page_writes,
        "synchronous_commit": server.synchronous_commit,
    }
    if not (server.fsync and server.full_page_writes):
        return Finding(
            "durability",
            "fail",
            "fsync or full_page_writes is off: a power cut can destroy the database",
            "Set both to on in postgresql.conf, unless losing everything is fine (tests).",
            data,
        )
    if server.synchronous_commit == "off":
        return Finding(
            "durability",
            "warn",
            "synchronous_commit is off: a crash of the server loses the jobs of its last "
            "moments, although delay() had returned",
            "alter role … set synchronous_commit = on, unless that is a price you chose.",
            data,
        )
    text = f"fsync on, synchronous_commit {server.synchronous_commit}"
    return Finding("durability", "ok", text, data=data)


def _room(server: Any) -> Finding:
    text = f"{server.connections} of {server.room} in use"
    data = {"used": server.connections, "most": server.room}
    if server.connections > 0.8 * server.room:
        return Finding(
            "connections",
            "warn",
            text,
            "Raise the server's max_connections, lower broker_pool_limit, or put PgBouncer "
            "between.",
            data,
        )
    return Finding("connections", "ok", text, data=data)


def _clock(theirs: float, before: float, after: float) -> Finding:
    # Somewhere between our two looks at the clock it was asked for theirs.
    difference = theirs - (before + after) / 2
    doubt = (after - before) / 2
    data = {"seconds": round(difference, 4)}
    if abs(difference) - doubt > CLOCK:
        return Finding(
            "clock",
            "warn",
            f"{abs(difference):.1f} s {'ahead of' if difference > 0 else 'behind'} this "
            f"machine's: an eta computed here comes that much "
            f"{'early' if difference > 0 else 'late'}",
            "Have both machines ask a time server (chrony, systemd-timesyncd), or use "
            "countdown, which the database counts.",
            data,
        )
    return Finding(
        "clock", "ok", f"{difference * 1000:+.0f} ms against this one", data=data
    )


def _schema(database: Database) -> Iterator[Finding]:
    from pgtasks.storage import schema
    from pgtasks.storage.errors import SchemaMissing, SchemaOutdated, SchemaTooNew

    version = schema.version(database.direct.url, schema=database.schema)
    data = {"version": version, "schema": database.schema}
    try:
        schema.check(database)
    except (SchemaMissing, SchemaOutdated, SchemaTooNew) as error:
        text, _, remedy = str(error).partition("Run: ")
        if remedy:
            yield Finding("tables", "fail", text.strip(), f"Run: {remedy}", data)
        else:
            yield Finding("tables", "fail", *split(str(error)), data)
        return
    problems = schema.verify(database.direct.url, schema=database.schema)
    if problems:
        for problem in problems:
            yield Finding("tables", "warn", *split(problem.message), data)
    else:
        text = f"version {version} in schema {database.schema!r}, as they should be"
        yield Finding("tables", "ok", text, data=data)


def _pooler(database: Database) -> Iterator[Finding]:
    direct = database.direct is not database.endpoint
    pooled = database.behind_pooler
    data = {"pooler": pooled, "direct_url": direct}
    if pooled and not direct:
        yield Finding(
            "pooler",
            "warn",
            "PgBouncer or its like is in between; workers cannot listen through it in "
            "transaction mode",
            "Name the server behind it in the setting database_direct_url.",
            data,
        )
    elif pooled:
        text = "in between for queries, passed by for notifications"
        yield Finding("pooler", "ok", text, data=data)
    else:
        yield Finding("pooler", "ok", "none in between", data=data)


def _notifications(database: Database) -> Iterator[Finding]:
    from pgtasks.storage import health

    took = health.echo(database)
    if took is None:
        yield Finding(
            "notifications",
            "warn",
            "none arrived within 2 s, so workers and callers poll",
            "A pooler in transaction mode swallows them: name the server behind it in the "
            "setting database_direct_url.",
            {"milliseconds": None},
        )
        return
    data = {"milliseconds": round(took * 1000, 3)}
    text = f"{took * 1000:.1f} ms there and back"
    if took > SLOW_ECHO:
        yield Finding(
            "notifications",
            "warn",
            f"{text}, which jobs wait for on top of everything else",
            "Is the server overloaded, or far away?",
            data,
        )
    else:
        yield Finding("notifications", "ok", text, data=data)
