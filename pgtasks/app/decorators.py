"""What ``@app.task`` and ``@shared_task`` make of a function, as type checkers see it.

The parameters of ``delay`` are the function's; with ``bind=True`` without the first; a
coroutine function's result is what it returns when awaited.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

if TYPE_CHECKING:
    from pgtasks.app.task import Task

__all__ = ["BoundDecorator", "Decorator"]

P = ParamSpec("P")
R = TypeVar("R")


class Decorator(Protocol):
    """What ``app.task(…)`` answers: makes a task of a function."""

    @overload
    def __call__(self, fun: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...

    @overload
    def __call__(self, fun: Callable[P, R], /) -> Task[P, R]: ...


class BoundDecorator(Protocol):
    """What ``app.task(bind=True, …)`` answers: the function gets the task first."""

    @overload
    def __call__(
        self, fun: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /
    ) -> Task[P, R]: ...

    @overload
    def __call__(self, fun: Callable[Concatenate[Any, P], R], /) -> Task[P, R]: ...
