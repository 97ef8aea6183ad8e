"""What becomes of a job: the outcome, the handlers and signals, the log line."""

from __future__ import annotations

import json
import logging
import threading
import zlib
from typing import Any

import pytest

from pgtasks import Task, exceptions, signals
from pgtasks.app import followups, trace
from pgtasks.app.memory import queue_of
from pgtasks.app.trace import build_tracer, execute
from pgtasks.canvas import group
from pgtasks.exceptions import Cancel, Discard, Ignore, Reject, Snooze
from pgtasks.job import Job, NewJob, Outcome


@pytest.fixture
def app(each_app):
    return each_app


def claimed(app: Any, **columns: Any) -> Job:
    """A job as a worker would have claimed it, with some of its columns changed."""
    app.finalize()
    queue = queue_of(app)
    task = columns.pop("task", "tests.anything")
    queue.put([NewJob(task, columns.pop("task_id", "the-id"))])
    (job,) = queue.get(["celery"])
    return job._replace(**columns)


def run(app: Any, **columns: Any) -> Outcome:
    return execute(app, claimed(app, **columns), hostname="celery@here")


@pytest.fixture
def anything(memory_app):
    @memory_app.task(name="tests.anything")
    def anything(*args, **kwargs):
        return [args, kwargs]

    return anything


# ── success ─────────────────────────────────────────────────────────────────────────────


def test_what_a_task_returns_is_its_outcome(memory_app, anything):
    outcome = run(memory_app, args='[1, "two"]', kwargs='{"three": null}')

    assert (outcome.state, outcome.status, outcome.error) == ("completed", None, None)
    assert json.loads(outcome.result) == [[1, "two"], {"three": None}]
    assert outcome.follow_ups == []
    assert 0 < outcome.runtime < 5


def test_an_ignored_result_is_not_in_the_outcome(memory_app, anything):
    outcome = run(memory_app, ignore_result=True)
    assert (outcome.state, outcome.result) == ("completed", None)

    anything.ignore_result = True
    assert run(memory_app, task_id="2").result is None
    assert run(memory_app, task_id="3", ignore_result=False).result is not None


def test_a_coroutine_function_is_awaited(app, desk):
    @app.task(bind=True)
    async def add(self, x, y):
        return [x + y, self.request.id]

    result = add.delay(1, 2)
    desk(app).work_off()

    assert result.get(timeout=5) == [3, result.id]


def test_handlers_and_signals_are_called_in_celerys_order(memory_app, heard):
    said: list[str] = []

    class Talking(Task):
        def before_start(self, task_id, args, kwargs):
            said.append("before_start")

        def on_success(self, retval, task_id, args, kwargs):
            said.append(f"on_success {retval}")

        def after_return(self, status, retval, task_id, args, kwargs, einfo):
            said.append(f"after_return {status}")

    @memory_app.task(base=Talking, name="tests.anything")
    def talk():
        said.append("body")
        return 7

    def note(signal, **_):
        said.append(signal.name)

    for signal in (signals.task_prerun, signals.task_success, signals.task_postrun):
        signal.connect(note)
    run(memory_app)
    for signal in (signals.task_prerun, signals.task_success, signals.task_postrun):
        signal.disconnect(note)

    assert said == [
        "task_prerun",
        "before_start",
        "body",
        "on_success 7",
        "task_success",
        "after_return SUCCESS",
        "task_postrun",
    ]


def test_handlers_and_signals_of_a_failure_are_called_in_celerys_order(memory_app):
    said: list[Any] = []

    class Talking(Task):
        def on_failure(self, exc, task_id, args, kwargs, einfo):
            said.append(("on_failure", repr(exc), task_id, einfo.type))

        def after_return(self, status, retval, task_id, args, kwargs, einfo):
            said.append(("after_return", status, repr(retval)))

    @memory_app.task(base=Talking, name="tests.anything")
    def fail():
        raise KeyError("gone")

    def failed(sender, task_id, exception, einfo, **_):
        said.append(("task_failure", sender.name, task_id, repr(exception)))
        assert "KeyError: 'gone'" in einfo.traceback

    def postrun(state, retval, **_):
        said.append(("task_postrun", state, repr(retval)))

    signals.task_failure.connect(failed)
    signals.task_postrun.connect(postrun)
    run(memory_app)
    signals.task_failure.disconnect(failed)
    signals.task_postrun.disconnect(postrun)

    assert said == [
        ("on_failure", "KeyError('gone')", "the-id", KeyError),
        ("task_failure", "tests.anything", "the-id", "KeyError('gone')"),
        ("after_return", "FAILURE", "KeyError('gone')"),
        ("task_postrun", "FAILURE", "KeyError('gone')"),
    ]


