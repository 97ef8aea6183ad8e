"""Limits that hold for the whole fleet, statement by statement."""

from __future__ import annotations

from uuid import uuid4

import pytest

from fix_bench import Bench
from pgtasks.job import Job, NewJob
from pgtasks.storage import jobs, limits, queues
from pgtasks.storage.limits import Limit, Passed


class Gated(Bench):
    """A worker that claims through gates."""

    def look(
        self, demand: int = 10, *, worker: str | None = None, queues=("celery",), **options
    ) -> Passed:
        return self.run(
            limits.fetch(
                dict.fromkeys(queues, jobs.LOWEST),
                demand=demand,
                worker=worker or self.worker,
                token=str(uuid4()),
                **options,
            )
        )

    def take(self, demand: int = 10, **options) -> list[Job]:
        """Look twice: gates that nobody has needed yet are made by the first look."""
        first = self.look(demand, **options)
        if not first.busy:
            return first.claimed.jobs
        options.pop("freed", None)
        left = demand - len(first.claimed.jobs)
        return first.claimed.jobs + self.look(left, **options).claimed.jobs

    def limited(self, count: int, gate: str, prefix: str = "j", **fields) -> None:
        self.insert(
            *[
                NewJob("t", f"{prefix}{gate}{n}", limits=[gate], **fields)
                for n in range(count)
            ]
        )

    def running(self, gate: str) -> int:
        [(running,)] = self.rows("select running from pgtasks.gates where name = %s", gate)
        assert self.rows("select count(*) from pgtasks.places where gate = %s", gate) == [
            (running,)
        ]
        return running

    def end(self, *ended: Job, state: str = "completed", **fields) -> dict[str, int]:
        for job in ended:
            assert self.ack(job, state, **fields)
        return self.run(limits.release([job.id for job in ended]))


@pytest.fixture
def bench(database_url: str):
    bench = Gated(database_url)
    bench.run(limits.declare([Limit("concurrency:t", 3), Limit("concurrency:u", 1)]))
    yield bench
    bench.database.close()
    bench.connection.close()


def test_no_more_are_claimed_than_the_limit_allows(bench: Gated) -> None:
    bench.limited(10, "concurrency:t")

    first = bench.take()

    assert len(first) == 3
    assert bench.take() == []
    assert bench.running("concurrency:t") == 3


def test_a_plain_claim_passes_by_what_has_limits(bench: Gated) -> None:
    bench.limited(2, "concurrency:t")
    bench.insert(NewJob("t", "plain"))

    assert [job.task_id for job in bench.claim()] == ["plain"]


def test_a_claim_through_gates_takes_plain_jobs_too_in_their_order(bench: Gated) -> None:
    bench.insert(NewJob("t", "later", priority=5), NewJob("t", "sooner", priority=1))
    bench.run(limits.set_(Limit("concurrency:t", 3)))
    bench.rows(
        "insert into pgtasks.gates values ('concurrency:t', 'concurrency:t') returning 1"
    )
    bench.limited(1, "concurrency:t", priority=3)

    taken = bench.take(2)

    assert [job.task_id for job in taken] == ["sooner", "jconcurrency:t0"]


def test_whoever_finds_a_gate_full_waits_in_its_line_until_it_has_room(
    bench: Gated,
) -> None:
    bench.limited(6, "concurrency:t")
    first = bench.take()
    assert bench.take() == []
    assert bench.rows(
        "select count(*) from pgtasks.jobs where parked = 'concurrency:t'"
    ) == [(3,)]

    freed = bench.end(first[0], first[1])
    assert freed == {"concurrency:t": 2}
    second = bench.take(freed=freed)

    assert [job.task_id for job in second] == ["jconcurrency:t3", "jconcurrency:t4"]
    assert bench.running("concurrency:t") == 3


def test_a_full_gate_holds_nobody_up_who_goes_through_another(bench: Gated) -> None:
    bench.limited(300, "concurrency:t\x1fa")
    bench.limited(2, "concurrency:t\x1fb")

    claimed = []
    for _ in range(5):
        claimed += bench.look().claimed.jobs

    names = sorted(job.task_id for job in claimed)
    assert names == sorted(
        [f"jconcurrency:t\x1fa{n}" for n in range(3)]
        + [f"jconcurrency:t\x1fb{n}" for n in range(2)]
    )


