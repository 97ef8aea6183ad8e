"""Jobs that settle themselves: in the transaction in which they have done what they do.

The settlement is the worker's own, `jobs.ack`, on another connection. So it is fenced by the
same token, and leads to the same: the result, the next of a chain, the count of a chord.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pgtasks.storage import jobs
from pgtasks.storage.jobs import Acked, Settlement
from pgtasks.storage.query import Query, load

__all__ = [
    "MISSING_TABLES", "hasten", "keep", "mark", "salvage", "settle", "sqlstate", "standing",
    "undo",
]  # fmt: skip

SQL = load("settling.sql")

MISSING_TABLES = frozenset({"3F000", "42P01"})
"""What PostgreSQL answers where our tables are not: it is not our database."""


def settle(settlement: Settlement) -> Query[Acked]:
    """Settle one job; its id is among the answer's if it was ours to settle."""
    query = jobs.ack([settlement])
    # Not as text, of which asyncpg would make no array.
    return replace(query, params={**query.params, "ids": [settlement.id]})


def salvage(settlement: Settlement) -> Query[bool]:
    """Replace the verdict on a job that was given up meanwhile; false if there is none."""
    query = jobs.salvage(settlement)
    body = query.params["result_body"]
    if isinstance(body, str):
        query = replace(
            query, params={**query.params, "result_body": bytes.fromhex(body[2:])}
        )
    return query


def hasten() -> Query[None]:
    """Have the server end this transaction if it hears nothing for 15 s from now on."""
    return Query(SQL["hasten"], {}, lambda rows: None)


def mark() -> Query[None]:
    """Begin a part of an open transaction that can be undone by itself."""
    return Query(SQL["mark"], {}, lambda rows: None)


def keep() -> Query[None]:
    """End the part that `mark` began."""
    return Query(SQL["keep"], {}, lambda rows: None)


def undo() -> Query[None]:
    """Undo what was done since `mark`."""
    return Query(SQL["undo"], {}, lambda rows: None)


def standing(settlement: Settlement) -> Query[bool]:
    """Whether a job is as it was before it settled itself, and still ours.

    Waits for the transaction in which it did, if that is not over yet.
    """
    params = {"id": settlement.id, "token": settlement.claim_token}
    return Query(SQL["standing"], params, bool)


def sqlstate(error: BaseException | None) -> str | None:
    """The server's code behind an error of any driver, of SQLAlchemy or of Django."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        code: Any = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
        if isinstance(code, str):
            return code
        below: Any = getattr(error, "orig", None)
        error = below if isinstance(below, BaseException) else error.__cause__
    return None
