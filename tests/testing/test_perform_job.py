"""One job, run in the caller as a worker would: ``pgtasks.testing.perform_job``."""

from __future__ import annotations

from datetime import datetime, timezone
from uuid import UUID

import pytest

from pgtasks import Cancel, Celery, Discard, Snooze
from pgtasks.exceptions import EncodeError, Ignore, Reject, TaskRevokedError
from pgtasks.testing import all_enqueued, perform_job


@pytest.fixture
def app(memory_app):
    return memory_app


def test_a_job_that_succeeds(app):
    @app.task
    def add(x, y):
        return x + y

    performed = perform_job(add, (1,), {"y": 2})

    assert (performed.state, performed.status, performed.result) == (
        "completed",
        "SUCCESS",
        3,
    )
    assert performed.error is performed.delay is performed.traceback is None
    assert performed.runtime >= 0
    assert all_enqueued(app=app) == []


def test_a_job_needs_no_database():
    app = Celery("tests", broker="postgresql://localhost:1/none", set_as_current=False)

    @app.task
    def add(x, y):
        return x + y

    assert perform_job(add, (1, 2)).result == 3


def test_arguments_and_result_go_through_the_serializer(app):
    @app.task
    def look(items, names, when, id):
        assert (items, names) == ([1, 2], {"1": "one"})
        assert when == datetime(2030, 1, 1, tzinfo=timezone.utc)
        assert id == UUID(int=7)
        return (1, 2)

    when = datetime(2030, 1, 1, tzinfo=timezone.utc)
    performed = perform_job(look, ((1, 2), {1: "one"}, when, UUID(int=7)))

    assert performed.error is None
    assert performed.result == [1, 2]


def test_arguments_that_cannot_be_sent_are_an_error(app):
    @app.task
    def look(value):
        """Never called."""

    with pytest.raises(EncodeError):
        perform_job(look, ({1, 2},))


def test_a_result_that_cannot_be_stored_fails_the_job(app):
    @app.task
    def look():
        return {1, 2}

    performed = perform_job(look)
    assert performed.state == "discarded"
    assert isinstance(performed.error, EncodeError)


def test_an_ignored_result_is_as_it_was_returned(app):
    @app.task(ignore_result=True)
    def look():
        return (1, 2)

    assert perform_job(look).result == (1, 2)


def test_the_request_is_that_of_a_worker(app):
    seen = {}

    @app.task(bind=True)
    def look(self):
        request = self.request
        seen.update(
            id=request.id, attempt=request.attempt, retries=request.retries,
            eager=request.is_eager, meta=request.meta, tags=request.tags,
            headers=request.headers, queue=request.delivery_info["routing_key"],
            priority=request.delivery_info["priority"], most=request.max_attempts,
            direct=request.called_directly,
        )  # fmt: skip

    perform_job(
        look, task_id="the-id", meta={"a": {"b": 1}}, tags=["x"], headers={"h": 1},
        queue="mailers", priority=3, max_attempts=5,
    )  # fmt: skip

    assert seen == {
        "id": "the-id", "attempt": 1, "retries": 0, "eager": False,
        "meta": {"a": {"b": 1}}, "tags": ["x"], "headers": {"h": 1}, "queue": "mailers",
        "priority": 3, "most": 5, "direct": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("said", "attempt", "retries"),
    [({"attempt": 3}, 3, 2), ({"retries": 2}, 3, 2), ({"attempt": 4, "retries": 1}, 4, 1)],
)
def test_which_run_it_is_can_be_said(app, said, attempt, retries):
    @app.task(bind=True)
    def look(self):
        return [self.request.attempt, self.request.retries]

    assert perform_job(look, **said).result == [attempt, retries]


def test_a_failure_is_an_end_and_no_exception(app):
    @app.task
    def fail():
        raise KeyError("no")

    performed = perform_job(fail)

    assert (performed.state, performed.status) == ("discarded", "FAILURE")
    assert isinstance(performed.error, KeyError)
    assert performed.error.__traceback__ is not None
    assert "KeyError: 'no'" in performed.traceback


def test_an_exception_that_cannot_be_pickled_is_itself(app):
    class Odd(Exception):
        def __init__(self, a, b):
            self.lock = lambda: None
            super().__init__(a)

    @app.task
    def fail():
        raise Odd(1, 2)

    assert type(perform_job(fail).error) is Odd


