"""What a process knows of its workers, and a job as a request under Celery's names."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest

from helpers import eventually
from pgtasks import Celery, signals
from pgtasks.exceptions import (
    ImproperlyConfigured,
    InvalidTaskError,
    TaskRevokedError,
    WorkerShutdown,
    WorkerTerminate,
)
from pgtasks.job import Job
from pgtasks.worker import request as request_module
from pgtasks.worker import state
from pgtasks.worker.control import Panel, controller_info_t
from pgtasks.worker.request import Request, create_request_cls
from pgtasks.worker.worker import Worker


@pytest.fixture
def app(database_url: str) -> Iterator[Celery]:
    """An application on the test's database."""
    app = Celery("requests", broker=database_url, set_as_current=False)

    @app.task(name="add", shared=False)
    def add(x, y):
        return x + y

    with app:
        yield app


@pytest.fixture
def message() -> SimpleNamespace:
    """A message as it comes from a broker."""
    return SimpleNamespace(
        headers={
            "id": "one", "task": "add", "timelimit": [30, 20], "root_id": "zero",
            "argsrepr": "(…)", "group": "all",
        },
        properties={"correlation_id": "one", "reply_to": "me", "priority": 3},
        delivery_info={"exchange": "", "routing_key": "mail", "redelivered": False},
        body=((1, 2), {"z": 3}, {"chord": None, "errbacks": ["e"]}),
        content_type="application/json",
        content_encoding="utf-8",
    )  # fmt: skip


@pytest.fixture
def _nothing_revoked() -> Iterator[None]:
    yield
    state.revoked.clear()


def request_of(app: Celery, message: Any, **given: Any) -> Request:
    return Request(message, app=app, hostname="w@here", decoded=True, **given)


# ── requests ────────────────────────────────────────────────────────────────────────────


def test_a_request_has_what_its_message_says(app, message) -> None:
    request = request_of(app, message)

    assert (request.id, request.name, request.task) == ("one", "add", app.tasks["add"])
    assert (request.args, request.kwargs) == ((1, 2), {"z": 3})
    assert (request.argsrepr, request.kwargsrepr) == ("(…)", "{'z': 3}")
    assert (request.group, request.root_id, request.parent_id) == ("all", "zero", None)
    assert request.errbacks == ["e"]
    assert request.time_limits == (30, 20)
    assert request.delivery_info["routing_key"] == "mail"
    assert str(request) == "add[one]"
    assert request.info()["args"] == (1, 2)
    assert request.info(safe=True)["args"] == "(…)"


def test_a_request_has_nothing_that_no_message_has(app, message) -> None:
    with pytest.raises(AttributeError, match="'Request' object has no attribute 'colour'"):
        _ = request_of(app, message).colour


def test_a_request_runs_its_task_here(app, message) -> None:
    message.body = ((1, 2), {}, {})
    acknowledged = []
    request = request_of(app, message, on_ack=lambda *args: acknowledged.append(args))

    assert request.execute() == 3
    assert request.worker_pid == os.getpid()
    assert len(acknowledged) == 1


@pytest.mark.usefixtures("_nothing_revoked")
def test_a_request_that_has_expired_is_revoked(app, message) -> None:
    message.headers["expires"] = "2020-01-01T00:00:00"
    request = request_of(app, message)

    assert request.revoked()
    assert "one" in state.revoked
    assert request.execute() is None


@pytest.mark.parametrize("name", ["eta", "expires"])
@pytest.mark.parametrize("value", ["12345", "soon", {}])
def test_a_request_whose_dates_cannot_be_read_is_refused(app, message, name, value) -> None:
    message.headers[name] = value

    with pytest.raises(InvalidTaskError, match=rf"The {name} of add\[one\] is "):
        request_of(app, message)


