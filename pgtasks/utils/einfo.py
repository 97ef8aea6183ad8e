"""An exception and its traceback as handlers and signals receive them."""

from __future__ import annotations

import sys
import traceback as formatting
from types import TracebackType
from typing import Any

__all__ = ["ExceptionInfo"]


class ExceptionInfo:
    """The ``einfo`` argument of ``on_failure``, ``on_retry`` and ``task_failure``.

    Takes ``sys.exc_info()`` unless told otherwise. The traceback's text is made when it
    is first asked for, since many failures are only counted.

    Attributes:
        type: Class of the exception.
        exception: The exception itself; a safe stand-in where it could not be pickled.
        tb: The traceback object, None after pickling.
        internal: The error is the worker's or a handler's, not the task's.
    """

    def __init__(
        self,
        exc_info: tuple[Any, Any, TracebackType | None] | None = None,
        internal: bool = False,
    ) -> None:
        found: tuple[Any, Any, Any] = exc_info or sys.exc_info()
        self.type, self.exception, self.tb = found
        self.internal = internal
        self._text: str | None = None

    @property
    def traceback(self) -> str:
        """The traceback as Python prints it, without the frames of the tracer itself."""
        if self._text is None:
            self._text = format_exception(self.exception, self.tb)
        return self._text

    @property
    def exc_info(self) -> tuple[Any, Any, TracebackType | None]:
        """The triple that ``logging`` takes."""
        return self.type, self.exception, self.tb

    def __str__(self) -> str:
        return self.traceback

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.exception!r}>"

    def __getstate__(self) -> dict[str, Any]:
        # Frames cannot travel; their text can.
        return {
            "type": self.type,
            "exception": self.exception,
            "tb": None,
            "internal": self.internal,
            "_text": self.traceback,
        }


def format_exception(error: Any, tb: TracebackType | None) -> str:
    """``error`` and ``tb`` as text, whatever the exception's own methods do.

    An exception whose ``__str__`` raises is printed by its class alone.
    """
    if not isinstance(error, BaseException):
        return ""
    tb = _within_the_task(tb)
    try:
        return "".join(formatting.format_exception(type(error), error, tb))
    except Exception:
        lines = ["Traceback (most recent call last):\n", *formatting.format_tb(tb)]
        return "".join([*lines, f"{type(error).__name__}: <unprintable>\n"])


def _within_the_task(tb: TracebackType | None) -> TracebackType | None:
    inner = tb
    while inner is not None and inner.tb_frame.f_globals.get("__name__") in _OUR_FRAMES:
        inner = inner.tb_next
    return inner or tb


_OUR_FRAMES = {
    "pgtasks.app.autoretry",
    "pgtasks.app.coroutines",
    "pgtasks.app.execute",
    "pgtasks.app.pydantic",
    "pgtasks.app.trace",
}