def test_before_start_that_raises_fails_the_task(memory_app):
    class Picky(Task):
        def before_start(self, task_id, args, kwargs):
            raise ValueError("not today")

    @memory_app.task(base=Picky, name="tests.anything")
    def task():
        raise AssertionError("the body ran")

    assert run(memory_app).error.message == "not today"


@pytest.mark.parametrize("handler", ["on_success", "after_return"])
def test_a_handler_that_raises_after_the_end_is_only_logged(memory_app, handler, caplog):
    def clumsy(self, *args):
        raise ValueError("oops")

    base = type("Clumsy", (Task,), {handler: clumsy})

    @memory_app.task(base=base, name="tests.anything")
    def task():
        return 1

    outcome = run(memory_app)
    assert (outcome.state, outcome.result) == ("completed", "1")
    assert f"{handler} handler raised: ValueError('oops')" in caplog.text


def test_children_are_part_of_the_outcome(app, desk):
    @app.task
    def leaf():
        pass

    @app.task
    def root():
        return leaf.delay().id

    result = root.delay()
    desk(app).work_off()

    assert [child.id for child in result.children] == [result.get(timeout=5)]


# ── failure ─────────────────────────────────────────────────────────────────────────────


def test_an_exception_ends_the_job_at_once(memory_app):
    @memory_app.task(name="tests.anything")
    def fail():
        raise LookupError("no", "such thing")

    outcome = run(memory_app)
    assert (outcome.state, outcome.status) == ("discarded", None)
    assert outcome.error.kind == "LookupError"
    assert outcome.error.message == "('no', 'such thing')"
    assert json.loads(outcome.result) == {
        "exc_type": "LookupError",
        "exc_message": ["no", "such thing"],
        "exc_module": "builtins",
    }
    assert outcome.traceback.startswith("Traceback (most recent call last):")
    assert "in fail" in outcome.traceback
    assert "pgtasks/app/trace.py" not in outcome.traceback


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


class Unpicklable(Exception):
    def __init__(self, lock, name):
        super().__init__(lock)
        self.name = name


UGLY = {
    "a NUL": lambda: Exception("bad \0 byte"),
    "a surrogate": lambda: Exception("\ud800"),
    "fifty megabytes": lambda: Exception("x" * 50_000_000),
    "no text": lambda: Unprintable(),
    "a lock": lambda: Unpicklable(threading.Lock(), "x"),
    "a generator": lambda: ValueError(x for x in ()),
}


@pytest.mark.parametrize("make", UGLY.values(), ids=UGLY)
def test_whatever_an_exception_is_made_of_it_is_stored(app, desk, make):
    @app.task
    def fail():
        raise make()

    result = fail.delay()
    (outcome,) = desk(app).work_off()

    for text in (outcome.error.message, outcome.error.traceback, outcome.result):
        assert len(text.encode()) < 70_000
        assert "\0" not in text
    assert result.state == "FAILURE"
    assert isinstance(result.get(timeout=5, propagate=False), Exception)
    assert result.traceback


def test_an_exception_of_the_tasks_own_comes_back_by_its_class(app, desk):
    @app.task
    def fail():
        raise exceptions.ImproperlyConfigured("no", 7)

    result = fail.delay()
    desk(app).work_off()

    with pytest.raises(exceptions.ImproperlyConfigured) as raised:
        result.get(timeout=5)
    assert raised.value.args == ("no", 7)


