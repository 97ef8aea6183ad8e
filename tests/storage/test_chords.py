"""Chords as rows: members count as they end, and what waits for them is released."""

from __future__ import annotations

import threading
from itertools import count

import pytest

from fix_bench import Bench
from helpers import eventually
from pgtasks.job import Job, NewJob, Outcome
from pgtasks.storage import jobs, results

numbers = count()


def member(chord: str = "g", index: int | None = None, **fields) -> NewJob:
    number = next(numbers) if index is None else index
    return NewJob(
        "shop.add", f"{chord}-{number}", group_id=chord, group_index=number, chord=chord,
        **fields,
    )  # fmt: skip


def body(chord: str = "g", task_id: str = "body", **fields) -> NewJob:
    return NewJob("shop.sum", task_id, awaits=chord, **fields)


def state_of(bench: Bench, task_id: str = "body") -> str:
    return bench.read(task_id).state


def remaining(bench: Bench, chord: str = "g") -> int | None:
    rows = bench.rows("select remaining from pgtasks.chords where id = %s", chord)
    return rows[0][0] if rows else None


def test_the_body_is_suspended_until_the_last_member_has_ended(bench: Bench) -> None:
    bench.insert(body(), member(), member(), member())
    claimed = bench.claim()

    assert [job.task for job in claimed] == ["shop.add"] * 3
    for job in claimed[:2]:
        bench.ack(job, result="1")
    assert state_of(bench) == "suspended"
    bench.ack(claimed[2], result="1")

    assert state_of(bench) == "available"
    [released] = bench.claim()
    assert (released.awaits, released.parent_id) == ("g", claimed[2].task_id)


def test_members_that_end_in_one_batch_are_all_counted(bench: Bench) -> None:
    bench.insert(body(), *[member() for _ in range(300)])
    outcomes = [
        jobs.settle(Outcome(job.id, job.claim_token, "completed", result="1"), job.task_id)
        for job in bench.claim(demand=300)
    ]
    bench.run(jobs.ack(outcomes))

    assert remaining(bench) == 0
    assert state_of(bench) == "available"


def test_members_that_end_at_the_same_moment_are_all_counted(bench: Bench) -> None:
    # Each would see the others still there, if it did not wait for the chord's row.
    def end(job: Job, begin: threading.Barrier) -> None:
        done = Outcome(job.id, job.claim_token, "completed", result="1")
        begin.wait(30)
        bench.run(jobs.ack([jobs.settle(done, job.task_id)]))

    for round in range(10):
        chord = f"g{round}"
        bench.insert(body(chord, f"body{round}"), *[member(chord) for _ in range(6)])
        claimed = bench.claim(demand=6)
        begin = threading.Barrier(6)
        threads = [threading.Thread(target=end, args=(job, begin)) for job in claimed]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)

        assert state_of(bench, f"body{round}") == "available"
        bench.ack(*bench.claim())


@pytest.mark.parametrize("state", ["discarded", "cancelled"])
def test_a_member_counts_however_it_ends(bench: Bench, state: str) -> None:
    bench.insert(body(), member())
    bench.ack(*bench.claim(), state)

    assert state_of(bench) == "available"


@pytest.mark.parametrize("state", ["retryable", "scheduled", "available"])
def test_a_member_that_runs_again_does_not_count(bench: Bench, state: str) -> None:
    bench.insert(body(), member())
    bench.ack(*bench.claim(), state, delay=0.0)

    assert state_of(bench) == "suspended"
    assert remaining(bench) == 1


def test_a_late_answer_does_not_count_a_second_time(bench: Bench) -> None:
    bench.insert(body(), member(), member())
    first, _ = bench.claim()
    bench.ack(first, result="1")
    bench.ack(first, result="1")

    assert remaining(bench) == 1


def test_the_next_link_of_a_members_chain_counts_in_its_place(bench: Bench) -> None:
    bench.insert(body(), NewJob("shop.first", "first", chord="g"))
    [first] = bench.claim()
    bench.ack(first, follow_ups=[member(index=0)])

    assert (remaining(bench), state_of(bench)) == (1, "suspended")
    [last] = bench.claim()
    bench.ack(last, result="7")
    assert state_of(bench) == "available"
    assert [each.result for each in bench.run(results.members("g"))] == ["7"]


def test_a_member_that_fails_in_mid_chain_leaves_the_end_of_it_in_history(
    bench: Bench,
) -> None:
    bench.insert(body(), NewJob("shop.first", "first", chord="g"))
    [first] = bench.claim()
    row = {"task": "shop.last", "task_id": "last", "chord": "g", "group_index": 0}
    bench.ack(first, "discarded", stillborn=[{**row, "result": '{"exc_type": "E"}'}])

    assert state_of(bench) == "available"
    assert state_of(bench, "last") == "discarded"
    assert [each.task_id for each in bench.run(results.members("g"))] == ["last"]


def test_one_task_takes_the_place_of_another_under_the_same_id(bench: Bench) -> None:
    bench.insert(body(), member(index=0))
    [first] = bench.claim()
    substitute = NewJob("shop.other", "g-0", group_id="g", group_index=0, chord="g")

    assert bench.ack(first, replaced=True, follow_ups=[substitute])

    assert (remaining(bench), state_of(bench)) == (1, "suspended")
    [second] = bench.claim()
    assert (second.task, second.task_id) == ("shop.other", "g-0")
    assert bench.rows("select count(*) from pgtasks.finished_jobs") == [(0,)]
    bench.ack(second, result="2")
    assert state_of(bench) == "available"


