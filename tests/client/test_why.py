"""``app.jobs.why``: each cause by name, in a sentence, with what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from pgtasks import Celery, chord
from pgtasks.exceptions import JobNotFound
from pgtasks.storage import jobs, limits, workers


@pytest.fixture
def app(postgres_app: Celery) -> Celery:
    @postgres_app.task(name="add")
    def add(x: int, y: int = 0) -> int:
        return x + y

    @postgres_app.task(name="fail", max_attempts=3, backoff=3600)
    def fail() -> None:
        raise TimeoutError("no answer")

    @postgres_app.task(name="total")
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    @postgres_app.task(name="drowsy", bind=True)
    def drowsy(self: Any) -> None:
        self.snooze(3600)

    postgres_app.finalize()
    return postgres_app


def register(app: Celery, name: str = "celery@one", **fields: Any) -> str:
    id = str(uuid4())
    known = {
        "id": id, "name": name, "hostname": "h", "pid": 1, "machine": "elsewhere",
        "process_started": 1.0, "begun_file": None, "lease": 600.0, "queues": ["celery"],
        "pool": "solo", "concurrency": 1, "version": "0",
        "info": {"tasks": ["add", "fail", "total", "drowsy"]},
    }  # fmt: skip
    app.database.run(workers.register(**{**known, **fields}))
    return id


def only(app: Celery, job: Any) -> Any:
    """The only reason."""
    found = app.jobs.why(job)
    assert len(found.reasons) == 1, found.codes
    return found.reasons[0]


def test_there_is_no_worker(app: Celery) -> None:
    reason = only(app, app.tasks["add"].apply_async((1,), queue="mail"))

    assert reason.code == "no_worker"
    assert reason.text == "There is no worker at all."
    assert reason.remedy == "Start one: pgtasks worker -Q mail"


def test_no_worker_serves_its_queue(app: Celery) -> None:
    register(app, queues=["celery", "reports"])
    register(app, "celery@gone", queues=["mail"], lease=-1.0)
    reason = only(app, app.tasks["add"].apply_async((1,), queue="mail"))

    assert reason.code == "no_worker"
    assert reason.text == (
        "No worker serves its queue mail: celery@one serves celery, reports."
    )
    assert "pgtasks control add_consumer mail" in reason.remedy


def test_no_worker_knows_its_task(app: Celery) -> None:
    register(app, info={"tasks": ["other"]})
    found = app.jobs.why(app.tasks["add"].delay(1))

    assert found.codes == ["not_registered", "next"]
    assert "knows the task add: celery@one" in found.reasons[0].text
    register(app, "celery@two")
    assert app.jobs.why(found.job).codes[0] == "partly_registered"


def test_it_is_about_to_run(app: Celery) -> None:
    register(app, concurrency=4)
    app.tasks["add"].apply_async((1,), priority=0)
    app.tasks["add"].apply_async((1,), priority=9)
    reason = only(app, app.tasks["add"].apply_async((2,), priority=5))

    assert reason.code == "next"
    assert reason.data["ahead"] == 1
    assert "1 job of its queue goes before it; 4 of 4 places are free" in reason.text


def test_all_places_are_taken(app: Celery, desk: Callable[..., Any]) -> None:
    running = app.tasks["add"].delay(1)
    desk(app).claim()
    with app.database.connection() as connection:
        connection.execute(
            "update pgtasks.jobs set attempted_at = now() - interval '1 hour'"
        )
    waiting = app.tasks["add"].delay(2)
    reason = only(app, waiting)

    assert reason.code == "busy"
    assert f"add[{running.id}] for 60 min on celery@desk" in reason.text
    assert "All 1 place for its queue are taken" in reason.text
    assert f"pgtasks jobs reprioritise {waiting.id}" in reason.remedy


def test_it_runs(app: Celery, desk: Callable[..., Any]) -> None:
    result = app.tasks["add"].delay(1)
    worker = desk(app)
    worker.claim()
    reason = only(app, result)
    assert reason.code == "executing"
    assert "It runs on celery@desk, claimed 0 s ago" in reason.text

    with app.database.connection() as connection:
        connection.execute("update pgtasks.workers set dead_at = now()")
    assert only(app, result).code == "lost"


def test_it_is_scheduled(app: Celery) -> None:
    register(app)
    result = app.tasks["add"].apply_async((1,), countdown=7200)
    reason = only(app, result)

    assert reason.code == "scheduled"
    assert reason.text.startswith("It is scheduled: due in 2 h (20")
    assert reason.remedy == f"To run it now: pgtasks jobs retry {result.id}"


def test_it_has_been_snoozed(app: Celery, desk: Callable[..., Any]) -> None:
    result = app.tasks["drowsy"].delay()
    desk(app).work_off()

    assert "after 1 snooze" in only(app, result).text


def test_it_failed_and_runs_again(app: Celery, desk: Callable[..., Any]) -> None:
    result = app.tasks["fail"].delay()
    desk(app).work_off()
    reason = only(app, result)

    assert reason.code == "retryable"
    assert reason.text.startswith(
        "It failed at attempt 1 of 3 (TimeoutError: no answer) and runs again in 60 min"
    )


def test_nobody_has_noticed_that_its_time_has_come(app: Celery) -> None:
    result = app.tasks["add"].apply_async((1,), countdown=10)
    with app.database.connection() as connection:
        connection.execute(
            "update pgtasks.jobs set scheduled_at = now() - interval '1 minute'"
        )

    assert app.jobs.why(result).codes == ["scheduled", "not_staged", "no_worker"]


def test_it_has_expired(app: Celery) -> None:
    register(app)
    result = app.tasks["add"].apply_async((1,), expires="2001-01-01T00:00:00+00:00")

    assert app.jobs.why(result).codes == ["expired", "next"]


def test_it_waits_for_its_chord(app: Celery, desk: Callable[..., Any]) -> None:
    result = chord([app.tasks["add"].s(n) for n in (1, 2)])(app.tasks["total"].s())
    worker = desk(app)
    first, second = worker.claim()
    worker.run(first)
    reason = only(app, result)

    assert reason.code == "awaits"
    assert reason.text.startswith("It waits for 1 member of the chord ")
    assert f"add[{second.task_id}] is executing" in reason.text
    assert reason.remedy == f"Why those have not ended: pgtasks why {second.task_id}"


def test_it_is_held(app: Celery) -> None:
    register(app)
    result = app.tasks["add"].delay(1)
    app.jobs.hold(result)
    reason = only(app, result)

    assert reason.code == "held"
    assert reason.text == "It is held by hand; released, it will be available."
    assert reason.remedy == f"To release it: pgtasks jobs release {result.id}"


def test_a_held_body_has_two_reasons(app: Celery) -> None:
    register(app)
    result = chord([app.tasks["add"].s(1), app.tasks["add"].s(2)])(app.tasks["total"].s())
    app.jobs.hold(result)

    assert app.jobs.why(result).codes == ["held", "awaits"]


def test_it_is_over(app: Celery, desk: Callable[..., Any]) -> None:
    done, failed = app.tasks["add"].delay(1), app.tasks["fail"].apply_async(max_attempts=1)
    gone = app.tasks["add"].delay(2)
    app.jobs.cancel(gone, by="ann", reason="no need")
    desk(app).work_off()

    assert only(app, done).text.startswith("It has succeeded, 0 s ago")
    reason = only(app, failed)
    assert "It has failed, 0 s ago" in reason.text
    assert "at attempt 1 of 1: TimeoutError: no answer" in reason.text
    assert reason.remedy == f"To run it again: pgtasks jobs retry {failed.id}"
    assert "It was cancelled" in only(app, gone).text
    assert "cancelled by ann: no need" in only(app, gone).text


def test_somebody_holds_its_row_locked(app: Celery) -> None:
    register(app)
    result = app.tasks["add"].delay(1)
    with app.database.connection() as connection, connection.transaction():
        connection.execute("select from pgtasks.jobs for update")
        found = app.jobs.why(result)

    assert found.codes == ["locked", "next"]


@pytest.mark.parametrize("queue", ["celery", "*"])
def test_its_queue_is_paused(app: Celery, queue: str) -> None:
    register(app)
    result = app.tasks["add"].delay(1)
    app.queues.pause_all() if queue == "*" else app.queues.pause(queue)
    found = app.jobs.why(result)
    app.queues.resume("celery")

    assert found.codes == ["paused", "next"]
    assert found.reasons[0].remedy == "To resume it: pgtasks queues resume celery"
    assert app.jobs.why(result).codes == ["next"]


def claim(app: Celery, worker: str, **fields: Any) -> list[str]:
    """Have jobs claimed, through their gates; their ids."""
    known = {"demand": 10, "worker": worker, "freed": {}, **fields}
    for _ in range(3):  # the first claim may be the one that makes the gates
        query = limits.fetch({"celery": jobs.LOWEST}, token=str(uuid4()), **known)
        found = app.database.run(query)
        if found.claimed.jobs:
            return [job.task_id for job in found.claimed.jobs]
        known["freed"] = found.again
    return []


def test_its_limit_is_reached(app: Celery) -> None:
    @app.task(name="call", concurrency=1, concurrency_key="tenant")
    def call(tenant: str) -> None: ...

    worker = register(app, concurrency=2, info={})
    app.database.run(limits.declare([limits.Limit("concurrency:call", 1, None, None)]))
    first, second, other = (call.delay(tenant) for tenant in ("a", "a", "b"))
    claimed = claim(app, worker)
    found = app.jobs.why(second)

    assert set(claimed) == {first.id, other.id}
    assert found.codes == ["limited", "busy"]
    assert found.reasons[0].text.startswith(
        "The limit concurrency:call for a is reached: 1 job runs of 1 at a time."
    )


def test_the_limit_of_its_queue_is_reached(app: Celery) -> None:
    worker = register(app, concurrency=2)
    app.queues.limit("celery", rate="1/h")
    first, second = (app.tasks["add"].delay(number) for number in (1, 2))
    claimed = claim(app, worker)
    found = app.jobs.why(second)

    assert claimed == [first.id]
    assert found.codes[0] == "limited"
    assert "queue:celery is reached: 1 may start within 3600 s" in found.reasons[0].text


def test_there_is_no_such_job(app: Celery) -> None:
    with pytest.raises(JobNotFound):
        app.jobs.why("nobody")


def test_it_can_be_written_as_json(app: Celery) -> None:
    import json

    register(app)
    found = app.jobs.why(app.tasks["add"].delay(1))

    assert json.loads(json.dumps(found.as_dict()))["reasons"][0]["code"] == "next"