@pytest.mark.parametrize("error", [SystemExit(0), KeyboardInterrupt(), BaseException()])
def test_what_would_end_the_process_loses_the_job_alone(app, desk, error):
    told = []

    class Told(Task):
        def on_failure(self, exc, *args):
            told.append(type(exc))

    @app.task(base=Told)
    def leave():
        raise error

    result = leave.delay()
    (outcome,) = desk(app).work_off()

    assert outcome.state == "discarded"
    with pytest.raises(exceptions.WorkerLostError, match="exitcode 1"):
        result.get(timeout=5)
    assert told == [exceptions.WorkerLostError]


def test_what_would_end_the_process_may_run_again_as_if_it_had(app, desk):
    runs = []

    @app.task(max_attempts=2)
    def leave():
        runs.append(1)
        raise SystemExit(0)

    result = leave.delay()
    again, end = desk(app).work_off()

    assert (again.state, again.crashed, again.error.kind) == (
        "available",
        True,
        "WorkerLostError",
    )
    assert end.state == "discarded"
    with pytest.raises(exceptions.WorkerLostError):
        result.get(timeout=5)
    assert len(runs) == 2


def test_a_result_that_cannot_be_stored_fails_the_job_which_is_not_run_again(app, desk):
    runs = []

    @app.task(max_attempts=5)
    def make():
        runs.append(1)
        return object()

    result = make.delay()
    desk(app).work_off()

    with pytest.raises(exceptions.EncodeError):
        result.get(timeout=5)
    assert runs == [1]


def test_a_result_that_is_too_large_fails_the_job(app, desk):
    app.conf.result_max_size = 1000

    @app.task(max_attempts=5)
    def make(size):
        return "x" * size

    small, large = make.delay(900), make.delay(1001)
    desk(app).work_off()

    assert len(small.get(timeout=5)) == 900
    with pytest.raises(exceptions.PayloadTooLarge, match="result_max_size = 1,000"):
        large.get(timeout=5)


def test_nan_is_a_result(app, desk):
    @app.task
    def make():
        return float("nan")

    result = make.delay()
    desk(app).work_off()

    value = result.get(timeout=5)
    assert value != value


# ── ends that a task chooses ────────────────────────────────────────────────────────────


@pytest.mark.parametrize("how", ["raise", "return", "method"])
def test_a_snoozed_job_runs_again_and_keeps_its_attempt(app, desk, how):
    attempts = []

    @app.task(bind=True, max_attempts=2)
    def nap(self):
        attempts.append((self.request.attempt, self.request.retries))
        if len(attempts) < 4:
            if how == "raise":
                raise Snooze(0)
            if how == "return":
                return Snooze(0)
            self.snooze(0)
        return "awake"

    result = nap.delay()
    outcomes = desk(app).work_off()

    assert result.get(timeout=5) == "awake"
    assert attempts == [(1, 0)] * 4
    assert [outcome.state for outcome in outcomes] == ["scheduled"] * 3 + ["completed"]
    assert all(outcome.error is None for outcome in outcomes)


def test_a_snoozed_job_waits_and_is_pending_meanwhile(app, desk):
    @app.task
    def nap():
        raise Snooze(60)

    result = nap.delay()
    (outcome,) = desk(app).work_off()

    assert (outcome.delay, outcome.give_back) == (60, True)
    assert result.state == "PENDING"


@pytest.mark.parametrize("how", ["raise", "return", "method"])
def test_a_discarded_job_fails_without_another_attempt(app, desk, how):
    @app.task(bind=True, max_attempts=5, autoretry_for=(Exception,))
    def give_up(self):
        if how == "raise":
            raise Discard("no use")
        if how == "return":
            return Discard("no use")
        self.discard("no use")

    result = give_up.delay()
    (outcome,) = desk(app).work_off()

    assert (outcome.state, result.state) == ("discarded", "FAILURE")
    with pytest.raises(Discard, match="no use"):
        result.get(timeout=5)


@pytest.mark.parametrize("how", ["raise", "return", "method"])
def test_a_cancelled_job_is_revoked_and_not_failed(app, desk, how, heard):
    told = heard("task_revoked", "task_failure")

    @app.task(bind=True, max_attempts=5)
    def stop(self):
        if how == "raise":
            raise Cancel("not needed")
        if how == "return":
            return Cancel("not needed")
        self.cancel("not needed")

    result = stop.delay()
    (outcome,) = desk(app).work_off()

    assert (outcome.state, result.state) == ("cancelled", "REVOKED")
    with pytest.raises(exceptions.TaskRevokedError, match="not needed"):
        result.get(timeout=5)
    assert result.failed() is False
    assert [(each["name"], each["expired"]) for each in told] == [("task_revoked", False)]


