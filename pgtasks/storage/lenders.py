"""The connections that callers lend, by the driver that they belong to.

No driver is imported here but our own: whoever lends a connection has imported his. Where
one is needed it is found among the modules that are loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Protocol

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from pgtasks.storage.query import Query, Row, in_schema
from pgtasks.storage.spelling import for_format, for_names, for_numbers

__all__ = ["ASYNC", "LENDERS", "Lender"]

ASYNC = "use the awaitable call (adelay, aapply_async, adelay_many)"


class Lender(Protocol):
    """What one library's connections are asked."""

    def holder(self, on: Any) -> Any:
        """What has the transaction: the connection of a cursor, the session of a registry.

        Raises:
            TypeError: It belongs to the library, but has no transaction to join.
        """

    def is_open(self, holder: Any) -> bool:
        """Whether a transaction has begun there and has not ended."""

    def commits_at_once(self, holder: Any) -> bool:
        """Whether a statement that is run there now is a transaction of its own."""

    def roll_back(self, holder: Any) -> None:
        """End a transaction that was forgotten there, as well as it can be done."""

    def below(self, holder: Any) -> Any:
        """The connection of the driver; None where it cannot be had here."""

    def run(self, query: Query[Any], holder: Any, schema: str) -> Sequence[Row]:
        """Run a query there, and return its rows.

        Raises:
            TypeError: It belongs to an event loop.
        """

    async def arun(self, query: Query[Any], holder: Any, schema: str) -> Sequence[Row]:
        """The same for coroutines; what is not made for them blocks their loop."""


def refusal(on: Any, why: str) -> TypeError:
    """The error for what cannot be lent."""
    kind = f"{type(on).__module__}.{type(on).__qualname__}"
    return TypeError(f"A job cannot be inserted on a {kind}: {why}")


def of_a_loop(on: Any, instead: str) -> TypeError:
    """The error for what belongs to an event loop, in a call that does not."""
    return TypeError(
        f"{type(on).__name__} belongs to an event loop: {ASYNC}, or lend {instead}."
    )


class Psycopg:
    """psycopg 3: connections and cursors, of threads and of event loops."""

    def holder(self, on: Any) -> Any:
        """See `Lender`."""
        if isinstance(on, (psycopg.Cursor, psycopg.AsyncCursor)):
            return on.connection
        if isinstance(on, (psycopg.Connection, psycopg.AsyncConnection)):
            return on
        raise refusal(on, "lend one of its connections, or a cursor.")

    def is_open(self, holder: Any) -> bool:
        """See `Lender`."""
        return holder.info.transaction_status in _OPEN

    def commits_at_once(self, holder: Any) -> bool:
        """See `Lender`."""
        return bool(holder.autocommit) and not self.is_open(holder)

    def roll_back(self, holder: Any) -> None:
        """See `Lender`."""
        # Not politely: the loop of an asynchronous one may be gone, and in a block of
        # transaction() psycopg forbids it.
        holder.pgconn.finish()

    def below(self, holder: Any) -> Any:
        """See `Lender`."""
        return holder

    def run(self, query: Query[Any], holder: Any, schema: str) -> Sequence[Row]:
        """See `Lender`."""
        if isinstance(holder, psycopg.AsyncConnection):
            raise of_a_loop(holder, "a psycopg.Connection")
        # A cursor of our own: theirs may hold rows that they have not read yet, make
        # dictionaries of rows, or bind on the client (as Django's do).
        with psycopg.Cursor(holder, row_factory=tuple_row) as cursor:
            cursor.execute(in_schema(query.statement, schema), query.params)
            return cursor.fetchall() if cursor.description is not None else []

    async def arun(self, query: Query[Any], holder: Any, schema: str) -> Sequence[Row]:
        """See `Lender`."""
        if isinstance(holder, psycopg.Connection):
            return self.run(query, holder, schema)
        async with psycopg.AsyncCursor(holder, row_factory=tuple_row) as cursor:
            await cursor.execute(in_schema(query.statement, schema), query.params)
            return await cursor.fetchall() if cursor.description is not None else []


_OPEN = (TransactionStatus.ACTIVE, TransactionStatus.INTRANS, TransactionStatus.INERROR)


