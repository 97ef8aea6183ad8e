"""Leaders as rows: who does what only one may do, for a term that everything carries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pgtasks.storage.query import Query, Row, load

__all__ = ["Leader", "Seat", "Stood", "renew", "resign", "sitting", "stand"]

SQL = load("leaders.sql")


class Seat(NamedTuple):
    """One election that was won: what every statement of a leader carries.

    Attributes:
        office: What is led.
        term: Counts the elections to this office.
        holder: Id of who was elected.
        lease: Seconds that a renewal is good for.
    """

    office: str
    term: int
    holder: str
    lease: float


class Stood(NamedTuple):
    """What came of standing for an office.

    Attributes:
        term: The present term.
        node: Who leads.
        remaining: Seconds until the term can be followed by another, unless it is renewed.
        seat: Ours, if we have been elected.
    """

    term: int
    node: str
    remaining: float
    seat: Seat | None


class Leader(NamedTuple):
    """Who leads, or led last.

    Attributes:
        holder: Id of the worker, or of another process; zeros after it has resigned.
        node: Its name.
        since: When it was elected, in seconds since the epoch.
        duration: Seconds since then.
        sits: Whether its time is not over.
    """

    office: str
    term: int
    holder: str
    node: str
    since: float
    duration: float
    sits: bool


def stand(office: str, *, holder: str, node: str, lease: float) -> Query[Stood | None]:
    """Be elected where nobody leads.

    Args:
        office: What is to be led; any text.
        holder: A random UUID, new for each process that may lead.
        node: A name for people.
        lease: Seconds after which others may take over from one that does not renew.

    Returns:
        Who leads now; None if the row changed hands in this very moment.
    """
    params = {"office": office, "holder": holder, "node": node, "lease": lease}

    def read(rows: Sequence[Row]) -> Stood | None:
        if not rows:
            return None
        term, name, remaining, leads = rows[0]
        seat = Seat(office, term, holder, lease) if leads else None
        return Stood(term, name, remaining, seat)

    return Query(SQL["stand"], params, read)


def renew(seat: Seat) -> Query[bool]:
    """Prolong a term; False if it is over."""
    return Query(SQL["renew"], seat._asdict(), bool)


def resign(seat: Seat) -> Query[bool]:
    """Let others take over at once."""
    return Query(SQL["resign"], seat._asdict(), bool)


def sitting() -> Query[list[Leader]]:
    """All offices, and who leads there or led last."""

    def read(rows: Sequence[Row]) -> list[Leader]:
        return [Leader._make(row) for row in rows]

    return Query(SQL["sitting"], {}, read)
