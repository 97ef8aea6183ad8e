"""Jobs that are sent together: by one statement, and some of them to wait for others.

A work-flow of any size is one insert, all of it or nothing. The body of a chord is sent
with the header, as a job that is suspended until the last member has ended; what it will
be called with does not exist yet, and `HeaderResults` stands for it meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

__all__ = [
    "Batch", "HeaderResults", "awaited", "awaiting", "collecting", "current", "follow",
    "starts_with_results",
]  # fmt: skip


class HeaderResults:
    """Stands for the list of what a chord's members return, as an argument of its body.

    Args:
        chord: Group id of the members.
        size: How many there are, at least.
    """

    __slots__ = ("chord", "size")

    def __init__(self, chord: str, size: int) -> None:
        self.chord = chord
        self.size = size

    def __deepcopy__(self, memo: dict[int, Any]) -> HeaderResults:
        return self

    def __repr__(self) -> str:
        return f"<results of {self.chord}>"


def starts_with_results(args: Any) -> bool:
    """Whether the first of these arguments stands for what a chord's members return."""
    return isinstance(args, (list, tuple)) and bool(args) and type(args[0]) is HeaderResults


class Batch:
    """What was sent since the batch was begun, in order."""

    __slots__ = ("app", "connection", "mould", "requests", "results")

    def __init__(self, app: Any) -> None:
        self.app = app
        #: On which it is inserted; what the first one chose, or the first that is lent.
        self.connection: Any = None
        #: By which the next is made, if it is like the one before.
        self.mould: Any = None
        self.requests: list[Any] = []
        self.results: list[Any] = []


_batch: ContextVar[Batch | None] = ContextVar("pgtasks.batch", default=None)
_awaited: ContextVar[HeaderResults | None] = ContextVar("pgtasks.awaited", default=None)


def current(app: Any) -> Batch | None:
    """The batch of ``app`` that is being collected in this context, if there is one."""
    batch = _batch.get()
    return batch if batch is not None and batch.app is app else None


@contextmanager
def collecting(batch: Batch) -> Iterator[None]:
    """Collect in ``batch`` what is sent meanwhile."""
    token = _batch.set(batch)
    try:
        yield
    finally:
        _batch.reset(token)


def follow(app: Any, sent: Any, result: Any) -> None:
    """Have a result that was made before its task was sent lead where that of the task does.

    Args:
        app: The application.
        sent: What sending the task has answered: a unique one may be that of another job,
            which the end of the batch may have to tell.
        result: What was made before.
    """
    if getattr(sent, "conflict", False):
        result.id, result.conflict = sent.id, True
        return
    batch = current(app)
    if batch is not None and batch.results[-1:] == [result] and batch.results[-1] is sent:
        batch.results[-1] = result


def awaited() -> HeaderResults | None:
    """The results for which jobs that are sent now are to wait."""
    return _awaited.get()


@contextmanager
def awaiting(header: HeaderResults) -> Iterator[None]:
    """Have jobs that are sent meanwhile wait for these results."""
    token = _awaited.set(header)
    try:
        yield
    finally:
        _awaited.reset(token)
