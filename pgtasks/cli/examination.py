"""The questions of ``pgtasks doctor``: each answer is a finding, with what to do about it."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from pgtasks.utils.text import pluralize

if TYPE_CHECKING:
    from pgtasks.app.base import Celery
    from pgtasks.cli.invocation import Invocation
    from pgtasks.storage import health
    from pgtasks.storage.database import Database

__all__ = ["Finding", "examine"]

OLDEST = 14
"""The oldest major version of PostgreSQL that we work with."""

SLOW_ECHO = 0.05
CLOCK = 1.0
OLD_JOB = 300.0
OLD_TRANSACTION = 300.0
PATIENCE = 15.0
"""Seconds that one question may take on a large table."""


class Finding(NamedTuple):
    """The answer to one question.

    Attributes:
        about: What was looked at.
        verdict: ``ok``, ``warn`` or ``fail``.
        message: What was found.
        remedy: What to do about it.
        data: The same for programs.
    """

    about: str
    verdict: str
    message: str
    remedy: str = ""
    data: dict[str, Any] | None = None


def examine(app: Celery, invocation: Invocation) -> Iterator[Finding]:
    """Ask everything that can be asked; without a connection that is not much."""
    from pgtasks.dev import EmbeddedPostgresError
    from pgtasks.exceptions import PgtasksError

    yield from _driver()
    try:
        database = app.database
        yield from _connection(app, database)
    except (PgtasksError, EmbeddedPostgresError) as error:
        yield Finding("connection", "fail", *_split(str(error)))
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
            "workers": lambda: _workers(database),
            "queues": lambda: _queues(database, name),
            "transactions": lambda: _horizon(database),
            "dead rows": lambda: _dead_rows(database),
        }
    for about, question in questions.items():
        try:
            yield from question()
        except PgtasksError as error:
            yield Finding(about, "warn", *_split(str(error)))


def _split(text: str) -> tuple[str, str]:
    """What happened, and what to do: the last sentence of our messages."""
    happened, found, remedy = text.rpartition(". ")
    return (f"{happened}.", remedy) if found else (text, "")


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
            yield Finding("tables", "fail", *_split(str(error)), data)
        return
    problems = schema.verify(database.direct.url, schema=database.schema)
    if problems:
        for problem in problems:
            yield Finding("tables", "warn", *_split(problem.message), data)
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


def _workers(database: Database) -> Iterator[Finding]:
    from pgtasks.storage import health

    workers = database.run(health.workers(), timeout=PATIENCE)
    if not any(not worker.dead and not _is_gone(worker) for worker in workers):
        yield Finding(
            "workers", "warn", "none is running", "Start one: pgtasks -A proj worker"
        )
    for worker in workers:
        where = f"{worker.name} (pid {worker.pid} on {worker.hostname})"
        heard = f"heard of {_ago(worker.silence)}"
        data = {**worker._asdict(), "queues": list(worker.queues)}
        if worker.dead:
            yield Finding(
                "worker",
                "warn",
                f"{where} died: {heard}; its jobs were taken over",
                "Its log tells why; if it was killed, look for the kernel's out-of-memory "
                "killer.",
                data,
            )
        elif _is_gone(worker):
            yield Finding(
                "worker",
                "warn",
                f"{where} is gone, and did not sign off; {heard}",
                "Another running worker takes its jobs over. Start one if there is none.",
                data,
            )
        elif worker.silence > worker.lease:
            yield Finding(
                "worker",
                "warn",
                f"{where} is silent: {heard}, and its lease is {worker.lease:g} s",
                "Another running worker will take its jobs over. Start one if there is none.",
                data,
            )
        else:
            text = f"{where}, {worker.pool} {worker.concurrency}, {heard}"
            yield Finding("worker", "ok", text, data=data)


def _is_gone(worker: health.Worker) -> bool:
    """Whether it ran on this machine and its process has ended."""
    from pgtasks.worker import identity

    return worker.machine == identity.machine() and not identity.is_alive(
        worker.pid, worker.process_started
    )


def _queues(database: Database, name: str) -> Iterator[Finding]:
    from pgtasks.storage import health

    rows = database.run(health.backlog(), timeout=PATIENCE)
    served = {
        queue
        for worker in database.run(health.workers(), timeout=PATIENCE)
        if not worker.dead and worker.silence <= worker.lease and not _is_gone(worker)
        for queue in worker.queues
    }
    if not rows:
        yield Finding("queues", "ok", "no job is waiting or running")
    for row in rows:
        text = f"{row.queue}: {row.waiting:,} waiting, {row.later:,} later, {row.running:,} running"
        if row.age is not None:
            text += f", the oldest due {_ago(row.age)}"
        data = {**row._asdict(), "served": row.queue in served}
        if row.queue not in served:
            yield Finding(
                "queue",
                "warn",
                f"{text}; no worker serves it",
                f"Start one: pgtasks -A {shlex.quote(name)} worker -Q {shlex.quote(row.queue)}",
                data,
            )
        elif row.age is not None and row.age > OLD_JOB:
            yield Finding(
                "queue",
                "warn",
                text,
                "Its workers do not keep up: start more of them, or raise --concurrency.",
                data,
            )
        else:
            yield Finding("queue", "ok", text, data=data)
    overdue = database.run(health.overdue(), timeout=PATIENCE)
    if overdue.jobs:
        yield Finding(
            "due jobs",
            "warn",
            f"{overdue.jobs:,} {pluralize(overdue.jobs, 'job')} with a countdown, an eta or a "
            f"retry should have started, the oldest {_ago(overdue.age or 0.0)}",
            "Any running worker makes them available: start one.",
            overdue._asdict(),
        )


def _horizon(database: Database) -> Iterator[Finding]:
    from pgtasks.storage import health

    holder = database.run(health.horizon(), timeout=PATIENCE)
    if holder is None:
        yield Finding("transactions", "ok", "none is open")
    elif holder.age > OLD_TRANSACTION:
        yield Finding(
            "transactions",
            "warn",
            f"the oldest is open since {_ago(holder.age)}: {holder.what}",
            "It keeps dead rows from being removed, and claims get slower. End it: see "
            "pg_stat_activity; idle_in_transaction_session_timeout prevents it.",
            holder._asdict(),
        )
    else:
        text = f"the oldest is {_ago(holder.age)} old".replace(" ago", "")
        yield Finding("transactions", "ok", text, data=holder._asdict())


def _dead_rows(database: Database) -> Iterator[Finding]:
    from pgtasks.storage import health

    rows = database.run(health.dead_rows(), timeout=PATIENCE)
    vacuumed = "never" if rows.vacuumed is None else _ago(rows.vacuumed)
    text = f"{rows.dead:,} of the jobs' table, last vacuumed {vacuumed}"
    if rows.dead > 50_000 and rows.dead > 5 * rows.live:
        yield Finding(
            "dead rows",
            "warn",
            text,
            "Is autovacuum on, and no old transaction open? vacuum pgtasks.jobs; helps now.",
            rows._asdict(),
        )
    else:
        yield Finding("dead rows", "ok", text, data=rows._asdict())


def _ago(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{max(seconds, 0):.1f} s ago"
