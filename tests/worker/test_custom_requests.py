"""Request classes of the users' own are told by the worker what becomes of their jobs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from helpers import eventually
from pgtasks import Celery, Task
from pgtasks.contrib.testing.worker import start_worker
from pgtasks.exceptions import TimeLimitExceeded
from pgtasks.worker.request import Request

# The worker runs in a thread of this process, which is what the warning is about.
pytestmark = pytest.mark.filterwarnings("ignore:The application started threads")

told: list[tuple[Any, ...]] = []


class Watched(Request):
    """Notes what it is told, and does what it would have done."""

    def _note(self, hook: str, *what: Any) -> None:
        told.append((self.id, self.kwargs.get("name"), hook, *what))

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        super().on_accepted(pid, time_accepted)
        self._note("accepted")

    def on_timeout(self, soft: bool, timeout: float) -> None:
        super().on_timeout(soft, timeout)
        self._note("timeout", soft, timeout)

    def on_success(self, failed__retval__runtime: Any, **kwargs: Any) -> Any:
        failed, value, runtime = failed__retval__runtime
        assert runtime > 0
        self._note("success", failed, value)
        return super().on_success(failed__retval__runtime, **kwargs)

    def on_retry(self, exc_info: Any) -> None:
        super().on_retry(exc_info)
        self._note("retry", repr(exc_info.exception))

    def on_failure(self, exc_info: Any, *args: Any, **kwargs: Any) -> Any:
        super().on_failure(exc_info, *args, **kwargs)
        self._note("failure", repr(exc_info.exception))
        if self.kwargs.get("name") == "rude":
            raise RuntimeError("a hook that raises")


class WatchedTask(Task[Any, Any]):
    Request = Watched


class Unmade(Request):
    """One that cannot be made."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise RuntimeError("no such thing")


@pytest.fixture(scope="module")
def app(postgres: Any, template: str, _names: str) -> Iterator[Celery]:
    from fix_postgres import _database

    database = f"{_names}_requests"
    with (
        _database(postgres, database, template),
        Celery("watched", broker=postgres.url_of(database), set_as_current=False) as app,
    ):

        @app.task(name="t.add", base=WatchedTask, shared=False)
        def add(x: int, y: int, name: str) -> int:
            return x + y

        @app.task(name="t.fail", base=WatchedTask, shared=False)
        def fail(name: str) -> None:
            raise KeyError(name)

        @app.task(name="t.again", base=WatchedTask, bind=True, shared=False)
        def again(self: Any, name: str) -> int:
            if not self.request.retries:
                raise self.retry(countdown=0, exc=OSError("for now"))
            return 7

        @app.task(name="t.hang", base=WatchedTask, time_limit=1, shared=False)
        def hang(name: str) -> None:
            while True:
                pass

        @app.task(name="t.plain", shared=False)
        def plain(name: str) -> str:
            return name

        @app.task(name="t.unmade", shared=False)
        def unmade(name: str) -> str:
            return name

        unmade.Request = Unmade
        with start_worker(
            app, pool="prefork", concurrency=1, perform_ping_check=False, loglevel="INFO"
        ):
            yield app


def hooks_of(result: Any, last: str) -> list[tuple[Any, ...]]:
    """What the request of this job was told, when it has been told the last of it."""

    def heard() -> Any:
        found = [each[2:] for each in told if each[0] == result.id]
        return found if found and found[-1][0] == last else None

    return eventually(heard, timeout=60, message=lambda: str(told))


def test_the_hooks_of_a_request_class_are_called_by_the_worker(app: Celery) -> None:
    result = app.tasks["t.add"].delay(1, 2, name="sum")

    assert result.get(timeout=60) == 3
    assert hooks_of(result, "success") == [("accepted",), ("success", 0, "3")]


def test_a_failure_and_a_retry_are_told_with_their_exceptions(app: Celery) -> None:
    failed = app.tasks["t.fail"].delay(name="missing")
    again = app.tasks["t.again"].delay(name="twice")

    assert again.get(timeout=60) == 7
    assert [each[0] for each in hooks_of(failed, "failure")] == ["accepted", "failure"]
    assert "missing" in hooks_of(failed, "failure")[-1][1]
    assert hooks_of(again, "success") == [
        ("accepted",),
        ("retry", "OSError('for now')"),
        ("accepted",),
        ("success", 0, "7"),
    ]


def test_a_time_limit_is_told(app: Celery) -> None:
    result = app.tasks["t.hang"].delay(name="long")

    with pytest.raises(TimeLimitExceeded):
        result.get(timeout=60)
    accepted, timeout, failure = hooks_of(result, "failure")
    assert accepted == ("accepted",)
    assert timeout == ("timeout", False, 1.0)
    assert failure[1].startswith("TimeLimitExceeded")


def test_a_hook_that_raises_harms_nothing(
    app: Celery, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "celery.worker.request")
    result = app.tasks["t.fail"].delay(name="rude")
    hooks_of(result, "failure")

    assert app.tasks["t.add"].delay(1, 2, name="sum").get(timeout=60) == 3
    eventually(lambda: "on_failure() of the request t.fail" in caplog.text)


def test_a_request_that_cannot_be_made_costs_no_job(
    app: Celery, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "celery.worker.request")

    assert app.tasks["t.unmade"].delay(name="run").get(timeout=60) == "run"
    assert "No Unmade of t.unmade" in caplog.text


def test_others_are_none_of_its_business(app: Celery) -> None:
    result = app.tasks["t.plain"].delay(name="plain")

    assert result.get(timeout=60) == "plain"
    assert [each for each in told if each[0] == result.id] == []
