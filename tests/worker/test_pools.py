"""The pools inside of the worker: how many jobs they take, and what they tell of them."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from helpers import eventually
from pgtasks.app.coroutines import Body
from pgtasks.exceptions import ImproperlyConfigured
from pgtasks.job import Job, Outcome
from pgtasks.worker.begun import BegunFile, read_begun
from pgtasks.worker.pools import by_name
from pgtasks.worker.pools.aio import AsyncioPool
from pgtasks.worker.pools.base import Pool
from pgtasks.worker.pools.solo import SoloPool
from pgtasks.worker.pools.threads import ThreadPool


class Reports:
    """A worker that takes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.limit: float | None = None

    def settled(self, settlement: Any, job: Job) -> None:
        self.told.append(("settled", job.id))

    def unbegun(self, job: Job) -> None:
        self.told.append(("unbegun", job.id))

    def lost(self, job: Job, status: int) -> None:
        self.told.append(("lost", job.id, status))

    def timed_out(self, job: Job, limit: float, *, soft: bool) -> None:
        self.told.append(("soft limit" if soft else "hard limit", job.id))

    def limits(self, job: Job) -> tuple[float | None, float | None]:
        return None, self.limit

    def resized(self, places: int) -> None:
        self.told.append(("places", places))

    def room(self) -> None:
        pass

    def died(self, what: str, error: BaseException | None) -> None:
        self.told.append((what, repr(error)))