def test_a_job_with_two_limits_needs_room_behind_both(bench: Gated) -> None:
    both = ["concurrency:t", "concurrency:u"]
    bench.insert(*[NewJob("t", f"both{n}", limits=both) for n in range(3)])

    (first,) = bench.take()
    bench.limited(5, "concurrency:t")
    others = bench.take()
    assert len(others) == 2

    freed = bench.end(first)
    assert freed == {"concurrency:t": 1, "concurrency:u": 1}
    (next_,) = bench.take(freed=freed)
    assert next_.task_id == "both1"
    assert bench.running("concurrency:t") == 3
    assert bench.running("concurrency:u") == 1


def test_a_gate_that_another_holds_is_passed_over_and_said_to_be_busy(bench: Gated) -> None:
    bench.limited(1, "concurrency:t")
    bench.look()
    bench.insert(NewJob("t", "plain"))

    with bench.connection.transaction():
        bench.connection.execute("select from pgtasks.gates for update")
        passed = bench.look(freed={"concurrency:t": 1})

    assert [job.task_id for job in passed.claimed.jobs] == ["plain"]
    assert passed.busy
    assert passed.again == {"concurrency:t": 1}


def test_what_ran_and_runs_again_later_gives_its_place_back_meanwhile(bench: Gated) -> None:
    bench.limited(2, "concurrency:u")
    (job,) = bench.take()
    bench.look()

    freed = bench.end(job, state="retryable", delay=0.0)
    (second,) = bench.take(freed=freed)
    assert second.task_id == "jconcurrency:u1"
    bench.run(jobs.stage(worker=bench.worker))

    assert bench.take() == []
    assert bench.rows("select parked from pgtasks.jobs where state = 'suspended'") == [
        ("concurrency:u",)
    ]


def test_the_places_of_a_dead_workers_jobs_are_found_by_a_sweep(bench: Gated) -> None:
    bench.limited(4, "concurrency:t")
    bench.take()
    bench.rows(
        "update pgtasks.jobs set state = 'available', worker = null "
        "where state = 'executing' returning 1"
    )

    assert bench.run(limits.release(None)) == {"concurrency:t": 3}
    assert len(bench.take()) == 3


def test_deleted_rows_keep_no_places(bench: Gated) -> None:
    bench.limited(5, "concurrency:t")
    bench.take()
    bench.look()
    bench.rows("delete from pgtasks.jobs where state = 'executing' returning 1")

    assert bench.run(limits.release(None)) == {"concurrency:t": 3}
    assert bench.run(limits.lines()) == ("", {"concurrency:t": 3})
    assert len(bench.take(freed={"concurrency:t": 3})) == 2


def test_a_line_is_found_when_its_limit_is_raised(bench: Gated) -> None:
    bench.limited(5, "concurrency:t")
    bench.take()
    bench.look()
    assert bench.run(limits.lines()) == ("", {})

    bench.run(limits.set_(Limit("concurrency:t", 4)))

    assert bench.run(limits.lines()) == ("", {"concurrency:t": 1})
    bench.run(limits.declare([Limit("concurrency:t", 3)]))
    assert bench.run(limits.lines()) == ("", {"concurrency:t": 1})


def test_a_job_that_comes_to_a_full_gate_stands_behind_those_that_wait(
    bench: Gated,
) -> None:
    bench.limited(5, "concurrency:t")
    bench.take()
    bench.look()

    bench.limited(2, "concurrency:t", "late")

    assert bench.rows(
        "select count(*) from pgtasks.jobs where parked = 'concurrency:t' and task_id like 'late%%'"
    ) == [(2,)]


