from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Callable
from logging.handlers import WatchedFileHandler
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pgtasks import Celery, _state, signals
from pgtasks.app.log import Logging, TaskFormatter
from pgtasks.utils.log import LoggingProxy, get_logger, get_task_logger

pytestmark = pytest.mark.usefixtures("logging_as_it_was")


@pytest.fixture
def log(app: Celery) -> Logging:
    return app.log  # type: ignore[no-any-return]


def test_a_task_logs_its_name_and_id() -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "hello", (), None)
    formatter = TaskFormatter("%(task_name)s[%(task_id)s]: %(message)s", use_color=False)
    assert formatter.format(record) == "???[???]: hello"

    task = SimpleNamespace(name="shop.add", request=SimpleNamespace(id="an-id"))
    _state.push_current_task(task)
    try:
        assert formatter.format(record) == "shop.add[an-id]: hello"
    finally:
        _state.pop_current_task()


def test_logging_is_set_up_once(log: Logging) -> None:
    log.setup(loglevel="INFO")
    handlers = logging.getLogger().handlers[:]
    assert handlers

    log.setup(loglevel="DEBUG")

    assert logging.getLogger().handlers == handlers
    assert logging.getLogger().level == logging.INFO
    assert log.already_setup


def test_a_worker_says_to_its_children_how_it_logs(log: Logging, tmp_path: Path) -> None:
    log.setup(loglevel="INFO", logfile=str(tmp_path / "log"), redirect_stdouts=True)

    assert os.environ["CELERY_LOG_LEVEL"] == str(logging.INFO)
    assert os.environ["CELERY_LOG_FILE"] == str(tmp_path / "log")
    assert (os.environ["CELERY_LOG_REDIRECT"], os.environ["CELERY_LOG_REDIRECT_LEVEL"]) == (
        "1",
        "WARNING",
    )


def test_what_tasks_log_has_a_format_of_its_own(log: Logging, tmp_path: Path) -> None:
    file = tmp_path / "celery.log"
    log.setup(loglevel="INFO", logfile=str(file))

    get_logger("celery.worker").info("the worker")
    get_task_logger("shop").info("the task")

    worker, task = file.read_text().splitlines()
    assert worker.endswith("INFO/MainProcess] the worker")
    assert task.endswith("INFO/MainProcess] ???[???]: the task")


def test_a_file_may_have_the_nodes_name_in_it(log: Logging, tmp_path: Path) -> None:
    log.setup(loglevel="INFO", logfile=str(tmp_path / "%n.log"), hostname="worker1@host")

    (handler,) = logging.getLogger().handlers
    assert isinstance(handler, WatchedFileHandler)
    assert (tmp_path / "worker1.log").exists()


def test_settings_say_how_lines_look(make_app: Callable[..., Celery]) -> None:
    stream = io.StringIO()
    app = make_app(worker_log_format="%(asctime)s|%(message)s", worker_log_datefmt="at %Y")

    app.log.setup(loglevel="INFO", logfile=stream)
    logging.getLogger("other").info("hello")

    assert stream.getvalue().startswith("at 20")
    assert stream.getvalue().endswith("|hello\n")


@pytest.mark.parametrize("hijack", [True, False])
def test_the_root_loggers_handlers_are_replaced_unless_told_otherwise(
    make_app: Callable[..., Celery], hijack: bool
) -> None:
    mine = logging.NullHandler() if hijack else logging.StreamHandler(io.StringIO())
    logging.getLogger().handlers = [mine]
    app = make_app(worker_hijack_root_logger=hijack)

    app.log.setup(loglevel="INFO", logfile=io.StringIO())

    assert (mine in logging.getLogger().handlers) is not hijack


def test_setting_up_logging_can_be_left_to_the_program(log: Logging) -> None:
    told: list[dict[str, Any]] = []

    def set_up(**kwargs: Any) -> None:
        told.append(kwargs)

    signals.setup_logging.connect(set_up)
    before = logging.getLogger().handlers[:]
    try:
        log.setup(loglevel="INFO", logfile="the file")
    finally:
        signals.setup_logging.disconnect(set_up)

    assert logging.getLogger().handlers == before
    assert told[0]["loglevel"] == logging.INFO
    assert {"logfile", "format", "colorize"} <= set(told[0])


def test_a_program_that_fails_to_set_it_up_is_told(log: Logging) -> None:
    def set_up(**kwargs: Any) -> None:
        raise ValueError("on purpose")

    signals.setup_logging.connect(set_up)
    try:
        with pytest.raises(ValueError, match="on purpose"):
            log.setup()
    finally:
        signals.setup_logging.disconnect(set_up)

    assert not log.already_setup


def test_others_are_told_when_it_is_done(log: Logging) -> None:
    told: list[Any] = []

    def note(signal: Any, logger: logging.Logger, **kwargs: Any) -> None:
        told.append((signal.name, logger.name))

    watched = (signals.after_setup_logger, signals.after_setup_task_logger)
    for signal in watched:
        signal.connect(note)
    try:
        log.setup(loglevel="INFO", logfile=io.StringIO())
    finally:
        for signal in watched:
            signal.disconnect(note)

    assert told == [
        ("after_setup_logger", "root"),
        ("after_setup_task_logger", "celery.task"),
    ]


def test_what_is_printed_can_be_logged(log: Logging) -> None:
    stream = io.StringIO()
    logger = get_logger("celery.redirected")
    logger.handlers = [logging.StreamHandler(stream)]

    log.redirect_stdouts("ERROR")
    assert isinstance(sys.stdout, LoggingProxy)
    print("hello")
    print("oh", file=sys.stderr)

    assert stream.getvalue() == "hello\noh\n"


def test_colours_are_for_terminals(log: Logging, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(isatty=lambda: True))
    assert log.supports_color() is True
    assert log.supports_color(False) is False
    assert log.supports_color(True, logfile="a file") is False

    monkeypatch.setattr(sys, "stderr", object())
    assert log.supports_color() is False

    log.app.IS_WINDOWS = True
    assert log.supports_color(True) is False


def test_text_is_coloured_if_colours_are_used(log: Logging) -> None:
    assert str(log.colored(enabled=False).red("x")) == "x"
    assert log.get_default_logger().name == "celery"
