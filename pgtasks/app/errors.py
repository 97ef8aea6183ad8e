"""Errors as a row can hold them: bounded texts that PostgreSQL takes (R11)."""

from __future__ import annotations

from typing import Any

from pgtasks.exceptions import PayloadTooLarge
from pgtasks.job import Error
from pgtasks.utils.text import safe_repr

__all__ = ["LONGEST_TEXT", "dump_exception", "error_of", "message_of", "storable"]

#: Longest error text in a row, in characters.
LONGEST_TEXT = 65536


def error_of(exc: BaseException, traceback: str | None) -> Error:
    """An exception as it is kept in the history of its job."""
    kind = type(exc)
    name = kind.__qualname__
    if kind.__module__ not in ("builtins", "__main__", "pgtasks.exceptions"):
        name = f"{kind.__module__}.{name}"
    return Error(storable(name, 1024), storable(message_of(exc)), storable(traceback or ""))


def message_of(exc: BaseException) -> str:
    """What the exception says; one that cannot say it is described."""
    try:
        return str(exc)
    except Exception:
        return safe_repr(exc)


def storable(text: str, longest: int = LONGEST_TEXT) -> str:
    """``text`` as PostgreSQL can store it: no NUL, no lone surrogate, not endless (R11)."""
    if len(text) > longest:
        # The beginning says what it is, the end of a traceback what happened.
        half = longest // 2 - 40
        left_out = len(text) - 2 * half
        text = f"{text[:half]}\n… {left_out:,} characters left out …\n{text[-half:]}"
    if "\x00" in text:
        text = text.replace("\x00", "\\x00")
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-8", "backslashreplace").decode()
    return text


def dump_exception(
    backend: Any, exc: BaseException, state: str
) -> tuple[str | None, bytes | None, str | None]:
    """An exception as a result: text or bytes, and the MIME type; see `Backend.dump`."""
    try:
        text, body, content_type = backend.dump(backend.encode_result(exc, state))
        if len(body if body is not None else text) > LONGEST_TEXT:
            raise PayloadTooLarge("The exception's arguments are too long.")
    except Exception:
        # Whatever its arguments are, that it failed must be known.
        short = storable(message_of(exc), LONGEST_TEXT // 8)
        kind = type(exc)
        prepared: Any = {
            "exc_type": kind.__qualname__,
            "exc_message": [short],
            "exc_module": kind.__module__,
        }
        if backend.serializer == "pickle":
            prepared = Exception(f"{kind.__qualname__}: {short}")
        text, body, content_type = backend.dump(prepared)
    return text, body, content_type
