"""Exceptions that survive pickling, values that survive JSON."""

from __future__ import annotations

import datetime
import numbers
import pickle
import sys
from base64 import b64decode as _b64decode
from base64 import b64encode as _b64encode
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from inspect import getmro
from itertools import takewhile
from typing import Any, NoReturn

from pgtasks.utils.text import safe_repr

__all__ = [
    "STRTOBOOL_DEFAULT_TABLE",
    "UnpickleableExceptionWrapper",
    "b64decode",
    "b64encode",
    "create_exception_cls",
    "ensure_serializable",
    "find_pickleable_exception",
    "get_pickleable_etype",
    "get_pickleable_exception",
    "get_pickled_exception",
    "itermro",
    "jsonify",
    "pickle",
    "raise_with_context",
    "strtobool",
    "subclass_exception",
]

#: Too general to stand in for an exception that cannot be pickled.
unwanted_base_classes = (Exception, BaseException, object)

STRTOBOOL_DEFAULT_TABLE = {
    **dict.fromkeys(("false", "no", "0", "off"), False),
    **dict.fromkeys(("true", "yes", "1", "on"), True),
}

_Codec = Callable[[Any], Any]


# ── exceptions ──────────────────────────────────────────────────────────────


class UnpickleableExceptionWrapper(Exception):
    """Stands for an exception that cannot be pickled, and neither can its bases.

    Attributes:
        exc_module: Module of the original's class.
        exc_cls_name: Name of the class.
        exc_args: The original's arguments; those that cannot be pickled, as text.
        text: The original's ``repr``.
    """

    def __init__(
        self,
        exc_module: str,
        exc_cls_name: str,
        exc_args: Iterable[Any],
        text: str | None = None,
    ) -> None:
        self.exc_module = exc_module
        self.exc_cls_name = exc_cls_name
        self.exc_args = ensure_serializable(exc_args, _through_pickle)
        self.text = text
        super().__init__(exc_module, exc_cls_name, self.exc_args, text)

    def __str__(self) -> str:
        return self.text or ""

    @classmethod
    def from_exception(cls, exc: BaseException) -> UnpickleableExceptionWrapper:
        """Wrap an exception, traceback included."""
        kind = type(exc)
        # A class of somebody's may be in the way of it.
        args = getattr(exc, "args", ())
        wrapper = cls(kind.__module__, kind.__name__, args, safe_repr(exc))
        return wrapper.with_traceback(getattr(exc, "__traceback__", None))

    def restore(self) -> BaseException:
        """An exception of a class with the original's name and arguments."""
        kind = create_exception_cls(self.exc_cls_name, self.exc_module)
        return kind(*self.exc_args)


def subclass_exception(
    name: str, parent: type[BaseException], module: str
) -> type[BaseException]:
    """Make an exception class of that name."""
    return type(name, (parent,), {"__module__": module})


def create_exception_cls(
    name: str, module: str, parent: type[BaseException] | None = None
) -> type[BaseException]:
    """Make an exception class of that name, by default below Exception."""
    return subclass_exception(name, parent or Exception, module)


def get_pickleable_exception(exc: BaseException) -> BaseException:
    """The exception, or the next best that can be pickled.

    That is one of its base classes with the same arguments, or else a wrapper
    that remembers its name.
    """
    try:
        _through_pickle(exc)
    except Exception:
        nearest = find_pickleable_exception(exc)
        return nearest or UnpickleableExceptionWrapper.from_exception(exc)
    return exc


def find_pickleable_exception(
    exc: BaseException, loads: _Codec = pickle.loads, dumps: _Codec = pickle.dumps
) -> BaseException | None:
    """The exception as an instance of its nearest base class that can be pickled.

    Exception itself is too general and not considered: the answer is then None.
    """
    for cls in itermro(type(exc), unwanted_base_classes):
        try:
            candidate: BaseException = cls(*getattr(exc, "args", ()))
            loads(dumps(candidate))
        except Exception:  # noqa: S112 - the next class may do better
            continue
        return candidate
    return None


def get_pickleable_etype(
    cls: type[BaseException], loads: _Codec = pickle.loads, dumps: _Codec = pickle.dumps
) -> type[BaseException]:
    """The exception class, or Exception if it cannot be pickled."""
    try:
        loads(dumps(cls))
    except Exception:
        return Exception
    return cls


