"""Running again: ``self.retry``, ``autoretry_for``, ``max_attempts``."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from pgtasks import Task, exceptions, signals
from pgtasks.app.autoretry import exponential, seconds_until_retry
from pgtasks.app.memory import queue_of
from pgtasks.exceptions import Ignore, MaxRetriesExceededError, Retry


@pytest.fixture
def app(each_app):
    return each_app


def test_a_retried_job_is_the_same_job_and_keeps_what_belongs_to_it(app, desk):
    seen: list[Any] = []

    @app.task(bind=True)
    def again(self, x, y=0):
        request = self.request
        seen.append(
            (
                request.id,
                request.root_id,
                request.parent_id,
                request.delivery_info["routing_key"],
                request.delivery_info["priority"],
                request.group,
                request.timelimit,
                request.headers,
                request.expires,
                request.callbacks,
            )
        )
        if request.retries < 2:
            raise self.retry(countdown=0)
        return [x, y, request.retries, request.attempt]

    @app.task
    def callback(value):
        pass

    result = again.apply_async(
        (1,),
        {"y": 2},
        queue="mail",
        priority=3,
        time_limit=9,
        group_id="the-group",
        root_id="the-root",
        parent_id="the-parent",
        expires=600,
        headers={"a": 1},
        link=callback.s(),
    )
    outcomes = desk(app, "mail").work_off()

    assert [outcome.state for outcome in outcomes] == [
        "retryable",
        "retryable",
        "completed",
    ]
    assert result.get(timeout=5) == [1, 2, 2, 3]
    assert seen[0] == seen[1] == seen[2]
    assert seen[0][:4] == (result.id, "the-root", "the-parent", "mail")
    assert [job.task for job in outcomes[-1].follow_ups] == [callback.name]
    assert outcomes[0].follow_ups == []


def test_a_retry_waits_and_shows_why(app, desk, heard):
    told = heard("task_retry", "task_failure")
    called = []

    class Told(Task):
        def on_retry(self, exc, task_id, args, kwargs, einfo):
            called.append((repr(exc), task_id, args, kwargs))

        def after_return(self, *args):
            called.append("after_return")

    @app.task(bind=True, base=Told)
    def again(self, x):
        try:
            raise KeyError("first")
        except KeyError as error:
            raise self.retry(exc=error, countdown=30)

    result = again.delay(1)
    (outcome,) = desk(app).work_off()

    assert (outcome.state, outcome.delay, outcome.retried) == ("retryable", 30, True)
    assert outcome.error.message == "'first'"
    assert result.state == "RETRY"
    assert isinstance(result.info, KeyError)
    assert called == [("KeyError('first')", result.id, [1], {})]
    assert [each["name"] for each in told] == ["task_retry"]
    assert str(told[0]["reason"]) == "Retry in 30s: KeyError('first')"


@pytest.mark.parametrize(
    ("options", "delay"),
    [({}, 180), ({"countdown": 5}, 5), ({"countdown": 0}, 0), ({"countdown": -1}, 0)],
)
def test_how_long_a_retry_waits(memory_app, desk, options, delay):
    @memory_app.task(bind=True, max_retries=1)
    def again(self):
        raise self.retry(**options)

    again.delay()
    outcome = desk(memory_app).work_one()

    assert (outcome.state, outcome.delay) == ("retryable", delay)


def test_a_retry_may_be_at_a_date(app, desk):
    eta = datetime.now(timezone.utc) + timedelta(hours=1)

    @app.task(bind=True)
    def again(self):
        raise self.retry(eta=eta)

    again.delay()
    (outcome,) = desk(app).work_off()

    assert (outcome.delay, outcome.eta) == (None, eta.isoformat())


def test_the_task_fails_when_no_retry_is_left(app, desk):
    runs = []

    @app.task(bind=True, max_retries=2)
    def again(self, x):
        runs.append(self.request.retries)
        raise self.retry(countdown=0)

    result = again.delay(7)
    desk(app).work_off()

    assert runs == [0, 1, 2]
    with pytest.raises(MaxRetriesExceededError, match=r"args:\(7,\)|args:\[7\]"):
        result.get(timeout=5)


def test_the_exception_given_is_raised_when_no_retry_is_left(app, desk):
    @app.task(bind=True, max_retries=1)
    def again(self):
        try:
            raise ZeroDivisionError("real")
        except ZeroDivisionError as error:
            raise self.retry(exc=error, countdown=0)

    result = again.delay()
    desk(app).work_off()

    with pytest.raises(ZeroDivisionError, match="real"):
        result.get(timeout=5)


def test_without_a_limit_a_task_may_retry_for_ever(app, desk):
    @app.task(bind=True, max_retries=None)
    def again(self):
        if self.request.retries < 10:
            raise self.retry(countdown=0)
        return self.request.retries

    result = again.delay()
    desk(app).work_off()

    assert result.get(timeout=5) == 10


def test_new_arguments_replace_the_old_ones(app, desk):
    @app.task(bind=True)
    def again(self, foo, bar=None, *, label=None):
        if not self.request.retries:
            raise self.retry(kwargs={"foo": foo + 1, "label": "new"}, countdown=0)
        return [foo, bar, label]

    result = again.delay(1, 2)
    desk(app).work_off()

    assert result.get(timeout=5) == [2, 2, "new"]


def test_a_retry_may_go_to_another_queue_with_another_priority(app, desk):
    seen = []

    @app.task(bind=True)
    def again(self):
        info = self.request.delivery_info
        seen.append((info["routing_key"], info["priority"]))
        if not self.request.retries:
            raise self.retry(countdown=0, queue="slow", priority=7)

    again.delay()
    desk(app, "celery", "slow").work_off()

    assert seen == [("celery", 0), ("slow", 7)]


def test_new_arguments_that_cannot_be_sent_reject_the_job(app, desk):
    @app.task(bind=True)
    def again(self, x):
        raise self.retry(args=[object()], countdown=0)

    result = again.delay(1)
    (outcome,) = desk(app).work_off()

    assert (outcome.state, result.state) == ("discarded", "FAILURE")
    assert "JSON" in outcome.error.message


@pytest.mark.parametrize("countdown", [float("inf"), float("nan"), 1e18])
def test_a_retry_that_would_never_come_fails_the_job(app, desk, countdown):
    @app.task(bind=True)
    def again(self):
        raise self.retry(countdown=countdown)

    again.delay()
    (outcome,) = desk(app).work_off()

    assert outcome.state == "discarded"
    assert "countdown" in outcome.error.message


def test_a_swallowed_retry_has_been_promised_all_the_same(app, desk):
    runs = []

    @app.task(bind=True)
    def again(self):
        runs.append(self.request.retries)
        if self.request.retries == 0:
            try:
                self.retry(countdown=0)
            except Exception:  # far too broad
                return "swallowed"
        if self.request.retries == 1:
            self.retry(countdown=0, throw=False)
            raise ValueError("and yet")
        return "third"

    result = again.delay()
    desk(app).work_off()

    assert runs == [0, 1, 2]
    assert result.get(timeout=5) == "third"


def test_a_retry_that_is_raised_by_hand_is_kept(app, desk):
    @app.task(bind=True)
    def again(self):
        if not self.request.retries:
            raise Retry("by hand", when=0)
        return "second"

    result = again.delay()
    desk(app).work_off()

    assert result.get(timeout=5) == "second"


def test_called_as_a_function_a_task_cannot_be_retried(memory_app):
    @memory_app.task(bind=True)
    def again(self, error=None):
        raise self.retry(exc=error)

    with pytest.raises(ValueError, match="mine"):
        again(ValueError("mine"))
    with pytest.raises(Retry):
        again()


def test_an_apply_async_of_ones_own_has_its_say_in_a_retry(app, desk):
    seen = []

    class Tagged(Task):
        def apply_async(self, args=None, kwargs=None, *rest, **options):
            options["headers"] = {"sent": len(seen) + 1}
            return super().apply_async(args, kwargs, *rest, **options)

    @app.task(bind=True, base=Tagged)
    def again(self):
        seen.append(self.request.headers)
        if not self.request.retries:
            raise self.retry(countdown=0)

    again.delay()
    desk(app).work_off()

    assert seen == [{"sent": 1}, {"sent": 2}]


def test_publishing_signals_tell_of_a_retry_too(app, desk, heard):
    @app.task(bind=True)
    def again(self):
        if not self.request.retries:
            raise self.retry(countdown=0)

    again.delay()
    told = heard("before_task_publish")
    desk(app).work_off()

    assert [each["headers"]["retries"] for each in told] == [1]


# ── autoretry_for ───────────────────────────────────────────────────────────────────────


def test_a_listed_exception_is_retried_by_itself(app, desk):
    runs = []

    @app.task(bind=True, autoretry_for=(OSError,), max_retries=2, default_retry_delay=0)
    def flaky(self):
        runs.append(self.request.retries)
        raise ConnectionError("away")

    result = flaky.delay()
    desk(app).work_off()

    assert runs == [0, 1, 2]
    with pytest.raises(ConnectionError, match="away"):
        result.get(timeout=5)


def test_an_exception_that_is_excluded_is_not_retried(app, desk):
    runs = []

    @app.task(autoretry_for=(Exception,), dont_autoretry_for=(KeyError,))
    def flaky():
        runs.append(1)
        raise KeyError("no use")

    flaky.delay()
    desk(app).work_off()

    assert runs == [1]


@pytest.mark.parametrize(
    ("options", "delays"),
    [
        ({"retry_backoff": True, "retry_jitter": False}, [1, 2, 4, 8]),
        ({"retry_backoff": 3, "retry_jitter": False}, [3, 6, 12, 24]),
        (
            {"retry_backoff": True, "retry_backoff_max": 3, "retry_jitter": False},
            [1, 2, 3, 3],
        ),
        ({"retry_kwargs": {"countdown": 7}}, [7, 7, 7, 7]),
    ],
)
def test_the_backoff_of_autoretry_is_celerys(memory_app, desk, options, delays):
    @memory_app.task(bind=True, autoretry_for=(ValueError,), max_retries=4, **options)
    def flaky(self):
        raise ValueError("no")

    bench = desk(memory_app)
    seen = []
    for retries in range(4):
        memory_app.send_task(flaky.name, retries=retries)
        seen.append(bench.work_one().delay)

    assert seen == delays


def test_jitter_stays_below_the_backoff(memory_app, desk):
    @memory_app.task(
        bind=True, autoretry_for=(ValueError,), retry_backoff=100, max_retries=9
    )
    def flaky(self):
        raise ValueError("no")

    bench = desk(memory_app)
    flaky.delay_many([()] * 50)
    delays = [bench.work_one().delay for _ in range(50)]

    assert all(0 <= delay <= 100 for delay in delays)
    assert len(set(delays)) > 10


def test_what_the_task_says_itself_is_not_retried(app, desk):
    @app.task(autoretry_for=(Exception,))
    def quiet():
        raise Ignore

    quiet.delay()
    (outcome,) = desk(app).work_off()

    assert (outcome.state, outcome.status) == ("completed", "IGNORED")


def test_a_coroutine_function_is_retried_too(app, desk):
    @app.task(bind=True, autoretry_for=(ValueError,), default_retry_delay=0)
    async def flaky(self):
        if not self.request.retries:
            raise ValueError("no")
        return self.request.retries

    result = flaky.delay()
    desk(app).work_off()

    assert result.get(timeout=5) == 1


def test_the_options_of_one_task_do_not_leak_into_another_of_its_base(memory_app, desk):
    class Base(Task):
        autoretry_for = (ValueError,)
        retry_kwargs = {"max_retries": 5}
        retry_backoff = True

    @memory_app.task(bind=True, base=Base)
    def flaky(self):
        raise ValueError("no")

    flaky.delay()
    desk(memory_app).work_one()

    assert Base.retry_kwargs == {"max_retries": 5}


# ── max_attempts ────────────────────────────────────────────────────────────────────────


def test_with_max_attempts_an_exception_is_another_attempt(app, desk, heard):
    told = heard("task_retry", "task_failure", "task_success")
    attempts = []

    @app.task(bind=True, max_attempts=3, backoff=0)
    def flaky(self):
        attempts.append(
            (self.request.attempt, self.request.max_attempts, self.request.retries)
        )
        if self.request.attempt < 3:
            raise ValueError(f"attempt {self.request.attempt}")
        return "third"

    result = flaky.delay()
    outcomes = desk(app).work_off()

    assert attempts == [(1, 3, 0), (2, 3, 1), (3, 3, 2)]
    assert [each["name"] for each in told] == ["task_retry", "task_retry", "task_success"]
    assert [outcome.error and outcome.error.message for outcome in outcomes] == [
        "attempt 1",
        "attempt 2",
        None,
    ]
    assert result.get(timeout=5) == "third"


def test_the_last_attempt_fails_with_its_own_exception(app, desk):
    @app.task(bind=True, max_attempts=2, backoff=0)
    def flaky(self):
        raise ValueError(f"attempt {self.request.attempt}")

    result = flaky.delay()
    outcomes = desk(app).work_off()

    assert [outcome.state for outcome in outcomes] == ["retryable", "discarded"]
    with pytest.raises(ValueError, match="attempt 2"):
        result.get(timeout=5)


def test_while_it_waits_for_another_attempt_the_job_shows_its_error(app, desk):
    @app.task(max_attempts=2, backoff=60)
    def flaky():
        raise ValueError("no")

    result = flaky.delay()
    desk(app).work_off()

    assert result.state == "RETRY"
    assert repr(result.info) == "ValueError('no')"


def test_a_call_may_set_its_own_number_of_attempts(app, desk):
    @app.task(bind=True, backoff=0)
    def flaky(self):
        if self.request.attempt < 3:
            raise ValueError("no")
        return self.request.attempt

    result = flaky.apply_async(max_attempts=3)
    desk(app).work_off()

    assert result.get(timeout=5) == 3


def test_retry_counts_as_one_of_max_attempts(app, desk):
    attempts = []

    @app.task(bind=True, max_attempts=5, max_retries=1)
    def again(self):
        attempts.append(self.request.attempt)
        raise self.retry(countdown=0)

    result = again.delay()
    desk(app).work_off()

    assert attempts == [1, 2, 3, 4, 5]
    with pytest.raises(MaxRetriesExceededError):
        result.get(timeout=5)


@pytest.mark.parametrize(
    ("backoff", "attempt", "least", "most"),
    [
        (None, 1, 17, 18.7),
        (None, 5, 47, 51.7),
        (None, 20, 1_048_591, 1_153_451),
        (None, 1000, 1_048_591, 1_153_451),
        (7, 3, 7, 7),
        (lambda attempt: attempt * 10, 3, 30, 30),
        (lambda attempt: float("nan"), 1, 17, 18.7),
        (lambda attempt: -5, 1, 17, 18.7),
    ],
)
def test_the_wait_between_attempts(backoff, attempt, least, most):
    assert least <= seconds_until_retry(backoff, attempt) <= most


def test_obans_formula_can_be_used_with_other_numbers():
    assert 2 <= exponential(1, pad=0) <= 2.2
    assert exponential(3, pad=1, jitter=0) == 9


def test_a_function_for_the_backoff_is_asked_with_the_number_of_the_attempt(
    memory_app, desk
):
    asked = []

    def backoff(attempt):
        asked.append(attempt)
        return 40

    @memory_app.task(max_attempts=3, backoff=backoff)
    def flaky():
        raise ValueError("no")

    flaky.delay()
    outcome = desk(memory_app).work_one()

    assert (asked, outcome.delay) == ([1], 40)


def test_the_rows_history_has_every_failed_attempt(postgres_app, desk):
    @postgres_app.task(bind=True, max_attempts=3, backoff=0)
    def flaky(self):
        raise ValueError(f"attempt {self.request.attempt}")

    result = flaky.delay()
    desk(postgres_app).work_off()

    errors = json.loads(result.job.errors)
    assert [(each["attempt"], each["kind"], each["message"]) for each in errors] == [
        (1, "ValueError", "attempt 1"),
        (2, "ValueError", "attempt 2"),
        (3, "ValueError", "attempt 3"),
    ]


def test_signals_of_a_retry_have_the_request(memory_app, desk):
    seen = []

    @memory_app.task(bind=True)
    def again(self):
        raise self.retry(countdown=1)

    def note(sender, request, reason, einfo, **_):
        seen.append((sender.name, request.id, type(reason), einfo.type))

    signals.task_retry.connect(note)
    result = again.delay()
    desk(memory_app).work_one()
    signals.task_retry.disconnect(note)

    assert seen == [(again.name, result.id, Retry, Retry)]
    assert len(queue_of(memory_app)) == 1


def test_a_lost_process_is_a_crash_and_no_retry_of_the_tasks(memory_app, desk):
    @memory_app.task(max_attempts=3)
    def leave():
        raise SystemExit(3)

    leave.delay()
    outcome = desk(memory_app).work_one()

    # As when the process had really ended: at once, alone, and at most three times.
    assert (outcome.state, outcome.crashed, outcome.retried) == ("available", True, False)
    assert outcome.error.kind == exceptions.WorkerLostError.__name__


def test_the_backoff_may_be_a_method_of_the_tasks_class(memory_app, desk):
    class Patient(Task):
        pace = 11

        def backoff(self, attempt):
            return self.pace * attempt

    @memory_app.task(base=Patient, max_attempts=3)
    def flaky():
        raise ValueError("no")

    flaky.delay()
    assert desk(memory_app).work_one().delay == 11
