"""How jobs end: snoozed, discarded, cancelled, out of time, out of attempts.

The numbers are those of Oban's features in ``docs/reference/oban.md``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from pgtasks import Cancel, Celery, Discard, Snooze, exceptions
from pgtasks.app.autoretry import exponential, seconds_until_retry
from pgtasks.app.trace import execute
from pgtasks.exceptions import NotRegistered, TaskRevokedError
from pgtasks.job import Job
from pgtasks.storage.jobs import ack, settle
from pgtasks.worker import verdicts

WAYS = ["raise", "return", "method"]


def ender(app: Celery, how: str, kind: type[Any], value: Any) -> Any:
    """A task that ends so, in one of the three ways."""

    @app.task(bind=True, name="ender", max_attempts=3, backoff=0)
    def ender(self: Any) -> Any:
        if how == "raise":
            raise kind(value)
        if how == "return":
            return kind(value)
        return {Snooze: self.snooze, Discard: self.discard, Cancel: self.cancel}[kind](
            value
        )

    app.finalize()
    return ender


# ── 38: snooze ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("delay", [60, 60.0, timedelta(minutes=1)], ids=repr)
def test_38_a_snooze_gives_the_attempt_back_and_is_no_error(
    each_app: Celery, desk: Callable[..., Any], how: str, delay: Any
) -> None:
    result = ender(each_app, how, Snooze, delay).delay()
    outcome = desk(each_app).work_one()

    assert (outcome.state, outcome.delay, outcome.give_back) == ("scheduled", 60.0, True)
    assert (outcome.error, outcome.retried) == (None, False)
    assert result.state == "PENDING"


def test_38_snoozes_are_counted_where_the_task_can_see_it(
    each_app: Celery, desk: Callable[..., Any]
) -> None:
    seen = []

    @each_app.task(bind=True, name="drowsy", max_attempts=2)
    def drowsy(self: Any) -> str:
        seen.append((self.request.attempt, (self.request.meta or {}).get("snoozed")))
        if len(seen) < 4:
            raise Snooze(0)
        return "awake"

    each_app.finalize()
    result = drowsy.apply_async(meta={"tenant": "acme"})
    desk(each_app).work_off()

    assert seen == [(1, None), (1, 1), (1, 2), (1, 3)]
    assert result.get(timeout=5) == "awake"


@pytest.mark.parametrize(
    ("meta", "after"),
    [
        ("{}", {"snoozed": 1}),
        ('{"snoozed": 7}', {"snoozed": 8}),
        ('{"snoozed": "often"}', {"snoozed": "often"}),
        ("[1]", [1]),
        ('"text"', "text"),
        ("null", None),
        ('{"snoozed": 1e300}', {"snoozed": 10**300 + 1}),
    ],
)
def test_38_metadata_of_any_kind_spoil_no_batch(
    postgres_app: Celery, desk: Callable[..., Any], meta: str, after: Any
) -> None:
    drowsy = ender(postgres_app, "raise", Snooze, 60)
    result, other = drowsy.delay(), drowsy.delay()
    settlements = [
        settle(execute(postgres_app, job), job.task_id)
        for job in desk(postgres_app).claim()
    ]
    with postgres_app.database.connection() as connection:
        connection.execute(
            "update pgtasks.jobs set meta = %s where task_id = %s", [meta, result.id]
        )
        assert len(postgres_app.database.run(ack(settlements)).ids) == 2
        [[found]] = connection.execute(
            "select meta::text from pgtasks.jobs where task_id = %s", [result.id]
        ).fetchall()

    assert json.loads(found) == after
    assert postgres_app.jobs.get(other).meta == {"snoozed": 1}


# ── 39 and 40: cancel and discard ───────────────────────────────────────────────────────


@pytest.mark.parametrize("how", WAYS)
def test_39_a_job_that_cancels_itself_is_not_retried_and_keeps_the_reason(
    postgres_app: Celery, desk: Callable[..., Any], how: str
) -> None:
    result = ender(postgres_app, how, Cancel, "not needed").delay()
    desk(postgres_app).work_off()
    job = postgres_app.jobs.get(result)

    assert (job.state, job.status, job.attempt) == ("cancelled", "REVOKED", 1)
    assert [(each["kind"], each["message"]) for each in job.errors] == [
        ("TaskRevokedError", "not needed")
    ]
    with pytest.raises(TaskRevokedError, match="not needed"):
        result.get(timeout=5)


@pytest.mark.parametrize("how", WAYS)
def test_40_a_job_that_discards_itself_has_failed_and_is_not_retried(
    postgres_app: Celery, desk: Callable[..., Any], how: str
) -> None:
    result = ender(postgres_app, how, Discard, "hopeless").delay()
    desk(postgres_app).work_off()
    job = postgres_app.jobs.get(result)

    assert (job.state, job.status, job.attempt) == ("discarded", "FAILURE", 1)
    assert [(each["kind"], each["message"]) for each in job.errors] == [
        ("Discard", "Discarded: hopeless")
    ]


# ── 37: failures and attempts ───────────────────────────────────────────────────────────


def test_37_an_exception_is_retried_until_the_attempts_are_used_up(
    postgres_app: Celery, desk: Callable[..., Any]
) -> None:
    @postgres_app.task(name="flaky", bind=True, max_attempts=3, backoff=0)
    def flaky(self: Any) -> None:
        raise ConnectionError(f"attempt {self.request.attempt}")

    postgres_app.finalize()
    result = flaky.delay()
    worker = desk(postgres_app)
    states = [outcome.state for outcome in worker.work_off()]
    job = postgres_app.jobs.get(result)

    assert states == ["retryable", "retryable", "discarded"]
    assert [each["attempt"] for each in job.errors] == [1, 2, 3]
    for each in job.errors:
        assert set(each) == {"attempt", "at", "kind", "message", "traceback", "worker"}
        assert (each["kind"], each["worker"]) == ("ConnectionError", worker.worker)
        assert "in flaky" in each["traceback"]


def test_37_the_last_twenty_errors_are_kept(
    postgres_app: Celery, desk: Callable[..., Any]
) -> None:
    @postgres_app.task(name="flaky", bind=True, max_attempts=25, backoff=0)
    def flaky(self: Any) -> None:
        raise ConnectionError("x" * 100_000)

    postgres_app.finalize()
    result = flaky.delay()
    desk(postgres_app).work_off()
    errors = postgres_app.jobs.get(result).errors

    assert [each["attempt"] for each in errors] == [*range(6, 26)]
    assert all(len(each["message"]) <= 65_536 for each in errors)


# ── 56: backoff ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("attempt", "most", "seconds"),
    [
        (1, None, 17), (1, 20, 17), (2, 3, 19), (20, 20, 15 + 2**20),
        (1, 100, 15 + 2**0), (50, 100, 15 + 2**10), (100, 100, 15 + 2**20), (30, 40, 15 + 2**15),
    ],
)  # fmt: skip
def test_56_the_backoff_is_obans_spread_over_all_attempts(
    attempt: int, most: int | None, seconds: float
) -> None:
    waits = [exponential(attempt, most) for _ in range(100)]

    assert seconds <= min(waits) <= max(waits) <= seconds * 1.1
    assert len(set(waits)) > 1
    assert exponential(attempt, most, jitter=0) == seconds


def broken(attempt: int) -> float:
    raise RuntimeError("no idea")


@pytest.mark.parametrize(
    ("backoff", "least", "most"),
    [
        (7, 7, 7),
        (timedelta(minutes=2), 120, 120),
        (lambda attempt: 10 * attempt, 30, 30),
        (lambda attempt: timedelta(seconds=attempt), 3, 3),
        (lambda attempt, error: 99 if isinstance(error, OSError) else 1, 99, 99),
        (lambda attempt, error=None: 5, 5, 5),
        (lambda *args: len(args), 2, 2),
        (broken, 23, 25.3),
        (lambda attempt: "soon", 23, 25.3),
        (lambda attempt: float("nan"), 23, 25.3),
        (-1, 23, 25.3),
    ],
)
def test_56_the_backoff_is_a_time_or_a_function_that_knows_one(
    backoff: Any, least: float, most: float
) -> None:
    assert least <= seconds_until_retry(backoff, 3, 5, OSError("x")) <= most


def test_56_the_function_is_given_the_attempt_and_the_exception(
    memory_app: Celery, desk: Callable[..., Any]
) -> None:
    asked = []

    def backoff(attempt: int, error: BaseException) -> timedelta:
        asked.append((attempt, str(error)))
        return timedelta(seconds=40)

    @memory_app.task(max_attempts=3, backoff=backoff)
    def flaky() -> None:
        raise ValueError("no")

    flaky.delay()
    assert desk(memory_app).work_one().delay == 40
    assert asked == [(1, "no")]


# ── 57: timeout ─────────────────────────────────────────────────────────────────────────


def test_57_a_timeout_is_kept_by_the_time_limits(memory_app: Celery) -> None:
    @memory_app.task(timeout=30)
    def plain() -> None: ...

    @memory_app.task(timeout=timedelta(minutes=1), time_limit=70)
    def bounded() -> None: ...

    class Http(memory_app.Task):  # type: ignore[name-defined,misc]
        timeout = 3  # of its requests, as it was before it came here

    @memory_app.task(base=Http)
    def fetch() -> None: ...

    memory_app.finalize()
    assert (plain.soft_time_limit, plain.time_limit) == (30, 35)
    assert (bounded.soft_time_limit, bounded.time_limit) == (60, 70)
    assert (fetch.soft_time_limit, fetch.time_limit, fetch.timeout) == (None, None, 3)


@pytest.mark.parametrize("timeout", [-1, float("inf"), "soon"])
def test_57_a_timeout_that_cannot_be_is_refused(memory_app: Celery, timeout: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="timeout of task"):

        @memory_app.task(timeout=timeout, lazy=False)
        def plain() -> None: ...


def test_57_a_timeout_is_caught_as_such() -> None:
    error = exceptions.TaskTimeout("The task t took longer than its timeout.")

    assert isinstance(error, TimeoutError)
    assert isinstance(error, exceptions.SoftTimeLimitExceeded)
    assert str(error) == "The task t took longer than its timeout."
    assert str(exceptions.TaskTimeout()) == "The task took longer than its timeout."


@pytest.mark.parametrize(
    ("attempts", "state"), [(None, "discarded"), (1, "discarded"), (3, "retryable")]
)
def test_57_a_job_that_was_killed_at_its_limit_runs_again_while_it_has_attempts(
    memory_app: Celery, desk: Callable[..., Any], attempts: int | None, state: str
) -> None:
    @memory_app.task(backoff=40, name="slow")
    def slow() -> None: ...

    memory_app.finalize()
    slow.apply_async(max_attempts=attempts)
    job: Job = desk(memory_app).claim()[0]
    outcome = verdicts.timed_out(memory_app, job, 30.0)

    assert outcome.state == state
    assert outcome.error is not None
    assert outcome.error.kind == "TimeLimitExceeded"
    assert outcome.delay == (40 if state == "retryable" else None)


@pytest.mark.parametrize(
    ("late", "acks", "crashes", "state"),
    [
        (True, False, 0, "available"),
        (True, False, 2, "discarded"),
        (True, True, 0, "discarded"),
        (False, False, 0, "discarded"),
    ],
)
def test_a_job_that_is_not_acknowledged_at_its_limit_runs_again_a_few_times(
    memory_app: Celery,
    desk: Callable[..., Any],
    late: bool,
    acks: bool,
    crashes: int,
    state: str,
) -> None:
    @memory_app.task(acks_late=late, acks_on_timeout=acks, name="slow")
    def slow() -> None: ...

    memory_app.conf.worker_max_crashes = 3
    memory_app.finalize()
    slow.delay()
    job: Job = desk(memory_app).claim()[0]._replace(crashes=crashes)
    outcome = verdicts.timed_out(memory_app, job, 30.0)

    assert (outcome.state, outcome.delay) == (state, None)
    assert outcome.crashed == (state == "available")
    assert outcome.error is not None
    assert outcome.error.kind == "TimeLimitExceeded"


# ── 58: tasks that nobody knows ─────────────────────────────────────────────────────────


def test_58_a_task_that_is_unknown_here_is_discarded_as_in_celery_and_can_be_retried(
    postgres_app: Celery, desk: Callable[..., Any]
) -> None:
    result = postgres_app.send_task("nowhere.known")
    worker = desk(postgres_app)
    worker.work_off()
    job = postgres_app.jobs.get(result)

    assert (job.state, job.error["kind"]) == ("discarded", "NotRegistered")
    with pytest.raises(NotRegistered, match=r"nowhere\.known"):
        result.get(timeout=5)

    @postgres_app.task(name="nowhere.known", shared=False)
    def known() -> str:
        return "known by now"

    postgres_app.jobs.retry(result)
    worker.work_off()
    assert postgres_app.AsyncResult(result.id).get(timeout=5) == "known by now"
