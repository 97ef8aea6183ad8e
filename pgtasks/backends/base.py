"""What ``app.backend`` promises, by Celery's names."""

from __future__ import annotations

import sys
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from functools import cached_property, partial
from typing import Any, ClassVar

from pgtasks import serialization, states
from pgtasks._state import current_app, get_current_task
from pgtasks.exceptions import (
    ImproperlyConfigured,
    NotRegistered,
    SecurityError,
    TaskRevokedError,
    TimeoutError,
)
from pgtasks.result import ResultBase, ResultSet
from pgtasks.utils.einfo import ExceptionInfo
from pgtasks.utils.functional import arity_greater
from pgtasks.utils.log import get_logger
from pgtasks.utils.serialization import (
    create_exception_cls,
    ensure_serializable,
    get_pickleable_exception,
    get_pickled_exception,
)

__all__ = [
    "Backend",
    "BaseBackend",
    "BaseDictBackend",
    "DisabledBackend",
    "SyncBackendMixin",
]

logger = get_logger("celery.backends.base")

#: Serializers that carry an exception as it is.
EXCEPTION_ABLE_CODECS = frozenset({"pickle"})

E_EAGER = (
    "Results are not stored in backend and should not be retrieved when task_always_eager "
    "is enabled, unless task_store_eager_result is enabled."
)

E_DISABLED = (
    "Results are switched off here (result_backend = 'disabled://'), so there is nothing "
    "to read. Remove the setting to keep them in PostgreSQL."
)


class _Recent(OrderedDict[Any, Any]):
    """The results that were read last; none with a limit of -1, as in Celery."""

    def __init__(self, limit: int | None) -> None:
        super().__init__()
        self.limit = limit

    def __setitem__(self, key: Any, value: Any) -> None:
        if self.limit == -1:
            return
        super().__setitem__(key, value)
        if self.limit and len(self) > self.limit:
            try:
                self.popitem(last=False)
            except KeyError:
                pass  # Another thread was faster.


