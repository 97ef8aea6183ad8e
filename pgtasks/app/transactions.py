"""The caller's own transaction: which one jobs sent now belong to, and which are in one.

A job that is inserted on a lent connection exists when, and only when, the caller commits.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator
from contextvars import ContextVar, Token
from typing import Any
from weakref import WeakKeyDictionary

from pgtasks.app.options import OMITTED
from pgtasks.exceptions import NotCommitted

__all__ = [
    "OWN", "aassert_committed", "assert_committed", "chosen", "current", "join", "lending",
    "using",
]  # fmt: skip


class OWN:
    """Stands for our own connection where None would mean that nothing was said."""


# ── which transaction ───────────────────────────────────────────────────────────────────


class _Frame:
    """One ``with using(…)``."""

    __slots__ = ("connection", "outer", "over")

    def __init__(self, connection: Any, outer: _Frame | None) -> None:
        self.connection = connection
        self.outer = outer
        #: A task that was started inside the block, and outlives it, is outside of it.
        self.over = False


_using: ContextVar[_Frame | None] = ContextVar("pgtasks.using", default=None)


class using:
    """Have what is sent meanwhile belong to the transaction of a connection.

    ::

        with psycopg.connect(…) as connection, pgtasks.using(connection):
            connection.execute("insert into orders …")
            confirm.delay(order_id)

    The jobs exist when the transaction is committed, and never do if it is rolled back.
    It holds for this thread, or this coroutine and those that it starts meanwhile;
    blocks nest. ``async with`` is the same.

    Args:
        connection: A connection or cursor of psycopg 3, psycopg 2 or asyncpg; a
            ``Connection``, ``Session``, ``scoped_session``, ``AsyncConnection`` or
            ``AsyncSession`` of SQLAlchemy; a connection of Django's, or its alias. None
            leaves every transaction: jobs are inserted at once, on our own connection.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._entered: list[tuple[_Frame, Token[Any]]] = []

    def __enter__(self) -> Any:
        """Begin; the answer is the connection."""
        frame = _Frame(self._connection, _using.get())
        self._entered.append((frame, _using.set(frame)))
        return self._connection

    def __exit__(self, *exc_info: Any) -> None:
        """End; what is sent from now on belongs to what it belonged to before."""
        frame, token = self._entered.pop()
        frame.over = True
        try:
            _using.reset(token)
        except ValueError:
            # A generator that is closed by another task than the one that began it.
            pass

    async def __aenter__(self) -> Any:
        """As `__enter__`."""
        return self.__enter__()

    async def __aexit__(self, *exc_info: Any) -> None:
        """As `__exit__`."""
        self.__exit__(*exc_info)


def join(app: Any, find: Callable[[], Any]) -> None:
    """Have the jobs of an application join transactions that can be found.

    Args:
        app: The application.
        find: Answers what may be lent as ``connection=``, or None; asked at each call.
    """
    app.__dict__.setdefault("_joined_transactions", []).append(find)


def current(app: Any) -> Any:
    """The connection whose transaction jobs sent now belong to; None is our own.

    That of the innermost `using`, else the first that `join` has made known.
    """
    frame = _using.get()
    while frame is not None:
        if not frame.over:
            return frame.connection
        frame = frame.outer
    finders = app.__dict__.get("_joined_transactions")
    if finders and app.conf.task_join_transaction:
        for find in finders:
            found = find()
            if found is not None:
                return found
    return None


def chosen(app: Any, given: Any) -> Any:
    """The connection for a call: the one that was given, if None too, else `current`."""
    if given is OMITTED:
        return current(app)
    return None if given is OWN else given


# ── what is in one ──────────────────────────────────────────────────────────────────────


#: As many jobs are remembered of a connection, or as were inserted last if that are more.
_REMEMBERED = 1000


