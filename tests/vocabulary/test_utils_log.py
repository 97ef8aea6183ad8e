"""Loggers, formatters, and a file that is a log."""

from __future__ import annotations

import io
import logging
import sys

import pytest

from pgtasks.utils import log
from pgtasks.utils.log import ColorFormatter, LoggingProxy, get_logger, get_task_logger
from pgtasks.utils.term import colored


def a_record(message="hello", level="ERROR", exc_info=None):
    return logging.LogRecord("x", log.mlevel(level), "f", 1, message, None, exc_info)


class TestLoggers:
    def test_of_ours_are_below_celery(self):
        assert get_logger("celery.beat").parent is log.base_logger
        assert log.logger_isa(get_logger("some.module"), logging.root)
        assert get_logger("celery").parent is logging.root

    def test_of_tasks_are_below_celerys_logger_of_tasks(self):
        logger = get_task_logger("some.tasks")

        assert log.logger_isa(logger, log.task_logger)
        assert not log.logger_isa(logger, log.worker_logger)

    @pytest.mark.parametrize("name", ["celery", "celery.task"])
    def test_of_tasks_do_not_take_celerys_own_names(self, name):
        with pytest.raises(RuntimeError, match=r"reserved.*__name__"):
            get_task_logger(name)

    def test_do_not_write_to_stderr_before_logging_is_set_up(self):
        assert any(isinstance(h, logging.NullHandler) for h in get_logger("quiet").handlers)

    def test_whose_parents_go_round_are_noticed(self):
        a, b = logging.Logger("a"), logging.Logger("b")
        a.parent, b.parent = b, a

        with pytest.raises(RuntimeError, match="circle"):
            log.logger_isa(a, logging.Logger("c"))

    @pytest.mark.parametrize(
        ("level", "number"), [("info", 20), ("WARNING", 30), (10, 10), (None, None)]
    )
    def test_have_levels_with_names(self, level, number):
        assert log.mlevel(level) == number

    def test_have_streams_that_can_be_listed(self):
        handler = logging.StreamHandler(io.StringIO())
        logger = logging.getLogger("listed")
        logger.addHandler(handler)
        try:
            assert handler.stream in list(log.iter_open_logger_fds())
        finally:
            logger.removeHandler(handler)


class TestColours:
    def test_go_by_level(self):
        assert ColorFormatter("%(message)s").format(a_record()) == "\033[1;31mhello\033[0m"
        assert ColorFormatter("%(message)s").format(a_record(level="INFO")) == "hello"
        assert ColorFormatter("%(message)s", False).format(a_record()) == "hello"

    def test_of_an_object_that_cannot_be_shown_do_not_stop_the_log(self, monkeypatch):
        def refuse(text):
            raise ValueError("no")

        monkeypatch.setattr(log, "safe_str", refuse)
        record = a_record("hello")

        shown = ColorFormatter("%(message)s").format(record)

        assert shown.startswith("<Unrepresentable <class 'str'>: ValueError('no')>")
        assert record.msg == "hello"

    def test_leave_tracebacks_readable(self):
        try:
            raise KeyError("why")
        except KeyError:
            assert "KeyError: 'why'" in ColorFormatter().formatException(1)

    def test_nest(self):
        c = colored()

        assert str(c.red("a", c.bold("b"))) == "\033[1;31ma\033[1mb\033[0m\033[0m"
        assert c.red("a", c.bold("b")).no_color() == "ab"
        assert repr(c.green("a")) == "'a'"
        assert c.red("a") + c.blue("b") == "\033[1;31ma\033[0m\033[1;34mb\033[0m"
        assert str(colored(enabled=False).ired("a")) == "a"
        assert set(c.names) >= {"red", "green", "blue"}

    def test_that_do_not_exist_are_attribute_errors(self):
        with pytest.raises(AttributeError, match="'octarine'"):
            _ = colored().octarine


class TestAFileThatIsALog:
    @pytest.fixture
    def logger(self):
        logger = logging.Logger("redirected", logging.INFO)
        logger.addHandler(logging.StreamHandler(io.StringIO()))
        return logger

    @staticmethod
    def written(logger):
        return logger.handlers[0].stream.getvalue()

    def test_logs_what_is_printed(self, logger):
        file = LoggingProxy(logger, "INFO")
        print("hello", file=file)
        file.writelines(["a", b"b"])
        file.flush()

        assert self.written(logger) == "hello\na\nb\n"
        assert not file.isatty()

    def test_says_how_much_it_took(self, logger):
        file = LoggingProxy(logger, "INFO")

        assert file.write("foo \n") == 4
        assert file.write("\n") == 0

    def test_drops_all_after_it_is_closed(self, logger):
        file = LoggingProxy(logger)
        file.close()
        file.write("hello")

        assert self.written(logger) == ""

    def test_does_not_log_what_logging_it_prints(self, logger):
        file = LoggingProxy(logger, "INFO")
        logger.addFilter(lambda record: file.write("again") == 0)
        file.write("hello")

        assert self.written(logger) == "hello\n"

    def test_goes_past_the_log_inside_a_signal_handler(self, logger, monkeypatch):
        monkeypatch.setattr(sys, "__stderr__", io.StringIO())
        with log.in_sighandler():
            LoggingProxy(logger).write("stop")

        assert sys.__stderr__.getvalue() == "stop\n"
        assert self.written(logger) == ""

    def test_reports_troubles_of_the_log_on_the_real_stderr(self, logger, monkeypatch):
        monkeypatch.setattr(sys, "__stderr__", io.StringIO())
        file = LoggingProxy(logger, "INFO")
        logger.handlers[0].stream.close()
        file.write("hello")

        assert "ValueError" in sys.__stderr__.getvalue()


class TestProcesses:
    def test_of_a_pool_have_a_number(self, monkeypatch):
        assert log.current_process_index() is None
        monkeypatch.setattr(log.current_process(), "index", 0, raising=False)
        assert log.current_process_index() == 1

    def test_log_through_multiprocessing(self):
        assert log.get_multiprocessing_logger().name == "multiprocessing"
        log.reset_multiprocessing_logger()
        assert log.get_multiprocessing_logger().name == "multiprocessing"
