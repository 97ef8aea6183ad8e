"""Runs queries on a connection that the caller lends, inside the caller's transaction."""

from __future__ import annotations

from typing import Any, TypeVar

import psycopg
from psycopg.rows import tuple_row

from pgtasks.storage.query import Query, Row, in_schema

__all__ = ["arun", "run"]

T = TypeVar("T")


def run(query: Query[T], *, on: Any, schema: str = "pgtasks") -> T:
    """Run ``query`` on the psycopg 3 connection or cursor ``on``, in its transaction.

    Nothing is committed here, so what the query wrote appears, or vanishes, with
    everything else that the caller writes. A statement that fails spoils the caller's
    transaction as any other would, and raises psycopg's own error: code that retries
    its transactions by those errors keeps working.

    Raises:
        TypeError: ``on`` is something else, or belongs to an event loop.
    """
    if isinstance(on, (psycopg.AsyncConnection, psycopg.AsyncCursor)):
        raise TypeError(
            f"{type(on).__name__} belongs to an event loop: use the awaitable call "
            f"(adelay, aapply_async), or lend a psycopg.Connection."
        )
    connection = on.connection if isinstance(on, psycopg.Cursor) else on
    if not isinstance(connection, psycopg.Connection):
        raise _unknown(on)
    # A cursor of our own: theirs may hold rows that they have not read yet, make
    # dictionaries of rows, or bind on the client (as Django's do).
    with psycopg.Cursor(connection, row_factory=tuple_row) as cursor:
        cursor.execute(in_schema(query.statement, schema), query.params)
        rows: list[Row] = cursor.fetchall() if cursor.description is not None else []
    return query.read(rows)


async def arun(query: Query[T], *, on: Any, schema: str = "pgtasks") -> T:
    """The same on a psycopg 3 async connection or cursor."""
    connection = on.connection if isinstance(on, psycopg.AsyncCursor) else on
    if not isinstance(connection, psycopg.AsyncConnection):
        raise _unknown(on)
    async with psycopg.AsyncCursor(connection, row_factory=tuple_row) as cursor:
        await cursor.execute(in_schema(query.statement, schema), query.params)
        rows: list[Row] = await cursor.fetchall() if cursor.description is not None else []
    return query.read(rows)


def _unknown(on: Any) -> TypeError:
    kind = f"{type(on).__module__}.{type(on).__qualname__}"
    return TypeError(
        f"A job cannot be inserted on a {kind}: lend the psycopg 3 connection or cursor "
        f"under it (Django: django.db.connection.connection; SQLAlchemy: "
        f"session.connection().connection.driver_connection)."
    )
