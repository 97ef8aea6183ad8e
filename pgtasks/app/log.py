"""``app.log``: how a worker sets up logging."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from logging.handlers import WatchedFileHandler
from typing import TYPE_CHECKING, Any

from pgtasks import signals
from pgtasks._state import get_current_task
from pgtasks.exceptions import CDeprecationWarning, CPendingDeprecationWarning
from pgtasks.local import class_property
from pgtasks.utils.log import (
    MP_LOG,
    ColorFormatter,
    LoggingProxy,
    get_logger,
    get_multiprocessing_logger,
    mlevel,
    reset_multiprocessing_logger,
)
from pgtasks.utils.nodenames import has_process_number, node_format
from pgtasks.utils.term import colored

if TYPE_CHECKING:
    from pgtasks.app.base import Celery

__all__ = ["Logging", "TaskFormatter"]


class TaskFormatter(ColorFormatter):
    """Formats what tasks log, with ``%(task_name)s`` and ``%(task_id)s``."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        task = get_current_task()
        if task and task.request:
            record.task_id, record.task_name = task.request.id, task.name
        else:
            record.__dict__.setdefault("task_name", "???")
            record.__dict__.setdefault("task_id", "???")
        return super().format(record)


class Logging:
    """Sets up logging once for the process.

    Whoever connects to the signal ``setup_logging`` does it all; whoever connects to
    ``after_setup_logger`` adds to it.
    """

    #: Logging has been set up; later calls do nothing.
    _setup = False

    def __init__(self, app: Celery) -> None:
        self.app = app
        self.loglevel: Any = mlevel(logging.WARN)
        conf = app.conf
        self.format = conf.worker_log_format
        self.datefmt = conf.worker_log_datefmt
        self.task_format = conf.worker_task_log_format
        self.task_datefmt = conf.worker_task_log_datefmt
        self.colorize = conf.worker_log_color

    def setup(
        self,
        loglevel: Any = None,
        logfile: Any = None,
        redirect_stdouts: bool = False,
        redirect_level: Any = "WARNING",
        colorize: bool | None = None,
        hostname: str | None = None,
    ) -> Any:
        """Set up logging, and let it have what is printed.

        Args:
            loglevel: Level by name or number.
            logfile: File by name, or an open one; standard error if None.
            redirect_stdouts: Log what is printed.
            redirect_level: At this level.
            colorize: Use colours; None means where a terminal shows them.
            hostname: Node name, for ``%n`` and the like in the file's name.

        Returns:
            What the receivers of ``setup_logging`` answered.
        """
        level = mlevel(loglevel)
        handled = self.setup_logging_subsystem(
            level, logfile, colorize=colorize, hostname=hostname
        )
        if not handled and redirect_stdouts:
            self.redirect_stdouts(redirect_level)
        # Child processes find out from these.
        os.environ["CELERY_LOG_LEVEL"] = str(level) if level else ""
        os.environ["CELERY_LOG_FILE"] = str(logfile) if logfile else ""
        for category in (CDeprecationWarning, CPendingDeprecationWarning):
            warnings.filterwarnings("always", category=category)
        logging.captureWarnings(True)
        return handled

    def set_up_child(self, hostname: str) -> None:
        """Set up logging in a worker's child: anew if each process has a log of its own.

        Args:
            hostname: Name of the worker.
        """
        env = os.environ.get
        logfile = env("CELERY_LOG_FILE") or None
        if logfile is None or not has_process_number(logfile):
            return  # what its parent has set up will do
        self.already_setup = False
        self.setup(
            int(env("CELERY_LOG_LEVEL") or 0),
            logfile,
            bool(env("CELERY_LOG_REDIRECT")),
            env("CELERY_LOG_REDIRECT_LEVEL") or "WARNING",
            hostname=hostname,
        )

    def setup_logging_subsystem(
        self,
        loglevel: Any = None,
        logfile: Any = None,
        format: str | None = None,
        colorize: bool | None = None,
        hostname: str | None = None,
        datefmt: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Give the loggers their handlers, unless a receiver of ``setup_logging`` does."""
        if self.already_setup:
            return None
        if logfile and hostname:
            logfile = node_format(logfile, hostname)
        Logging._setup = True
        loglevel = mlevel(loglevel or self.loglevel)
        format = format or self.format
        datefmt = self.datefmt if datefmt is None else datefmt
        colorize = self.supports_color(colorize, logfile)
        reset_multiprocessing_logger()
        told = {"loglevel": loglevel, "logfile": logfile, "colorize": colorize}
        receivers = signals.setup_logging.send(sender=None, format=format, **told)
        for _, response in receivers:
            if isinstance(response, Exception):
                # Half set up would mean silent.
                Logging._setup = False
                raise response
        if not receivers:
            root = logging.getLogger()
            if self.app.conf.worker_hijack_root_logger:
                root.handlers = []
                for name in ("celery", "celery.task", "celery.redirected"):
                    get_logger(name).handlers = []
            self._configure_logger(
                root, logfile, loglevel, format, colorize, datefmt=datefmt, **kwargs
            )
            self._configure_logger(
                get_multiprocessing_logger(),
                logfile,
                loglevel if MP_LOG else logging.ERROR,
                format,
                colorize,
                datefmt=datefmt,
                **kwargs,
            )
            signals.after_setup_logger.send(sender=None, logger=root, format=format, **told)
            self.setup_task_loggers(loglevel, logfile, colorize=colorize)
        os.environ.update(
            _MP_FORK_LOGLEVEL_=str(loglevel),
            _MP_FORK_LOGFILE_=logfile if isinstance(logfile, str) else "",
            _MP_FORK_LOGFORMAT_=format or "",
        )
        return receivers

    def setup_task_loggers(
        self,
        loglevel: Any = None,
        logfile: Any = None,
        format: str | None = None,
        colorize: bool | None = None,
        propagate: bool = False,
        datefmt: str | None = None,
        **kwargs: Any,
    ) -> logging.Logger:
        """Give the logger ``celery.task`` a handler of its own, and answer it."""
        loglevel = mlevel(loglevel or self.loglevel)
        format = format or self.task_format
        datefmt = self.task_datefmt if datefmt is None else datefmt
        colorize = self.supports_color(colorize, logfile)
        logger = self.setup_handlers(
            get_logger("celery.task"),
            logfile,
            format,
            colorize,
            formatter=TaskFormatter,
            datefmt=datefmt,
            **kwargs,
        )
        logger.setLevel(loglevel)
        logger.propagate = bool(propagate)
        signals.after_setup_task_logger.send(
            sender=None,
            logger=logger,
            loglevel=loglevel,
            logfile=logfile,
            format=format,
            colorize=colorize,
        )
        return logger

    def _configure_logger(
        self,
        logger: logging.Logger | None,
        logfile: Any,
        loglevel: Any,
        format: str | None,
        colorize: bool | None,
        **kwargs: Any,
    ) -> None:
        if logger is not None:
            self.setup_handlers(logger, logfile, format, colorize, **kwargs)
            if loglevel:
                logger.setLevel(loglevel)

    def setup_handlers(
        self,
        logger: logging.Logger,
        logfile: Any,
        format: str | None,
        colorize: bool | None,
        formatter: Any = ColorFormatter,
        datefmt: str | None = None,
        **kwargs: Any,
    ) -> logging.Logger:
        """Give a logger a handler, if it has none."""
        if not self._is_configured(logger):
            handler = self._detect_handler(logfile)
            handler.setFormatter(formatter(format, datefmt=datefmt, use_color=colorize))
            logger.addHandler(handler)
        return logger

    def _detect_handler(self, logfile: Any = None) -> logging.Handler:
        logfile = sys.__stderr__ if logfile is None else logfile
        if hasattr(logfile, "write"):
            return logging.StreamHandler(logfile)
        # Watched: logrotate moves it away under a worker that lives for weeks.
        return WatchedFileHandler(logfile, encoding="utf-8")

    def _has_handler(self, logger: logging.Logger) -> bool:
        return any(
            not isinstance(handler, logging.NullHandler)
            for handler in logger.handlers or []
        )

    def _is_configured(self, logger: logging.Logger) -> bool:
        return self._has_handler(logger) and not getattr(
            logger, "_rudimentary_setup", False
        )

    # ── what is printed ─────────────────────────────────────────────────────────────────

    def redirect_stdouts(
        self, loglevel: Any = None, name: str = "celery.redirected"
    ) -> None:
        """Log what is printed, to the logger ``name``."""
        self.redirect_stdouts_to_logger(get_logger(name), loglevel=loglevel)
        os.environ["CELERY_LOG_REDIRECT"] = "1"
        os.environ["CELERY_LOG_REDIRECT_LEVEL"] = str(loglevel or "")

    def redirect_stdouts_to_logger(
        self,
        logger: logging.Logger,
        loglevel: Any = None,
        stdout: bool = True,
        stderr: bool = True,
    ) -> LoggingProxy:
        """Replace standard output and standard error by a logger.

        Args:
            logger: The logger.
            loglevel: The level of what is printed.
            stdout: Replace standard output.
            stderr: Replace standard error.
        """
        proxy: Any = LoggingProxy(logger, loglevel)
        if stdout:
            sys.stdout = proxy
        if stderr:
            sys.stderr = proxy
        return proxy  # type: ignore[no-any-return]

    # ── colours ─────────────────────────────────────────────────────────────────────────

    def supports_color(self, colorize: bool | None = None, logfile: Any = None) -> Any:
        """Whether to use colours, where it has not been said."""
        colorize = self.colorize if colorize is None else colorize
        if self.app.IS_WINDOWS:
            return False
        if colorize or colorize is None:
            return logfile is None and _is_terminal(sys.stderr)
        return colorize

    def colored(self, logfile: Any = None, enabled: bool | None = None) -> colored:
        """Answer something that colours text, if colours are used."""
        return colored(enabled=self.supports_color(enabled, logfile))

    def get_default_logger(self, name: str = "celery", **kwargs: Any) -> logging.Logger:
        """Answer our logger."""
        return get_logger(name)

    def _get_already_setup(cls: Any) -> Any:
        """Whether logging has been set up in this process."""
        return cls._setup

    def _set_already_setup(cls: Any, was_setup: Any) -> None:
        cls._setup = was_setup

    already_setup: Any = class_property(_get_already_setup, _set_already_setup)


def _is_terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except AttributeError:
        return False
