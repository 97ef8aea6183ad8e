"""Loggers and formatters, under Celery's logger names.

``celery`` is the root of all that pgtasks says and ``celery.task`` of what tasks
say, so that logging set up for Celery goes on working.
"""

from __future__ import annotations

import logging
import numbers
import os
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from pgtasks.utils.term import colored
from pgtasks.utils.text import safe_str

__all__ = [
    "LOG_LEVELS",
    "ColorFormatter",
    "LoggingProxy",
    "base_logger",
    "current_process",
    "current_process_index",
    "get_logger",
    "get_multiprocessing_logger",
    "get_task_logger",
    "in_sighandler",
    "iter_open_logger_fds",
    "logger_isa",
    "mlevel",
    "reset_multiprocessing_logger",
    "set_in_sighandler",
    "task_logger",
    "worker_logger",
]

#: Levels by name, and names by level.
LOG_LEVELS: dict[Any, Any] = {**logging._nameToLevel, **logging._levelToName}

RESERVED_LOGGER_NAMES = frozenset({"celery", "celery.task"})

MP_LOG = os.environ.get("MP_LOG", False)


# ── loggers ─────────────────────────────────────────────────────────────────


def get_logger(name: str | logging.Logger) -> logging.Logger:
    """The logger of that name, below ``celery`` unless it is at the top."""
    logger = _silent(name)
    if logger is not base_logger and logging.root not in (logger, logger.parent):
        _adopt(logger, base_logger)
    return logger


def get_task_logger(name: str) -> logging.Logger:
    """A logger for a module of tasks: records carry the task's name and id.

    Raises:
        RuntimeError: The name is one of Celery's own.
    """
    if name in RESERVED_LOGGER_NAMES:
        raise RuntimeError(
            f"Logger name {name!r} is reserved! Use the module's: "
            f"get_task_logger(__name__)."
        )
    return _adopt(get_logger(name), task_logger)


def logger_isa(l: logging.Logger, p: logging.Logger, max: int = 1000) -> bool:  # noqa: E741
    """True if the logger is ``p`` or below it.

    Raises:
        RuntimeError: Somebody made the logger its own ancestor.
    """
    seen: set[logging.Logger] = set()
    this: logging.Logger | None = l
    while this is not None:
        if this is p:
            return True
        if this in seen or len(seen) >= max:
            raise RuntimeError(f"The parents of logger {l.name!r} go round in a circle")
        seen.add(this)
        this = this.parent
    return False


def _silent(name: str | logging.Logger) -> logging.Logger:
    logger = logging.getLogger(name) if isinstance(name, str) else name
    if not logger.handlers:
        # Without a handler logging would write warnings to stderr by itself.
        logger.addHandler(logging.NullHandler())
    return logger


def _adopt(logger: logging.Logger, parent: logging.Logger) -> logging.Logger:
    if not logger_isa(logger, parent):
        logger.parent = parent
    return logger


base_logger = logger = _silent("celery")
task_logger = get_logger("celery.task")
worker_logger = get_logger("celery.worker")


def mlevel(level: Any) -> Any:
    """A level's number by its name; numbers, and nothing, are handed back."""
    if not level or isinstance(level, numbers.Integral):
        return level
    return LOG_LEVELS[level.upper()]


def iter_open_logger_fds() -> Iterator[Any]:
    """The streams that handlers write to, for those who close all other files."""
    seen = set()
    for each in [*logging.Logger.manager.loggerDict.values(), logging.root]:
        for handler in getattr(each, "handlers", ()):
            if handler not in seen and hasattr(handler, "stream"):
                seen.add(handler)
                yield handler.stream


# ── formatting ──────────────────────────────────────────────────────────────


