"""Events as rows: bundles of them, and those who listen."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from pgtasks.storage.query import Query, load

__all__ = ["Bundle", "join", "leave", "listened", "prune", "read", "tell", "wake"]

SQL = load("events.sql")


class Bundle(NamedTuple):
    """Events that were told together.

    Attributes:
        age: Seconds since then.
        text: What `pgtasks.events.bundles` reads.
    """

    id: int
    age: float
    text: str


def tell(bundle: str, *, rings: bool = True) -> Query[bool]:
    """Keep a bundle for those who listen; the answer is whether anybody does.

    Args:
        bundle: What `pgtasks.events.bundles` writes.
        rings: Wake them.
    """
    return Query(SQL["tell"], {"bundle": bundle, "rings": rings}, bool)


def listened() -> Query[bool]:
    """Whether anybody listens."""
    return Query(SQL["listened"], {}, lambda rows: bool(rows[0][0]))


def join(
    receiver: str,
    *,
    name: str,
    lifetime: float,
    position: int | None = None,
    word: str | None = None,
) -> Query[int]:
    """Listen, or go on listening; the answer is up to which bundle there is nothing to read.

    Args:
        receiver: A random UUID.
        name: For people.
        lifetime: Seconds for which it counts as listening without saying so again.
        position: Up to which bundle it has read; None begins now.
        word: What workers are told of it: ``heartbeat`` asks for one; None tells nobody.
    """
    params = {
        "receiver": receiver,
        "name": name,
        "lifetime": lifetime,
        "position": position,
        "word": word,
    }
    return Query(SQL["join"], params, lambda rows: int(rows[0][0]))


def wake(word: str) -> Query[bool]:
    """Tell workers ``word``, as `join` does."""
    return Query(SQL["wake"], {"word": word}, bool)


def leave(receiver: str) -> Query[bool]:
    """Listen no more."""
    return Query(SQL["leave"], {"receiver": receiver}, bool)


def read(
    mark: int, missed: Collection[int] = (), *, limit: int = 10
) -> Query[list[Bundle]]:
    """The next bundles, in the order in which they were numbered.

    Args:
        mark: Those up to this one have been read …
        missed: … but for these.
        limit: So many at most.
    """
    params = {"mark": mark, "missed": list(missed), "limit": limit}
    return Query(SQL["read"], params, lambda rows: [Bundle._make(row) for row in rows])


def prune(age: float) -> Query[int]:
    """Delete up to 1,000 bundles that are read, or older than ``age`` seconds."""
    return Query(SQL["prune"], {"age": age}, len)