class Psycopg2:
    """psycopg 2: connections and cursors."""

    def holder(self, on: Any) -> Any:
        """See `Lender`."""
        extensions = sys.modules["psycopg2.extensions"]
        if isinstance(on, extensions.cursor):
            return on.connection
        if isinstance(on, extensions.connection):
            return on
        raise refusal(on, "lend one of its connections, or a cursor.")

    def is_open(self, holder: Any) -> bool:
        """See `Lender`."""
        if holder.closed:
            return False
        return TransactionStatus(holder.get_transaction_status()) in _OPEN

    def commits_at_once(self, holder: Any) -> bool:
        """See `Lender`."""
        return bool(holder.autocommit) and not self.is_open(holder)

    def roll_back(self, holder: Any) -> None:
        """See `Lender`."""
        holder.close()

    def below(self, holder: Any) -> Any:
        """See `Lender`."""
        return holder

    def run(self, query: Query[Any], holder: Any, schema: str) -> Sequence[Row]:
        """See `Lender`."""
        plain = sys.modules["psycopg2.extensions"].cursor
        with holder.cursor(cursor_factory=plain) as cursor:
            return _executed(cursor, query, schema)

    async def arun(self, query: Query[Any], holder: Any, schema: str) -> Sequence[Row]:
        """See `Lender`."""
        return self.run(query, holder, schema)


def _executed(cursor: Any, query: Query[Any], schema: str) -> Sequence[Row]:
    cursor.execute(for_format(query.statement, schema), dict(query.params))
    rows: Sequence[Row] = cursor.fetchall() if cursor.description is not None else []
    return rows


class Asyncpg:
    """asyncpg: connections, and what its pool gives out for them."""

    def holder(self, on: Any) -> Any:
        """See `Lender`."""
        if isinstance(on, sys.modules["asyncpg.pool"].PoolConnectionProxy):
            if on._con is None:
                raise refusal(on, "the pool has it back already.")
            # What the pool gives out cannot be referred to weakly.
            return on._con
        if isinstance(on, sys.modules["asyncpg.connection"].Connection):
            return on
        raise refusal(
            on, "lend a connection of it: async with pool.acquire() as connection."
        )

    def is_open(self, holder: Any) -> bool:
        """See `Lender`."""
        return not holder.is_closed() and bool(holder.is_in_transaction())

    def commits_at_once(self, holder: Any) -> bool:
        """See `Lender`."""
        return not self.is_open(holder)

    def roll_back(self, holder: Any) -> None:
        """See `Lender`."""
        holder.terminate()

    def below(self, holder: Any) -> Any:
        """See `Lender`."""
        return holder

    def run(self, query: Query[Any], holder: Any, schema: str) -> Sequence[Row]:
        """See `Lender`."""
        raise of_a_loop(holder, "a connection of psycopg")

    async def arun(self, query: Query[Any], holder: Any, schema: str) -> Sequence[Row]:
        """See `Lender`."""
        statement, names = for_numbers(query.statement, schema)
        records = await holder.fetch(statement, *[query.params[name] for name in names])
        return [tuple(record) for record in records]