class ColorFormatter(logging.Formatter):
    """Colours a record by its level, and never fails to format one."""

    COLORS = colored().names
    colors = {
        "DEBUG": COLORS["blue"],
        "WARNING": COLORS["yellow"],
        "ERROR": COLORS["red"],
        "CRITICAL": COLORS["magenta"],
    }

    def __init__(
        self, fmt: str | None = None, use_color: bool = True, datefmt: str | None = None
    ) -> None:
        super().__init__(fmt, datefmt)
        self.use_color = use_color

    def formatException(self, ei: Any) -> str:
        """The traceback, also if somebody logged ``exc_info=1`` by hand."""
        return super().formatException(
            sys.exc_info() if ei and not isinstance(ei, tuple) else ei
        )

    def format(self, record: logging.LogRecord) -> str:
        """The record as text, in its level's colour."""
        text: Any = super().format(record)
        color = self.colors.get(record.levelname) if self.use_color else None
        if color is None:
            return safe_str(text)
        try:
            # A str has to be made printable first, anything else coloured first.
            if isinstance(text, str):
                return str(color(safe_str(text)))
            return safe_str(color(text))
        except Exception as error:
            return self._format_complaint(record, text, error)

    def _format_complaint(
        self, record: logging.LogRecord, text: Any, error: Exception
    ) -> str:
        message, exc_info = record.msg, record.exc_info
        record.msg = f"<Unrepresentable {type(text)!r}: {error!r}>"
        record.exc_info = sys.exc_info()
        try:
            return super().format(record)
        finally:
            # Other handlers get the record as it was.
            record.msg, record.exc_info = message, exc_info


# ── standard output into the log ────────────────────────────────────────────

_in_sighandler = False


def set_in_sighandler(value: bool) -> None:
    """Say whether a signal handler is running."""
    global _in_sighandler
    _in_sighandler = value


@contextmanager
def in_sighandler() -> Iterator[None]:
    """Mark the block as a signal handler: it must not wait for the log's locks."""
    set_in_sighandler(True)
    try:
        yield
    finally:
        set_in_sighandler(False)


class LoggingProxy:
    """A file that writes to a logger, to stand in for ``sys.stdout`` and ``stderr``.

    Args:
        logger: Where lines go.
        loglevel: Their level, by default the logger's.
    """

    mode = "w"
    name: str | None = None
    closed = False
    loglevel = logging.ERROR
    _thread = threading.local()

    def __init__(self, logger: logging.Logger, loglevel: int | str | None = None) -> None:
        self.logger = logger
        self.loglevel = mlevel(loglevel or logger.level or self.loglevel)
        for handler in logger.handlers:
            # Logging reports its own troubles on sys.stderr, which is us.
            handler.handleError = _report_to_real_stderr  # type: ignore[method-assign]

    def write(self, data: str | bytes) -> int:
        """Log a line; line ends alone are dropped."""
        text = safe_str(data)
        if _in_sighandler:
            print(text, file=sys.__stderr__)
            return len(text)
        text = text.rstrip("\n")
        if not text or self.closed or getattr(self._thread, "recurse_protection", False):
            return 0
        self._thread.recurse_protection = True
        try:
            self.logger.log(self.loglevel, text)
        finally:
            self._thread.recurse_protection = False
        return len(text)

    def writelines(self, sequence: Iterable[str | bytes]) -> None:
        """Log several lines."""
        for part in sequence:
            self.write(part)

    def flush(self) -> None:
        """Do nothing: what was written has been logged."""

    def close(self) -> None:
        """Drop what is written from now on."""
        self.closed = True

    def isatty(self) -> bool:
        """False: a log is no terminal."""
        return False


def _report_to_real_stderr(record: logging.LogRecord) -> None:
    try:
        traceback.print_exc(None, sys.__stderr__)
    except OSError:
        pass


# ── processes ───────────────────────────────────────────────────────────────


def get_multiprocessing_logger() -> logging.Logger:
    """The logger of Python's ``multiprocessing``."""
    from multiprocessing import util

    return util.get_logger()


def reset_multiprocessing_logger() -> None:
    """Let ``multiprocessing`` set up its logger anew."""
    from multiprocessing import util

    if hasattr(util, "_logger"):
        util._logger = None


def current_process() -> Any:
    """This process as ``multiprocessing`` knows it."""
    from multiprocessing import current_process as this

    return this()


def current_process_index(base: int = 1) -> int | None:
    """This process's number in its pool, from ``base`` on; None outside of one."""
    index = getattr(current_process(), "index", None)
    return None if index is None else index + base
