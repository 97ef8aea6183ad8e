"""Results as they are stored: values and exceptions, to and fro.

Celery's format in every detail that other programs could have learnt to read.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from datetime import timedelta
from functools import cached_property
from typing import Any, ClassVar

from pgtasks import serialization, states
from pgtasks._state import get_current_task
from pgtasks.backends.compression import compress_payload, decompress_payload
from pgtasks.exceptions import ImproperlyConfigured, SecurityError
from pgtasks.result import ResultBase
from pgtasks.utils.serialization import (
    create_exception_cls,
    ensure_serializable,
    get_pickleable_exception,
    get_pickled_exception,
)

__all__ = ["Codec"]

#: Serializers that carry an exception as it is.
EXCEPTION_ABLE_CODECS = frozenset({"pickle"})

_ENDS_OF_PROCESSES = (SystemExit, KeyboardInterrupt, GeneratorExit)


class Codec:
    """What of a backend turns values into what is stored, and back.

    Args:
        app: The application.
        serializer: Name of the serializer; the setting ``result_serializer`` by default.
        accept: Serializers that may be read; ``result_accept_content``.
    """

    READY_STATES: ClassVar[frozenset[str]] = states.READY_STATES
    UNREADY_STATES: ClassVar[frozenset[str]] = states.UNREADY_STATES
    EXCEPTION_STATES: ClassVar[frozenset[str]] = states.EXCEPTION_STATES

    #: Stored values may be any bytes, so that ``result_compression`` can be honoured.
    supports_result_compression = False

    def __init__(self, app: Any, serializer: str | None, accept: Any) -> None:
        self.app = app
        self.serializer: str = serializer or app.conf.result_serializer
        self._accept = accept
        self.compression = self.prepare_compression(app.conf.result_compression)

    # ── serializers ─────────────────────────────────────────────────────────────────────

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
        """Serialize ``data``, and compress it where the settings say so."""
        payload = self._encode(data)[2]
        return compress_payload(payload, self.compression) if self.compression else payload

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
            decompress_payload(payload) or str(payload),
            content_type=self.content_type,
            content_encoding=self.content_encoding,
            accept=self.accept,
        )

    def prepare_compression(self, compression: str | None) -> str | None:
        """The method to compress results with; None where they cannot be compressed.

        Raises:
            ImproperlyConfigured: There is no such method.
        """
        if not compression:
            return None
        if not self.supports_result_compression:
            warnings.warn(
                f"{type(self).__name__} cannot store compressed payloads: "
                f"result_compression={compression!r} is ignored.",
                UserWarning,
                stacklevel=4,
            )
            return None
        from kombu.compression import encoders, get_encoder

        try:
            get_encoder(compression)
        except KeyError as error:
            raise ImproperlyConfigured(
                f"Unknown compression method {compression!r} in result_compression. There "
                f"are: {', '.join(sorted(encoders()))}."
            ) from error
        return compression

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
            "exc_message": ensure_serializable(exc.args, self._encode),
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
        if issubclass(kind, _ENDS_OF_PROCESSES):
            # SystemExit from a table must not end the process that reads it.
            kind = create_exception_cls(name, module or __name__)
        try:
            return kind(*message) if isinstance(message, (tuple, list)) else kind(message)
        except Exception:
            return Exception(f"{kind}({message})")

    # ── what is stored of a task ────────────────────────────────────────────────────────

    def _get_result_meta(
        self,
        result: Any,
        state: str | None,
        traceback: str | None,
        request: Any,
        format_date: bool = True,
        encode: bool = False,
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
            args, kwargs = getattr(request, "args", None), getattr(request, "kwargs", None)
            if encode:  # For stores that keep them in columns of their own.
                args, kwargs = _as_bytes(self.encode(args)), _as_bytes(self.encode(kwargs))
            meta.update(
                name=getattr(request, "task", None),
                args=args,
                kwargs=kwargs,
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


def _as_bytes(payload: Any) -> bytes:
    return payload.encode() if isinstance(payload, str) else bytes(payload)


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
