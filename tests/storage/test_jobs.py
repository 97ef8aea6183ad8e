"""Jobs as rows: what the statements of jobs.sql, workers.sql and results.sql promise."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from fix_bench import Bench
from helpers import eventually
from pgtasks.job import Error, NewJob, Outcome
from pgtasks.storage import borrowed, jobs, results, workers
from pgtasks.storage.errors import BadData


def new(task_id: str | None = None, **fields) -> NewJob:
    return NewJob("shop.add", task_id or str(uuid4()), **fields)


def test_a_job_comes_back_from_the_claim_as_it_went_in(bench: Bench):
    job = new(
        args='[1, "\\u0000", NaN]',
        kwargs='{"z": 1, "a": 2}',
        time_limit=3.5,
        soft_time_limit=2.0,
        max_attempts=4,
        retries=2,
        ignore_result=True,
        root_id="r",
        parent_id="p",
        group_id="g",
        group_index=7,
        origin="1@host",
        headers='{"x": 1}',
        embed='{"callbacks": []}',
        body=b"\x00\xff",
        content_type="application/x-python-serialize",
        content_encoding="binary",
        meta='{"tenant": 4}',
        tags=["a", "b"],
    )

    bench.insert(job)
    [claimed] = bench.claim()

    for name in (
        "task", "task_id", "queue", "priority", "args", "kwargs", "time_limit", "body",
        "soft_time_limit", "max_attempts", "retries", "ignore_result", "root_id", "parent_id",
        "group_id", "group_index", "origin", "headers", "embed", "content_type",
        "content_encoding",
    ):  # fmt: skip
        assert getattr(claimed, name) == getattr(job, name), name
    assert claimed.attempt == 1


def test_a_bulk_insert_answers_in_the_order_given_and_keeps_it(bench: Bench):
    batch = [new(args=f"[{number}]") for number in range(500)]

    answer = bench.insert(*batch)

    assert [each.task_id for each in answer] == [each.task_id for each in batch]
    assert not any(each.conflict for each in answer)
    assert [job.args for job in bench.claim(500)] == [each.args for each in batch]


def test_an_id_that_waits_already_is_a_conflict_and_not_a_second_job(bench: Bench):
    bench.insert(new("x"))

    [answer] = bench.insert(new("x"))

    assert answer == jobs.Inserted(None, "x", True)
    assert len(bench.claim()) == 1


def test_an_id_may_be_sent_again_when_it_is_over(bench: Bench):
    bench.insert(new("x", args="[1]"))
    bench.ack(bench.claim()[0], result="1")

    bench.insert(new("x", args="[2]"))
    bench.ack(bench.claim()[0], result="2")

    assert bench.read("x").result == "2"
    assert bench.rows("select count(*) from pgtasks.finished_jobs") == [(1,)]


def test_the_second_try_of_an_insert_does_not_repeat_a_job_that_is_over(bench: Bench):
    bench.insert(new("x"))
    bench.ack(bench.claim()[0])

    bench.insert(new("x"), again=True)

    assert bench.claim() == []


def test_more_urgent_jobs_are_claimed_first_and_equals_in_order(bench: Bench):
    bench.insert(
        new("c", priority=9), new("b1", priority=3), new("b2", priority=3), new("a")
    )

    assert [job.task_id for job in bench.claim(2)] == ["a", "b1"]
    assert [job.task_id for job in bench.claim(2)] == ["b2", "c"]


def test_a_claim_takes_from_its_queues_only_and_never_more_than_asked(bench: Bench):
    bench.insert(*[new(queue=queue) for queue in "abc" for _ in range(5)])

    claimed = bench.claim(7, marks={"a": jobs.LOWEST, "c": jobs.LOWEST})

    assert len(claimed) == 7
    assert {job.queue for job in claimed} <= {"a", "c"}


def test_a_claim_behind_a_mark_sees_what_lies_beyond_and_nothing_before(bench: Bench):
    bench.insert(*[new(str(number)) for number in range(4)])
    marks = {"celery": jobs.LOWEST}
    first = bench.run(jobs.fetch(marks, demand=2, worker=bench.worker, token=str(uuid4())))
    for job in first.jobs:
        bench.ack(job, "available", give_back=True)

    beyond = bench.claim(marks=first.marks)

    assert [job.task_id for job in beyond] == ["2", "3"]


def test_two_claims_at_once_share_the_jobs_without_waiting(bench: Bench):
    bench.insert(*[new() for _ in range(200)])
    taken: list[int] = []

    def claim() -> None:
        while claimed := bench.claim(10):
            taken.extend(job.id for job in claimed)

    threads = [threading.Thread(target=claim) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(taken) == len(set(taken)) == 200


def test_a_worker_that_was_declared_dead_claims_nothing(bench: Bench):
    bench.insert(new())
    bench.run(workers.bury(bench.worker, beat=0))

    assert bench.claim() == []


def test_arguments_over_the_limit_stay_in_the_table(bench: Bench):
    bench.insert(new(args=f'["{"x" * 2000}"]'), new())

    large, small = bench.claim(max_size=1000)

    assert large.args is None
    assert large.size == 2004
    assert small.args == "[]"


def test_dates_that_python_cannot_build_do_not_break_a_claim(bench: Bench):
    for moment in ("-infinity", "4000-01-01 BC"):
        bench.connection.execute(
            "insert into pgtasks.jobs (task, task_id, scheduled_at) values ('t', %s, %s)",
            [moment, moment],
        )
    bench.insert(new("now"))

    assert {job.task_id for job in bench.claim()} == {"-infinity", "4000-01-01 BC", "now"}


def test_a_job_of_the_future_waits_until_it_is_staged(bench: Bench):
    bench.insert(new("later", delay=3600.0), new("soon", eta="2020-01-01T00:00:00+00:00"))
    assert [job.task_id for job in bench.claim()] == ["soon"]

    waiting = bench.run(jobs.stage(worker=bench.worker))
    bench.connection.execute(
        "update pgtasks.jobs set scheduled_at = now() where state = 'scheduled'"
    )
    due = bench.run(jobs.stage(worker=bench.worker))

    assert waiting.queues == {}
    assert 3590 < waiting.wait < 3600
    assert due.queues == {"celery": 1}
    assert [job.task_id for job in bench.claim()] == ["later"]


def test_a_completed_job_leaves_the_hot_table_with_its_result(bench: Bench):
    bench.insert(new("x"))
    [job] = bench.claim()

    assert bench.ack(job, result='{"sum": 3}', children="[]")

    found = bench.read("x")
    assert (found.state, found.result, found.finished) == ("completed", '{"sum": 3}', True)
    assert bench.rows("select count(*) from pgtasks.jobs") == [(0,)]
    assert bench.rows("select state::text, result from pgtasks.all_jobs") == [
        ("completed", {"sum": 3})
    ]


def test_a_retry_waits_with_its_error_and_counts(bench: Bench):
    bench.insert(new("x"))
    [job] = bench.claim()

    bench.ack(
        job,
        "retryable",
        delay=0.0,
        retried=True,
        args="[2]",
        error=Error("ValueError", "no", "Traceback …"),
    )
    bench.run(jobs.stage(worker=bench.worker))
    [again] = bench.claim()

    assert (again.attempt, again.retries, again.args) == (2, 1, "[2]")
    [(errors,)] = bench.rows("select errors from pgtasks.jobs")
    assert errors[0]["kind"] == "ValueError"
    assert errors[0]["attempt"] == 1


def test_only_the_last_twenty_errors_are_kept(bench: Bench):
    bench.insert(new("x"))
    for number in range(25):
        [job] = bench.claim()
        bench.ack(job, "available", error=Error("E", str(number), ""))

    [(errors,)] = bench.rows("select errors from pgtasks.jobs")
    assert [each["message"] for each in errors] == [str(number) for number in range(5, 25)]


def test_a_snooze_gives_the_attempt_back(bench: Bench):
    bench.insert(new("x"))
    [job] = bench.claim()

    bench.ack(job, "scheduled", delay=0.0, give_back=True)
    bench.run(jobs.stage(worker=bench.worker))

    assert bench.claim()[0].attempt == 1


def test_what_a_job_leads_to_commits_with_its_end(bench: Bench):
    bench.insert(new("x"))
    [job] = bench.claim()
    follow_up = NewJob("shop.next", "y", args="[1]", queue="other", parent_id="x")

    bench.ack(job, result="1", follow_ups=[follow_up])

    [next_job] = bench.claim(marks={"other": jobs.LOWEST})
    assert (next_job.task, next_job.task_id, next_job.parent_id) == ("shop.next", "y", "x")


def test_an_end_that_is_refused_leads_to_nothing(bench: Bench):
    bench.insert(new("x"))
    [job] = bench.claim()
    zombie = job._replace(claim_token=str(uuid4()))

    assert not bench.ack(zombie, result="1", follow_ups=[NewJob("shop.next", "y")])

    assert bench.run(results.read(["y"])) == {}
    assert bench.read("x").state == "executing"


def test_a_snoozed_and_claimed_again_job_ignores_the_first_claims_ack(bench: Bench):
    bench.insert(new("x"))
    [first] = bench.claim()
    bench.ack(first, "available", give_back=True)
    [second] = bench.claim()

    # The attempt is the same again: only the random token tells the two claims apart.
    assert first.attempt == second.attempt
    assert not bench.ack(first, result='"stale"')
    assert bench.ack(second, result='"fresh"')
    assert bench.read("x").result == '"fresh"'


def test_one_statement_settles_every_kind_of_end(bench: Bench):
    bench.insert(*[new(name) for name in ("done", "failed", "again", "back", "gone")])
    claimed = {job.task_id: job for job in bench.claim()}
    ends = {
        "done": ("completed", {"result": "1"}),
        "failed": ("discarded", {"error": Error("E", "m", "t"), "traceback": "t"}),
        "again": ("retryable", {"delay": 60.0}),
        "back": ("available", {"give_back": True}),
        "gone": ("cancelled", {"status": "REVOKED"}),
    }
    batch = [
        jobs.settle(Outcome(job.id, job.claim_token, ends[name][0], **ends[name][1]), name)
        for name, job in claimed.items()
    ]

    accepted = bench.run(jobs.ack(batch)).ids

    assert accepted == {job.id for job in claimed.values()}
    states = dict(bench.rows("select task_id, state::text from pgtasks.all_jobs"))
    assert states == {name: state for name, (state, _) in ends.items()}


@pytest.mark.parametrize("fields", [{}, {"delay": 5.0}], ids=["one plain job", "any"])
def test_an_insert_that_need_not_be_durable_says_so_of_its_own_transaction(
    bench: Bench, fields: dict[str, Any]
):
    def waits() -> str:
        [(setting,)] = bench.rows("show synchronous_commit")
        return setting

    for durable, within in ((True, "on"), (False, "off")):
        with bench.connection.transaction():
            query = jobs.insert([new(**fields)], durable=durable)
            [inserted] = borrowed.run(query, on=bench.connection)
            assert inserted.id is not None
            assert waits() == within
        assert waits() == "on"


def passing(worker: str, *queues: str) -> jobs.Claim:
    return jobs.Claim(worker, str(uuid4()), list(queues), ["slow"], 2**30)


def test_what_follows_from_a_job_may_be_claimed_with_its_end(bench: Bench):
    bench.insert(new("x"))
    [job] = bench.claim()
    following = [
        new("next", meta='{"a": 1}'),
        NewJob("slow", "sure"),
        new("elsewhere", queue="other"),
        new("later", delay=60.0),
        new("joined", awaits="g"),
    ]
    end = jobs.settle(
        Outcome(job.id, job.claim_token, "completed", follow_ups=following), "x"
    )
    claim = passing(bench.worker, "celery")

    acked = bench.run(jobs.ack([end], claim))

    assert (acked.ids, acked.queues) == ({job.id}, {"other"})
    assert [each.task_id for each in acked.jobs] == ["next", "sure"]
    # They are what a claim of their own would have brought.
    held = bench.run(jobs.recover(worker=bench.worker, token=claim.token)).jobs
    assert held == acked.jobs
    assert {(each.attempt, each.claim_token) for each in held} == {(1, claim.token)}
    states = dict(bench.rows("select task_id, state::text from pgtasks.jobs"))
    assert states == {
        "next": "executing", "sure": "executing", "elsewhere": "available",
        "later": "scheduled", "joined": "suspended",
    }  # fmt: skip
    rerun = dict(
        bench.rows("select task_id, rerun from pgtasks.jobs where worker is not null")
    )
    assert rerun == {"next": False, "sure": True}
    assert all(bench.ack(each) for each in acked.jobs)


def test_an_end_that_is_not_ours_to_settle_claims_nothing(bench: Bench):
    bench.insert(new("x"))
    [job] = bench.claim()
    end = jobs.settle(
        Outcome(job.id, str(uuid4()), "completed", follow_ups=[new("next")]), "x"
    )

    acked = bench.run(jobs.ack([end], passing(bench.worker, "celery")))

    assert acked == (set(), set(), [])


def test_a_worker_that_was_declared_dead_claims_nothing_in_passing(bench: Bench):
    bench.insert(new("x"))
    [job] = bench.claim()
    end = jobs.settle(
        Outcome(job.id, job.claim_token, "completed", follow_ups=[new("next")]), "x"
    )
    bench.rows("update pgtasks.workers set dead_at = now() returning id")

    acked = bench.run(jobs.ack([end], passing(bench.worker, "celery")))

    assert (acked.ids, acked.queues, acked.jobs) == ({job.id}, {"celery"}, [])


def test_a_result_that_the_database_refuses_is_bad_data(bench: Bench):
    bench.insert(new("x"))
    [job] = bench.claim()

    with pytest.raises(BadData):
        bench.ack(job, result="\0")

    assert bench.ack(job, result='"fine"')


def test_the_answer_of_a_lost_ack_can_be_asked_for_again(bench: Bench):
    bench.insert(new("x"))
    [job] = bench.claim()
    settlement = jobs.settle(Outcome(job.id, job.claim_token, "completed"), "x")
    bench.run(jobs.ack([settlement]))

    assert bench.run(jobs.ack([settlement])).ids == set()
    assert bench.run(jobs.settled([settlement])) == {job.id}


def test_the_jobs_of_a_lost_claim_can_be_asked_for_again(bench: Bench):
    bench.insert(new("x"))
    [job] = bench.claim()

    recovered = bench.run(jobs.recover(worker=bench.worker, token=job.claim_token))

    assert recovered.jobs == [job]


def test_progress_shows_while_a_job_runs_and_not_after(bench: Bench):
    assert not bench.run(jobs.progress("x", "PROGRESS", '{"done": 1}'))
    bench.insert(new("x"))
    [job] = bench.claim()

    bench.run(jobs.progress("x", "PROGRESS", '{"done": 1}'))
    during = bench.read("x")
    bench.ack(job, result="1")

    assert (during.status, during.result) == ("PROGRESS", '{"done": 1}')
    assert bench.read("x").status is None


def test_a_job_may_be_told_something_before_it_runs(bench: Bench):
    bench.insert(new("x"))
    assert bench.run(jobs.progress("x", "ABORTED", None))
    bench.claim()

    assert bench.read("x").status == "ABORTED"


def test_a_sleeping_workers_queue_is_notified_and_an_awake_ones_is_not(bench: Bench):
    listener = bench.connection
    listener.execute('listen "pgtasks.jobs"')

    bench.insert(new())
    bench.run(workers.sleep(bench.worker, True))
    bench.insert(new("a"), new("b"))
    bench.insert(new(queue="nobody"))
    bench.run(workers.sleep(bench.worker, False))
    bench.insert(new())

    heard = [note.payload for note in listener.notifies(timeout=0.2)]
    assert heard == ["celery"]


def test_the_end_of_an_awaited_job_is_notified(bench: Bench):
    bench.connection.execute('listen "pgtasks.results"')
    bench.insert(new("x"), new("y"))
    bench.run(results.await_(["x"]))

    for job in bench.claim():
        bench.ack(job)

    assert [note.payload for note in bench.connection.notifies(timeout=0.2)] == ["x"]


def test_a_job_that_follows_is_awaited_when_its_id_was_left_with_one_before(bench: Bench):
    bench.connection.execute('listen "pgtasks.results"')
    bench.insert(new("a"), new("z"))
    ask = results.await_descendants(["c", "z"], {"c": ["b", "a"], "z": ["y"]})
    assert bench.run(ask) == {"a", "z"}
    assert bench.run(ask) == {"a", "z"}, "told already, and there all the same"

    claimed = {job.task_id: job for job in bench.claim()}
    bench.ack(claimed["z"])
    bench.ack(claimed["a"], follow_ups=[new("b"), new("other")])
    heralds = bench.rows("select task_id, awaited, heralds from pgtasks.jobs order by id")
    assert heralds == [("b", False, ["c"]), ("other", False, ["c"])]
    [job] = [job for job in bench.claim() if job.task_id == "b"]
    end = jobs.settle(
        Outcome(job.id, job.claim_token, "completed", follow_ups=[new("c")]), "b"
    )
    [last] = bench.run(jobs.ack([end], passing(bench.worker, "celery"))).jobs
    bench.ack(last)

    assert [note.payload for note in bench.connection.notifies(timeout=0.2)] == ["z", "c"]


def test_a_job_that_follows_the_body_of_a_group_is_awaited_by_the_id_of_the_group(
    bench: Bench,
):
    bench.connection.execute('listen "pgtasks.results"')
    bench.insert(new("member", chord="g"), new("body", awaits="g"))
    ask = results.await_descendants(["last"], {"last": ["g"]})
    assert bench.run(ask) == {"body", "g"}

    [member] = bench.claim()
    bench.ack(member)
    [body] = bench.claim()
    assert body.task_id == "body"
    bench.ack(body, follow_ups=[new("last")])
    [last] = bench.claim()
    bench.ack(last)

    assert [note.payload for note in bench.connection.notifies(timeout=0.2)] == ["last"]


def test_what_takes_the_place_of_an_awaited_job_is_awaited(bench: Bench):
    bench.insert(new("x"))
    bench.run(results.await_(["x"]))
    [job] = bench.claim()

    bench.ack(job, replaced=True, follow_ups=[new("before"), new("x")])

    awaited = dict(bench.rows("select task_id, awaited from pgtasks.jobs"))
    assert awaited == {"before": False, "x": True}


# ── workers that vanish ─────────────────────────────────────────────────────────────────


def test_a_vanished_workers_jobs_run_again_only_where_that_is_safe(bench: Bench):
    doomed = bench.register()
    bench.insert(new("safe", max_attempts=3), new("late"), new("early"))
    bench.connection.execute("update pgtasks.jobs set task = 'late' where task_id = 'late'")
    bench.claim(worker=doomed, rerunnable=["late"])
    bench.run(workers.bury(doomed, beat=0))

    rescued = bench.run(workers.rescue(worker=bench.worker))

    assert rescued.released == 2
    assert [job.task_id for job in rescued.abandoned] == ["early"]
    again = {job.task_id: job for job in bench.claim()}
    assert set(again) == {"safe", "late"}
    assert all(job.lost == 1 and job.attempt == 2 for job in again.values())


def test_what_was_not_begun_goes_back_whatever_its_settings_and_costs_nothing(bench: Bench):
    doomed = bench.register()
    bench.insert(new("begun"), new("waiting"))
    begun, waiting = bench.claim(worker=doomed)
    bench.run(workers.stop(doomed))

    rescued = bench.run(
        workers.rescue(worker=bench.worker, traced=[doomed], begun=[begun.id])
    )

    assert [job.id for job in rescued.abandoned] == [begun.id]
    [again] = bench.claim()
    assert (again.id, again.attempt, again.lost) == (waiting.id, 1, 0)


def test_a_late_result_counts_while_nobody_has_claimed_the_job_again(bench: Bench):
    doomed = bench.register()
    bench.insert(new("x", max_attempts=3))
    [job] = bench.claim(worker=doomed)
    bench.run(workers.bury(doomed, beat=0))
    bench.run(workers.rescue(worker=bench.worker))

    assert bench.ack(job, result='"late"')

    assert bench.read("x").result == '"late"'
    assert bench.claim() == []


def test_a_rescued_job_that_was_claimed_again_ignores_the_late_result(bench: Bench):
    doomed = bench.register()
    bench.insert(new("x", max_attempts=3))
    [zombie] = bench.claim(worker=doomed)
    bench.run(workers.bury(doomed, beat=0))
    bench.run(workers.rescue(worker=bench.worker))
    [successor] = bench.claim()

    assert not bench.ack(zombie, result='"late"')
    assert bench.ack(successor, result='"right"')


def test_a_verdict_gives_way_to_the_truth(bench: Bench):
    doomed = bench.register()
    bench.insert(new("x"))
    [zombie] = bench.claim(worker=doomed)
    bench.run(workers.bury(doomed, beat=0))
    [job] = bench.run(workers.rescue(worker=bench.worker)).abandoned
    bench.ack(job, "discarded", abandoned=True, error=Error("WorkerLostError", "m", ""))
    late = jobs.settle(Outcome(zombie.id, zombie.claim_token, "completed", result="1"), "x")

    assert bench.run(jobs.ack([late])).ids == set()
    assert bench.run(jobs.settled([late])) == set()
    assert bench.run(jobs.salvage(late))

    assert (bench.read("x").state, bench.read("x").result) == ("completed", "1")


def test_a_job_whose_workers_vanish_too_often_is_given_up(bench: Bench):
    bench.insert(new("x", max_attempts=100))
    for _ in range(3):
        doomed = bench.register()
        bench.claim(worker=doomed)
        bench.run(workers.bury(doomed, beat=0))
        rescued = bench.run(workers.rescue(worker=bench.worker, max_lost=3))

    assert [job.task_id for job in rescued.abandoned] == ["x"]
    assert rescued.abandoned[0].lost == 3


def test_a_row_that_names_no_worker_is_rescued_too(bench: Bench):
    bench.connection.execute(
        "insert into pgtasks.jobs (task, task_id, state, worker, claim_token, rerun) "
        "values ('t', 'x', 'executing', gen_random_uuid(), gen_random_uuid(), true)"
    )

    assert bench.run(workers.rescue(worker=bench.worker)).released == 1


def test_if_the_rescuer_vanishes_too_the_next_sweep_finds_the_job_again(bench: Bench):
    first, second = bench.register(), bench.register()
    bench.insert(new("x"))
    bench.claim(worker=first)
    bench.run(workers.bury(first, beat=0))
    bench.run(workers.rescue(worker=second))
    bench.run(workers.bury(second, beat=0))

    rescued = bench.run(workers.rescue(worker=bench.worker))

    assert [job.task_id for job in rescued.abandoned] == ["x"]
    assert rescued.abandoned[0].lost == 1


def test_nobody_is_buried_whose_heart_still_beats(bench: Bench):
    other = bench.register()
    [seen] = [each for each in bench.run(workers.live()) if each.id == other]
    bench.run(workers.beat(other))

    assert not bench.run(workers.bury(other, beat=seen.beat))
    assert bench.run(workers.beat(other))


def test_a_buried_worker_learns_it_from_its_heartbeat(bench: Bench):
    other = bench.register()
    bench.run(workers.bury(other, beat=0))

    assert not bench.run(workers.beat(other))


def test_a_worker_is_lapsed_when_its_lease_ended_by_the_databases_clock(bench: Bench):
    other = bench.register(lease=0.05)

    def lapsed() -> bool:
        return any(each.lapsed for each in bench.run(workers.live()) if each.id == other)

    eventually(lapsed)


def test_old_finished_jobs_are_pruned_and_young_ones_stay(bench: Bench):
    for name in ("old", "young"):
        bench.insert(new(name))
        bench.ack(bench.claim()[0])
    bench.connection.execute(
        "update pgtasks.finished_jobs set finished_at = now() - interval '2 days' "
        "where task_id = 'old'"
    )

    assert bench.run(jobs.prune(86400.0)) == 1
    assert set(bench.run(results.read(["old", "young"]))) == {"young"}


def test_a_purge_deletes_what_waits_and_leaves_what_runs(bench: Bench):
    bench.insert(new("runs"))
    bench.claim()
    bench.insert(new(), new(delay=60.0), new(queue="other"))

    assert bench.run(jobs.purge(["celery"])) == 2
    assert bench.read("runs").state == "executing"


@pytest.mark.parametrize(
    "values",
    [
        "('t', 'x', 'celery', 'executing', null, null, 0, null)",
        "('t', 'x', 'celery', 'completed', null, null, 0, null)",
        "('t', 'x', 'celery', 'available', null, null, -5, null)",
        "('t', 'x', 'celery', 'available', null, null, 0, 0)",
        "('t', 'x', null, 'available', null, null, 0, null)",
        "(null, 'x', 'celery', 'available', null, null, 0, null)",
    ],
)
def test_the_table_refuses_rows_that_no_statement_could_treat(bench: Bench, values: str):
    with pytest.raises(psycopg.errors.IntegrityError):
        bench.connection.execute(
            "insert into pgtasks.jobs (task, task_id, queue, state, worker, claim_token, "
            f"attempt, max_attempts) values {values}"
        )


def test_an_insert_in_the_callers_transaction_rolls_back_with_it(
    bench: Bench, database_url: str
):
    query = jobs.insert([new("x")], wake="always")
    with psycopg.connect(database_url) as connection:
        connection.execute(query.statement, dict(query.params))
        connection.rollback()

    assert bench.run(results.read(["x"])) == {}


def test_a_forgotten_result_is_gone_but_its_job_stays(bench: Bench):
    bench.insert(new("x"))
    bench.ack(bench.claim()[0], result="1")

    bench.run(results.forget(["x"]))

    assert bench.read("x").result is None
    assert bench.rows("select count(*) from pgtasks.finished_jobs") == [(1,)]


def test_settling_keeps_the_newjob_record_unchanged():
    job = new("x", delay=1.0)

    assert replace(job) == job
    assert job.document() == {"task": "shop.add", "task_id": "x", "delay": 1.0}
