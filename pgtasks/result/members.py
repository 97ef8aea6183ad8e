"""A collection of results, and the promise that is kept when all of them are there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any
from weakref import proxy

from pgtasks._state import current_app
from pgtasks.result.meta import ResultBase

__all__ = ["Members"]


class Members(ResultBase):
    """The part of a set of results that is a collection.

    Args:
        results: The results; sets of results may be among them.
        app: The app that sent the tasks; that of the first result by default.
        ready_barrier: A barrier (vine's) to use instead of our own.
        **kwargs: Celery's, unused.
    """

    #: The results, in the order in which they were given.
    results: list[Any]

    _app: Any = None
    _barrier: Any = None
    _promise: Any = None

    def __init__(
        self,
        results: list[Any],
        app: Any = None,
        ready_barrier: Any = None,
        **kwargs: Any,
    ) -> None:
        self._app = app
        self.results = results
        if ready_barrier is not None:
            self._set_ready_barrier(ready_barrier)

    # ── promises, which most sets never need ────────────────────────────────────────────

    @property
    def on_ready(self) -> Any:
        """A promise (vine's), fulfilled when all results have been seen to be ready."""
        if self._promise is None:
            self._make_barrier()
        return self._promise

    @property
    def _on_full(self) -> Any:
        if self._barrier is None:
            self._make_barrier()
        return self._barrier

    def _make_barrier(self) -> None:
        from vine import barrier

        self._set_ready_barrier(barrier(self.results))

    def _set_ready_barrier(self, ready_barrier: Any) -> None:
        from vine import promise

        self._promise = promise(args=(proxy(self),))
        self._barrier = ready_barrier
        self._barrier.then(promise(self._on_ready, weak=True))

    def _on_ready(self) -> None:
        if self.backend.is_async:
            self.on_ready()

    def then(
        self,
        callback: Callable[..., Any],
        on_error: Callable[..., Any] | None = None,
        weak: bool = False,
    ) -> Any:
        """Have ``callback`` called with this set once all have been seen to be ready."""
        return self.on_ready.then(callback, on_error)

    # ── members ─────────────────────────────────────────────────────────────────────────

    def add(self, result: Any) -> None:
        """Add ``result``, unless it is a member already."""
        if result in self.results:
            return
        self.results.append(result)
        if self._barrier is None:
            return
        if self._barrier.p.ready:
            # The old barrier has fired. A new one waits for this result alone; those who
            # subscribed before have been told and keep what they were told.
            from vine import barrier

            self._set_ready_barrier(barrier())
            self._barrier.add(result)
            self._barrier.finalize()
        else:
            self._barrier.add(result)

    def remove(self, result: Any) -> None:
        """Remove ``result``, or the result with that id.

        Raises:
            KeyError: It is not a member.
        """
        if isinstance(result, str):
            result = self.app.AsyncResult(result)
        try:
            self.results.remove(result)
        except ValueError:
            raise KeyError(result) from None

    def discard(self, result: Any) -> None:
        """Remove ``result`` if it is a member."""
        try:
            self.remove(result)
        except KeyError:
            pass

    def update(self, results: Iterable[Any]) -> None:
        """Add those of ``results`` that are not members yet."""
        self.results.extend(result for result in results if result not in self.results)

    def clear(self) -> None:
        """Remove all members, from the very list that was given."""
        self.results[:] = []

    # ── being a collection ──────────────────────────────────────────────────────────────

    def _task_ids(self) -> list[str]:
        """The ids of all tasks, those of sets within the set included."""
        return [
            id
            for result in self.results
            for id in (result._task_ids() if isinstance(result, Members) else (result.id,))
        ]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.results)

    def __getitem__(self, index: Any) -> Any:
        return self.results[index]

    def __len__(self) -> int:
        return len(self.results)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Members):
            return other.results == self.results
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__}: [{', '.join(str(each.id) for each in self.results)}]>"
        )

    @property
    def app(self) -> Any:
        """The app that sent the tasks."""
        if self._app is None:
            self._app = (
                self.results[0].app if self.results else current_app._get_current_object()
            )
        return self._app

    @app.setter
    def app(self, app: Any) -> None:
        self._app = app

    @property
    def backend(self) -> Any:
        """Where the results are read."""
        return self.app.backend if self.app else self.results[0].backend