def get_pickled_exception(exc: Any) -> Any:
    """What `get_pickleable_exception` was given, as far as it can be known."""
    return exc.restore() if isinstance(exc, UnpickleableExceptionWrapper) else exc


def itermro(cls: type, stop: Container[type]) -> Iterator[type]:
    """The class and its ancestry, up to the first of ``stop``."""
    return takewhile(lambda base: base not in stop, getmro(cls))


def ensure_serializable(items: Iterable[Any], encoder: _Codec) -> tuple[Any, ...]:
    """The items, with those that ``encoder`` refuses replaced by their ``repr``."""

    def encodable(item: Any) -> Any:
        try:
            encoder(item)
        except Exception:
            return safe_repr(item)
        return item

    return tuple(map(encodable, items))


def raise_with_context(exc: BaseException) -> NoReturn:
    """Raise ``exc``, caused by the exception that is being handled, if any."""
    current = sys.exc_info()[1]
    if current is exc:
        raise exc
    raise exc from current


def _through_pickle(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))  # noqa: S301 - our own bytes


# ── values ──────────────────────────────────────────────────────────────────


def b64encode(s: str | bytes) -> str:
    """Base64 as text; text is encoded as UTF-8 first."""
    return _b64encode(_bytes(s)).decode()


def b64decode(s: str | bytes) -> bytes:
    """The bytes behind a base64 text."""
    return _b64decode(_bytes(s))


def _bytes(s: str | bytes) -> bytes:
    return s.encode() if isinstance(s, str) else s


def strtobool(term: Any, table: Mapping[str, bool] | None = None) -> Any:
    """Read yes/no, true/false, on/off or 1/0; what is not a text is handed back.

    Raises:
        TypeError: The text is none of the table's.
    """
    if not isinstance(term, str):
        return term
    table = STRTOBOOL_DEFAULT_TABLE if table is None else table
    try:
        return table[term.lower()]
    except KeyError:
        raise TypeError(
            f"Cannot coerce {term!r} to type bool; write one of {', '.join(sorted(table))}"
        ) from None


def jsonify(
    obj: Any,
    builtin_types: tuple[type, ...] = (numbers.Real, str),
    key: Any = None,
    keyfilter: Callable[[Any], Any] | None = None,
    unknown_type_filter: Callable[[Any], Any] | None = None,
) -> Any:
    """Rebuild a value out of what JSON has: for replies and reports, not for round trips.

    Dates become ISO 8601 texts with milliseconds, durations ``h:mm:ss``, kombu's
    queues and exchanges objects.

    Args:
        obj: The value.
        builtin_types: Types to leave alone.
        key: Name of the value's place, for the message.
        keyfilter: Says which keys of mappings to keep.
        unknown_type_filter: Turns values of other types into something.

    Raises:
        ValueError: There is a value of another type, and no filter for it.
    """

    def convert(value: Any, key: Any = key) -> Any:
        return jsonify(value, builtin_types, key, keyfilter, unknown_type_filter)

    entity = getattr(sys.modules.get("kombu.abstract"), "Object", None)
    if entity is not None and isinstance(obj, entity):
        obj = obj.as_dict(recurse=True)
    if obj is None or isinstance(obj, builtin_types):
        return obj
    if isinstance(obj, (tuple, list)):
        return [convert(item) for item in obj]
    if isinstance(obj, dict):
        kept = (name for name in obj if keyfilter is None or keyfilter(name))
        return {name: convert(obj[name], key=name) for name in kept}
    if isinstance(obj, (datetime.datetime, datetime.time)):
        text = obj.isoformat(timespec="milliseconds" if obj.microsecond else "auto")
        return f"{text[:-6]}Z" if text.endswith("+00:00") else text
    if isinstance(obj, datetime.date):
        return obj.isoformat()
    if isinstance(obj, datetime.timedelta):
        return str(obj)
    if unknown_type_filter is None:
        raise ValueError(f"Unsupported type: {type(obj)!r} {obj!r} (parent: {key})")
    return unknown_type_filter(obj)
