"""Waiting for results by looking again and again, as stores without notifications must."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pgtasks import states
from pgtasks.exceptions import ImproperlyConfigured, TimeoutError
from pgtasks.result import ResultSet

__all__ = ["SyncBackendMixin"]


class SyncBackendMixin:
    """Waiting by looking again and again."""

    is_async = False

    def wait_for_pending(
        self,
        result: Any,
        timeout: float | None = None,
        interval: float = 0.5,
        no_ack: bool = True,
        on_message: Any = None,
        on_interval: Callable[..., Any] | None = None,
        callback: Callable[[str, Any], Any] | None = None,
        propagate: bool = True,
    ) -> Any:
        """Wait for ``result``; return its value or raise its exception."""
        self._ensure_not_eager()  # type: ignore[attr-defined]
        if on_message is not None:
            raise ImproperlyConfigured(
                "on_message= is not supported: results are rows of a table, there are no "
                "messages to look at. Use callback= or on_interval=."
            )
        meta = self.wait_for(
            result.id,
            timeout=timeout,
            interval=interval,
            on_interval=on_interval,
            no_ack=no_ack,
            **self._kinship([result], result),
        )
        if not meta:
            return None
        result._maybe_set_cache(meta)
        if meta["status"] not in states.READY_STATES:
            return None  # Over without a result: the task asked to be ignored.
        return result.maybe_throw(propagate=propagate, callback=callback)

    def wait_for(
        self,
        task_id: str,
        timeout: float | None = None,
        interval: float = 0.5,
        no_ack: bool = True,
        on_interval: Callable[..., Any] | None = None,
    ) -> dict[str, Any]:
        """Wait until the task is ready, and return its meta.

        Raises:
            TimeoutError: It took longer than ``timeout``.
        """
        self._ensure_not_eager()  # type: ignore[attr-defined]
        waited = 0.0
        while True:
            meta: dict[str, Any] = self.get_task_meta(task_id)  # type: ignore[attr-defined]
            if meta["status"] in states.READY_STATES:
                return meta
            if on_interval:
                on_interval()
            if timeout is not None and waited >= timeout:
                raise TimeoutError("The operation timed out.")
            # Never past the deadline: timeout=0 looks once.
            nap = interval if timeout is None else min(interval, timeout - waited)
            self._sleep(nap)  # type: ignore[attr-defined]
            waited += nap

    async def await_result(
        self,
        task_id: str,
        timeout: float | None = None,
        interval: float = 0.5,
        parents: Iterable[Any] = (),
    ) -> dict[str, Any]:
        """`wait_for` for coroutines.

        Args:
            task_id: The task.
            timeout: Seconds to wait at most.
            interval: Longest time between two looks.
            parents: Results whose failure means that this one never comes.
        """
        import asyncio

        deadline = None if timeout is None else time.monotonic() + timeout
        nap = 0.01
        while True:
            for parent in parents:
                parent.maybe_throw()
            meta: dict[str, Any] = self.get_task_meta(task_id)  # type: ignore[attr-defined]
            if meta["status"] in states.READY_STATES:
                return meta
            left = nap if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("The operation timed out.")
            await asyncio.sleep(min(nap, left))
            nap = min(nap * 2, interval)

    def iter_native(
        self,
        result: Any,
        timeout: float | None = None,
        interval: float = 0.5,
        no_ack: bool = True,
        on_message: Any = None,
        on_interval: Callable[..., Any] | None = None,
    ) -> Iterator[tuple[str, Any]]:
        """The members of a set of results as they become ready.

        A set within the set is yielded at once, with its members to be waited for.
        """
        self._ensure_not_eager()  # type: ignore[attr-defined]
        if not result.results:
            return
        ids = set()
        for member in result.results:
            if isinstance(member, ResultSet):
                yield member.id, member.results  # type: ignore[attr-defined]
            else:
                ids.add(member.id)
        yield from self.get_many(  # type: ignore[attr-defined]
            ids,
            timeout=timeout,
            interval=interval,
            no_ack=no_ack,
            on_message=on_message,
            on_interval=on_interval,
            **self._kinship(result.results, result),
        )

    def _kinship(self, results: Iterable[Any], whole: Any) -> dict[str, Any]:
        """What else `wait_for` and `get_many` of this store want to know about results.

        Args:
            results: The results that are waited for.
            whole: What they are members of.
        """
        return {}

    def add_pending_result(self, result: Any, weak: bool = False) -> Any:
        """Called before a result is waited for."""
        return result

    def remove_pending_result(self, result: Any) -> Any:
        """Called when nobody waits for a result any longer."""
        return result
