"""Several results that are waited for together."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from weakref import proxy

from pgtasks import result as package
from pgtasks import states
from pgtasks._state import current_app
from pgtasks.exceptions import ImproperlyConfigured
from pgtasks.result.async_result import ResultBase

__all__ = ["ResultSet"]


class ResultSet(ResultBase):
    """A collection of results: ready when all are, failed when one is.

    Args:
        results: The results; sets of results may be among them.
        app: The app that sent the tasks; that of the first result by default.
        ready_barrier: A barrier (vine's) to use instead of our own.
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

    # ── looking ─────────────────────────────────────────────────────────────────────────

    def ready(self) -> bool:
        """Whether all have ended."""
        return all(result.ready() for result in self._fresh())

    def waiting(self) -> bool:
        """Whether one has not ended."""
        return any(not result.ready() for result in self._fresh())

    def successful(self) -> bool:
        """Whether all have returned."""
        return all(result.successful() for result in self._fresh())

    def failed(self) -> bool:
        """Whether one has raised."""
        return any(result.failed() for result in self._fresh())

    def completed_count(self) -> int:
        """How many have returned; those that failed are not among them."""
        return sum(int(result.successful()) for result in self._fresh())

    def _fresh(self) -> list[Any]:
        """The members, after reading those that were unfinished in one go."""
        unread = [
            result
            for result in self.results
            if getattr(result, "_cache", True) is None
            and hasattr(result, "_maybe_set_cache")
        ]
        if len(unread) > 1:
            read_many = getattr(self.backend, "read_many", None)
            if read_many is not None:
                metas = read_many([result.id for result in unread])
                for result in unread:
                    result._maybe_set_cache(metas.get(result.id))
        return self.results

    # ── waiting ─────────────────────────────────────────────────────────────────────────

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        callback: Callable[[str, Any], Any] | None = None,
        no_ack: bool = True,
        on_message: Callable[[Any], Any] | None = None,
        disable_sync_subtasks: bool = True,
        on_interval: Callable[..., Any] | None = None,
    ) -> Any:
        """Wait for all; see `join`."""
        join = self.join_native if self.supports_native_join else self.join
        return join(
            timeout=timeout,
            propagate=propagate,
            interval=interval,
            callback=callback,
            no_ack=no_ack,
            on_message=on_message,
            disable_sync_subtasks=disable_sync_subtasks,
            on_interval=on_interval,
        )

    def join(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        callback: Callable[[str, Any], Any] | None = None,
        no_ack: bool = True,
        on_message: Callable[[Any], Any] | None = None,
        disable_sync_subtasks: bool = True,
        on_interval: Callable[..., Any] | None = None,
    ) -> list[Any]:
        """Wait for one result after the other.

        Args:
            timeout: Seconds to wait for all of them together; 0 looks once at each.
            propagate: Raise the exception of the first that failed; otherwise it stands
                in its place in the list.
            interval: See `AsyncResult.get`.
            callback: Called with each id and value, instead of returning the values.
            no_ack: Celery's, unused.
            on_message: Not supported; only brokers have messages.
            disable_sync_subtasks: Refuse to wait inside a task.
            on_interval: See `AsyncResult.get`.

        Returns:
            The values, in the order of the members; none with a ``callback``.
        """
        if disable_sync_subtasks:
            package.assert_will_not_block()
        if on_message is not None:
            raise ImproperlyConfigured(
                "on_message= is not supported: results are rows of a table, there are no "
                "messages to look at. Use callback= or on_interval=."
            )
        started = time.monotonic()
        values = []
        for result in self.results:
            remaining = timeout
            if timeout is not None:
                remaining = max(timeout - (time.monotonic() - started), 0.0)
            value = result.get(
                timeout=remaining,
                propagate=propagate,
                interval=interval,
                no_ack=no_ack,
                on_interval=on_interval,
                disable_sync_subtasks=disable_sync_subtasks,
            )
            if callback:
                callback(result.id, value)
            else:
                values.append(value)
        return values

    def join_native(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        callback: Callable[[str, Any], Any] | None = None,
        no_ack: bool = True,
        on_message: Callable[[Any], Any] | None = None,
        on_interval: Callable[..., Any] | None = None,
        disable_sync_subtasks: bool = True,
    ) -> list[Any] | None:
        """`join` that reads all unfinished results at once, in whichever order they end."""
        if disable_sync_subtasks:
            package.assert_will_not_block()
        places = {result.id: place for place, result in enumerate(self.results)}
        values: list[Any] = [None] * len(self.results)
        for task_id, meta in self.iter_native(
            timeout, interval, no_ack, on_message, on_interval
        ):
            if isinstance(meta, list):
                value: Any = [
                    child.get(
                        propagate=propagate, disable_sync_subtasks=disable_sync_subtasks
                    )
                    for child in meta
                ]
            else:
                value = meta["result"]
                if propagate and meta["status"] in states.PROPAGATE_STATES:
                    raise value
            if callback:
                callback(task_id, value)
            else:
                values[places[task_id]] = value
        return None if callback else values

    def iter_native(
        self,
        timeout: float | None = None,
        interval: float = 0.5,
        no_ack: bool = True,
        on_message: Callable[[Any], Any] | None = None,
        on_interval: Callable[..., Any] | None = None,
    ) -> Iterator[tuple[str, Any]]:
        """The results as ``(id, meta)``, as they become ready."""
        if self._barrier is not None:
            self._barrier.finalize()
        return self.backend.iter_native(  # type: ignore[no-any-return]
            self,
            timeout=timeout,
            interval=interval,
            no_ack=no_ack,
            on_message=on_message,
            on_interval=on_interval,
        )

    def maybe_throw(
        self,
        callback: Callable[[str, Any], Any] | None = None,
        propagate: bool = True,
    ) -> None:
        """Raise the exception of a member that failed."""
        for result in self.results:
            result.maybe_throw(callback=callback, propagate=propagate)

    maybe_reraise = maybe_throw

    # ── acting ──────────────────────────────────────────────────────────────────────────

    def forget(self) -> None:
        """Have all results dropped."""
        for result in self.results:
            result.forget()

    def revoke(
        self,
        connection: Any = None,
        terminate: bool = False,
        signal: str | None = None,
        wait: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Have none of the tasks run; see `AsyncResult.revoke`."""
        self.app.control.revoke(
            [result.id for result in self.results],
            connection=connection,
            timeout=timeout,
            terminate=terminate,
            signal=signal,
            reply=wait,
        )

    # ── being a collection ──────────────────────────────────────────────────────────────

    def _iter_meta(self, **kwargs: Any) -> Iterator[dict[str, Any]]:
        ids = {result.id for result in self.results}
        return (meta for _, meta in self.backend.get_many(ids, max_iterations=1, **kwargs))

    def _failed_join_report(self) -> Iterator[Any]:
        return (
            result
            for result in self.results
            if result.backend.is_cached(result.id)
            and result.state in states.PROPAGATE_STATES
        )

    def __iter__(self) -> Iterator[Any]:
        return iter(self.results)

    def __getitem__(self, index: Any) -> Any:
        return self.results[index]

    def __len__(self) -> int:
        return len(self.results)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, ResultSet):
            return other.results == self.results
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__}: [{', '.join(str(each.id) for each in self.results)}]>"
        )

    @property
    def supports_native_join(self) -> bool | None:
        """Whether the results can be read at once; None for an empty set."""
        if not self.results:
            return None
        return self.results[0].supports_native_join  # type: ignore[no-any-return]

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
