"""What ``app.backend`` promises, by Celery's names: states and results, kept and given back.

Whoever keeps results elsewhere subclasses `BaseBackend`, or `KeyValueStoreBackend`, and
defines its hooks: ``_store_result``, ``_get_task_meta_for``, ``_forget`` and the like.
"""

from __future__ import annotations

import time
import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, NoReturn

from pgtasks import states
from pgtasks._state import current_app
from pgtasks.app import modes
from pgtasks.backends.codec import Codec, _find_class
from pgtasks.backends.compression import (
    COMPRESSED_PAYLOAD_MAGIC,
    compress_payload,
    decompress_payload,
)
from pgtasks.backends.failure import FailureMixin
from pgtasks.backends.failure import create_chord_error as _create_chord_error_with_cause
from pgtasks.backends.groups import GroupMixin
from pgtasks.backends.outcomes import outcome_as_result
from pgtasks.backends.patience import PatienceMixin
from pgtasks.backends.waiting import SyncBackendMixin
from pgtasks.canvas import group, maybe_signature
from pgtasks.exceptions import (
    BackendGetMetaError,
    BackendStoreError,
    ImproperlyConfigured,
    TimeoutError,
)
from pgtasks.result import GroupResult

# Celery's names of this module, some of which other people's code imports or replaces.
__all__ = [
    "COMPRESSED_PAYLOAD_MAGIC",
    "Backend",
    "BaseBackend",
    "BaseDictBackend",
    "BaseKeyValueStoreBackend",
    "DisabledBackend",
    "GroupResult",
    "KeyValueStoreBackend",
    "SyncBackendMixin",
    "Unsupported",
    "_create_chord_error_with_cause",
    "_create_fake_task_request",
    "_find_class",
    "_nulldict",
    "compress_payload",
    "decompress_payload",
    "group",
    "maybe_signature",
    "pending_results_t",
    "states",
    "unpickle_backend",
]  # fmt: skip

if TYPE_CHECKING:
    from pgtasks.backends.keyvalue import BaseKeyValueStoreBackend, KeyValueStoreBackend


class pending_results_t(NamedTuple):
    """Results that somebody waits for, as Celery's stores with connections keep them."""

    concrete: Any
    weak: Any


E_EAGER = (
    "Results are not stored in backend and should not be retrieved when task_always_eager "
    "is enabled, unless task_store_eager_result is enabled."
)

E_DISABLED = (
    "Results are switched off here (result_backend = 'disabled://'), so there is nothing "
    "to read. Remove the setting to keep them in PostgreSQL."
)

E_NO_CHORDS = (
    "Results are switched off here (result_backend = 'disabled://'), and the body of a "
    "chord is called with those of its header. A group with a task behind it is a chord "
    "too. Remove the setting to keep results in PostgreSQL."
)


class Unsupported(ImproperlyConfigured, NotImplementedError):
    """A backend was asked for something that its class does not define."""


class _nulldict(dict[Any, Any]):
    """A mapping that keeps nothing."""

    def ignore(self, *args: Any, **kwargs: Any) -> None:
        """Nothing."""

    __setitem__ = update = setdefault = ignore


class _Recent(OrderedDict[Any, Any]):
    """The results that were read last."""

    def __init__(self, limit: int | None) -> None:
        super().__init__()
        self.limit = limit

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)
        if self.limit and len(self) > self.limit:
            try:
                self.popitem(last=False)
            except KeyError:
                pass  # Another thread was faster.


