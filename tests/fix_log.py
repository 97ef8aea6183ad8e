"""Logging and its environment, which a worker changes for the whole process."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator

import pytest

from pgtasks.app.log import Logging

NAMES = ("", "celery", "celery.task", "celery.redirected")
VARIABLES = (
    "CELERY_LOG_LEVEL", "CELERY_LOG_FILE", "CELERY_LOG_REDIRECT", "CELERY_LOG_REDIRECT_LEVEL",
    "_MP_FORK_LOGLEVEL_", "_MP_FORK_LOGFILE_", "_MP_FORK_LOGFORMAT_",
)  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def _levels_as_they_were() -> Iterator[None]:
    """A worker that runs in this process sets the level of all logs, and leaves it so.

    For a module, whose own fixtures come after this one and may hold such a worker.
    """
    loggers = [logging.getLogger(name) for name in NAMES]
    before = [(each, each.level, each.propagate, each.disabled) for each in loggers]
    yield
    for logger, level, propagate, disabled in before:
        logger.setLevel(level)
        logger.propagate, logger.disabled = propagate, disabled


@pytest.fixture
def logging_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the test sets up is taken down after it."""
    loggers = [logging.getLogger(name) for name in (*NAMES, "multiprocessing")]
    before = [
        (logger, logger.handlers[:], logger.level, logger.propagate) for logger in loggers
    ]
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that it is restored
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    monkeypatch.setattr(Logging, "_setup", False)
    for logger in loggers[1:]:
        logger.handlers = []
    yield
    logging.captureWarnings(False)
    for logger, handlers, level, propagate in before:
        added = [handler for handler in logger.handlers if handler not in handlers]
        for handler in added:
            handler.close()
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)
