"""Several results that are waited for together."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from pgtasks import result as package
from pgtasks import states
from pgtasks.exceptions import ImproperlyConfigured
from pgtasks.result.members import Members

__all__ = ["ResultSet"]


class ResultSet(Members):
    """A collection of results: ready when all are, failed when one is.

    Args:
        results: The results; sets of results may be among them.
        app: The app that sent the tasks; that of the first result by default.
        ready_barrier: A barrier (vine's) to use instead of our own.
    """

    # ── looking ─────────────────────────────────────────────────────────────────────────

    def ready(self) -> bool:
        """Whether all have ended."""
        return all(
            result.ready() if state is None else state in states.READY_STATES
            for result, state in self._looked_at()
        )

    def waiting(self) -> bool:
        """Whether one has not ended."""
        return not self.ready()

    def successful(self) -> bool:
        """Whether all have returned."""
        return all(
            result.successful() if state is None else state == states.SUCCESS
            for result, state in self._looked_at()
        )

    def failed(self) -> bool:
        """Whether one has raised."""
        return any(
            result.failed() if state is None else state == states.FAILURE
            for result, state in self._looked_at()
        )

    def completed_count(self) -> int:
        """How many have returned; those that failed are not among them."""
        return sum(
            int(result.successful() if state is None else state == states.SUCCESS)
            for result, state in self._looked_at()
        )

    def _looked_at(self) -> list[tuple[Any, str | None]]:
        """The members and their states, those that are unfinished read in one go.

        Where that is not possible the state is None, and the member has to be asked.
        """
        unread = self._unread()
        read_many = getattr(self.backend, "read_many", None) if len(unread) > 1 else None
        if read_many is None:
            return [(result, None) for result in self.results]
        metas = read_many([result.id for result in unread])
        found: dict[int, str] = {}
        for result in unread:
            # What there is no row of is PENDING, which is no more than we knew.
            meta = metas.get(result.id) or {"status": states.PENDING, "result": None}
            found[id(result)] = meta["status"]
            result._maybe_set_cache(meta)
        return [(result, found.get(id(result))) for result in self.results]

    def _unread(self) -> list[Any]:
        """The members that nothing final is known of, without those that are sets."""
        return [
            result
            for result in self.results
            if getattr(result, "_cache", True) is None
            and hasattr(result, "_maybe_set_cache")
        ]

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

    def _raise_what_came_before(self) -> None:
        """Raise what failed before these tasks, which is why they have failed as well."""
        before = []
        parent = getattr(self, "parent", None)
        while parent is not None:
            before.append(parent)
            parent = parent.parent
        for each in reversed(before):
            each.maybe_throw()

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
        members = dict(enumerate(self.results))
        # Of unique jobs two members may be the same.
        places: dict[str, list[int]] = {}
        for place, result in members.items():
            places.setdefault(result.id, []).append(place)
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
                for member in [members[place] for place in places[task_id]]:
                    if hasattr(member, "_keep"):
                        member._keep(meta)
                value = meta["result"]
                if propagate and meta["status"] in states.PROPAGATE_STATES:
                    self._raise_what_came_before()
                    raise value
            if callback:
                callback(task_id, value)
            else:
                for place in places[task_id]:
                    values[place] = value
        return None if callback else values

    async def aget(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        disable_sync_subtasks: bool = True,
    ) -> list[Any]:
        """`get` for coroutines: the event loop goes on while this waits."""
        import asyncio

        if disable_sync_subtasks:
            package.assert_will_not_block()
        deadline = None if timeout is None else time.monotonic() + timeout
        # What has ended by now is read at once, so that it is not waited for one by one.
        await asyncio.to_thread(self._looked_at)
        values = []
        for result in self.results:
            left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            value = await result.aget(
                timeout=left,
                propagate=propagate,
                interval=interval,
                disable_sync_subtasks=disable_sync_subtasks,
            )
            values.append(value)
        return values

    def iter_native(
        self,
        timeout: float | None = None,
        interval: float = 0.5,
        no_ack: bool = True,
        on_message: Callable[[Any], Any] | None = None,
        on_interval: Callable[..., Any] | None = None,
    ) -> Iterator[tuple[str, Any]]:
        """The results as ``(id, meta)``, as they become ready."""
        from pgtasks.app import transactions

        transactions.assert_committed(self.app, self.results)
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
        unread = self._unread() if callback is None else []
        read_failed = getattr(self.backend, "read_failed", None)
        if len(unread) > 1 and read_failed is not None:
            # Who waits for the body of a chord looks again and again whether the header has
            # failed: of its 1,000 members not one row has to travel (get(): 5 ms of CPU, not 19).
            metas = read_failed([result.id for result in unread])
            pending = {id(result) for result in unread}
            for result in self.results:
                if id(result) not in pending:
                    result.maybe_throw(propagate=propagate)
                elif result.id in metas:
                    result._maybe_set_cache(metas[result.id])
                    result.maybe_throw(propagate=propagate, cache=metas[result.id])
            return
        for result, state in self._looked_at():
            # One that is known to be unfinished has nothing to throw: asking it would be
            # one more look at the store, for each of a thousand members.
            if callback is not None or state is None or state in states.PROPAGATE_STATES:
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
            self._task_ids(),
            connection=connection,
            timeout=timeout,
            terminate=terminate,
            signal=signal,
            reply=wait,
        )

    # ── the store ───────────────────────────────────────────────────────────────────────

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

    @property
    def supports_native_join(self) -> bool | None:
        """Whether the results can be read at once; None for an empty set."""
        if not self.results:
            return None
        return self.results[0].supports_native_join  # type: ignore[no-any-return]