class _Lent:
    """What was inserted on a connection that had a transaction open, by statement."""

    __slots__ = ("inserts", "thread")

    def __init__(self) -> None:
        self.inserts: deque[frozenset[str]] = deque()
        self.thread = threading.get_ident()

    def add(self, ids: Iterable[str]) -> None:
        """Remember one more statement.

        Most drivers do not tell one transaction from the next, and a connection may live
        as long as the program: so the oldest are forgotten.
        """
        self.thread = threading.get_ident()
        self.inserts.append(frozenset(ids))
        excess = sum(map(len, self.inserts)) - _REMEMBERED
        while excess > 0 and len(self.inserts) > 1:
            excess -= len(self.inserts.popleft())

    def among(self, ids: set[str]) -> list[str]:
        """Those of ``ids`` that were inserted here, of each statement one."""
        found = [next(iter(each & ids), None) for each in self.inserts]
        return [each for each in found if each is not None]

    def forget(self, visible: Container[str]) -> None:
        """Forget the statements of which others can see a job, and so all of them."""
        left = [
            each for each in self.inserts if not any(task_id in visible for task_id in each)
        ]
        self.inserts = deque(left)


_lent: WeakKeyDictionary[Any, _Lent] = WeakKeyDictionary()


class lending:
    """Remember which jobs are inserted on a lent connection, while its transaction is open.

    Args:
        on: What was lent.
        ids: Ids of the jobs.
    """

    def __init__(self, on: Any, ids: Iterable[str]) -> None:
        from pgtasks.storage import borrowed

        self._is_open = borrowed.is_open
        self._holder = borrowed.holder(on)
        self._ids = ids

    def __enter__(self) -> None:
        if not self._is_open(self._holder):
            # Another transaction than the last one there.
            _lent.pop(self._holder, None)

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if error is None and self._is_open(self._holder):
            _lent.setdefault(self._holder, _Lent()).add(self._ids)


def assert_committed(app: Any, results: Iterable[Any]) -> None:
    """Refuse to wait for jobs that this thread has sent and not committed.

    Args:
        app: The application.
        results: Results that are about to be waited for.

    Raises:
        NotCommitted: One of them is in a transaction that is open still.
    """
    for lent, suspects in _suspects(results):
        _judge(lent, suspects, app.database.run(_read(suspects)))


async def aassert_committed(app: Any, results: Iterable[Any]) -> None:
    """`assert_committed` for coroutines."""
    for lent, suspects in _suspects(results):
        _judge(lent, suspects, await app.async_database.run(_read(suspects)))


def _suspects(results: Iterable[Any]) -> list[tuple[_Lent, list[str]]]:
    if not _lent:
        return []
    from pgtasks.storage import borrowed

    found = []
    ids: set[str] | None = None
    # Another thread may wait for what this one is about to commit.
    for reference in _lent.keyrefs():
        holder = reference()
        lent = None if holder is None else _lent.get(holder)
        if lent is None or lent.thread != threading.get_ident():
            continue
        if not borrowed.is_open(holder):
            _lent.pop(holder, None)
            continue
        ids = set(_ids_of(results)) if ids is None else ids
        suspects = lent.among(ids)
        if suspects:
            found.append((lent, suspects))
    return found


def _ids_of(results: Iterable[Any]) -> Iterator[str]:
    """The ids of results, of those before them in chains, and of members of sets."""
    pending = list(results)
    while pending:
        result = pending.pop()
        if isinstance(getattr(result, "id", None), str):
            yield result.id
        pending.extend(getattr(result, "results", None) or ())
        parent = getattr(result, "parent", None)
        if parent is not None:
            pending.append(parent)


def _read(ids: list[str]) -> Any:
    from pgtasks.storage import results

    return results.read(ids)


def _judge(lent: _Lent, suspects: list[str], visible: Any) -> None:
    # The connection may be in the next transaction by now: what counts is whether others
    # can see the job.
    lent.forget(visible)
    unseen = [each for each in suspects if each not in visible]
    if unseen:
        raise NotCommitted(unseen[0])