def test_what_cannot_have_a_place_stands_in_line_from_its_insert_on(bench: Gated) -> None:
    bench.limited(10, "concurrency:t\x1fa")
    bench.limited(10, "concurrency:unknown")

    waiting = "select parked, count(*) from pgtasks.jobs group by parked order by 2"
    assert bench.rows(waiting) == [("concurrency:t\x1fa", 7), ("?", 13)]

    first = bench.take(3)
    freed = bench.end(*first)
    assert [job.task_id[-1] for job in bench.take(3, freed=freed)] == ["3", "4", "5"]


def test_a_rate_lets_no_more_start_within_its_period_and_says_when_it_will(
    bench: Gated,
) -> None:
    bench.run(limits.declare([Limit("rate:t", None, 4, 60.0)]))
    bench.limited(10, "rate:t")

    assert len(bench.take(3)) == 3
    passed = bench.look()

    assert len(passed.claimed.jobs) == 1
    [(gate, jobs_, wait)] = passed.later
    assert gate == "rate:t" and 1 <= jobs_ <= 4 and 55 < wait <= 61
    assert bench.take() == []

    bench.rows(
        "update pgtasks.gates set spent_at = array(select at - 61 from unnest(spent_at) as at) "
        "returning 1"
    )
    assert bench.run(limits.lines()) == ("", {"rate:t": 4})
    assert len(bench.take(freed={"rate:t": 4})) == 4


def test_a_queue_with_a_limit_is_claimed_from_only_through_its_gate(bench: Gated) -> None:
    bench.insert(*[NewJob("t", f"p{n}") for n in range(5)])
    (early,) = bench.claim(1)
    bench.run(limits.set_(Limit("queue:celery", 3), queue="celery"))
    bench.run(limits.occupy("celery"))

    assert bench.claim() == []
    assert len(bench.take()) == 2
    assert bench.running("queue:celery") == 3
    freed = bench.end(early)
    assert len(bench.take(freed=freed)) == 1

    assert bench.run(limits.forget("queue:celery", queue="celery")) is True
    assert len(bench.claim()) == 1


def test_what_comes_from_a_line_and_finds_no_worker_free_may_be_tried_by_others(
    bench: Gated,
) -> None:
    bench.limited(5, "concurrency:t")
    first = bench.take()
    bench.look()
    freed = bench.end(*first)

    assert bench.look(0, freed=freed).claimed.jobs == []

    assert bench.rows("select count(*) from pgtasks.jobs where parked = '?'") == [(2,)]
    assert len(bench.take()) == 2


def test_jobs_of_a_line_that_another_worker_serves_are_left_to_it(bench: Gated) -> None:
    bench.limited(4, "concurrency:t")
    bench.limited(2, "concurrency:t", "other", queue="other")
    first = bench.take(queues=("celery", "other"))
    bench.look(queues=("celery", "other"))
    freed = bench.end(*first[:2])

    assert [job.queue for job in bench.take(freed=freed, queues=("celery",))] == ["celery"]
    assert len(bench.take(queues=("other",))) == 1


def test_jobs_whose_limit_was_dropped_are_still_claimed(bench: Gated) -> None:
    bench.limited(5, "concurrency:t")
    assert bench.run(limits.forget("concurrency:t")) is True
    bench.rows("delete from pgtasks.limits returning 1")

    assert bench.run(queues.words("w")).limits
    assert len(bench.take()) == 3
    assert bench.run(queues.words("w")).limits
    _, room = bench.run(limits.lines())
    assert len(bench.take(freed=room)) == 2


def test_a_limit_of_none_lets_all_of_them_through_when_it_is_raised(bench: Gated) -> None:
    bench.run(limits.set_(Limit("concurrency:t", 0)))
    bench.limited(5, "concurrency:t")
    assert bench.take() == []

    bench.run(limits.set_(Limit("concurrency:t", 4)))

    _, room = bench.run(limits.lines())
    assert len(bench.take(freed=room)) == 4


def test_gates_that_nobody_needs_are_tidied_away(bench: Gated) -> None:
    bench.limited(1, "concurrency:t")
    (job,) = bench.take()
    bench.rows("update pgtasks.gates set used_at = now() - interval '2 hours' returning 1")
    assert bench.run(limits.tidy()) == 0

    bench.end(job)

    assert bench.run(limits.tidy()) == 1
