"""A job that was given up with its worker, and finished after all: the truth counts, once (R10)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fix_bench import Bench
from pgtasks.job import Error, Job, NewJob, Outcome
from pgtasks.storage import jobs, workers

LOST = Error("WorkerLostError", "gone", "")


def new(task_id: str, **fields: Any) -> NewJob:
    return NewJob("t", task_id, **fields)


def unborn(task_id: str, **fields: Any) -> dict[str, Any]:
    return {"task": "t", "task_id": task_id, "result": '"lost"', **fields}


@pytest.fixture
def give_up(bench: Bench) -> Callable[..., Job]:
    """Claims a job for a worker that vanishes, and writes the verdict on it."""

    def give_up(job: NewJob, **verdict: Any) -> Job:
        doomed = bench.register()
        bench.insert(job)
        [zombie] = bench.claim(worker=doomed)
        bench.run(workers.bury(doomed, beat=0))
        [abandoned] = bench.run(workers.rescue(worker=bench.worker)).abandoned
        assert bench.ack(abandoned, "discarded", abandoned=True, error=LOST, **verdict)
        return zombie

    return give_up


def finish(bench: Bench, zombie: Job, state: str = "completed", **fields: Any) -> bool:
    """What an acker does with the end of a job that is no longer ours."""
    outcome = Outcome(zombie.id, zombie.claim_token, state, **fields)
    late = jobs.settle(outcome, zombie.task_id)
    assert bench.run(jobs.ack([late])).ids == set()
    if bench.run(jobs.settled([late])):
        return False
    return bench.run(jobs.salvage(late))


def test_what_follows_a_task_that_finished_after_all_runs(bench, give_up):
    zombie = give_up(new("first"), stillborn=[unborn("second", parent_id="first")])
    assert bench.read("second").state == "discarded"

    assert finish(bench, zombie, result="1", follow_ups=[new("second"), new("callback")])

    assert (bench.read("first").state, bench.read("first").result) == ("completed", "1")
    again = bench.claim()
    assert {job.task_id for job in again} == {"second", "callback"}
    for job in again:
        bench.ack(job, result="2")
    assert (bench.read("second").state, bench.read("second").result) == ("completed", "2")


def test_it_follows_once_however_often_the_end_is_written(bench, give_up):
    zombie = give_up(new("first"))

    assert finish(bench, zombie, follow_ups=[new("second")])
    assert [bench.ack(job) for job in bench.claim()] == [True]
    assert not finish(bench, zombie, follow_ups=[new("second")])

    assert bench.claim() == []


def test_what_a_person_has_sent_again_meanwhile_does_not_run_twice(bench, give_up):
    zombie = give_up(new("first"), stillborn=[unborn("second"), unborn("third")])
    bench.insert(new("second"), new("third"))
    [second, _third] = bench.claim()
    bench.ack(second, result='"by hand"')

    assert finish(bench, zombie, follow_ups=[new("second"), new("third")])

    assert bench.claim() == []
    assert bench.read("second").result == '"by hand"'


def test_errbacks_of_a_late_failure_are_not_called_after_those_of_the_verdict(
    bench, give_up
):
    zombie = give_up(new("first"), follow_ups=[new("errback of the verdict")])
    [errback] = bench.claim()
    bench.ack(errback)

    assert finish(
        bench, zombie, "discarded", result='"KeyError"', follow_ups=[new("errback")]
    )

    assert bench.read("first").result == '"KeyError"'
    assert bench.claim() == []


def test_a_late_replacement_goes_on_under_the_id_of_the_task(bench, give_up):
    zombie = give_up(new("first"))

    assert finish(bench, zombie, replaced=True, follow_ups=[new("first")])

    assert bench.read("first").state == "available"
    [replacement] = bench.claim()
    bench.ack(replacement, result='"replaced"')
    assert bench.read("first").result == '"replaced"'


def test_a_body_that_waits_still_waits_for_what_follows_the_member(bench, give_up):
    bench.insert(
        new("other", chord="c", group_id="c", group_index=1), new("body", awaits="c")
    )
    [other] = bench.claim()
    zombie = give_up(
        new("first", chord="c"),
        stillborn=[unborn("last", chord="c", group_id="c", group_index=0)],
    )
    last = new("last", chord="c", group_id="c", group_index=0)

    assert finish(bench, zombie, follow_ups=[last])
    bench.ack(other)

    [job] = bench.claim()
    assert job.task_id == "last"
    bench.ack(job, result="1")
    assert [job.task_id for job in bench.claim()] == ["body"]


def test_a_body_that_was_released_by_the_verdict_is_not_released_again(bench, give_up):
    bench.insert(new("body", awaits="c"))
    zombie = give_up(new("first", chord="c"), stillborn=[unborn("last", chord="c")])
    [body] = bench.claim()
    assert body.task_id == "body"
    bench.ack(body, "discarded")

    assert finish(bench, zombie, follow_ups=[new("last", chord="c")])

    [last] = bench.claim()
    bench.ack(last)
    assert bench.claim() == []
    assert bench.run(jobs.recount(age=0.0)) == 0
    assert bench.rows("select id from pgtasks.chords") == []


def test_a_worker_that_sleeps_is_told_of_what_follows(bench, give_up):
    zombie = give_up(new("first"))
    bench.connection.execute("update pgtasks.workers set asleep = true")
    bench.connection.execute('listen "pgtasks.jobs"')

    assert finish(bench, zombie, follow_ups=[new("second", queue="celery")])

    [notice] = bench.connection.notifies(timeout=5, stop_after=1)
    assert notice.payload == "celery"
