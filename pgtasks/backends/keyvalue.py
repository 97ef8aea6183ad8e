"""Backends over any store of keys and values, for those who bring a store of their own.

A subclass defines ``get``, ``mget``, ``set`` (or ``_set_with_state``) and ``delete``; keys
and metas are laid out as Celery lays them out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pgtasks import states
from pgtasks.backends.base import Backend
from pgtasks.backends.waiting import SyncBackendMixin
from pgtasks.exceptions import BackendStoreError, TimeoutError
from pgtasks.result import result_from_tuple

__all__ = ["BaseKeyValueStoreBackend", "KeyValueStoreBackend"]


def _as_bytes(s: Any) -> bytes:
    return s.encode() if isinstance(s, str) else bytes(s)


def _as_text(key: Any) -> str:
    return key.decode() if isinstance(key, bytes) else str(key)


class BaseKeyValueStoreBackend(Backend):
    """Results under keys, without a way to wait for them.

    The setting ``result_backend_transport_options["global_keyprefix"]`` goes in front of
    all keys.
    """

    #: Makes keys of text; a store whose keys are text says ``key_t = str``.
    key_t: Callable[[Any], Any] = staticmethod(_as_bytes)
    task_keyprefix: Any = "celery-task-meta-"
    group_keyprefix: Any = "celery-taskset-meta-"
    chord_keyprefix: Any = "chord-unlock-"
    #: The store counts with ``incr``. Nothing here needs it: the queue counts.
    implements_incr = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # A plain function in a class's body would be bound, and be called with self.
        bound = getattr(self.key_t, "__func__", None)
        if bound is not None:
            self.key_t = bound
        super().__init__(*args, **kwargs)
        common = (self.app.conf.result_backend_transport_options or {}).get(
            "global_keyprefix", ""
        )
        if common and common[-1] not in ":_-.":
            common += "_"
        for name in ("task_keyprefix", "group_keyprefix", "chord_keyprefix"):
            setattr(self, name, self.key_t(f"{common}{_as_text(getattr(self, name))}"))

    @property
    def chord_expires(self) -> Any:
        """Seconds that a store may keep parts of a chord: ``result_chord_expires``."""
        expires = self.app.conf.result_chord_expires
        return self.expires if expires is None else self.prepare_expires(expires)

    # ── the store ───────────────────────────────────────────────────────────────────────

    def get(self, key: Any) -> Any:
        """The value under ``key``, or None."""
        self._undefined("get")

    def mget(self, keys: Sequence[Any]) -> Any:
        """The values under ``keys``: a list in that order, or a dict."""
        self._undefined("mget")

    def set(self, key: Any, value: Any) -> Any:
        """Put ``value`` under ``key``."""
        self._undefined("set")

    def delete(self, key: Any) -> Any:
        """Remove what is under ``key``."""
        self._undefined("delete")

    def incr(self, key: Any) -> Any:
        """Add one to the number under ``key``."""
        self._undefined("incr")

    def expire(self, key: Any, value: Any) -> None:
        """Have ``key`` go after ``value`` seconds, where the store can do that."""

    def _set_with_state(self, key: Any, value: Any, state: str | None) -> Any:
        return self.set(key, value)

    # ── keys ────────────────────────────────────────────────────────────────────────────

    def get_key_for_task(self, task_id: Any, key: Any = "") -> Any:
        """The key of a task's meta."""
        return self._get_key_for(self.task_keyprefix, "task_id", task_id, key)

    def get_key_for_group(self, group_id: Any, key: Any = "") -> Any:
        """The key of a group that was saved."""
        return self._get_key_for(self.group_keyprefix, "group_id", group_id, key)

    def get_key_for_chord(self, group_id: Any, key: Any = "") -> Any:
        """The key that a store may count a chord under."""
        return self._get_key_for(self.chord_keyprefix, "group_id", group_id, key)

    def _get_key_for(self, prefix: Any, what: str, id: Any, key: Any) -> Any:
        if not id:
            raise ValueError(f"{what} must not be empty. Got {id!r} instead.")
        key_t = self.key_t
        name = id if isinstance(id, bytes) else str(id)
        return key_t("").join((prefix, key_t(name), key_t(key)))

    def _strip_prefix(self, key: Any) -> str:
        key = self.key_t(key)
        for prefix in (self.task_keyprefix, self.group_keyprefix):
            if key.startswith(prefix):
                return _as_text(key[len(prefix) :])
        return _as_text(key)

    # ── tasks ───────────────────────────────────────────────────────────────────────────

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
        meta["task_id"] = _as_text(task_id)
        # A success stays, whatever a worker that was thought lost says afterwards.
        if self._get_task_meta_for(task_id)["status"] == states.SUCCESS:
            return result
        try:
            self._set_with_state(self.get_key_for_task(task_id), self.encode(meta), state)
        except BackendStoreError as error:
            raise BackendStoreError(
                str(error), state=state or "", task_id=task_id
            ) from error
        return result

    def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
        found = self.get(self.get_key_for_task(task_id))
        if not found:
            return {"status": states.PENDING, "result": None}
        return self.decode_result(found)

    def _forget(self, task_id: str) -> None:
        self.delete(self.get_key_for_task(task_id))

    def task_result_exists(self, task_id: str) -> bool:
        """Whether anything was stored for a task, be it PENDING."""
        return bool(self.get(self.get_key_for_task(task_id)))

    def get_many(
        self,
        task_ids: Iterable[str],
        timeout: float | None = None,
        interval: float | None = 0.5,
        no_ack: bool = True,
        on_message: Callable[[Any], Any] | None = None,
        on_interval: Callable[..., Any] | None = None,
        max_iterations: int | None = None,
        READY_STATES: frozenset[str] = states.READY_STATES,
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """The results of ``task_ids`` as they become ready, as ``(id, meta)``.

        Raises:
            TimeoutError: It took longer than ``timeout``.
        """
        interval = 0.5 if interval is None else interval
        waiting = {_as_text(task_id) for task_id in task_ids}
        for task_id in sorted(waiting):
            cached = self._cache.get(task_id)
            if cached is not None and cached["status"] in READY_STATES:
                waiting.discard(task_id)
                yield task_id, cached
        waited, looks = 0.0, 0
        while waiting:
            ids = sorted(waiting)
            values = self.mget([self.get_key_for_task(task_id) for task_id in ids])
            ready = self._mget_to_results(values, ids, READY_STATES)
            self._cache.update(ready)
            waiting -= ready.keys()
            for task_id, meta in ready.items():
                if on_message is not None:
                    on_message(meta)
                yield task_id, meta
            looks += 1
            if not waiting or looks == max_iterations:
                return
            if timeout is not None and waited >= timeout:
                raise TimeoutError(f"Operation timed out ({timeout})")
            if on_interval is not None:
                on_interval()
            # Never past the deadline: timeout=0 looks once.
            nap = interval if timeout is None else min(interval, timeout - waited)
            self._sleep(nap)
            waited += nap

    def _mget_to_results(
        self,
        values: Any,
        keys: Sequence[Any],
        READY_STATES: frozenset[str] = states.READY_STATES,
    ) -> dict[str, dict[str, Any]]:
        if isinstance(values, Mapping):
            pairs = [(self._strip_prefix(key), value) for key, value in values.items()]
        else:
            pairs = [
                (_as_text(key), value) for key, value in zip(keys, values, strict=False)
            ]
        return dict(self._filter_ready(pairs, READY_STATES))

    def _filter_ready(
        self,
        values: Iterable[tuple[Any, Any]],
        READY_STATES: frozenset[str] = states.READY_STATES,
    ) -> Iterator[tuple[Any, dict[str, Any]]]:
        for key, value in values:
            if value is not None:
                meta = self.decode_result(value)
                if meta["status"] in READY_STATES:
                    yield key, meta

    # ── groups ──────────────────────────────────────────────────────────────────────────

    def _save_group(self, group_id: str, result: Any) -> Any:
        key = self.get_key_for_group(group_id)
        self._set_with_state(
            key, self.encode({"result": result.as_tuple()}), states.SUCCESS
        )
        return result

    def _restore_group(self, group_id: str) -> Any:
        found = self.get(self.get_key_for_group(group_id))
        if not found:
            return None
        meta = self.decode(found)
        return {**meta, "result": result_from_tuple(meta["result"], self.app)}

    def _delete_group(self, group_id: str) -> Any:
        return self.delete(self.get_key_for_group(group_id))


class KeyValueStoreBackend(BaseKeyValueStoreBackend, SyncBackendMixin):
    """Results under keys, looked at again and again."""
