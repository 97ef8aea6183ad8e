"""``app.jobs`` acts: retry, cancel, delete, hold, release, change, one job or many."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from pgtasks import Celery, chain, chord
from pgtasks.exceptions import ChordError, JobNotFound, JobStateError, TaskRevokedError

broken: set[Any] = set()
"""What `fragile` raises for."""


@pytest.fixture
def app(postgres_app: Celery) -> Celery:
    broken.clear()

    @postgres_app.task(name="add")
    def add(x: int, y: int = 0) -> int:
        return x + y

    @postgres_app.task(name="fragile")
    def fragile(x: Any) -> Any:
        if x in broken:
            raise ValueError(f"{x} is broken")
        return x

    @postgres_app.task(name="stubborn", max_attempts=2, backoff=0)
    def stubborn(x: Any) -> Any:
        return fragile(x)

    @postgres_app.task(name="total")
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    @postgres_app.task(name="patient", bind=True)
    def patient(self: Any, x: int) -> int:
        if self.request.retries == 0:
            raise self.retry(countdown=3600)
        return x

    postgres_app.finalize()
    return postgres_app


def state(app: Celery, job: Any) -> str:
    return app.jobs.get(job).state


# ── retry: rows 43, 44 and 48 ───────────────────────────────────────────────────────────


def test_a_discarded_job_runs_again_under_its_id(
    app: Celery, desk: Callable[..., Any]
) -> None:
    broken.add(7)
    result = app.tasks["stubborn"].apply_async(
        (7,), priority=3, tags=["b2b"], meta={"a": 1}, queue="mail"
    )
    worker = desk(app, "mail")
    worker.work_off()
    before = app.jobs.get(result)
    assert (before.state, before.attempt, before.max_attempts) == ("discarded", 2, 2)
    broken.clear()

    assert app.jobs.retry(result) == 1
    again = app.jobs.get(result)
    assert (again.state, again.attempt, again.max_attempts) == ("available", 2, 3)
    assert again.errors == before.errors
    assert (again.id, again.inserted_at) == (before.id, before.inserted_at)
    assert (again.queue, again.priority, again.tags, again.meta) == (
        "mail",
        3,
        ["b2b"],
        {"a": 1},
    )
    assert app.AsyncResult(result.id).state == "PENDING"
    worker.work_off()

    assert result.get(timeout=5) == 7
    assert app.jobs.count() == 1
    done = app.jobs.get(result)
    assert (done.state, done.attempt, len(done.errors)) == ("completed", 3, 2)


def test_one_more_attempt_is_one_more(app: Celery, desk: Callable[..., Any]) -> None:
    broken.add(7)
    result = app.tasks["stubborn"].delay(7)
    worker = desk(app)
    worker.work_off()
    app.jobs.retry(result)
    worker.work_off()

    over = app.jobs.get(result)
    assert (over.state, over.attempt, len(over.errors)) == ("discarded", 3, 3)


def test_a_completed_job_runs_again_if_it_is_named(
    app: Celery, desk: Callable[..., Any]
) -> None:
    result = app.tasks["add"].delay(1)
    worker = desk(app)
    worker.work_off()

    assert app.jobs.retry(task="add") == 0
    assert state(app, result) == "completed"
    assert app.jobs.retry(result) == 1
    assert state(app, result) == "available"
    worker.work_off()
    assert app.jobs.retry(task="add", state="completed") == 1


def test_a_job_that_waits_for_its_time_may_run_now(
    app: Celery, desk: Callable[..., Any]
) -> None:
    later = app.tasks["add"].apply_async((1,), countdown=3600, expires=7200)
    again = app.tasks["patient"].delay(2)
    worker = desk(app)
    worker.work_off()
    assert state(app, again) == "retryable"

    assert app.jobs.retry([later, again]) == 2
    worker.work_off()
    assert (later.get(timeout=5), again.get(timeout=5)) == (1, 2)


def test_a_job_that_had_expired_is_retried_without_its_expiry(
    app: Celery, desk: Callable[..., Any]
) -> None:
    result = app.tasks["add"].apply_async(
        (1,), expires=datetime(2001, 1, 1, tzinfo=timezone.utc)
    )
    worker = desk(app)
    worker.work_off()
    assert state(app, result) == "cancelled"

    app.jobs.retry(result)
    worker.work_off()
    assert app.AsyncResult(result.id).get(timeout=5) == 1


@pytest.mark.parametrize("claimed", [False, True])
def test_what_runs_or_may_run_already_is_not_retried(
    app: Celery, desk: Callable[..., Any], claimed: bool
) -> None:
    result = app.tasks["add"].delay(1)
    if claimed:
        desk(app).claim()

    words = "runs on celery@desk" if claimed else "is available already"
    with pytest.raises(JobStateError, match=words) as caught:
        app.jobs.retry(result)
    assert caught.value.task_id == result.id
    assert app.jobs.retry([result.id]) == 0


def test_a_twin_under_the_same_id_is_an_error_and_spoils_no_batch(
    app: Celery, desk: Callable[..., Any]
) -> None:
    broken.add(7)
    fragile = app.tasks["fragile"]
    fragile.apply_async((7,), task_id="twin")
    other = fragile.delay(7)
    worker = desk(app)
    worker.work_off()
    fragile.apply_async((7,), task_id="twin")

    assert app.jobs.retry(state="discarded") == 1
    assert state(app, other) == "available"
    with pytest.raises(JobStateError, match="is available already"):
        app.jobs.retry("twin")
    worker.work_off()
    assert app.jobs.count(by="state") == {"discarded": 2}


def test_the_rest_of_its_chain_follows_when_it_succeeds(
    app: Celery, desk: Callable[..., Any]
) -> None:
    broken.add(7)
    result = chain(app.tasks["fragile"].s(7), app.tasks["add"].s(1))()
    worker = desk(app)
    worker.work_off()
    with pytest.raises(ValueError, match="7 is broken"):
        result.get(timeout=5)
    with pytest.raises(JobStateError, match="Retry the task before it"):
        app.jobs.retry(result)
    broken.clear()

    app.jobs.retry(result.parent)
    worker.work_off()
    assert app.AsyncResult(result.id).get(timeout=5) == 8


def test_a_member_that_is_retried_in_time_counts_in_its_chord(
    app: Celery, desk: Callable[..., Any]
) -> None:
    broken.add(2)
    result = chord([app.tasks["fragile"].s(n) for n in (1, 2, 3)])(app.tasks["total"].s())
    worker = desk(app)
    one, two, three = worker.claim()
    worker.run(two)
    broken.clear()
    app.jobs.retry(two.task_id)
    worker.run(one)
    worker.run(three)
    assert state(app, result) == "suspended"
    worker.work_off()

    assert result.get(timeout=5) == 6
    assert app.jobs.count(by="state") == {"completed": 4}


@pytest.mark.parametrize("retried", ["all", "the failed one", "with the body"])
def test_a_chord_that_has_failed_is_mended_from_its_members_to_its_body(
    app: Celery, desk: Callable[..., Any], retried: str
) -> None:
    broken.add(2)
    result = chord([app.tasks["fragile"].s(n) for n in (1, 2, 3)])(app.tasks["total"].s())
    worker = desk(app)
    worker.work_off()
    with pytest.raises(ChordError):
        app.AsyncResult(result.id).get(timeout=5)
    broken.clear()

    members = [each.id for each in result.parent.results]
    assert (
        app.jobs.retry(members) == 3
        if retried == "all"
        else app.jobs.retry(members[1]) == 1
    )
    if retried == "with the body":
        assert app.jobs.retry(result) == 1
        assert state(app, result) == "suspended"
        worker.work_off()
    else:
        worker.work_off()
        assert state(app, result) == "discarded"
        app.jobs.retry(result)
        worker.work_off()
    assert app.AsyncResult(result.id).get(timeout=5) == 6


def test_a_member_and_the_body_of_a_chord_are_retried_at_once(
    app: Celery, desk: Callable[..., Any]
) -> None:
    broken.add(2)
    result = chord([app.tasks["fragile"].s(n) for n in (1, 2, 3)])(app.tasks["total"].s())
    worker = desk(app)
    worker.work_off()
    broken.clear()

    assert app.jobs.retry(state="discarded") == 2
    assert state(app, result) == "suspended"
    worker.work_off()
    assert app.AsyncResult(result.id).get(timeout=5) == 6


def test_a_result_that_was_stored_by_hand_never_was_a_job(app: Celery) -> None:
    app.backend.store_result("by-hand", 1, "SUCCESS")

    with pytest.raises(JobStateError, match="never was in a queue"):
        app.jobs.retry("by-hand")


def test_rows_that_would_break_a_rule_of_the_table_spoil_no_batch(
    app: Celery, desk: Callable[..., Any]
) -> None:
    broken.add(7)
    results = [app.tasks["fragile"].delay(7) for _ in range(3)]
    desk(app).work_off()
    with app.database.connection() as connection:
        connection.execute(
            "update pgtasks.finished_jobs set errors = '7', tags = array[null, 'a'], attempt = -1, "
            "retries = -1, crashes = -1, lost = -1, max_attempts = -5 where task_id = %s",
            [results[0].id],
        )
        connection.execute(
            "update pgtasks.finished_jobs set attempt = 2147483647, max_attempts = 2147483647 "
            "where task_id = %s",
            [results[1].id],
        )

    assert app.jobs.retry(state="discarded") == 3


# ── cancel: rows 41 and 42 ──────────────────────────────────────────────────────────────


def test_a_waiting_job_is_cancelled_and_says_by_whom_and_why(app: Celery) -> None:
    result = app.tasks["add"].apply_async((1,), countdown=60)

    assert app.jobs.cancel(result, reason="order withdrawn", by="ann") == 1
    over = app.jobs.get(result)
    assert (over.state, over.attempt) == ("cancelled", 0)
    assert over.error["kind"] == "TaskRevokedError"
    assert over.error["message"] == "cancelled by ann: order withdrawn"
    with pytest.raises(TaskRevokedError, match="cancelled by ann: order withdrawn"):
        result.get(timeout=5)


def test_a_job_that_is_over_is_not_cancelled(app: Celery, desk: Callable[..., Any]) -> None:
    result = app.tasks["add"].delay(1)
    desk(app).work_off()

    with pytest.raises(JobStateError, match=r"is completed since .* retried or deleted"):
        app.jobs.cancel(result)
    assert app.jobs.cancel([result]) == 0
    assert result.get(timeout=5) == 1


def test_cancelling_a_member_fails_the_body_of_its_chord(
    app: Celery, desk: Callable[..., Any]
) -> None:
    result = chord([app.tasks["add"].s(n) for n in (1, 2)])(app.tasks["total"].s())
    app.jobs.cancel(result.parent.results[0].id, by="ann")
    desk(app).work_off()

    with pytest.raises(ChordError, match="cancelled by ann"):
        app.AsyncResult(result.id).get(timeout=5)


def test_a_cancelled_job_can_be_retried(app: Celery, desk: Callable[..., Any]) -> None:
    result = app.tasks["add"].delay(1)
    app.jobs.cancel(result)
    app.jobs.retry(result)
    desk(app).work_off()

    assert app.AsyncResult(result.id).get(timeout=5) == 1


# ── delete: row 45 ──────────────────────────────────────────────────────────────────────


def test_jobs_are_deleted_waiting_or_over_but_not_while_they_run(
    app: Celery, desk: Callable[..., Any]
) -> None:
    over = app.tasks["add"].delay(1)
    worker = desk(app)
    worker.work_off()
    running = app.tasks["add"].delay(2)
    worker.claim()
    waiting = app.tasks["add"].delay(3)

    assert app.jobs.delete(task="add") == 2
    for gone in (over, waiting):
        with pytest.raises(JobNotFound):
            app.jobs.get(gone)
    with pytest.raises(JobStateError, match=r"runs on celery@desk .* cancel it first"):
        app.jobs.delete(running)
    with pytest.raises(JobNotFound):
        app.jobs.delete(over)


def test_deleting_a_member_lets_its_chord_end(
    app: Celery, desk: Callable[..., Any]
) -> None:
    result = chord([app.tasks["add"].s(n) for n in (1, 2)])(app.tasks["total"].s())
    worker = desk(app)
    app.jobs.delete([each.id for each in result.parent.results])
    worker.work_off()

    assert state(app, result) == "discarded"


# ── hold and release ────────────────────────────────────────────────────────────────────


def test_a_held_job_stays_held_when_it_is_due(
    app: Celery, desk: Callable[..., Any]
) -> None:
    now = app.tasks["add"].delay(1)
    soon = app.tasks["add"].apply_async((2,), countdown=0.001)
    later = app.tasks["add"].apply_async((3,), countdown=3600)
    worker = desk(app)

    assert app.jobs.hold([now, soon, later]) == 3
    assert worker.work_off() == []
    assert [state(app, each) for each in (now, soon, later)] == ["suspended"] * 3
    assert [app.jobs.get(each).held for each in (now, later)] == ["available", "scheduled"]
    assert {job.task_id for job in app.jobs.list(held=True)} == {now.id, soon.id, later.id}
    assert now.state == "PENDING"

    assert app.jobs.release(held=True) == 3
    assert [state(app, each) for each in (now, soon, later)] == ["available"] * 2 + [
        "scheduled"
    ]
    worker.work_off()
    assert (now.get(timeout=5), soon.get(timeout=5)) == (1, 2)


def test_a_held_retry_is_a_retry_again(app: Celery, desk: Callable[..., Any]) -> None:
    result = app.tasks["patient"].delay(1)
    desk(app).work_off()
    app.jobs.hold(result)
    app.jobs.release(result)

    assert (state(app, result), result.state) == ("retryable", "RETRY")


def test_a_held_body_stays_held_when_its_chord_ends(
    app: Celery, desk: Callable[..., Any]
) -> None:
    result = chord([app.tasks["add"].s(n) for n in (1, 2)])(app.tasks["total"].s())
    worker = desk(app)
    app.jobs.hold(result)
    worker.work_off()
    assert app.jobs.get(result).held == "available"
    # The net below the counting leaves it alone as well.
    from pgtasks.storage import jobs

    assert app.database.run(jobs.recount(age=0)) == 0
    assert state(app, result) == "suspended"

    app.jobs.release(result)
    worker.work_off()
    assert result.get(timeout=5) == 3


def test_a_body_that_is_released_before_its_chord_ends_waits_for_it(
    app: Celery, desk: Callable[..., Any]
) -> None:
    result = chord([app.tasks["add"].s(n) for n in (1, 2)])(app.tasks["total"].s())
    app.jobs.hold(result)
    with pytest.raises(JobStateError, match="held by hand and waits for the members"):
        app.jobs.retry(result)
    app.jobs.release(result)

    assert (state(app, result), app.jobs.get(result).held) == ("suspended", None)
    with pytest.raises(JobStateError, match="waits for the members of the chord"):
        app.jobs.release(result)
    desk(app).work_off()
    assert result.get(timeout=5) == 3


def test_what_is_not_held_is_not_released(app: Celery) -> None:
    result = app.tasks["add"].delay(1)

    with pytest.raises(JobStateError, match="is not held but available"):
        app.jobs.release(result)
    app.jobs.hold(result)
    with pytest.raises(JobStateError, match="is held already"):
        app.jobs.hold(result)


# ── update: row 46 ──────────────────────────────────────────────────────────────────────


def test_what_waits_can_be_changed(app: Celery, desk: Callable[..., Any]) -> None:
    result = app.tasks["fragile"].apply_async((1,), expires=60)
    changes = {
        "task": "add", "args": [20], "kwargs": {"y": 3}, "queue": "mail", "priority": 2,
        "max_attempts": 4, "meta": {"b": 2}, "tags": ["x"], "expires": None,
    }  # fmt: skip

    assert app.jobs.update(result, changes) == 1
    job = app.jobs.get(result)
    assert (job.task, job.args, job.kwargs, job.queue) == ("add", [20], {"y": 3}, "mail")
    assert (job.priority, job.max_attempts, job.meta, job.tags) == (2, 4, {"b": 2}, ["x"])
    assert (job.state, job.expires_at) == ("available", None)
    desk(app, "mail").work_off()
    assert result.get(timeout=5) == 23


def test_another_due_time_makes_a_job_scheduled_or_available(
    app: Celery, desk: Callable[..., Any]
) -> None:
    result, again = app.tasks["add"].delay(1), app.tasks["patient"].delay(2)
    desk(app).claim(0)
    app.jobs.update(result, {"scheduled_at": timedelta(hours=1)})
    assert state(app, result) == "scheduled"
    app.jobs.update(result, {"scheduled_at": datetime(2001, 1, 1, tzinfo=timezone.utc)})
    assert state(app, result) == "available"

    desk(app).work_off()
    app.jobs.update(again, {"scheduled_at": 7200})
    assert state(app, again) == "retryable"
    app.jobs.hold(again)
    app.jobs.update(again, {"scheduled_at": 0})
    assert (state(app, again), app.jobs.get(again).held) == ("suspended", "available")


def test_priorities_are_changed_by_a_filter(app: Celery) -> None:
    for number in range(3):
        app.tasks["add"].apply_async((number,), tags=["slow"] if number else [])

    assert app.jobs.reprioritise(priority=7, tags="slow") == 2
    assert app.jobs.count(by="priority") == {0: 1, 7: 2}


def test_a_row_that_somebody_holds_locked_is_said_to_be(app: Celery) -> None:
    result = app.tasks["add"].delay(1)
    with app.database.connection() as connection, connection.transaction():
        connection.execute("select from pgtasks.jobs for update")
        with pytest.raises(JobStateError, match="locked by another session") as caught:
            app.jobs.update(result, {"queue": "mail"})
    assert caught.value.state == "locked"


def test_what_runs_or_is_over_is_not_changed(app: Celery, desk: Callable[..., Any]) -> None:
    result = app.tasks["add"].delay(1)
    worker = desk(app)
    [job] = worker.claim()
    with pytest.raises(JobStateError, match="cannot be changed: it runs on celery@desk"):
        app.jobs.update(result, {"queue": "mail"})
    worker.run(job)

    with pytest.raises(JobStateError, match="is completed since"):
        app.jobs.update(result, {"queue": "mail"})


def test_packed_arguments_are_not_exchanged(app: Celery) -> None:
    app.conf.accept_content = ["json", "pickle"]
    result = app.tasks["add"].apply_async((1,), serializer="pickle")

    with pytest.raises(JobStateError, match="signed or packed"):
        app.jobs.update(result, {"args": [2]})
    assert app.jobs.update(result, {"queue": "mail"}) == 1


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({}, ValueError, "What shall be changed"),
        ({"state": "available"}, TypeError, "'state' of a job cannot be changed"),
        ({"querue": "x"}, TypeError, "Did you mean 'queue'"),
        ({"queue": " "}, ValueError, "must not be blank"),
        ({"priority": "high"}, TypeError, "whole number"),
        ({"max_attempts": 0}, ValueError, "1 or more"),
        ({"meta": [1]}, TypeError, "it must be a dict"),
        ({"scheduled_at": "soon"}, ValueError, "is no date"),
        ({"args": "x"}, TypeError, "list or tuple"),
    ],
)
def test_changes_that_cannot_be_are_refused(
    app: Celery, changes: dict[str, Any], error: type[Exception], words: str
) -> None:
    result = app.tasks["add"].delay(1)

    with pytest.raises(error, match=words):
        app.jobs.update(result, changes)


# ── many at once ────────────────────────────────────────────────────────────────────────


def test_an_operation_needs_to_be_told_which_jobs(app: Celery) -> None:
    for call in (app.jobs.retry, app.jobs.cancel, app.jobs.delete, app.jobs.hold):
        with pytest.raises(TypeError, match=r"Which jobs shall be .*Give an id"):
            call()
    with pytest.raises(TypeError, match="not both"):
        app.jobs.cancel("x", queue="y")
    with pytest.raises(JobStateError, match="Jobs that are executing cannot be deleted"):
        app.jobs.delete(state="executing")


def test_jobs_are_taken_in_batches_and_each_is_told_of(app: Celery) -> None:
    app.tasks["add"].apply_async_many([(n,) for n in range(25)])
    steps: list[int] = []

    assert app.jobs.hold(task="add", batch=10, progress=steps.append) == 25
    assert steps == [10, 10, 5]


def test_a_dry_run_does_nothing(app: Celery, desk: Callable[..., Any]) -> None:
    result = app.tasks["add"].delay(1)
    over = app.tasks["add"].delay(2)
    worker = desk(app)
    worker.run(worker.claim(2)[1])

    assert app.jobs.cancel(task="add", dry_run=True) == 1
    assert app.jobs.delete(over, dry_run=True) == 1
    with pytest.raises(JobStateError):
        app.jobs.cancel(over, dry_run=True)
    assert state(app, result) == "executing"
    assert state(app, over) == "completed"


def test_what_has_changed_since_it_was_found_is_left_alone(app: Celery) -> None:
    results = [app.tasks["add"].delay(n) for n in range(3)]
    moved: list[int] = []

    def move(count: int) -> None:
        # Between two batches somebody else is quicker.
        if not moved:
            moved.append(app.jobs.update(results[2], {"queue": "mail"}))

    assert app.jobs.delete(queue="celery", batch=1, progress=move) == 2
    assert state(app, results[2]) == "available"


def test_two_people_at_once_do_not_get_in_each_others_way(
    app: Celery, desk: Callable[..., Any]
) -> None:
    broken.add(7)
    app.tasks["fragile"].apply_async_many([(7,) for _ in range(300)])
    desk(app).work_off()
    done: dict[str, int] = {}
    errors: list[BaseException] = []
    start = threading.Barrier(4)

    def act(name: str, operation: Callable[..., int]) -> None:
        try:
            start.wait(10)
            done[name] = operation(task="fragile", state="discarded", batch=20)
        except BaseException as error:
            errors.append(error)

    people = [
        threading.Thread(target=act, args=(name, operation))
        for name, operation in (
            ("ann", app.jobs.retry), ("bob", app.jobs.delete),
            ("cid", app.jobs.retry), ("dan", app.jobs.delete),
        )
    ]  # fmt: skip
    for person in people:
        person.start()
    for person in people:
        person.join(60)

    assert errors == []
    counts = app.jobs.count(by="state")
    retried, deleted = done["ann"] + done["cid"], done["bob"] + done["dan"]
    assert retried + deleted == 300
    assert counts.get("available", 0) == retried
    assert set(counts) <= {"available"}


def test_a_job_that_is_being_claimed_while_it_is_cancelled_ends_once(
    app: Celery, desk: Callable[..., Any]
) -> None:
    ids = [
        each.id for each in app.tasks["add"].apply_async_many([(n,) for n in range(400)])
    ]
    worker = desk(app)
    done: list[int] = []
    canceller = threading.Thread(target=lambda: done.append(app.jobs.cancel(ids, batch=50)))
    canceller.start()
    ran = 0
    while claimed := worker.claim(10):
        for job in claimed:
            worker.run(job)
            ran += 1
    canceller.join(60)

    counts = app.jobs.count(by="state")
    assert counts.get("completed", 0) == ran
    assert counts.get("completed", 0) + counts.get("cancelled", 0) == 400


async def _async_forms(app: Celery) -> None:
    result = app.tasks["add"].apply_async((1,), countdown=60)
    assert await app.jobs.ahold(result) == 1
    assert await app.jobs.arelease(result) == 1
    assert await app.jobs.aupdate(result, {"queue": "mail"}) == 1
    assert await app.jobs.areprioritise(result, 5) == 1
    assert await app.jobs.aretry(result) == 1
    assert (await app.jobs.aget(result)).priority == 5
    assert len(await app.jobs.alist(queue="mail")) == 1
    assert await app.jobs.acount(queue="mail") == 1
    assert await app.jobs.acancel(result) == 1
    assert await app.jobs.adelete(result) == 1


def test_coroutines_have_it_all_as_well(app: Celery) -> None:
    import asyncio

    asyncio.run(_async_forms(app))
