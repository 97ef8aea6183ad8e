"""People act on jobs while real workers run them: on whatever machine, at whatever moment."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from fleet import Fleet
from helpers import eventually
from pgtasks import Celery


@pytest.fixture
def app(fleet: Fleet) -> Iterator[Celery]:
    with Celery("people", broker=fleet.url, set_as_current=False) as app:
        yield app


def begun(fleet: Fleet, task_id: str) -> bool:
    return "start" in fleet.events().get(task_id, [])


def holder(fleet: Fleet, task_id: str) -> str:
    [(name,)] = fleet.query(
        "select name from pgtasks.workers as worker join pgtasks.jobs as job "
        "on job.worker = worker.id where task_id = %s",
        task_id,
    )
    return name


def test_running_jobs_on_any_worker_are_cancelled_within_a_second(
    fleet: Fleet, app: Celery
) -> None:
    for _ in range(2):
        fleet.start("-c", "1", "-Q", "journey")
    times = []
    for _ in range(3):
        ids = fleet.insert("nap", 2, args="[60]")
        eventually(lambda ids=ids: all(begun(fleet, id) for id in ids), timeout=20)
        assert {holder(fleet, id) for id in ids} == {"w0@journey", "w1@journey"}

        asked = time.monotonic()
        assert app.jobs.cancel(ids, reason="order withdrawn", by="ann") == 2
        eventually(lambda ids=ids: fleet.finished(ids) == 2, timeout=5)
        times.append(time.monotonic() - asked)
        for id in ids:
            job = app.jobs.get(id)
            assert (job.state, job.status) == ("cancelled", "REVOKED")
            assert job.error["message"] == "cancelled by ann: order withdrawn"
            assert job.error["worker"] == job.worker_id
            assert "end" not in fleet.events()[id]

    # The one in the middle: the machine may be busy with something else for once.
    assert sorted(times)[1] < 1, times
    # Their processes are replaced, and nobody else has come to harm.
    [after] = fleet.insert("quick")
    assert fleet.wait([after]) == {after: "completed"}


def test_what_a_worker_has_claimed_and_not_begun_is_cancelled_too(
    fleet: Fleet, app: Celery
) -> None:
    fleet.start("-c", "1", "-Q", "journey")
    # Short ones let the worker look ahead; then a long one stands in front of the others.
    fleet.wait(fleet.insert("nap", 200, args="[0]"), timeout=60)
    [first] = fleet.insert("nap", args="[5]")
    rest = fleet.insert("nap", 20, args="[0]")
    eventually(lambda: begun(fleet, first), timeout=20)
    eventually(lambda: fleet.tally(rest)["executing"] > 1, timeout=5)

    assert app.jobs.cancel(rest) == 20
    eventually(lambda: fleet.finished(rest) == 20, timeout=3)

    assert fleet.tally(rest) == {"cancelled": 20}
    assert not any(begun(fleet, id) for id in rest)
    app.jobs.cancel(first)
    assert fleet.wait([first], timeout=5) == {first: "cancelled"}


def test_a_job_in_a_thread_runs_to_its_end_and_is_not_retried(
    fleet: Fleet, app: Celery
) -> None:
    fleet.start("-c", "1", "-P", "threads", "-Q", "journey")
    [running] = fleet.insert("nap", args="[1]")
    eventually(lambda: begun(fleet, running), timeout=20)
    [waiting] = fleet.insert("nap", args="[0]")

    assert app.jobs.cancel([running, waiting]) == 2
    assert fleet.wait([running, waiting]) == {running: "completed", waiting: "cancelled"}


def test_a_cancelled_job_that_is_retried_runs_on_the_same_workers(
    fleet: Fleet, app: Celery
) -> None:
    fleet.start("-c", "2", "-Q", "journey")
    ids = fleet.insert("nap", 2, args="[60]")
    eventually(lambda: all(begun(fleet, id) for id in ids), timeout=20)
    app.jobs.cancel(ids)
    fleet.wait(ids, timeout=5)
    # The workers were told to cancel them on sight, and have to forget that.
    for id in ids:
        fleet.query("update pgtasks.finished_jobs set args = '[0]' where task_id = %s", id)
    assert app.jobs.retry(state="cancelled") == 2

    assert fleet.wait(ids, timeout=10) == dict.fromkeys(ids, "completed")


def test_a_job_that_ends_while_it_is_cancelled_has_one_end(
    fleet: Fleet, app: Celery
) -> None:
    fleet.start("-c", "2", "-Q", "journey")
    fleet.start("-c", "2", "-Q", "journey")
    ids = fleet.insert("nap", 400, args="[0.002]")
    rounds = 0
    while fleet.finished(ids) < len(ids) // 2:
        rounds += 1
        app.jobs.cancel(ids[rounds % 7 :: 7])

    states = fleet.wait(ids, timeout=60)
    assert set(states.values()) <= {"completed", "cancelled"}
    events = fleet.events()
    for id, state in states.items():
        # What has come to its end is never called cancelled without a reason, and what
        # was cancelled in time never began.
        assert events.get(id, []).count("start") <= 1
        if state == "completed":
            assert events[id] == ["start", "end"]
        else:
            assert app.jobs.get(id).error["message"].startswith("cancelled by ")


def test_five_thousand_jobs_are_moved_in_batches_while_workers_run(
    fleet: Fleet, app: Celery
) -> None:
    fleet.start("-c", "2", "-Q", "journey")
    others = fleet.insert("nap", 300, args="[0.001]")
    ids = fleet.insert("nap", 5000, args="[0]", meta=json.dumps({"batch": 7}), delay=3600.0)
    steps: list[int] = []

    assert app.jobs.hold(meta={"batch": 7}, progress=steps.append) == 5000
    assert steps == [1000] * 5
    assert app.jobs.release(meta={"batch": 7}, held=True) == 5000
    assert app.jobs.update(changes={"tags": ["moved"]}, meta={"batch": 7}) == 5000
    assert app.jobs.cancel(meta={"batch": 7}) == 5000
    assert app.jobs.count(by="state", tags="moved") == {"cancelled": 5000}
    assert app.jobs.retry(state="cancelled", tags="moved") == 5000

    assert set(fleet.wait(ids, timeout=120).values()) == {"completed"}
    assert set(fleet.wait(others).values()) == {"completed"}
    assert app.jobs.delete(tags="moved") == 5000


def test_57_a_task_that_takes_too_long_fails_and_is_retried(
    fleet: Fleet, app: Celery
) -> None:
    fleet.start("-c", "2", "-Q", "journey")
    [slow] = fleet.insert("too_long", max_attempts=2)
    [killed] = fleet.insert("killed_once", max_attempts=2)

    assert fleet.wait([slow, killed], timeout=20) == {
        slow: "discarded",
        killed: "completed",
    }
    errors = app.jobs.get(slow).errors
    assert [(each["attempt"], each["kind"]) for each in errors] == [
        (1, "TaskTimeout"), (2, "TaskTimeout"),
    ]  # fmt: skip
    assert errors[0]["message"] == "The task shop.too_long took longer than its timeout."
    assert [each["kind"] for each in app.jobs.get(killed).errors] == ["TimeLimitExceeded"]