def test_an_ignored_job_keeps_the_last_state_that_it_gave_itself(app, desk):
    @app.task(bind=True)
    def quiet(self, state=None):
        if state:
            meta = {
                "exc_type": "ValueError",
                "exc_message": ["mine"],
                "exc_module": "builtins",
            }
            self.update_state(state=state, meta=meta if state == "FAILURE" else {"at": 5})
        raise Ignore

    nothing, custom, failure = quiet.delay(), quiet.delay("HALFWAY"), quiet.delay("FAILURE")
    outcomes = desk(app).work_off()

    assert [outcome.state for outcome in outcomes] == [
        "completed",
        "completed",
        "discarded",
    ]
    assert (custom.state, custom.info) == ("HALFWAY", {"at": 5})
    assert failure.state == "FAILURE"
    with pytest.raises(ValueError, match="mine"):
        failure.get(timeout=5)
    assert not nothing.ready()


def test_a_rejected_job_fails_and_says_why(app, desk, heard):
    told = heard("task_failure")

    @app.task
    def refuse():
        raise Reject("unfit")

    result = refuse.delay()
    (outcome,) = desk(app).work_off()

    assert (outcome.state, result.state) == ("discarded", "FAILURE")
    assert isinstance(told[0]["exception"], Reject)


def test_a_rejected_job_may_be_given_back_where_it_is_acknowledged_late(app, desk):
    redelivered = []

    @app.task(bind=True, acks_late=True)
    def pass_on(self):
        redelivered.append(self.request.delivery_info["redelivered"])
        if len(redelivered) == 1:
            raise Reject("not me", requeue=True)
        return "done"

    result = pass_on.delay()
    outcomes = desk(app).work_off()

    assert [outcome.state for outcome in outcomes] == ["available", "completed"]
    assert result.get(timeout=5) == "done"
    assert redelivered == [False, True]


def test_a_state_of_its_own_is_seen_while_the_task_runs(app, desk):
    seen = []

    @app.task(bind=True)
    def climb(self):
        self.update_state(state="PROGRESS", meta={"done": 5})
        seen.append(app.AsyncResult(self.request.id).state)
        seen.append(app.AsyncResult(self.request.id).info)
        return "top"

    result = climb.delay()
    desk(app).work_off()

    assert seen == ["PROGRESS", {"done": 5}]
    assert (result.state, result.result) == ("SUCCESS", "top")


def test_started_is_seen_where_it_is_tracked(app, desk):
    seen = []

    @app.task(bind=True, track_started=True)
    def look(self):
        seen.append(app.AsyncResult(self.request.id).state)

    look.delay()
    desk(app).work_off()

    assert seen == ["STARTED"]


def test_a_job_runs_although_its_beginning_could_not_be_shown(
    memory_app, anything, monkeypatch, caplog
):
    def fail(*args, **kwargs):
        raise ConnectionError("away")

    anything.track_started = True
    monkeypatch.setattr(memory_app.backend, "store_result", fail)

    assert run(memory_app).state == "completed"
    assert "STARTED of tests.anything[the-id] was not stored" in caplog.text


def test_the_names_in_logs_cannot_forge_a_line(memory_app, anything, caplog):
    caplog.set_level(logging.INFO, "celery")
    run(memory_app, task_id="a\nINFO fake", headers='{"shadow": "\\u001b[2J"}')
    run(memory_app, task="a\nINFO fake")

    assert len(caplog.text.splitlines()) == 2
    assert "\x1b" not in caplog.text


# ── jobs that never start ───────────────────────────────────────────────────────────────