@pytest.mark.usefixtures("_nothing_revoked")
@pytest.mark.parametrize(
    ("now", "expires", "over"),
    [
        # On this day the clocks of New York show the hour from 1 to 2 twice.
        ("05:45", "2026-11-01T02:30:00-04:00", False),
        ("06:15", "2026-11-01T01:45:00-04:00", True),
        ("06:15", "2026-11-01T01:45:00-05:00", False),
        ("06:30", "2026-11-01T06:30:00", False),
        ("06:31", "2026-11-01T06:30:00", True),
    ],
)
def test_a_request_expires_at_a_moment_whatever_clocks_do(
    app, message, monkeypatch, now, expires, over
) -> None:
    class Frozen(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.fromisoformat(f"2026-11-01T{now}:00+00:00").astimezone(tz)

    monkeypatch.setattr(request_module, "datetime", Frozen)
    app.conf.timezone = "America/New_York"
    message.headers["expires"] = expires

    assert request_of(app, message).maybe_expire() is over
    assert ("one" in state.revoked) is over


@pytest.mark.parametrize("even_so", [False, True])
@pytest.mark.parametrize("of_task", [False, True])
@pytest.mark.parametrize("said", [None, False, True])
def test_whether_a_result_is_kept_is_the_callers_word_before_the_tasks(
    app, message, said, of_task, even_so
) -> None:
    message.headers["ignore_result"] = said
    task = SimpleNamespace(ignore_result=of_task, store_errors_even_if_ignored=even_so)
    request = request_of(app, message, task=task)

    ignored = of_task if said is None else said
    assert request.ignore_result is ignored
    assert request.store_errors is (even_so or not ignored)


@pytest.mark.parametrize("late", [False, True])
def test_a_request_of_a_late_task_is_acknowledged_when_it_is_over(
    app, message, late
) -> None:
    turns = []

    @app.task(name="turn", acks_late=late, shared=False)
    def turn():
        turns.append("run")

    message.headers["task"] = "turn"
    message.body = ((), {}, {})
    request_of(app, message, on_ack=lambda *args: turns.append("ack")).execute()

    assert turns == (["run", "ack"] if late else ["ack", "run"])


def test_a_request_that_fails_says_so(app, message) -> None:
    message.body = ((1,), {"w": 3}, {})
    request = request_of(app, message)
    done = request.execute()

    assert isinstance(done.exception, TypeError)
    assert request.acknowledged
    told = []
    request.on_failure = lambda einfo, **given: told.append((einfo, given))
    request.on_success((1, done, 0.1))
    assert told == [(done, {"return_ok": True})]


def test_a_request_needs_an_id_and_a_task_that_is_known(app, message) -> None:
    message.headers["task"] = "nowhere.known"
    with pytest.raises(KeyError, match=r"nowhere\.known"):
        request_of(app, message)
    message.headers.clear()
    with pytest.raises(KeyError, match="id"):
        request_of(app, message)


def test_a_request_is_answered_once(app, message) -> None:
    told = []
    request = request_of(
        app,
        message,
        on_ack=lambda *args: told.append("ack"),
        on_reject=lambda *args: told.append(args[2]),
    )
    request.reject(requeue=True)
    request.acknowledge()

    assert told == [True]


@pytest.mark.usefixtures("_nothing_revoked")
def test_a_request_class_of_a_task_knows_it_and_the_pool(app, message) -> None:
    given = []
    pool = SimpleNamespace(submit=given.append)
    known = create_request_cls(Request, app.tasks["add"], pool, "w@there", None, app=app)
    request = known(message, decoded=True)
    request.job = job = object()
    request.execute_using_pool()
    state.revoked.add("one")

    assert known.__name__ == "Request"
    assert (request.hostname, request.task) == ("w@there", app.tasks["add"])
    assert given == [[job]]
    with pytest.raises(TaskRevokedError):
        request.execute_using_pool()


def test_a_request_without_a_row_cannot_be_given_to_a_pool(app, message) -> None:
    with pytest.raises(RuntimeError, match="Run it here with execute"):
        request_of(app, message).execute_using_pool(SimpleNamespace())


# ── the state of the process ────────────────────────────────────────────────────────────


class Followed(Worker):
    """A worker that notes the turns of its life."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.turns: list[str] = []
        super().__init__(*args, **kwargs)

    def on_before_init(self, **kwargs: Any) -> None:
        self.turns.append("before init")

    def on_after_init(self, **kwargs: Any) -> None:
        self.turns.append("after init")

    def on_start(self) -> None:
        self.turns.append("start")

    def on_consumer_ready(self, consumer: Any) -> None:
        self.turns.append("ready")
        self.seen = len(state.workers), set(state.active_requests)
        self.stop_soon()

    def on_close(self) -> None:
        self.turns.append("close")

    def on_stopped(self) -> None:
        self.turns.append("stopped")


def test_a_subclass_of_the_worker_hears_of_the_turns_of_its_life(app) -> None:
    worker = Followed(app, "w@here", pool="solo")

    assert worker.start() == 0
    assert worker.turns == [
        "before init",
        "after init",
        "start",
        "ready",
        "close",
        "stopped",
    ]
    assert worker.seen == (1, set())
    assert worker not in state.workers
    assert worker.state is state


@pytest.mark.usefixtures("_nothing_revoked")
def test_a_task_that_was_revoked_in_this_process_does_not_run(app) -> None:
    told = []
    signals.task_revoked.connect(
        lambda request, **kwargs: told.append(request.id), weak=False, dispatch_uid="t"
    )
    refused = app.tasks["add"].apply_async((1, 1), task_id="refused")
    wanted = app.tasks["add"].apply_async((1, 1), task_id="wanted")
    state.revoked.add("refused")
    before = state.total_count["add"]

    class Until(Worker):
        def on_consumer_ready(self, consumer: Any) -> None:
            def stop_when_done() -> None:
                eventually(lambda: refused.ready() and wanted.ready())
                self.stop()

            threading.Thread(target=stop_when_done, daemon=True).start()

    Until(app, "w@here", pool="solo").start()
    signals.task_revoked.disconnect(dispatch_uid="t")

    assert wanted.result == 2
    assert refused.state == "REVOKED"
    assert told == ["refused"]
    # As in Celery: those that were begun.
    assert state.total_count["add"] == before + 1


def test_the_jobs_that_a_worker_holds_are_requests_here(app) -> None:
    told = {
        "id": 7, "task_id": "held", "task": "add", "queue": "mail", "args": "[1, 2]",
        "kwargs": "{}", "content_type": "application/json", "content_encoding": "utf-8",
        "headers": '{"headers": {"trace": "t"}}', "embed": None, "expires_at": None,
        "ignore_result": None, "time_limit": None, "soft_time_limit": None, "body": None,
    }  # fmt: skip
    job = Job(**{**dict.fromkeys(Job._fields, 0), "meta": None, "tags": None, **told})
    holder = Holder(app, job)
    state.workers.add(holder)
    try:
        (reserved,) = state.reserved_requests
        (active,) = state.active_requests
    finally:
        state.workers.discard(holder)

    assert reserved == active
    assert reserved in {active}
    assert (reserved.id, reserved.args, reserved.hostname) == ("held", [1, 2], "w@here")
    assert reserved.delivery_info["routing_key"] == "mail"
    assert reserved.request_dict["trace"] == "t"
    assert len(state.reserved_requests) == 0


class Holder:
    """A worker that holds a job and runs it."""

    hostname = "w@here"

    def __init__(self, app: Celery, job: Job) -> None:
        self.app = app
        self.held = lambda: [job]
        self.pool = SimpleNamespace(running=lambda: {job.id: (1, 0.0)})


# ── the panel ───────────────────────────────────────────────────────────────────────────


def test_a_command_is_added_with_and_without_arguments() -> None:
    try:

        @Panel.register
        def bare(state: Any) -> None:
            """One line."""

        @Panel.register(name="dressed", alias="old", type="inspect")
        def other(state: Any) -> None:
            """Another."""

        assert Panel.data["bare"] is bare
        assert Panel.meta["bare"].help == "One line."
        assert Panel.data["old"] is Panel.data["dressed"] is other
        assert isinstance(Panel.meta["dressed"], controller_info_t)
    finally:
        for name in ("bare", "dressed", "old"):
            Panel.data.pop(name, None)
            Panel.meta.pop(name, None)


def test_a_panel_of_ones_own_is_a_dict_of_commands() -> None:
    own = Panel({"ping": print}, pong=repr)

    assert own == {"ping": print, "pong": repr}
    assert "pong" not in Panel.data


# ── what programs tell of requests that they handle themselves ──────────────────────────


@pytest.fixture
def _forget() -> Iterator[None]:
    state.reset_state()
    yield
    state.reset_state()


@pytest.mark.usefixtures("_forget")
def test_a_program_tells_of_requests_of_its_own():
    one = type("Mine", (), {"id": "one", "name": "add"})()

    state.task_scheduled(one)
    assert (one in state.scheduled_requests, one in state.reserved_requests) == (
        True,
        False,
    )
    state.task_reserved(one)
    state.task_scheduled(one)
    assert (one in state.scheduled_requests, one in state.reserved_requests) == (
        False,
        True,
    )
    state.task_accepted(one)
    assert list(state.active_requests) == [one]
    assert (state.total_count["add"], state.all_total_count) == (1, [1])
    assert state.requests == {"one": one}
    state.task_ready(one, successful=True)
    assert not (state.requests or state.active_requests or state.reserved_requests)
    assert "one" in state.successful_requests


@pytest.mark.usefixtures("_forget")
def test_revoked_ids_are_kept_in_a_file(tmp_path):
    state.revoked.add("lost")
    kept = state.Persistent(state, str(tmp_path / "revoked"))
    kept.save()
    state.reset_state()
    assert "lost" not in state.revoked

    state.Persistent(state, str(tmp_path / "revoked")).close()
    assert "lost" in state.revoked


@pytest.mark.parametrize(
    ("flag", "value", "raised"),
    [
        ("should_stop", 0, WorkerShutdown),
        ("should_stop", 3, WorkerShutdown),
        ("should_terminate", 0, WorkerTerminate),
        ("should_stop", False, None),
        ("should_terminate", None, None),
    ],
)
def test_a_program_leaves_when_the_flags_say_so(monkeypatch, flag, value, raised):
    monkeypatch.setattr(state, flag, value)

    if raised is None:
        assert state.maybe_shutdown() is None
    else:
        with pytest.raises(raised) as left:
            state.maybe_shutdown()
        assert left.value.code == value


def test_a_number_from_the_environment_that_is_none_is_refused(monkeypatch):
    monkeypatch.setenv("CELERY_WORKER_REVOKES_MAX", "many")

    with pytest.raises(ImproperlyConfigured, match=r"REVOKES_MAX is 'many': expected int"):
        state._number("CELERY_WORKER_REVOKES_MAX", 1)
    monkeypatch.setenv("CELERY_WORKER_REVOKES_MAX", "7")
    assert state._number("CELERY_WORKER_REVOKES_MAX", 1) == 7
