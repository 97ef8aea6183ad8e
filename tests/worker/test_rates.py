"""Rate limits of one worker: how often a task may begin, and where it waits meanwhile."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from helpers import eventually
from pgtasks.job import Job
from pgtasks.storage.errors import StorageUnavailable
from pgtasks.worker import rates
from pgtasks.worker.rates import HORIZON, MOMENT, Bucket, RateLimits


def a_job(id: int, task: str = "slow") -> Job:
    fields = dict.fromkeys(Job._fields)
    return Job(**{**fields, "id": id, "task_id": str(id), "task": task, "claim_token": "t"})


class Counter:
    """What stands behind the limits: the pool, the table, and the books."""

    def __init__(self, **limits: Any) -> None:
        self.ran: list[tuple[int, float]] = []
        self.put_off: list[int] = []
        self.given_back: list[int] = []
        self.delays: list[float] = []
        self.broken = False
        tasks = {name: SimpleNamespace(rate_limit=limit) for name, limit in limits.items()}
        self.app = SimpleNamespace(
            tasks=tasks, conf=SimpleNamespace(worker_disable_rate_limits=False)
        )
        self.limits = RateLimits(
            self.app,
            lambda: self,
            run=lambda jobs: self.ran.extend((job.id, time.monotonic()) for job in jobs),
            put_off=lambda jobs: self.put_off.extend(job.id for job in jobs),
            unbegun=lambda job: self.given_back.append(job.id),
        )
        self.limits.reset()

    def run(self, query: Any) -> set[int]:
        if self.broken:
            raise StorageUnavailable("no database")
        self.delays += [each["delay"] for each in json.loads(query.params["jobs"])]
        return set(query.params["ids"])


@pytest.fixture
def counter() -> Iterator[Callable[..., Counter]]:
    made = []

    def make(**limits: Any) -> Counter:
        made.append(Counter(**limits))
        return made[-1]

    yield make
    for each in made:
        each.limits.stop()
        assert each.limits.join(10)


# ── a bucket ────────────────────────────────────────────────────────────────────────────


def test_the_first_begins_at_once_and_the_next_an_interval_later() -> None:
    bucket = Bucket(2.0)
    waits = [bucket.admit(a_job(n), 100.0) for n in range(4)]

    assert waits == pytest.approx([0.0, 0.5, 1.0, 1.5])
    assert bucket.due(100.4) == []
    assert [job.id for job in bucket.due(100.5)] == [1]
    assert bucket.next_at == pytest.approx(101.0)


def test_idleness_is_not_saved_up() -> None:
    bucket = Bucket(2.0)
    bucket.admit(a_job(0), 100.0)

    assert [bucket.admit(a_job(n), 900.0) for n in (1, 2)] == pytest.approx([0.0, 0.5])


def test_who_is_late_by_a_moment_catches_up_and_no_more() -> None:
    bucket = Bucket(100.0)
    for n in range(60):
        bucket.admit(a_job(n), 100.0)

    assert 4 <= len(bucket.due(100.055)) <= 5
    # 0.1 s of them, not the half second that has passed.
    assert 10 <= len(bucket.due(100.555)) <= 12


def test_what_is_put_off_comes_back_one_after_the_other() -> None:
    bucket = Bucket(0.1)
    waits = [bucket.admit(a_job(n), 100.0) for n in range(4)]

    assert waits == pytest.approx([0.0, 10.0, 20.0, 30.0])
    assert not bucket.waiting
    assert bucket.admit(a_job(1), 110.0) == 0.0


def test_nothing_is_put_off_for_longer_than_a_while() -> None:
    bucket = Bucket(1 / 3600)
    bucket.admit(a_job(0), 100.0)
    waits = [bucket.admit(a_job(n), 100.0) for n in range(1, 50)]

    assert all(HORIZON <= each <= 1.5 * HORIZON for each in waits)
    # And then in time: who is near the end of the hour waits for the end of the hour.
    assert bucket.admit(a_job(50), 100.0 + 3600 - 700) == pytest.approx(700.0)


# ── the limits of a worker ──────────────────────────────────────────────────────────────


def test_without_limits_jobs_pass(counter: Callable[..., Counter]) -> None:
    one = counter(slow=None, fast=0)
    jobs = [a_job(1), a_job(2)]

    assert one.limits.admit(jobs) is jobs


def test_only_tasks_with_a_limit_wait(counter: Callable[..., Counter]) -> None:
    one = counter(slow="6/m", fast=None)
    jobs = [a_job(1), a_job(2, "fast"), a_job(3), a_job(4, "fast"), a_job(5, "unknown")]

    assert [job.id for job in one.limits.admit(jobs)] == [1, 2, 4, 5]
    assert one.put_off == [3]
    assert one.delays == pytest.approx([10.0], abs=0.5)


def test_those_that_wait_for_a_moment_run_in_order(counter: Callable[..., Counter]) -> None:
    one = counter(slow="50/s")
    began = time.monotonic()
    [first] = one.limits.admit([a_job(n) for n in range(20)])
    eventually(lambda: len(one.ran) == 19, timeout=30)

    assert first.id == 0
    assert [id for id, _ in one.ran] == list(range(1, 20))
    # 19 intervals of 0.02 s, less what a late thread may catch up.
    assert one.ran[-1][1] - began >= 19 * 0.02 - rates.LAG - 0.02
    assert not one.put_off


def test_no_more_than_a_moment_of_them_wait_here(counter: Callable[..., Counter]) -> None:
    one = counter(slow="10/s")
    one.limits.admit([a_job(n) for n in range(100)])

    assert len(one.put_off) == pytest.approx(99 - 10 * MOMENT, abs=3)


def test_a_limit_that_is_lifted_lets_them_run(counter: Callable[..., Counter]) -> None:
    one = counter(slow="0.6/s")
    one.limits.admit([a_job(1), a_job(2)])
    one.app.tasks["slow"].rate_limit = None
    one.limits.reset()

    assert [id for id, _ in one.ran] == [2]
    assert one.limits.buckets == {}


def test_limits_may_be_off_altogether(counter: Callable[..., Counter]) -> None:
    one = counter(slow="6/m")
    one.app.conf.worker_disable_rate_limits = True
    one.limits.reset()

    assert len(one.limits.admit([a_job(1), a_job(2)])) == 2


def test_a_limit_that_cannot_be_read_is_none(
    counter: Callable[..., Counter], caplog: Any
) -> None:
    one = counter(slow="often", fast="6/m")

    assert set(one.limits.buckets) == {"fast"}
    assert "The rate limit of the task slow cannot be read" in caplog.text


def test_what_waits_is_taken_back(counter: Callable[..., Counter]) -> None:
    one = counter(slow="1/s", fast="1/s")
    one.limits.admit([a_job(1), a_job(2), a_job(3, "fast"), a_job(4, "fast")])

    assert [job.id for job in one.limits.take_back(["4"])] == [4]
    assert [job.id for job in one.limits.take_back()] == [2]
    assert one.limits.take_back() == []


def test_without_a_database_they_are_handed_back(
    counter: Callable[..., Counter], caplog: Any
) -> None:
    one = counter(slow="6/m")
    one.broken = True
    one.limits.admit([a_job(1), a_job(2), a_job(3)])
    one.limits.admit([a_job(4)])

    assert (one.given_back, one.put_off) == ([2, 3, 4], [])
    assert caplog.text.count("Cannot put jobs off") == 1


def test_who_never_limits_has_no_thread_for_it(counter: Callable[..., Counter]) -> None:
    one = counter(slow="6/m")
    one.limits.admit([a_job(1), a_job(2)])

    names = [thread.name for thread in threading.enumerate()]
    assert "pgtasks-rate limiter" not in names