def test_an_expired_job_is_revoked_without_running(app, desk, heard):
    told = heard("task_revoked", "task_prerun")

    @app.task
    def late():
        raise AssertionError("the body ran")

    result = late.apply_async(expires=-1)
    desk(app).work_off()

    assert [(each["name"], each["expired"]) for each in told] == [("task_revoked", True)]
    assert result.state == "REVOKED"
    assert result.failed() is False
    with pytest.raises(exceptions.TaskRevokedError, match="expired"):
        result.get(timeout=5)


def test_an_unknown_task_is_discarded_and_nothing_is_imported(app, desk, heard, caplog):
    told = heard("task_unknown")
    result = app.send_task("os.system", ["id"])
    desk(app).work_off()

    assert result.state == "FAILURE"
    with pytest.raises(exceptions.NotRegistered):
        result.get(timeout=5)
    assert (told[0]["name"], told[0]["id"]) == ("os.system", result.id)
    assert "unregistered task of type 'os.system'" in caplog.text


def test_a_job_that_has_used_up_its_attempts_is_not_started_again(memory_app, anything):
    outcome = run(memory_app, max_attempts=3, attempt=4)

    assert outcome.state == "discarded"
    assert outcome.error.kind == "MaxRetriesExceededError"


BOMB = zlib.compress(b"[" + b"0," * 20_000_000 + b"0]")

UNREADABLE = {
    "no JSON": {"args": "{bad"},
    "nothing": {"args": ""},
    "a number": {"args": "5"},
    "an object for a list": {"args": '{"a": 1}'},
    "a list for an object": {"kwargs": "[]"},
    "too deep": {"args": "[" * 100_000 + "]" * 100_000},
    "too many digits": {"args": "[1" + "0" * 5000 + "]"},
    "a byte order mark": {"args": "\ufeff[]"},
    "a spoofed type": {"args": '[{"__type__": "os.system", "__value__": "id"}]'},
    "left in the table": {"args": None, "size": 300_000_000},
    "no content type": {"content_type": None},
    "an unknown content type": {"content_type": "application/x-evil"},
    "a body of no serializer": {"content_type": "application/x-evil", "body": b"x"},
    "pickle": {"content_type": "application/x-python-serialize", "body": b"cos\nsystem\n."},
    "no UTF-8": {"content_type": "application/json", "body": b"\xe9"},
    "a bomb": {"body": BOMB, "content_encoding": "application/x-gzip"},
    "headers that are no JSON": {"headers": "{bad"},
    "callbacks that are no JSON": {"embed": "{bad"},
    "headers of another kind": {"headers": "[1]"},
    "callbacks of another kind": {"embed": "[1]"},
}


@pytest.mark.parametrize("columns", UNREADABLE.values(), ids=UNREADABLE)
def test_a_row_that_cannot_be_read_is_discarded(memory_app, anything, columns, caplog):
    outcome = run(memory_app, **columns)

    assert outcome.state == "discarded"
    assert outcome.error.message
    assert "could not be run" in caplog.text
    assert len(caplog.records) == 1


@pytest.mark.parametrize("date", [float("inf"), float("-inf"), -188_000_000_000.0, 1e300])
def test_dates_that_no_datetime_can_hold_do_no_harm(memory_app, anything, date):
    outcome = run(memory_app, scheduled_at=date, inserted_at=0.0, expires_at=date)
    assert outcome.state == "completed"


# ── what the end leads to ───────────────────────────────────────────────────────────────


def test_callbacks_are_part_of_the_outcome_and_follow_it(app, desk):
    seen = []

    @app.task
    def note(value, more):
        seen.append((value, more))

    @app.task
    def add(x, y):
        return x + y

    result = add.apply_async((1, 2), link=[note.s("a"), note.s("b")])
    bench = desk(app)
    outcome = bench.work_one()

    assert [(job.task, job.parent_id, job.root_id) for job in outcome.follow_ups] == [
        (note.name, result.id, result.id)
    ] * 2
    assert seen == []
    bench.work_off()
    assert seen == [(3, "a"), (3, "b")]
    (group,) = result.children
    assert [child.id for child in group.results] == [
        job.task_id for job in outcome.follow_ups
    ]


def test_a_single_callback_is_a_child_of_its_own(app, desk):
    @app.task
    def note(value):
        pass

    result = note.apply_async((1,), link=note.s())
    outcome = desk(app).work_one()

    assert [child.id for child in result.children] == [outcome.follow_ups[0].task_id]


