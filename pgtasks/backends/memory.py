"""``result_backend = "cache+memory://"``: results in a dict of this process.

For tests. Results are shared by all applications of the process, as with Celery's.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pgtasks import states
from pgtasks.backends.base import BaseBackend
from pgtasks.exceptions import TimeoutError
from pgtasks.result import result_from_tuple

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


class MemoryBackend(BaseBackend):
    """Results in memory.

    Args:
        app: The application.
        backend: Celery's name of the store, ``memory``; unused.
        **kwargs: See `Backend`.
    """

    supports_native_join = True
    supports_autoexpire = True
    thread_safe = True

    task_keyprefix = "celery-task-meta-"
    group_keyprefix = "celery-taskset-meta-"

    def __init__(self, app: Any, backend: str | None = None, **kwargs: Any) -> None:
        super().__init__(app, **kwargs)
        self.client = MemoryClient()

    def as_uri(self, include_password: bool = False) -> str:
        """``memory:///``, as Celery shows it."""
        return "memory:///"

    # ── writing ─────────────────────────────────────────────────────────────────────────

    def _store_result(
        self,
        task_id: str,
        result: Any,
        state: str | None,
        traceback: str | None = None,
        request: Any = None,
        **kwargs: Any,
    ) -> Any:
        meta = self._get_result_meta(result, state, traceback, request)
        return self._put(task_id, meta)

    def _put(self, task_id: str, meta: dict[str, Any]) -> Any:
        # A success stays, whatever a worker that was thought lost says afterwards.
        if self._get_task_meta_for(task_id)["status"] != states.SUCCESS:
            meta["task_id"] = task_id
            self.client.set(self.task_keyprefix + task_id, self.encode(meta))
        return meta["result"]

    def store_outcome(self, job: Any, outcome: Any) -> None:
        """Store what became of a job of the queue in memory."""
        state = states.status_of(outcome.state, outcome.status)
        if outcome.state not in states.FINISHED_JOB_STATES and state != states.RETRY:
            return
        if outcome.result is None and outcome.result_body is None:
            return  # Ignored.
        value = self.load(outcome.result, outcome.result_body, outcome.result_content_type)
        meta = self._get_result_meta(value, state, outcome.traceback, None)
        meta["children"] = self.load(outcome.children) if outcome.children else []
        if self.app.conf.result_extended:
            meta.update(name=job.task, retries=job.retries, queue=job.queue)
        self._put(job.task_id, meta)

    def _forget(self, task_id: str) -> None:
        self.client.delete(self.task_keyprefix + task_id)

    # ── reading ─────────────────────────────────────────────────────────────────────────

    def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
        if not task_id:
            raise ValueError(f"task_id must not be empty. Got {task_id!r} instead.")
        found = self.client.get(self.task_keyprefix + str(task_id))
        if found is None:
            return {"status": states.PENDING, "result": None}
        return self.decode_result(found)

    def task_result_exists(self, task_id: str) -> bool:
        """Whether anything was stored for a task."""
        return self.client.get(self.task_keyprefix + str(task_id)) is not None

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
                seen = {task_id: self.client.get(self.task_keyprefix + str(task_id))
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
                    self.client.get(self.task_keyprefix + str(task_id)) == seen.get(task_id)
                    for task_id in task_ids
                ):
                    _changed.wait(nap)

    # ── groups ──────────────────────────────────────────────────────────────────────────

    def save_group(self, group_id: str, result: Any) -> Any:
        """Store which results belong to a group."""
        self.client.set(
            self.group_keyprefix + group_id, self.encode({"result": result.as_tuple()})
        )
        return result

    def restore_group(self, group_id: str, cache: bool = True) -> Any:
        """The group that was saved, or None."""
        found = self.client.get(self.group_keyprefix + group_id)
        if found is None:
            return None
        return result_from_tuple(self.decode(found)["result"], self.app)

    def delete_group(self, group_id: str) -> None:
        """Undo `save_group`."""
        self.client.delete(self.group_keyprefix + group_id)