class Backend:
    """Stores states and results, and gives them back.

    Args:
        app: The application.
        serializer: Name of the serializer; the setting ``result_serializer`` by default.
        max_cached_results: How many finished results to remember; ``result_cache_max``.
        accept: Serializers that may be read; ``result_accept_content``.
        expires: Seconds that results are kept; ``result_expires``.
        expires_type: What to make of that number.
        url: What ``result_backend`` says.
        **kwargs: What other backends take.
    """

    READY_STATES: ClassVar[frozenset[str]] = states.READY_STATES
    UNREADY_STATES: ClassVar[frozenset[str]] = states.UNREADY_STATES
    EXCEPTION_STATES: ClassVar[frozenset[str]] = states.EXCEPTION_STATES

    TimeoutError: ClassVar[type[Exception]] = TimeoutError

    #: Many results can be read at once.
    supports_native_join = False
    #: Old results go by themselves.
    supports_autoexpire = False
    #: Results outlive the process.
    persistent = True
    #: One instance serves all threads.
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
        self.app = app
        conf = app.conf
        self.serializer: str = serializer or conf.result_serializer
        self._cache = _Recent(max_cached_results or conf.result_cache_max)
        self.expires = self.prepare_expires(expires, expires_type)
        self._accept = accept
        self.url = url

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

    def mark_as_failure(
        self,
        task_id: str,
        exc: BaseException,
        traceback: str | None = None,
        request: Any = None,
        store_result: bool = True,
        call_errbacks: bool = True,
        state: str = states.FAILURE,
    ) -> None:
        """Store the exception that the task raised, and call its errbacks."""
        if store_result:
            self.store_result(task_id, exc, state, traceback=traceback, request=request)
        if request:
            if request.chord:
                self.on_chord_part_return(request, state, exc)
            if call_errbacks and request.errbacks:
                self._call_task_errbacks(request, exc, traceback)

    def mark_as_retry(
        self,
        task_id: str,
        exc: BaseException | None,
        traceback: str | None = None,
        request: Any = None,
        store_result: bool = True,
        state: str = states.RETRY,
    ) -> Any:
        """Store why the task is going to run again."""
        return self.store_result(task_id, exc, state, traceback=traceback, request=request)

    def mark_as_revoked(
        self,
        task_id: str,
        reason: Any = "",
        request: Any = None,
        store_result: bool = True,
        state: str = states.REVOKED,
    ) -> None:
        """Store that the task was revoked."""
        exc = TaskRevokedError(reason)
        if store_result:
            self.store_result(task_id, exc, state, traceback=None, request=request)
        if request and request.chord:
            self.on_chord_part_return(request, state, exc)

    def fail_from_current_stack(
        self, task_id: str, exc: BaseException | None = None
    ) -> ExceptionInfo:
        """`mark_as_failure` with the exception that is being handled."""
        kind, current, tb = sys.exc_info()
        error = current if exc is None else exc
        info = ExceptionInfo((kind, error, tb))
        self.mark_as_failure(task_id, info.exception, info.traceback)
        return info

    def on_chord_part_return(
        self, request: Any, state: str, result: Any, **kwargs: Any
    ) -> None:
        """Count a member of a chord's header that has ended; for backends that do."""

    def _call_task_errbacks(
        self, request: Any, exc: BaseException, traceback: str | None
    ) -> None:
        """Call the errbacks of a task that failed.

        One that takes ``(request, exc, traceback)`` is called here and now. One that
        takes a single argument is sent as a task, with the id of the task that failed.
        """
        for errback in request.errbacks:
            errback = self.app.signature(errback)
            if not errback._app:
                errback._app = self.app
            try:
                here = self._is_called_here(errback)
            except NotRegistered:
                here = False  # Another worker may know it.
            if here:
                try:
                    errback(request, exc, traceback)
                except Exception:
                    logger.exception("Errback %r raised an exception", errback.name)
                continue
            eager = self.app.conf.task_always_eager or (request.delivery_info or {}).get(
                "is_eager", False
            )
            send = errback.apply if eager else errback.apply_async
            root_id = request.root_id or request.id
            send((request.id,), parent_id=request.id, root_id=root_id)

    def _is_called_here(self, errback: Any) -> bool:
        header = getattr(errback.type, "__header__", None)
        if header is None or isinstance(header, partial):
            # A bound task: called as a function it would have no request to retry with.
            return False
        if not errback.immutable and (errback.args or errback.kwargs):
            try:
                # What counts is the arguments that are still to come.
                return arity_greater(partial(header, *errback.args, **errback.kwargs), 1)
            except (TypeError, ValueError):
                pass
        return arity_greater(header, 1)

    # ── values to and fro ───────────────────────────────────────────────────────────────

    @cached_property
    def accept(self) -> Any:
        """MIME types that may be read; the settings decide, in this order."""
        from kombu.serialization import prepare_accept_content

        conf = self.app.conf
        for accept in (self._accept, conf.result_accept_content, conf.accept_content):
            if accept is not None:
                return prepare_accept_content(accept)
        return None

    @cached_property
    def _codec(self) -> tuple[str, str, Any]:
        from kombu.serialization import registry

        codec: tuple[str, str, Any] = registry._encoders[self.serializer]
        return codec

    @property
    def content_type(self) -> str:
        """MIME type of the serializer."""
        return self._codec[0]

    @property
    def content_encoding(self) -> str:
        """Encoding of what the serializer writes: ``utf-8`` or ``binary``."""
        return self._codec[1]

    @property
    def encoder(self) -> Any:
        """The serializer's function."""
        return self._codec[2]

    def dump(self, value: Any) -> tuple[str | None, bytes | None, str | None]:
        """Serialize a result for a row: as text or as bytes, with its MIME type.

        The type is None for JSON, which is what most results are.

        Raises:
            EncodeError: It cannot be serialized.
        """
        if self.serializer == "json":
            return ("null" if value is None else serialization.dumps(value)), None, None
        content_type, _, data = self._encode(value)
        if isinstance(data, str):
            return data, None, content_type
        return None, bytes(data), content_type

    def load(
        self, text: str | None, body: bytes | None = None, content_type: str | None = None
    ) -> Any:
        """Read what `dump` has written, by whichever serializer it was.

        Raises:
            ContentDisallowed: The settings do not allow to read this type.
            DecodeError: It cannot be read.
        """
        if content_type is None and body is None:
            return None if text is None else serialization.loads(text)
        data = body if body is not None else (text or "").encode()
        return serialization.unpack(data, content_type, None, self.accept)

    def encode(self, data: Any) -> Any:
        """Serialize ``data``."""
        return self._encode(data)[2]

    def _encode(self, data: Any) -> tuple[str, str, Any]:
        from kombu.serialization import dumps

        encoded: tuple[str, str, Any] = dumps(data, serializer=self.serializer)
        return encoded

    def decode(self, payload: Any) -> Any:
        """The value behind a serialized one."""
        if payload is None:
            return payload
        from kombu.serialization import loads

        return loads(
            payload or str(payload),
            content_type=self.content_type,
            content_encoding=self.content_encoding,
            accept=self.accept,
        )

    def decode_result(self, payload: Any) -> dict[str, Any]:
        """The meta behind a serialized one, its exception made again."""
        return self.meta_from_decoded(self.decode(payload))

    def meta_from_decoded(self, meta: dict[str, Any]) -> dict[str, Any]:
        """Make the exception of a failed task's meta, if that has not been done."""
        if meta["status"] in self.EXCEPTION_STATES:
            meta["result"] = self.exception_to_python(meta["result"])
        return meta

    def encode_result(self, result: Any, state: str | None) -> Any:
        """Make of a result what the serializer can take."""
        if state in self.EXCEPTION_STATES and isinstance(result, BaseException):
            return self.prepare_exception(result)
        return self.prepare_value(result)

    def prepare_value(self, result: Any) -> Any:
        """Make of a task's result, which may itself be a result, plain values."""
        if self.serializer != "pickle" and isinstance(result, ResultBase):
            return result.as_tuple()  # type: ignore[attr-defined]
        return result

    def prepare_exception(self, exc: BaseException, serializer: str | None = None) -> Any:
        """Make of an exception its class's name and its arguments.

        Arguments that cannot be serialized are replaced by their repr.
        """
        if (serializer or self.serializer) in EXCEPTION_ABLE_CODECS:
            return get_pickleable_exception(exc)
        kind = type(exc)
        return {
            "exc_type": getattr(kind, "__qualname__", kind.__name__),
            "exc_message": ensure_serializable(exc.args, self.encode),
            "exc_module": kind.__module__,
        }

    def exception_to_python(self, exc: Any) -> Any:
        """Make of what `prepare_exception` has made an exception again.

        Its class is looked up among the modules that are loaded; nothing is imported.
        Where it is not found, a class of the same name stands in.

        Raises:
            SecurityError: The name leads to something that is no exception. A result that
                says ``os.system`` must not call it (CVE-2021-23727).
        """
        if not exc:
            return None
        if isinstance(exc, BaseException):
            return get_pickled_exception(exc) if self.serializer == "pickle" else exc
        if not isinstance(exc, dict):
            try:
                exc = dict(exc)
            except (TypeError, ValueError) as error:
                raise TypeError(
                    f"A stored exception must be an exception or a mapping with "
                    f"'exc_type', not {exc!r}."
                ) from error
        if "exc_type" not in exc:
            raise ValueError(
                f"Exception information must include the exception type, and this does "
                f"not: {exc!r}. The meta of a state such as FAILURE needs the key "
                f"'exc_type'."
            )
        name, module = exc["exc_type"], exc.get("exc_module")
        kind = _find_class(name, module)
        message = exc.get("exc_message", "")
        if not isinstance(kind, type) or not issubclass(kind, BaseException):
            full = name if module is None else f"{module}.{name}"
            raise SecurityError(
                f"Expected an exception class, got {full} with payload {message}"
            )
        if not issubclass(kind, Exception):
            # SystemExit from a table must not end the process that reads it.
            kind = create_exception_cls(name, module or __name__)
        try:
            return kind(*message) if isinstance(message, (tuple, list)) else kind(message)
        except Exception:
            return Exception(f"{kind}({message})")

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
        """Store a state and its result; the first SUCCESS stays whatever comes after it."""
        result = self.encode_result(result, state)
        self._store_result(task_id, result, state, traceback, request=request, **kwargs)
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
        raise ImproperlyConfigured(f"{type(self).__name__} cannot store results.")

    def _get_result_meta(
        self,
        result: Any,
        state: str | None,
        traceback: str | None,
        request: Any,
        format_date: bool = True,
    ) -> dict[str, Any]:
        done: Any = self.app.now() if state in self.READY_STATES else None
        meta = {
            "status": state,
            "result": result,
            "traceback": traceback,
            "children": self.current_task_children(request),
            "date_done": done.isoformat() if done and format_date else done,
        }
        if request is None:
            return meta
        if getattr(request, "group", None):
            meta["group_id"] = request.group
        if getattr(request, "parent_id", None):
            meta["parent_id"] = request.parent_id
        if self.app.conf.result_extended:
            delivery = getattr(request, "delivery_info", None) or {}
            meta.update(
                name=getattr(request, "task", None),
                args=getattr(request, "args", None),
                kwargs=getattr(request, "kwargs", None),
                worker=getattr(request, "hostname", None),
                retries=getattr(request, "retries", None),
                queue=delivery.get("routing_key"),
            )
            if getattr(request, "stamps", None):
                stamped = request.stamped_headers or ()
                meta["stamped_headers"] = request.stamped_headers
                meta.update((k, v) for k, v in request.stamps.items() if k in stamped)
        return meta

    def current_task_children(self, request: Any = None) -> list[Any] | None:
        """What the task has sent, as plain values."""
        request = request or getattr(get_current_task(), "request", None)
        if not request:
            return None
        return [child.as_tuple() for child in getattr(request, "children", ())]

    def prepare_expires(self, value: Any, type: Callable[[Any], Any] | None = None) -> Any:
        """The time that results are kept, in seconds; None for ever."""
        if value is None:
            value = self.app.conf.result_expires
        if isinstance(value, timedelta):
            value = value.total_seconds()
        return type(value) if value is not None and type else value

    def store_outcome(self, job: Any, outcome: Any) -> None:
        """Store what became of a job that is kept in memory; rows are written elsewhere.

        Args:
            job: The job that ran.
            outcome: What became of it.
        """

    def forget(self, task_id: str) -> None:
        """Drop a result."""
        self._cache.pop(task_id, None)
        self._forget(task_id)

    def _forget(self, task_id: str) -> None:
        raise ImproperlyConfigured(f"{type(self).__name__} cannot forget results.")

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
        """All that is known of a task, as a dict with ``status`` and ``result``."""
        self._ensure_not_eager()
        if cache and task_id in self._cache:
            return self._cache[task_id]  # type: ignore[no-any-return]
        meta = self._get_task_meta_for(task_id)
        if cache and meta.get("status") == states.SUCCESS:
            self._cache[task_id] = meta
        return meta

    def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
        raise ImproperlyConfigured(f"{type(self).__name__} cannot read results.")

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
        conf = self.app.conf
        if conf.task_always_eager and not conf.task_store_eager_result:
            warnings.warn(E_EAGER, RuntimeWarning, stacklevel=2)

    # ── moments of a worker ─────────────────────────────────────────────────────────────

    def cleanup(self) -> None:
        """Remove old results; called by ``celery.backend_cleanup``."""

    def process_cleanup(self) -> None:
        """Called after each task."""

    def on_task_call(self, producer: Any, task_id: str) -> dict[str, Any]:
        """Called before a task is sent; what it returns goes along."""
        return {}

    def __reduce__(self, args: Any = (), kwargs: Any = None) -> Any:
        return unpickle_backend, (type(self), args, kwargs or {})


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
            time.sleep(nap)
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
        )

    def add_pending_result(self, result: Any, weak: bool = False) -> Any:
        """Called before a result is waited for."""
        return result

    def remove_pending_result(self, result: Any) -> Any:
        """Called when nobody waits for a result any longer."""
        return result


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

    def _is_disabled(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(E_DISABLED)

    get_state = get_status = get_result = get_traceback = _is_disabled
    get_task_meta_for = wait_for = get_many = _is_disabled


def unpickle_backend(cls: type[Any], args: Any, kwargs: Any) -> Any:
    """Make a backend of what was pickled, for the current app."""
    return cls(*args, app=current_app._get_current_object(), **kwargs)


def _find_class(name: str, module: str | None) -> Any:
    if module is None:
        return create_exception_cls(name, __name__)
    try:
        found: Any = sys.modules[module]
        for part in name.split("."):
            found = getattr(found, part)
    except (KeyError, AttributeError):
        return create_exception_cls(name, "celery.exceptions")
    return found