def test_groups_among_callbacks_are_sent_for_themselves(app, desk):
    seen = []

    @app.task
    def note(value, more):
        seen.append((value, more))

    @app.task
    def add(x, y):
        return x + y

    callbacks = [note.s("a"), group(note.s("b"), note.s("c")), note.s("d")]
    result = add.apply_async((1, 2), link=callbacks)
    desk(app).work_off()

    assert sorted(seen) == [(3, "a"), (3, "b"), (3, "c"), (3, "d")]
    assert [len(child.results) for child in result.children] == [2, 2]


def test_what_follows_a_success_can_tell_that_it_does(app, desk):
    sent = []

    class Watched(Task):
        def apply_async(self, *args, **options):
            sent.append((self.name, followups._callback_publish_retry.get()))
            return super().apply_async(*args, **options)

    @app.task(base=Watched, name="note")
    def note(value=None):
        pass

    @app.task
    def add(x, y):
        note.delay()
        return x + y

    add.apply_async((1, 2), link=note.s())
    desk(app).work_off()

    assert sent == [("note", False), ("note", True)]


def test_what_the_body_sends_is_sent_at_once(app, desk):
    @app.task
    def leaf():
        pass

    @app.task
    def root():
        leaf.delay()
        raise ValueError("after all")

    root.delay()
    outcomes = desk(app).work_off()

    assert [outcome.state for outcome in outcomes] == ["discarded", "completed"]
    assert outcomes[0].follow_ups == []


def test_a_callback_that_cannot_be_sent_fails_the_task(app, desk):
    @app.task
    def note(value):
        pass

    @app.task
    def make():
        return object()

    result = make.apply_async(link=note.s())
    (outcome,) = desk(app).work_off()

    assert (outcome.state, outcome.follow_ups) == ("discarded", [])
    with pytest.raises(exceptions.EncodeError):
        result.get(timeout=5)


def test_an_errback_of_three_arguments_is_called_where_the_task_failed(app, desk):
    seen = []

    @app.task
    def errback(request, exc, traceback):
        seen.append((request.id, repr(exc), "ValueError: no" in traceback))

    @app.task
    def fail():
        raise ValueError("no")

    result = fail.apply_async(link_error=errback.s())
    outcome = desk(app).work_one()

    assert seen == [(result.id, "ValueError('no')", True)]
    assert outcome.follow_ups == []


def test_an_errback_of_one_argument_is_sent_as_a_task(app, desk):
    seen = []

    @app.task
    def errback(task_id):
        seen.append(task_id)

    @app.task(bind=True)
    def bound(self, task_id, more):
        seen.append((task_id, more))

    @app.task
    def broken(request, exc, traceback):
        raise RuntimeError("the errback fails itself")

    @app.task
    def fail():
        raise ValueError("no")

    result = fail.apply_async(link_error=[broken.s(), errback.s(), bound.s("x")])
    bench = desk(app)
    outcome = bench.work_one()

    assert [job.task for job in outcome.follow_ups] == [errback.name, bound.name]
    bench.work_off()
    assert seen == [result.id, (result.id, "x")]


def test_callbacks_wait_for_the_last_attempt(app, desk):
    seen = []

    @app.task
    def errback(request, exc, traceback):
        seen.append(request.attempt)

    @app.task(max_attempts=3, backoff=0)
    def fail():
        raise ValueError("no")

    fail.apply_async(link_error=errback.s())
    desk(app).work_off()

    assert seen == [3]


# ── seams and logs ──────────────────────────────────────────────────────────────────────


def test_the_tracer_is_made_once_by_whatever_stands_in_the_module(
    memory_app, anything, monkeypatch
):
    made = []

    def build(name, task, *args, **kwargs):
        made.append(name)
        return build_tracer(name, task, *args, **kwargs)

    monkeypatch.setattr(trace, "build_tracer", build)
    run(memory_app, task_id="1")
    run(memory_app, task_id="2")

    assert made == ["tests.anything"]