class Backend(FailureMixin, GroupMixin, PatienceMixin, Codec):
    """Stores states and results, and gives them back.

    Args:
        app: The application.
        serializer: Name of the serializer; the setting ``result_serializer`` by default.
        max_cached_results: How many results that were read to remember;
            ``result_cache_max``. -1 remembers none.
        accept: Serializers that may be read; ``result_accept_content``.
        expires: Seconds that results are kept; ``result_expires``.
        expires_type: What to make of that number.
        url: What ``result_backend`` says.
        **kwargs: What other backends take.
    """

    TimeoutError: ClassVar[type[Exception]] = TimeoutError

    #: Many results can be read at once.
    supports_native_join = False
    #: Old results go by themselves.
    supports_autoexpire = False
    #: ``result_failure_expires`` is honoured.
    supports_failure_expires = False
    #: Results outlive the process.
    persistent = True
    #: Seconds between two looks of somebody who waits; None leaves that to the store.
    subpolling_interval: float | None = None
    #: How often, and how far apart, a store without an answer is asked again.
    retry_policy: ClassVar[dict[str, Any]] = {
        "max_retries": 20,
        "interval_start": 0,
        "interval_step": 1,
        "interval_max": 1,
    }
    #: One instance serves all threads; also if ``result_backend_thread_safe`` says so.
    thread_safe = False

    def __init__(
        self,
        app: Any,
        serializer: str | None = None,
        max_cached_results: int | None = None,
        accept: Any = None,
        expires: Any = None,
        expires_type: Callable[[Any], Any] | None = None,
        url: str | None = None,
        **kwargs: Any,
    ) -> None:
        conf = app.conf
        Codec.__init__(self, app, serializer, accept)
        PatienceMixin.__init__(self, conf)
        most = max_cached_results or conf.result_cache_max
        self._cache: Any = _nulldict() if most == -1 else _Recent(most)
        self.expires = self.prepare_expires(expires, expires_type)
        self.url = url
        if not self.thread_safe:
            self.thread_safe = bool(conf.result_backend_thread_safe)
        if conf.result_failure_expires is not None and not self.supports_failure_expires:
            warnings.warn(
                f"{type(self).__name__} does not support result_failure_expires: failures "
                f"are kept as long as other results.",
                UserWarning,
                stacklevel=2,
            )

    def prepare_persistent(self, enabled: bool | None = None) -> bool:
        """Whether results outlive their store: ``result_persistent``, else the class's.

        Args:
            enabled: What somebody has said; None leaves it to the setting.
        """
        if enabled is not None:
            return enabled
        setting = self.app.conf.result_persistent
        return self.persistent if setting is None else bool(setting)

    def as_uri(self, include_password: bool = False) -> str | None:
        """Where results are kept, as a URL; without the password unless asked for."""
        if include_password:
            return self.url
        from kombu.utils.url import maybe_sanitize_url

        url: str = maybe_sanitize_url(self.url or "")
        return url[:-1] if url.endswith(":///") else url

    # ── what becomes of a task ──────────────────────────────────────────────────────────

    def mark_as_started(self, task_id: str, **meta: Any) -> Any:
        """Show the task as STARTED."""
        return self.store_result(task_id, meta, states.STARTED)

    def mark_as_done(
        self,
        task_id: str,
        result: Any,
        request: Any = None,
        store_result: bool = True,
        state: str = states.SUCCESS,
    ) -> None:
        """Store what the task returned."""
        if store_result and not (request and request.ignore_result):
            self.store_result(task_id, result, state, request=request)
        if request and request.chord:
            self.on_chord_part_return(request, state, result)

    # ── storing ─────────────────────────────────────────────────────────────────────────

    def store_result(
        self,
        task_id: str,
        result: Any,
        state: str | None,
        traceback: str | None = None,
        request: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Store a state and its result; the first SUCCESS stays whatever comes after it.

        Raises:
            BackendStoreError: The store was tried as often as the settings allow.
        """
        result = self.encode_result(result, state)

        def store() -> Any:
            # By position: subclasses give these parameters names of their own.
            return self._store_result(
                task_id, result, state, traceback, request=request, **kwargs
            )

        self._ensure_retryable(
            store,
            lambda: BackendStoreError(
                "failed to store result on the backend", task_id=task_id, state=state or ""
            ),
        )
        return result

    def _store_result(
        self,
        task_id: str,
        result: Any,
        state: str | None,
        traceback: str | None = None,
        request: Any = None,
        **kwargs: Any,
    ) -> Any:
        self._undefined("_store_result")

    def store_outcome(self, job: Any, outcome: Any, worker: str | None = None) -> None:
        """Store what became of a job that is kept in memory; rows are written elsewhere.

        Args:
            job: The job that ran.
            outcome: What became of it.
            worker: Name of the worker that ran it, if it is known.
        """
        told = outcome_as_result(self, job, outcome, worker)
        if told is not None:
            self.store_result(**told)

    def forget(self, task_id: str) -> None:
        """Drop a result."""
        self._cache.pop(task_id, None)
        self._ensure_retryable(lambda: self._forget(task_id))

    def _forget(self, task_id: str) -> None:
        self._undefined("_forget")

    def _undefined(self, hook: str) -> NoReturn:
        raise Unsupported(f"{type(self).__name__} does not define {hook}().")

    # ── reading ─────────────────────────────────────────────────────────────────────────

    def get_state(self, task_id: str) -> str:
        """The state of a task."""
        return self.get_task_meta(task_id)["status"]  # type: ignore[no-any-return]

    get_status = get_state

    def get_result(self, task_id: str) -> Any:
        """The result of a task."""
        return self.get_task_meta(task_id).get("result")

    def get_traceback(self, task_id: str) -> str | None:
        """The traceback of a failed task."""
        return self.get_task_meta(task_id).get("traceback")

    def get_children(self, task_id: str) -> Any:
        """What a task has sent."""
        return self.get_task_meta(task_id).get("children")

    def get_job(self, task_id: str) -> Any:
        """The row of a task; None where results are not rows."""
        return None

    def get_task_meta(self, task_id: str, cache: bool = True) -> dict[str, Any]:
        """All that is known of a task, as a dict with ``status`` and ``result``.

        Raises:
            BackendGetMetaError: The store was asked as often as the settings allow.
        """
        self._ensure_not_eager()
        if cache and task_id in self._cache:
            return self._cache[task_id]  # type: ignore[no-any-return]
        meta: dict[str, Any] = self._ensure_retryable(
            lambda: self._get_task_meta_for(task_id),
            lambda: BackendGetMetaError("failed to get meta", task_id=task_id),
        )
        if cache and meta.get("status") == states.SUCCESS:
            self._cache[task_id] = meta
        return meta

    def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
        self._undefined("_get_task_meta_for")

    def reload_task_result(self, task_id: str) -> None:
        """Read a result again that is remembered."""
        self._cache[task_id] = self.get_task_meta(task_id, cache=False)

    def task_result_exists(self, task_id: str) -> bool:
        """Whether anything is known of a task."""
        return bool(self._get_task_meta_for(task_id)["status"] != states.PENDING)

    def is_cached(self, task_id: str) -> bool:
        """Whether the result is remembered."""
        return task_id in self._cache

    def _ensure_not_eager(self) -> None:
        if modes.is_eager(self.app) and not self.app.conf.task_store_eager_result:
            warnings.warn(E_EAGER, RuntimeWarning, stacklevel=2)

    # ── moments of a worker ─────────────────────────────────────────────────────────────

    def cleanup(self) -> None:
        """Remove old results; called by ``celery.backend_cleanup``."""

    def process_cleanup(self) -> None:
        """Called after each task."""

    def on_task_call(self, producer: Any, task_id: str) -> dict[str, Any]:
        """Called before a task is sent; what it returns goes along."""
        return {}

    def _sleep(self, amount: float) -> None:
        time.sleep(amount)

    def __reduce__(self, args: Any = (), kwargs: Any = None) -> Any:
        return unpickle_backend, (type(self), args, kwargs or {})


class BaseBackend(Backend, SyncBackendMixin):
    """A backend that is looked at again and again."""


BaseDictBackend = BaseBackend


class DisabledBackend(BaseBackend):
    """``result_backend = "disabled://"``: nothing is kept, and reading is an error."""

    _cache: Any = {}

    def __init__(self, app: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(app, *args, **kwargs)
        del self._cache

    def store_result(self, *args: Any, **kwargs: Any) -> None:
        """Nothing."""

    def as_uri(self, *args: Any, **kwargs: Any) -> str:
        """``disabled://``."""
        return "disabled://"

    def ensure_chords_allowed(self) -> None:
        """Refuse: a chord's body needs results."""
        raise Unsupported(E_NO_CHORDS)

    def _is_disabled(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(E_DISABLED)

    get_state = get_status = get_result = get_traceback = _is_disabled
    get_task_meta_for = wait_for = get_many = _is_disabled


def unpickle_backend(cls: type[Any], args: Any, kwargs: Any) -> Any:
    """Make a backend of what was pickled, for the current app."""
    return cls(*args, app=current_app._get_current_object(), **kwargs)


def _create_fake_task_request(
    task_id: str | None,
    errbacks: Any = None,
    task_name: str = "unknown",
    **extra: Any,
) -> Any:
    """The request that errbacks are called with for a task that never ran."""
    from pgtasks.app.context import Context

    return Context(
        {
            "id": task_id,
            "errbacks": errbacks or [],
            "delivery_info": {},
            "task": task_name,
            **extra,
        }
    )


def __getattr__(name: str) -> Any:
    # Built on this module, and by this module's name in Celery.
    if name in ("BaseKeyValueStoreBackend", "KeyValueStoreBackend"):
        from pgtasks.backends import keyvalue

        return getattr(keyvalue, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
