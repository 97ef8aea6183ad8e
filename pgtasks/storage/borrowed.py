"""Runs queries on a connection that the caller lends, inside the caller's transaction."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeVar

from pgtasks.storage.lenders import LENDERS, Lender, refusal
from pgtasks.storage.query import Query

__all__ = [
    "arun",
    "below",
    "commits_at_once",
    "holder",
    "is_lost",
    "is_open",
    "roll_back",
    "run",
]

T = TypeVar("T")


def run(query: Query[T], *, on: Any, schema: str = "pgtasks") -> T:
    """Run ``query`` on a lent connection, in its transaction.

    Nothing is committed here, so what the query wrote appears, or vanishes, with
    everything else that the caller writes. A statement that fails spoils the caller's
    transaction as any other would, and raises the driver's own error: code that retries
    its transactions by those errors keeps working.

    Args:
        query: What to run.
        on: A connection or cursor of psycopg 3 or psycopg 2; a ``Connection``,
            ``Session`` or ``scoped_session`` of SQLAlchemy; a connection of Django's, or
            its alias.
        schema: Where the tables are.

    Raises:
        TypeError: ``on`` is something else, or belongs to an event loop.
    """
    lender = _lender(on)
    return query.read(lender.run(query, lender.holder(on), schema))


async def arun(query: Query[T], *, on: Any, schema: str = "pgtasks") -> T:
    """The same for coroutines, also on what belongs to an event loop.

    That is an ``AsyncConnection`` or ``AsyncCursor`` of psycopg 3, a connection of
    asyncpg or of its pool, and SQLAlchemy's ``AsyncConnection``, ``AsyncSession`` and
    ``async_scoped_session``. Others block the loop while the statement runs, as all else
    does that the caller does with them.
    """
    lender = _lender(on)
    return query.read(await lender.arun(query, lender.holder(on), schema))


def holder(on: Any) -> Any:
    """What has the transaction: for a cursor its connection, for a registry its session.

    Two that are lent are in the same transaction if this is the same object.

    Raises:
        TypeError: ``on`` is nothing that can be lent.
    """
    return _lender(on).holder(on)


def is_open(holder: Any) -> bool:
    """Whether there is a transaction that has begun and has not ended.

    Args:
        holder: What `holder` has answered.
    """
    return _lender(holder).is_open(holder)


def commits_at_once(holder: Any) -> bool:
    """Whether a statement there would be a transaction of its own, and committed at once.

    Args:
        holder: What `holder` has answered.
    """
    return _lender(holder).commits_at_once(holder)


def roll_back(holder: Any) -> None:
    """End a transaction that its owner has forgotten.

    Args:
        holder: What `holder` has answered.
    """
    _lender(holder).roll_back(holder)


def below(holder: Any) -> Any:
    """The driver's own connection, for `is_lost`; None where it cannot be had here.

    Args:
        holder: What `holder` has answered.
    """
    return _lender(holder).below(holder)


def is_lost(below: Any) -> bool:
    """Whether a driver's connection is gone: the server ended it, or cannot be reached.

    Args:
        below: What `below` has answered.
    """
    if hasattr(below, "is_closed"):
        return bool(below.is_closed())  # asyncpg's
    return bool(getattr(below, "closed", False))


def _lender(on: Any) -> Lender:
    lender = LENDERS["django"] if isinstance(on, str) else _lender_of(on.__class__)
    if lender is None:
        raise refusal(
            on,
            "lend a connection or cursor of psycopg, psycopg 2 or asyncpg, a Connection "
            "or Session of SQLAlchemy, or a connection of Django's (or its alias). Of "
            "another library it may be the connection of the driver that is below it "
            "(often called driver_connection).",
        )
    return lender


@lru_cache(maxsize=256)
def _lender_of(kind: Any) -> Lender | None:
    # Programs derive classes of their own, and so do other libraries.
    for each in kind.__mro__:
        found = LENDERS.get(each.__module__.partition(".")[0])
        if found is not None:
            return found
    return None