def test_a_member_that_joins_while_others_run_is_waited_for(bench: Bench) -> None:
    bench.insert(body(), member())
    [first] = bench.claim()
    bench.insert(member())
    bench.ack(first, result="1")

    assert state_of(bench) == "suspended"
    bench.ack(*bench.claim(), result="1")
    assert state_of(bench) == "available"


def test_a_chord_whose_insert_is_repeated_counts_its_members_once(bench: Bench) -> None:
    batch = [body(), member(), member()]
    bench.insert(*batch)
    bench.insert(*batch, again=True)

    assert remaining(bench) == 2


def test_a_body_may_be_the_header_of_the_next_chord(bench: Bench) -> None:
    bench.insert(
        body("h", "last"),
        *[NewJob("t", f"h{n}", awaits="g", chord="h", group_id="h", group_index=n)
          for n in range(3)],
        member("g"),
    )  # fmt: skip
    bench.ack(*bench.claim(), result="1")
    second = bench.claim()

    assert [job.task_id for job in second] == ["h0", "h1", "h2"]
    assert state_of(bench, "last") == "suspended"
    for job in second:
        bench.ack(job, result="1")
    assert state_of(bench, "last") == "available"


def test_what_waits_is_due_and_expires_so_many_seconds_after_its_release(
    bench: Bench,
) -> None:
    bench.insert(body(delay=60.0, expires_in=90.0), member())
    bench.connection.execute(
        "update pgtasks.jobs set inserted_at = inserted_at - interval '1 hour'"
    )
    bench.ack(*bench.claim(), result="1")

    [row] = bench.rows(
        "select state::text, extract(epoch from scheduled_at - now())::float8, "
        "extract(epoch from expires_at - now())::float8 from pgtasks.jobs"
    )
    assert row[0] == "scheduled"
    assert row[1] == pytest.approx(60, abs=5)
    assert row[2] == pytest.approx(90, abs=5)


def test_a_sleeping_worker_is_told_of_a_released_body(
    bench: Bench, database_url: str
) -> None:
    bench.insert(body(queue="elsewhere"), member())
    claimed = bench.claim()
    bench.connection.execute(
        "update pgtasks.workers set asleep = true, queues = '{elsewhere}'"
    )
    bench.connection.execute('listen "pgtasks.jobs"')
    bench.ack(*claimed, result="1")

    heard = [each.payload for each in bench.connection.notifies(timeout=10, stop_after=1)]
    assert heard == ["elsewhere"]


def test_purging_the_last_members_releases_the_body(bench: Bench) -> None:
    bench.insert(body(queue="other"), member(), member())
    [first] = bench.claim(demand=1)
    bench.ack(first, result="1")

    assert bench.run(jobs.purge(["celery"])) == 1
    assert state_of(bench) == "available"


def test_members_that_somebody_deletes_by_hand_are_noticed(bench: Bench) -> None:
    bench.insert(body(), member(), member())
    assert bench.run(jobs.recount(age=0)) == 0
    bench.connection.execute("delete from pgtasks.jobs where chord = 'g'")

    assert bench.run(jobs.recount(age=0)) == 1
    assert state_of(bench) == "available"
    assert remaining(bench) is None


def test_chords_that_are_over_do_not_pile_up(bench: Bench) -> None:
    bench.insert(body(), member())
    bench.ack(*bench.claim(), result="1")
    bench.ack(*bench.claim(), result="1")
    assert remaining(bench) == 0

    assert bench.run(jobs.recount(age=0)) == 0
    assert remaining(bench) is None


def test_a_body_that_was_deleted_leaves_its_members_in_peace(bench: Bench) -> None:
    bench.insert(body(), member())
    bench.connection.execute("delete from pgtasks.jobs where task_id = 'body'")
    bench.connection.execute("delete from pgtasks.chords")

    assert bench.ack(*bench.claim(), result="1")
    assert remaining(bench) is None


def test_whoever_waits_for_a_stillborn_task_is_told(bench: Bench) -> None:
    bench.insert(NewJob("shop.first", "first"))
    bench.connection.execute('listen "pgtasks.results"')
    [first] = bench.claim()
    bench.ack(first, "discarded", stillborn=[{"task": "shop.last", "task_id": "last"}])

    heard = [each.payload for each in bench.connection.notifies(timeout=10, stop_after=1)]
    assert heard == ["last"]
    eventually(lambda: state_of(bench, "last") == "discarded")


def test_a_body_that_is_a_group_may_have_the_id_of_the_header(bench: Bench) -> None:
    bench.insert(
        NewJob("shop.sum", "one", awaits="g", group_id="g", group_index=0),
        NewJob("shop.sum", "two", awaits="g", group_id="g", group_index=1),
        member(index=0),
    )
    bench.ack(*bench.claim(), result="1")
    first, _ = bench.claim()
    bench.ack(first, result="2")

    assert [each.result for each in bench.run(results.members("g"))] == ["1"]


def test_a_body_whose_members_had_all_been_sent_before_does_not_wait_for_ever(
    bench: Bench,
) -> None:
    bench.insert(NewJob("shop.add", "g-0"))
    bench.insert(body(), member(index=0))
    assert remaining(bench) is None

    assert bench.run(jobs.recount(age=0)) == 1
    assert state_of(bench) == "available"
