"""The record of a job, field by field, and the states that it goes through.

The numbers are those of Oban's features in ``docs/reference/oban.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from pgtasks import Celery, states
from pgtasks.exceptions import EncodeError
from pgtasks.job import NewJob
from pgtasks.storage import jobs as statements


@pytest.fixture
def app(postgres_app: Celery) -> Celery:
    @postgres_app.task(name="shop.send")
    def send(*args: Any, **kwargs: Any) -> Any:
        return [args, kwargs]

    @postgres_app.task(name="shop.fail", max_attempts=2, backoff=60)
    def fail() -> None:
        raise ValueError("no")

    postgres_app.finalize()
    return postgres_app


@pytest.fixture
def send(app: Celery) -> Callable[..., Any]:
    """Sends a job, and answers with what the tables say of it."""

    def send(*args: Any, **options: Any) -> Any:
        result = app.tasks["shop.send"].apply_async(args, **options)
        return app.jobs.get(result)

    return send


def test_01_arguments_are_json_and_what_is_none_is_refused_at_the_call(
    app: Celery, send: Callable[..., Any]
) -> None:
    job = send(1, "ü", None, kwargs={"x": {"y": [1.5]}})

    assert (job.args, job.kwargs) == ([1, "ü", None], {"x": {"y": [1.5]}})
    with pytest.raises(EncodeError, match="pass an id in place of"):
        send(object())
    assert app.jobs.count() == 1


def test_02_the_name_of_a_task_has_one_bound_everywhere(app: Celery) -> None:
    longest = "t" * 255

    assert app.jobs.get(app.send_task(longest)).task == longest
    with pytest.raises(ValueError, match="255 bytes at most"):
        app.send_task("t" * 256)
    with pytest.raises(ValueError, match="needs a name"):
        app.send_task("")


def test_03_a_queue_is_any_name_whether_it_is_served_or_not(
    send: Callable[..., Any],
) -> None:
    assert send().queue == "celery"
    assert send(queue="mail.éclair").queue == "mail.éclair"
    assert send(queue="q" * 128).queue == "q" * 128
    with pytest.raises(ValueError, match="128 bytes at most"):
        send(queue="q" * 129)


def test_04_max_attempts_are_positive_and_none_leaves_it_to_the_task(
    app: Celery, send: Callable[..., Any]
) -> None:
    assert send().max_attempts is None
    assert send(max_attempts=7).max_attempts == 7
    assert app.jobs.get(app.tasks["shop.fail"].delay()).max_attempts == 2
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="1 or more"):
            send(max_attempts=wrong)


def test_05_metadata_are_the_callers(app: Celery, send: Callable[..., Any]) -> None:
    assert send().meta == {}
    assert send(meta={"tenant": "acme", "n": [1]}).meta == {"tenant": "acme", "n": [1]}
    with pytest.raises(TypeError, match="must be a dict"):
        send(meta=[1])


def test_06_the_lowest_priority_runs_first(
    app: Celery, send: Callable[..., Any], desk: Callable[..., Any]
) -> None:
    sent = {priority: send(priority=priority).task_id for priority in (9, 0, 5)}

    assert send().priority == 0
    claimed = desk(app).claim()
    assert [job.priority for job in claimed] == [0, 0, 5, 9]
    assert [claimed[0].task_id, claimed[2].task_id] == [sent[0], sent[5]]


def test_07_tags_are_texts_of_the_callers(send: Callable[..., Any]) -> None:
    assert send().tags == []
    assert send(tags=["new", "b2b"]).tags == ["new", "b2b"]
    assert send(tags="one").tags == ["one"]
    with pytest.raises(TypeError, match="must be texts"):
        send(tags=[1])


def test_08_a_due_time_in_the_past_makes_a_job_available_at_once(
    send: Callable[..., Any],
) -> None:
    now = datetime.now(timezone.utc)
    past, future = now - timedelta(hours=1), now + timedelta(hours=1)

    assert send(scheduled_at=past).state == "available"
    assert send(scheduled_at=past).scheduled_at == past
    assert send(scheduled_at=future).state == "scheduled"
    assert send(eta=future.isoformat()).scheduled_at == future


@pytest.mark.parametrize("option", ["schedule_in", "countdown"])
@pytest.mark.parametrize("delay", [60, 60.5, timedelta(minutes=1)], ids=repr)
def test_09_a_delay_is_a_number_or_a_timedelta(
    send: Callable[..., Any], option: str, delay: Any
) -> None:
    job = send(**{option: delay})

    assert job.state == "scheduled"
    waits = (job.scheduled_at - job.inserted_at).total_seconds()
    assert 59.9 <= waits <= 60.6


def test_10_the_state_is_never_the_callers_to_set(send: Callable[..., Any]) -> None:
    # What is no option of ours goes into the message's properties, as in Celery.
    assert send(state="completed").state == "available"


def test_11_wrong_values_are_refused_where_they_are_written(
    app: Celery, send: Callable[..., Any]
) -> None:
    with pytest.raises(ValueError, match="max_attempts=0 of task"):

        @app.task(max_attempts=0, lazy=False)
        def never() -> None: ...

    for option, value in {"priority": "high", "countdown": "soon", "expires": "x"}.items():
        with pytest.raises((TypeError, ValueError), match=option):
            send(**{option: value})


def test_12_a_new_job_can_be_written_as_a_map_for_many_inserts() -> None:
    new = NewJob("shop.send", "1", priority=3, tags=["a"])

    assert new.document() == {
        "task": "shop.send",
        "task_id": "1",
        "priority": 3,
        "tags": ["a"],
    }


def test_13_there_are_eight_states(app: Celery) -> None:
    assert {
        "suspended", "scheduled", "available", "executing", "retryable",
        "completed", "discarded", "cancelled",
    } == states.JOB_STATES  # fmt: skip


def test_14_a_failed_attempt_says_what_when_where_and_why(
    app: Celery, desk: Callable[..., Any]
) -> None:
    result = app.tasks["shop.fail"].delay()
    worker = desk(app)
    worker.work_off()
    [error] = app.jobs.get(result).errors

    assert (error["attempt"], error["kind"], error["message"]) == (1, "ValueError", "no")
    assert error["worker"] == worker.worker
    assert error["traceback"].startswith("Traceback (most recent call last):")
    at = datetime.fromisoformat(error["at"])
    assert abs(at - datetime.now(timezone.utc)) < timedelta(minutes=1)


def test_16_17_18_a_job_says_who_had_it_and_when_what_happened(
    app: Celery, send: Callable[..., Any], desk: Callable[..., Any]
) -> None:
    sent = send(1)
    assert (sent.worker, sent.attempted_at, sent.finished_at) == (None, None, None)
    worker = desk(app)
    [job] = worker.claim()
    running = app.jobs.get(sent)
    worker.run(job)
    over = app.jobs.get(sent)

    assert (running.worker, running.worker_id) == ("celery@desk", worker.worker)
    assert (over.worker_id, over.inserted_at) == (worker.worker, sent.inserted_at)
    assert over.inserted_at <= running.attempted_at == over.attempted_at <= over.finished_at
    assert over.inserted_at.utcoffset() == timedelta(0)


def test_19_an_insert_says_whether_it_met_another_job(app: Celery) -> None:
    first, again = (
        app.database.run(statements.insert([NewJob("shop.send", "one")])) for _ in range(2)
    )

    assert (first[0].conflict, again[0].conflict) == (False, True)
    assert app.jobs.count() == 1


# ── the way through the states ──────────────────────────────────────────────────────────


def test_32_33_a_job_begins_as_available_or_as_scheduled(send: Callable[..., Any]) -> None:
    assert (send().state, send(countdown=60).state) == ("available", "scheduled")


def test_34_what_is_due_becomes_available_and_keeps_its_attempts(
    app: Celery, desk: Callable[..., Any]
) -> None:
    result = app.tasks["shop.fail"].delay()
    worker = desk(app)
    worker.work_off()
    later = app.tasks["shop.send"].apply_async(countdown=60)
    with app.database.connection() as connection:
        connection.execute("update pgtasks.jobs set scheduled_at = now()")
    staged = app.database.run(statements.stage(worker=worker.worker))

    assert staged.queues == {"celery": 2}
    assert [app.jobs.get(each).state for each in (result, later)] == ["available"] * 2
    assert [app.jobs.get(each).attempt for each in (result, later)] == [1, 0]


def test_35_a_claim_counts_the_attempt_and_takes_the_most_urgent(
    app: Celery, send: Callable[..., Any], desk: Callable[..., Any]
) -> None:
    last, first = send(priority=5), send()
    worker = desk(app)
    [job] = worker.claim(1)

    assert (job.task_id, job.attempt) == (first.task_id, 1)
    assert [app.jobs.get(each).state for each in (first, last)] == [
        "executing",
        "available",
    ]


@pytest.mark.parametrize("value", [None, True, {"a": 1}, "text", ("ok", 1)])
def test_36_whatever_is_returned_is_a_success_and_is_kept(
    app: Celery, desk: Callable[..., Any], value: Any
) -> None:
    @app.task(name="give", shared=False)
    def give() -> Any:
        return value

    result = give.delay()
    desk(app).work_off()

    assert app.jobs.get(result).state == "completed"
    assert result.get(timeout=5) == (list(value) if isinstance(value, tuple) else value)