class Hall:
    """Where jobs wait until somebody lets them go on."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.inside: set[int] = set()

    def execute(self, job: Job) -> Outcome:
        self.inside.add(job.id)
        self.opened.wait(60)
        return Outcome(job.id, job.claim_token, "completed")

    async def aexecute(self, job: Job, body: Body) -> Outcome:
        self.inside.add(job.id)
        await body.run(self._wait())
        return Outcome(job.id, job.claim_token, "completed")

    async def _wait(self) -> None:
        while not self.opened.is_set():
            await asyncio.sleep(0.001)


def job(id: int) -> Job:
    return Job(**dict.fromkeys(Job._fields, 0) | {"id": id, "task_id": str(id)})


@pytest.fixture
def begun() -> Iterator[BegunFile]:
    file = BegunFile(str(uuid.uuid4()), 6)
    yield file
    file.close()
    file.remove()


@pytest.fixture
def reports() -> Reports:
    return Reports()


@pytest.fixture
def hall() -> Hall:
    return Hall()


@pytest.fixture(params=["threads", "coroutines", "functions beside coroutines"])
def pool(
    request: pytest.FixtureRequest, begun: BegunFile, reports: Reports, hall: Hall
) -> Iterator[Pool]:
    known: dict[str, Any] = {"lease": 20.0, "execute": hall.execute}
    if request.param == "threads":
        made: Pool = ThreadPool(reports, 2, begun, **known)
    else:
        is_async = request.param == "coroutines"
        made = AsyncioPool(
            reports,
            2,
            begun,
            aexecute=hall.aexecute,
            is_async=lambda job: is_async,
            **known,
        )
    made.start()
    yield made
    hall.opened.set()
    made.stop()


def test_it_runs_as_many_as_there_are_places(pool: Pool, hall: Hall, reports: Reports):
    assert pool.demand >= 2
    pool.submit([job(1), job(2), job(3)])
    eventually(lambda: hall.inside == {1, 2})

    assert pool.running().keys() == {1, 2}
    assert not pool.wait(0)
    assert read_begun(pool.begun.worker) == {1, 2}
    assert reports.told == []
    pool.drain()
    assert reports.told == [("unbegun", 3)]
    hall.opened.set()
    assert pool.wait(30)
    eventually(lambda: sorted(reports.told[1:]) == [("settled", 1), ("settled", 2)])
    pool.submit([job(4)])
    assert reports.told[-1] == ("unbegun", 4)
    assert pool.demand == 0


def test_it_grows_and_shrinks_while_they_run(pool: Pool, hall: Hall, reports: Reports):
    pool.submit([job(id) for id in range(1, 7)])
    pool.grow(2)
    eventually(lambda: hall.inside == {1, 2, 3, 4})
    pool.shrink(3)

    assert pool.num_processes == 1
    assert pool.running().keys() == {1, 2, 3, 4}
    assert pool.demand == 0
    hall.opened.set()
    eventually(lambda: sum(each[0] == "settled" for each in reports.told) == 6)
    assert [each for each in reports.told if each[0] == "places"] == [
        ("places", 4),
        ("places", 1),
    ]
    hall.opened.clear()
    hall.inside.clear()
    pool.submit([job(7), job(8)])
    eventually(lambda: len(hall.inside) == 1)
    assert pool.describe()["max-concurrency"] == 1
    assert len(pool.running()) == 1


def test_it_grows_no_further_than_there_is_room_for_notes(pool: Pool):
    with pytest.raises(ValueError, match="has 2 places and can have 6, but not 7"):
        pool.grow(5)
    with pytest.raises(ValueError, match="not 3 to lose"):
        pool.shrink(3)
    with pytest.raises(ValueError, match="0 or more"):
        pool.grow(-1)
    assert pool.num_processes == 2


def test_without_processes_there_is_nothing_to_restart(pool: Pool):
    with pytest.raises(ImproperlyConfigured, match="Restart the worker"):
        pool.restart()


def test_solo_has_one_place_and_no_other_number(begun, reports, hall):
    pool = SoloPool(reports, 4, begun, lease=20.0, execute=hall.execute)

    assert pool.num_processes == 1
    for change in (pool.grow, pool.shrink):
        with pytest.raises(ImproperlyConfigured, match="one job at a time"):
            change(1)


def test_limits_that_are_not_kept_are_told_of_once(
    begun: BegunFile, reports: Reports, hall: Hall, caplog: pytest.LogCaptureFixture
):
    pool = ThreadPool(reports, 1, begun, lease=20.0, execute=hall.execute)
    pool.start()
    hall.opened.set()
    pool.submit([job(1)])
    eventually(lambda: len(reports.told) == 1)
    assert caplog.text == ""
    reports.limit = 5.0
    pool.submit([job(2), job(3)])
    eventually(lambda: len(reports.told) == 3)
    pool.stop()

    assert caplog.text.count("cannot be interrupted") == 1


def test_a_pool_is_found_by_its_name_or_its_path():
    assert by_name("asyncio") is AsyncioPool
    assert by_name("pgtasks.concurrency.thread:TaskPool") is ThreadPool
    with pytest.raises(ValueError, match="choose one of prefork"):
        by_name("forked")
    with pytest.raises(ValueError, match="no subclass of"):
        by_name("pgtasks.concurrency.base:BasePool")


@pytest.fixture
def loop(begun: BegunFile, reports: Reports, hall: Hall) -> Iterator[Callable[..., Any]]:
    """Makes a pool of coroutines."""
    made: list[Pool] = []

    def make(aexecute: Any = hall.aexecute) -> Pool:
        pool = AsyncioPool(
            reports, 2, begun, lease=20.0, execute=hall.execute, aexecute=aexecute,
            is_async=lambda job: True,
        )  # fmt: skip
        made.append(pool)
        pool.start()
        return pool

    yield make
    hall.opened.set()
    for pool in made:
        pool.stop()


def test_a_coroutine_is_ended_by_any_signal(loop, hall: Hall, reports: Reports):
    pool = loop()
    pool.submit([job(1), job(2)])
    eventually(lambda: hall.inside == {1, 2})

    assert pool.signal(1, 15)
    assert not pool.signal(3, 15)
    eventually(lambda: reports.told == [("lost", 1, 15)])
    assert pool.running().keys() == {2}


def test_what_has_ended_by_itself_is_not_ended_by_force(loop, hall: Hall, reports: Reports):
    reports.limit = 0.001  # which will have passed when the loop looks at its clock again

    async def compute(job: Job, body: Body) -> Outcome:
        async def busy() -> None:
            threading.Event().wait(0.05)

        await body.run(busy())
        return Outcome(job.id, job.claim_token, "completed")

    loop(compute).submit([job(1)])

    eventually(lambda: reports.told == [("settled", 1)])


def test_a_transaction_that_was_committed_stands(loop, reports: Reports):
    begun, committed = threading.Event(), threading.Event()

    async def book(job: Job, body: Body) -> Outcome:
        async def commit() -> None:
            try:
                begun.set()
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                committed.set()  # it was too late to stop it

        await body.run(commit())
        outcome = Outcome(job.id, job.claim_token, "completed")
        outcome.written = []
        return outcome

    pool = loop(book)
    pool.submit([job(1)])
    assert begun.wait(30)
    pool.signal(1, 15)

    eventually(lambda: reports.told == [("settled", 1)])
    assert committed.is_set()


def test_a_pool_that_stops_cold_lets_coroutines_tidy_up(loop, reports: Reports):
    begun, tidied = threading.Event(), threading.Event()

    async def work(job: Job, body: Body) -> Outcome:
        async def hold() -> None:
            try:
                begun.set()
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0.01)
                tidied.set()

        await body.run(hold())
        raise AssertionError("it was cancelled")

    pool = loop(work)
    pool.submit([job(1)])
    assert begun.wait(30)
    pool.kill()

    assert tidied.is_set()
    # The worker gives up all that it held, and must not hear of it twice.
    assert reports.told == []


def test_a_pool_whose_loop_is_broken_ends_the_worker(loop, reports: Reports):
    async def fail(job: Job, body: Body) -> Outcome:
        raise OSError("no loop any more")

    loop(fail).submit([job(1)])

    eventually(lambda: reports.told == [("pool", "OSError('no loop any more')")])
