"""The tables, brought up to date: plan, apply, verify, take down, check at start."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

import psycopg
from psycopg import sql

from pgtasks.storage import borrowed
from pgtasks.storage.connections import Session
from pgtasks.storage.database import Database, full_jitter
from pgtasks.storage.errors import (
    SchemaMissing,
    SchemaOutdated,
    SchemaTooNew,
    StorageBusy,
    StorageMisconfigured,
    classify,
)
from pgtasks.storage.migrations import (
    SQL,
    Migration,
    Step,
    find,
    record,
    script,
    statements,
    way_back,
)
from pgtasks.storage.query import Query, in_schema

if TYPE_CHECKING:
    from importlib.abc import Traversable

__all__ = [
    "Applied",
    "Migration",
    "Problem",
    "apply",
    "check",
    "down",
    "find",
    "plan",
    "script",
    "verify",
    "version",
]

T = TypeVar("T")

# How long to keep trying for a lock on a table in use, and for another process that
# migrates to finish. Each single try gives up after 2 s: a DDL statement that waits for
# its lock holds up everybody who comes after it.
_PATIENCE = 300.0


class Applied(NamedTuple):
    """A migration as the database remembers it."""

    version: int
    name: str
    checksum: str
    breaking: bool


class Problem(NamedTuple):
    """A difference between the migrations of this program and those of the database.

    Attributes:
        kind: ``missing`` here but not there; ``unknown`` there but not here;
            ``altered`` since it was applied.
        version: Number of the migration.
        message: What it is, and what to do.
    """

    kind: Literal["missing", "unknown", "altered"]
    version: int
    message: str


def version(url: str, *, schema: str = "pgtasks") -> int:
    """The newest version that the database has; 0 if it has none of our tables."""
    with _migrating(url, schema) as database:
        return max((each.version for each in _applied(database) or []), default=0)


def plan(
    url: str,
    *,
    schema: str = "pgtasks",
    to: int | None = None,
    folder: Traversable | None = None,
) -> list[Migration]:
    """What `apply` would do."""
    with _migrating(url, schema) as database:
        return _pending(database, find(folder), to)


def apply(
    url: str,
    *,
    schema: str = "pgtasks",
    to: int | None = None,
    folder: Traversable | None = None,
    patience: float = _PATIENCE,
) -> list[Migration]:
    """Bring the schema up to date and return what that took.

    It may be called by many processes at once and as often as one likes: one of them
    works, the others wait for it and find nothing left to do.

    Args:
        url: The database. Behind PgBouncer everything works but the limit on lock
            waits of migrations without a transaction; prefer the server itself.
        schema: Where the tables are to be.
        to: Apply nothing newer than this version.
        folder: Other migrations than the package's.
        patience: Seconds to wait for other migrating processes, and, for each
            migration, for locks.
    """
    migrations = find(folder)
    with _migrating(url, schema) as database:
        if not _pending(database, migrations, to):
            return []
        with (
            _sole_migrator(database, patience) as still_sole,
            database.connection() as session,
        ):
            _bootstrap(database, session)
            pending = _pending(database, migrations, to)
            for migration in pending:
                still_sole()
                _require_server(session, migration)
                noted = Query(SQL["record"], record(migration), len)
                _take(database, session, migration, migration.up, noted, patience)
            return pending


def down(
    url: str,
    to: int,
    *,
    schema: str = "pgtasks",
    folder: Traversable | None = None,
    patience: float = _PATIENCE,
) -> list[Migration]:
    """Take back, newest first, every migration above version ``to``.

    What stood in the tables that they made is lost. With 0 nothing of ours remains.
    """
    known = {migration.version: migration for migration in find(folder)}
    with (
        _migrating(url, schema) as database,
        _sole_migrator(database, patience) as still_sole,
        database.connection() as session,
    ):
        applied = _applied(database)
        over = [each for each in reversed(applied or []) if each.version > to]
        for each in over:
            if each.version not in known:
                raise SchemaTooNew(
                    f"{each.version:04}_{each.name} was applied by a newer pgtasks and "
                    f"only that one knows the way back: run its 'pgtasks schema down'."
                )
            way_back(known[each.version])
        for each in over:
            still_sole()
            migration = known[each.version]
            forget = Query(SQL["forget"], {"version": each.version}, len)
            _take(database, session, migration, way_back(migration), forget, patience)
        if to == 0 and applied is not None:
            _clear_away(database, session)
        return [known[each.version] for each in over]


def verify(
    url: str, *, schema: str = "pgtasks", folder: Traversable | None = None
) -> list[Problem]:
    """Compare the database with the files; an empty list means that they agree."""
    migrations = find(folder)
    with _migrating(url, schema) as database:
        applied = {each.version: each for each in _applied(database) or []}
        command = _command(database)
    problems = []
    for migration in migrations:
        there = applied.pop(migration.version, None)
        if there is None:
            text = f"{migration} has not been applied. Run: {command}"
            problems.append(Problem("missing", migration.version, text))
        elif there.checksum != migration.checksum:
            text = (
                f"{migration} is not what was applied under this number: its file was "
                f"changed afterwards, or another edition of pgtasks applied it. A change "
                f"belongs into a new migration."
            )
            problems.append(Problem("altered", migration.version, text))
    for there in applied.values():
        text = (
            f"{there.version:04}_{there.name} is in the database but unknown to this "
            f"pgtasks, which is older"
        )
        text += ", and too old to run with it. " if there.breaking else ", but may run. "
        text += "Upgrade it: pip install --upgrade pgtasks"
        problems.append(Problem("unknown", there.version, text))
    return problems


def check(database: Database, *, folder: Traversable | None = None) -> None:
    """Make sure that this program can work with the tables; for a worker's start.

    Raises:
        SchemaMissing: There are none.
        SchemaOutdated: They lack a migration.
        SchemaTooNew: They have one that breaks programs that do not know it.
    """
    applied = _applied(database)
    where = f"Schema {database.schema!r} of {database.endpoint.address}"
    command = _command(database)
    if applied is None:
        raise SchemaMissing(f"{where} has no tables of pgtasks. Run: {command}")
    migrations = find(folder)
    there = {each.version for each in applied}
    if lacking := [str(each) for each in migrations if each.version not in there]:
        raise SchemaOutdated(f"{where} lacks {', '.join(lacking)}. Run: {command}")
    newest = max((each.version for each in migrations), default=0)
    for each in applied:
        if each.version > newest and each.breaking:
            raise SchemaTooNew(
                f"{where} has {each.version:04}_{each.name}, which this older pgtasks "
                f"cannot work with. Upgrade it: pip install --upgrade pgtasks"
            )


def _command(database: Database) -> str:
    command = "pgtasks schema apply --database-url " + shlex.quote(database.direct.address)
    if database.schema != "pgtasks":
        command += f" --schema {database.schema}"
    if database.direct.given.get("password"):
        command += "  (with the password in PGPASSWORD or in the URL)"
    return command


@contextmanager
def _migrating(url: str, schema: str) -> Iterator[Database]:
    database = Database(
        url,
        schema=schema,
        pool_size=1,
        application_name="pgtasks schema",
        statement_timeout=0,
        lock_timeout=2.0,
    )
    try:
        yield database
    finally:
        database.close()


def _applied(database: Database) -> list[Applied] | None:
    """What the database remembers; None if it does not even have the table for it."""
    query = Query(SQL["applied"], {}, lambda rows: [Applied(*row) for row in rows])
    try:
        return database.run(query, retry=True)
    except StorageMisconfigured as error:
        if error.sqlstate in ("42P01", "3F000"):
            return None
        raise


def _pending(
    database: Database, migrations: list[Migration], to: int | None
) -> list[Migration]:
    applied = {each.version for each in _applied(database) or []}
    return [
        each
        for each in migrations
        if each.version not in applied and (to is None or each.version <= to)
    ]


@contextmanager
def _sole_migrator(database: Database, patience: float) -> Iterator[Callable[[], object]]:
    """Be the only process that migrates this schema, while the yielded function says so.

    The lock has a connection of its own: held by the one that works, it would end with
    the transaction of the first migration, and some migrations have none.
    """
    deadline = time.monotonic() + patience
    with database.connection({"idle_in_transaction_session_timeout": "0"}) as session:
        for pause in full_jitter(0.05, 1.0):
            session.execute("begin")
            if _ask(database, session, Query(SQL["lock"], {}, lambda rows: rows[0][0])):
                break
            session.execute("rollback")
            if time.monotonic() + pause > deadline:
                raise StorageBusy(
                    f"Another process has been migrating schema {database.schema!r} for "
                    f"{patience:.0f} s: see pg_locks (locktype 'advisory') for whom."
                )
            time.sleep(pause)
        yield lambda: session.execute("select 1")
        session.execute("rollback")


def _bootstrap(database: Database, session: Session) -> None:
    # Looked for before it is made: `if not exists` asks for the right to create schemas
    # even where there is nothing to create.
    params = {"schema": database.schema}
    exists = Query(SQL["schema_exists"], params, lambda rows: bool(rows[0][0]))
    try:
        if not _ask(database, session, exists):
            create = sql.SQL("create schema if not exists {}")
            session.execute(create.format(sql.Identifier(database.schema)))
        _ask(database, session, Query(SQL["bookkeeping"], {}, len))
    except psycopg.errors.InsufficientPrivilege as error:
        role = session.execute("select current_user").fetchall()[0][0]
        raise StorageMisconfigured(
            f"Role {role!r} may not create tables in schema {database.schema!r} of "
            f"{database.direct.address}. Have its owner run: create schema if not exists "
            f"{database.schema} authorization {role}; or feed the output of "
            f"'pgtasks schema print' to psql as the owner.",
            sqlstate=error.sqlstate,
        ) from error


def _require_server(session: Session, migration: Migration) -> None:
    major = session.info.server_version // 10000
    if major < migration.needs:
        raise StorageMisconfigured(
            f"{migration} needs PostgreSQL {migration.needs} or newer and this server is "
            f"version {major}: upgrade the server, or stay with the older pgtasks."
        )


def _take(
    database: Database,
    session: Session,
    migration: Migration,
    step: Step,
    bookkeeping: Query[int],
    patience: float,
) -> None:
    """Run one step and note it down, again and again while locks are in the way."""
    text = in_schema(step.sql, database.schema)
    path = f"{database.schema},pg_catalog,pg_temp"
    settings = Query(SQL["local_settings"], {"search_path": path}, len)
    deadline = time.monotonic() + patience
    for pause in full_jitter(0.1, 5.0):
        try:
            if step.transactional:
                with session.transaction():
                    _ask(database, session, settings)
                    session.execute(text.encode())
                    _ask(database, session, bookkeeping)
            else:
                for statement in statements(text):
                    session.execute(statement.encode())
                _ask(database, session, bookkeeping)
            return
        except psycopg.Error as error:
            found = classify(error, database.direct.address)
            if not isinstance(found, StorageBusy) or time.monotonic() + pause > deadline:
                state = "nothing of it was done" if step.transactional else _HALF
                found.args = (f"{migration} failed, {state}. {found}",)
                raise found from error
        time.sleep(pause)


_HALF = "the statements before the one that failed were done; it starts over next time"


def _clear_away(database: Database, session: Session) -> None:
    table = sql.Identifier(database.schema, "migrations")
    session.execute(sql.SQL("drop table {}").format(table))
    with contextlib.suppress(
        # Somebody else keeps things in it, or it was made for us.
        psycopg.errors.DependentObjectsStillExist,
        psycopg.errors.InsufficientPrivilege,
    ):
        name = sql.Identifier(database.schema)
        session.execute(sql.SQL("drop schema {} restrict").format(name))


def _ask(database: Database, session: Session, query: Query[T]) -> T:
    return borrowed.run(query, on=session, schema=database.schema)