class SqlAlchemy:
    """SQLAlchemy: connections, sessions, and their registries, also the asyncio ones.

    Always by its own ``execute``, never on the connection of the driver below: with asyncpg
    the transaction is begun by SQLAlchemy's first statement, and what is executed below is
    committed at once.
    """

    def holder(self, on: Any) -> Any:
        """See `Lender`."""
        # A registry stands for the session of this thread, request, or task.
        found = on.registry() if hasattr(on, "registry") and hasattr(on, "remove") else on
        # The asyncio classes are coats over these.
        found = getattr(found, "sync_session", None) or getattr(
            found, "sync_connection", found
        )
        if found is None or not hasattr(found, "in_transaction"):
            raise refusal(
                on, "lend a Connection, a Session, or their asyncio counterparts."
            )
        return found

    def is_open(self, holder: Any) -> bool:
        """See `Lender`."""
        return bool(holder.in_transaction())

    def commits_at_once(self, holder: Any) -> bool:
        """See `Lender`."""
        bind = holder.get_bind() if hasattr(holder, "get_bind") else holder
        level = bind.get_execution_options().get("isolation_level")
        return bool((level or bind.dialect._on_connect_isolation_level) == "AUTOCOMMIT")

    def roll_back(self, holder: Any) -> None:
        """See `Lender`."""
        # Of one that belongs to a loop the socket is closed when the loop's objects go.
        if not _waits_for_a_loop(holder):
            holder.rollback()

    def below(self, holder: Any) -> Any:
        """See `Lender`."""
        if _waits_for_a_loop(holder):
            return None
        connection = holder.connection() if hasattr(holder, "get_bind") else holder
        return connection.connection.dbapi_connection

    def run(self, query: Query[Any], holder: Any, schema: str) -> Sequence[Row]:
        """See `Lender`."""
        if _waits_for_a_loop(holder) and not _below_sqlalchemys_await():
            raise of_a_loop(holder, "one of an engine that is not asyncio's")
        return self._executed(holder, query, schema)

    async def arun(self, query: Query[Any], holder: Any, schema: str) -> Sequence[Row]:
        """See `Lender`."""
        if not _waits_for_a_loop(holder):
            return self._executed(holder, query, schema)
        # What `AsyncSession.run_sync` and the others do.
        spawn = sys.modules["sqlalchemy.util"].greenlet_spawn
        rows: Sequence[Row] = await spawn(self._executed, holder, query, schema)
        return rows

    def _executed(self, holder: Any, query: Query[Any], schema: str) -> Sequence[Row]:
        # By the session's connection, for the session's own `execute` may be another
        # one (SQLModel's warns), and has hooks that are about queries of the program's.
        connection = holder.connection() if hasattr(holder, "get_bind") else holder
        if connection.dialect.name != "postgresql":
            raise refusal(holder, f"it leads to {connection.dialect.name}, not PostgreSQL.")
        text = sys.modules["sqlalchemy"].text
        answer = connection.execute(
            text(for_names(query.statement, schema)), dict(query.params)
        )
        return [tuple(row) for row in answer] if answer.returns_rows else []


def _waits_for_a_loop(holder: Any) -> bool:
    bind = holder.get_bind() if hasattr(holder, "get_bind") else holder
    return bool(bind.dialect.is_async)


def _below_sqlalchemys_await() -> bool:
    """Whether this runs in ``run_sync``, where its connections wait for their loop."""
    concurrency: Any = sys.modules.get("sqlalchemy.util.concurrency")
    return concurrency is not None and bool(concurrency.in_greenlet())


class Django:
    """Django: its connections on any driver, by wrapper or by alias, and their cursors."""

    def holder(self, on: Any) -> Any:
        """See `Lender`."""
        database: Any = sys.modules.get("django.db")
        if isinstance(on, str):
            if database is None:
                raise TypeError(
                    f"connection={on!r}: a name is that of one of Django's databases, and "
                    f"Django is not loaded here. Lend a connection."
                )
            on = database.connections[on]
        if hasattr(on, "_connections") and hasattr(on, "_alias"):
            # django.db.connection stands for that of this thread.
            on = on._connections[on._alias]
        if not hasattr(on, "in_atomic_block"):
            # A cursor knows its wrapper.
            on = getattr(on, "db", on)
        if not hasattr(on, "in_atomic_block"):
            raise refusal(on, "lend django.db.connection, or the alias of a database.")
        if on.vendor != "postgresql":
            raise refusal(on, f"it leads to {on.vendor}, not PostgreSQL.")
        return on

    def is_open(self, holder: Any) -> bool:
        """See `Lender`."""
        return holder.connection is not None and bool(
            holder.in_atomic_block or not holder.autocommit
        )

    def commits_at_once(self, holder: Any) -> bool:
        """See `Lender`."""
        return not self.is_open(holder) and bool(holder.get_autocommit())

    def roll_back(self, holder: Any) -> None:
        """See `Lender`."""
        holder.close()

    def below(self, holder: Any) -> Any:
        """See `Lender`."""
        return holder.connection

    def run(self, query: Query[Any], holder: Any, schema: str) -> Sequence[Row]:
        """See `Lender`."""
        # Not the driver's own: of errors there Django would not know, and take a
        # transaction for whole that PostgreSQL has given up.
        with holder.cursor() as cursor:
            return _executed(cursor, query, schema)

    async def arun(self, query: Query[Any], holder: Any, schema: str) -> Sequence[Row]:
        """See `Lender`."""
        return self.run(query, holder, schema)


#: By the package that a class, or a class that it is derived from, is defined in.
LENDERS: dict[str, Lender] = {
    "psycopg": Psycopg(),
    "psycopg_pool": Psycopg(),
    "psycopg2": Psycopg2(),
    "asyncpg": Asyncpg(),
    "sqlalchemy": SqlAlchemy(),
    "django": Django(),
}