def test_a_failure_with_attempts_left_is_retryable(app):
    @app.task(max_attempts=3, backoff=lambda attempt: attempt * 10)
    def fail():
        raise ConnectionError("away")

    first = perform_job(fail, attempt=2)
    assert (first.state, first.status, first.delay) == ("retryable", "RETRY", 20)
    assert isinstance(first.error, ConnectionError)
    last = perform_job(fail, attempt=3)
    assert (last.state, type(last.error)) == ("discarded", ConnectionError)


def test_a_retry_says_when_and_why(app):
    @app.task(bind=True)
    def again(self, why):
        if why:
            raise self.retry(exc=ValueError(why), countdown=7)
        raise self.retry(countdown=9)

    for_a_reason, just_so = perform_job(again, ("late",)), perform_job(again, ("",))
    assert (for_a_reason.state, for_a_reason.delay) == ("retryable", 7)
    assert repr(for_a_reason.error) == "ValueError('late')"
    assert (just_so.state, just_so.delay, just_so.error) == ("retryable", 9, None)


@pytest.mark.parametrize(
    ("end", "state", "status", "delay"),
    [
        (Snooze(60), "snoozed", "PENDING", 60),
        (Discard("bad"), "discarded", "FAILURE", None),
        (Cancel("not wanted"), "cancelled", "REVOKED", None),
        (Ignore(), "completed", "IGNORED", None),
        (Reject("no"), "discarded", "FAILURE", None),
        (Reject("later", requeue=True), "retryable", "PENDING", 0.0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_ends_that_a_task_chooses(app, end, state, status, delay):
    @app.task(acks_late=True)
    def choose():
        raise end

    performed = perform_job(choose)
    assert (performed.state, performed.status, performed.delay) == (state, status, delay)


def test_the_reason_of_a_cancelled_job_is_in_its_error(app):
    @app.task
    def choose():
        return Cancel("not wanted")

    error = perform_job(choose).error
    assert isinstance(error, TaskRevokedError)
    assert "not wanted" in str(error)


def test_what_a_job_leads_to_is_told_and_not_sent(app):
    @app.task(name="tests.add")
    def add(x, y):
        return x + y

    performed = perform_job(add, (1, 2), link=add.s(10))

    (next_job,) = performed.follow_ups
    assert (next_job.task, next_job.args) == ("tests.add", [3, 10])
    assert all_enqueued(app=app) == []


def test_what_the_body_sends_is_sent(app):
    @app.task(name="tests.inner")
    def inner():
        """Sent."""

    @app.task
    def outer():
        inner.delay()

    perform_job(outer)
    assert [job.task for job in all_enqueued(app=app)] == ["tests.inner"]


def test_a_coroutine_is_run(app):
    @app.task
    async def double(x):
        return x * 2

    assert perform_job(double, (4,)).result == 8


def test_arguments_that_do_not_fit_are_told(app):
    @app.task(name="tests.add")
    def add(x, y):
        """Never called."""

    with pytest.raises(AssertionError, match=r"do not fit tests\.add: .*'y'"):
        perform_job(add, (1,))
    with pytest.raises(AssertionError, match="list or tuple"):
        perform_job(add, "ab")


def test_a_task_that_is_not_registered_is_told(app):
    app.task(name="tests.add")(lambda: None)

    with pytest.raises(AssertionError, match=r"'tests\.ad'.*Is it 'tests\.add'\?"):
        perform_job("tests.ad", app=app)
    with pytest.raises(AssertionError, match="is no task"):
        perform_job(lambda: None, app=app)


def test_a_task_can_be_given_by_its_name(app):
    app.task(name="tests.one")(lambda: 1)

    assert perform_job("tests.one", app=app).result == 1


@pytest.mark.parametrize("late", [False, True])
def test_what_is_meant_for_the_test_passes_through(app, late):
    @app.task(acks_late=late, reject_on_worker_lost=late)
    def stop():
        raise KeyboardInterrupt

    @app.task
    def fail():
        pytest.fail("the task saw it")

    with pytest.raises(KeyboardInterrupt):
        perform_job(stop)
    with pytest.raises(pytest.fail.Exception, match="the task saw it"):
        perform_job(fail)


def test_a_task_that_ends_its_process_is_lost_and_the_test_goes_on(app):
    @app.task
    def leave():
        raise SystemExit(1)

    performed = perform_job(leave)
    assert performed.state == "discarded"
    assert type(performed.error).__name__ == "WorkerLostError"