def test_a_message_can_be_traced_by_its_parts(memory_app, anything):
    memory_app.finalize()
    body = json.dumps([[1], {"two": 2}, {"callbacks": None}])

    failed, text, seconds = trace.trace_task_ret(
        anything.name, "1", {"id": "1"}, body, "application/json", "utf-8", app=memory_app
    )

    assert (failed, text) == (0, "[(1,), {'two': 2}]")
    assert seconds < 5
    assert memory_app.AsyncResult("1").get(timeout=1) == [[1], {"two": 2}]


def test_a_process_set_up_for_one_app_traces_messages_without_being_given_it(
    memory_app, anything
):
    parts = {"body": ((), {}, None), "content_type": None, "content_encoding": None}
    with pytest.raises(RuntimeError, match=r"setup_worker_optimizations\(\) has not run"):
        trace.fast_trace_task(anything.name, "1", {"id": "1"}, **parts)

    trace.setup_worker_optimizations(memory_app, "celery@here")
    try:
        assert memory_app.use_fast_trace_task
        anything.__trace__ = build_tracer(anything.name, anything, app=memory_app)
        failed, text, _ = trace.fast_trace_task(anything.name, "1", {"id": "1"}, **parts)
        assert (failed, text) == (0, "[(), {}]")
    finally:
        trace.reset_worker_optimizations(memory_app)
    assert not memory_app.use_fast_trace_task


def test_a_tracer_used_outside_of_a_worker_stores_in_the_tasks_backend(
    memory_app, anything
):
    memory_app.finalize()
    tracer = build_tracer(anything.name, anything, app=memory_app)
    traced = tracer("by-hand", (1,), {}, {"id": "by-hand"})

    assert (traced.retval, traced.info, traced.retstr) == ([(1,), {}], None, "[(1,), {}]")
    assert memory_app.AsyncResult("by-hand").get(timeout=1) == [[1], {}]


def logged(caplog: Any) -> list[tuple[int, str]]:
    return [(record.levelno, record.getMessage()) for record in caplog.records]


def test_a_job_that_succeeds_logs_one_line(memory_app, anything, caplog):
    caplog.set_level(logging.DEBUG, "celery")
    run(memory_app, args='["x"]')

    ((level, text),) = logged(caplog)
    assert level == logging.INFO
    assert text.startswith("Task tests.anything[the-id] succeeded in ")
    assert text.endswith("s: [('x',), {}]")


def test_a_job_that_fails_logs_one_line_with_its_traceback(memory_app, caplog):
    @memory_app.task(name="tests.anything")
    def fail():
        raise ValueError("no")

    run(memory_app)
    ((level, text),) = logged(caplog)
    assert (level, text) == (
        logging.ERROR,
        "Task tests.anything[the-id] raised unexpected: ValueError('no')",
    )
    assert "in fail" in caplog.text


def test_an_expected_exception_is_logged_as_information(memory_app, caplog):
    caplog.set_level(logging.INFO, "celery")

    @memory_app.task(name="tests.anything", throws=(ValueError,))
    def fail():
        raise ValueError("no")

    run(memory_app)
    assert logged(caplog) == [
        (logging.INFO, "Task tests.anything[the-id] raised expected: ValueError('no')")
    ]


def test_waiting_for_a_result_inside_a_task_is_refused(app, desk):
    @app.task
    def leaf():
        return 1

    @app.task
    def root(allowed):
        result = leaf.delay()
        if allowed:
            return result.get(timeout=0, propagate=False, disable_sync_subtasks=False)
        return result.get(timeout=5)

    refused, allowed = root.delay(False), root.delay(True)
    desk(app).work_off()

    with pytest.raises(RuntimeError, match=r"Never call result\.get"):
        refused.get(timeout=5)
    with pytest.raises(exceptions.TimeoutError):
        allowed.get(timeout=5)


def test_a_task_run_eagerly_within_another_has_an_end_of_its_own(app, desk):
    @app.task
    def inner():
        raise ValueError("inside")

    @app.task(bind=True)
    def outer(self):
        failed = inner.apply()
        return [failed.state, self.request.id]

    result = outer.delay()
    (outcome,) = desk(app).work_off()

    assert outcome.error is None
    assert result.get(timeout=5) == ["FAILURE", result.id]
