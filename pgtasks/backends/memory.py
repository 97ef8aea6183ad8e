"""``result_backend = "cache+memory://"``: results in a dict of this process.

For tests. Results are shared by all applications of the process, as with Celery's.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from pgtasks import states
from pgtasks.backends.keyvalue import KeyValueStoreBackend
from pgtasks.backends.propagation import Unborn, rest_of_chain
from pgtasks.exceptions import TimeoutError

__all__ = ["MemoryBackend", "MemoryClient"]

#: The interval of `AsyncResult.get` when its caller gives none.
_USUAL = 0.5


class _Store(OrderedDict[str, Any]):
    """The results, of which the oldest go when there are too many."""

    limit = 5000

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        self.move_to_end(key)
        while len(self) > self.limit:
            self.popitem(last=False)


_store = _Store()
_changed = threading.Condition(threading.Lock())


class MemoryClient:
    """The store behind `MemoryBackend`, in the manner of a cache.

    Attributes:
        cache: The values by key; clear it between tests.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.cache = _store

    def get(self, key: str, *args: Any, **kwargs: Any) -> Any:
        """The value under ``key``, or None."""
        return self.cache.get(key)

    def get_multi(self, keys: Iterable[str]) -> dict[str, Any]:
        """The values that there are under ``keys``."""
        return {key: self.cache[key] for key in keys if key in self.cache}

    def set(self, key: str, value: Any, *args: Any, **kwargs: Any) -> None:
        """Put ``value`` under ``key``, and wake who waits."""
        with _changed:
            self.cache[key] = value
            _changed.notify_all()

    def delete(self, key: str, *args: Any, **kwargs: Any) -> None:
        """Remove what is under ``key``."""
        with _changed:
            self.cache.pop(key, None)


class MemoryBackend(KeyValueStoreBackend):
    """Results in memory.

    Args:
        app: The application.
        backend: Celery's name of the store, ``memory``; unused.
        **kwargs: See `Backend`.
    """

    supports_native_join = True
    supports_autoexpire = True
    supports_result_compression = True
    key_t = str

    def __init__(self, app: Any, backend: str | None = None, **kwargs: Any) -> None:
        super().__init__(app, **kwargs)
        self.client = MemoryClient()

    def as_uri(self, include_password: bool = False) -> str:
        """``memory:///``, as Celery shows it."""
        return "memory:///"

    # ── the store ───────────────────────────────────────────────────────────────────────

    def get(self, key: str) -> Any:
        """The value under ``key``, or None."""
        return self.client.get(key)

    def mget(self, keys: Sequence[str]) -> Any:
        """The values that there are under ``keys``."""
        return self.client.get_multi(keys)

    def set(self, key: str, value: Any) -> None:
        """Put ``value`` under ``key``, and wake who waits."""
        self.client.set(key, value)

    def delete(self, key: str) -> None:
        """Remove what is under ``key``."""
        self.client.delete(key)

    # ── work-flows ──────────────────────────────────────────────────────────────────────

    def add_to_chord(self, chord_id: str, result: Any) -> None:
        """Nothing is left to do: the queue counts the member when it is sent."""

    def _never_run(self, chain: Any) -> list[Unborn]:
        return rest_of_chain(chain)

    # ── waiting ─────────────────────────────────────────────────────────────────────────

    def wait_for(
        self,
        task_id: str,
        timeout: float | None = None,
        interval: float = _USUAL,
        no_ack: bool = True,
        on_interval: Callable[..., Any] | None = None,
    ) -> dict[str, Any]:
        """Wait until the task is ready, and return its meta; woken by whoever stores it."""
        if interval != _USUAL:
            return super().wait_for(task_id, timeout, interval, no_ack, on_interval)
        if task_id in self._cache:
            return self._cache[task_id]  # type: ignore[no-any-return]
        for metas in self._looks([task_id], timeout, on_interval):
            if task_id in metas:
                return metas[task_id]
        raise TimeoutError(f"Task {task_id} was not ready after {timeout} s.")

    def get_many(
        self,
        task_ids: Iterable[str],
        timeout: float | None = None,
        interval: float | None = _USUAL,
        no_ack: bool = True,
        on_message: Callable[[Any], Any] | None = None,
        on_interval: Callable[..., Any] | None = None,
        max_iterations: int | None = None,
        READY_STATES: frozenset[str] = states.READY_STATES,
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """The results of ``task_ids`` as they become ready, as ``(id, meta)``."""
        waiting = set(task_ids)
        if not waiting:
            return
        for look, metas in enumerate(self._looks(waiting, timeout, on_interval), 1):
            for task_id, meta in metas.items():
                waiting.discard(task_id)
                if on_message is not None:
                    on_message(meta)
                yield task_id, meta
            if not waiting or look == max_iterations:
                return
        raise TimeoutError(f"{len(waiting)} tasks were not ready after {timeout} s.")

    def _looks(
        self,
        task_ids: Iterable[str],
        timeout: float | None,
        on_interval: Callable[..., Any] | None,
    ) -> Iterator[dict[str, dict[str, Any]]]:
        """What is ready of ``task_ids``, again and again until the time is up.

        The caller takes from ``task_ids`` what it has seen.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            ready = {}
            with _changed:
                seen = {task_id: self.get(self.get_key_for_task(task_id))
                        for task_id in task_ids}  # fmt: skip
            for task_id, found in seen.items():
                meta = None if found is None else self.decode_result(found)
                if meta is not None and meta["status"] in states.READY_STATES:
                    ready[task_id] = meta
            yield ready
            if on_interval is not None:
                on_interval()
            nap = _USUAL if deadline is None else min(_USUAL, deadline - time.monotonic())
            if nap <= 0:
                return
            with _changed:
                # Something may have been stored since we looked.
                if all(
                    self.get(self.get_key_for_task(task_id)) == seen.get(task_id)
                    for task_id in task_ids
                ):
                    _changed.wait(nap)
