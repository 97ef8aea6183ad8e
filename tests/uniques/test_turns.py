"""``unique="while_executing"``: many may wait, one runs at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from helpers import eventually
from pgtasks import Celery
from pgtasks.app.memory import queue_of
from pgtasks.app.turns import key_of_turn
from pgtasks.contrib.testing.worker import start_worker
from pgtasks.job import Job
from pgtasks.storage import jobs, uniques, workers
from pgtasks.worker.turns import Turns


class Stage:
    """Where runs of a task are seen: how many at a time, and in what order."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.on_stage: dict[Any, int] = {}
        self.most: dict[Any, int] = {}
        self.order: list[Any] = []

    def enter(self, key: Any, what: Any) -> None:
        with self.lock:
            self.on_stage[key] = self.on_stage.get(key, 0) + 1
            self.most[key] = max(self.most.get(key, 0), self.on_stage[key])
            self.order.append(what)

    def leave(self, key: Any) -> None:
        with self.lock:
            self.on_stage[key] -= 1


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
def sync(each_app: Celery, stage: Stage) -> Any:
    @each_app.task(
        bind=True,
        unique={"states": "while_executing", "keys": ["account"]},
        name="tests.sync_account",
    )
    def sync(self, account, number=0, fail=False):
        stage.enter(account, number)
        threading.Event().wait(0.01)
        stage.leave(account)
        if fail and not self.request.retries:
            raise self.retry(countdown=0)
        return self.request.attempt

    return sync


@pytest.fixture
def worker(each_app: Celery) -> Iterator[Callable[[], Any]]:
    """Starts a worker of four threads."""
    started: list[Any] = []

    def start() -> Any:
        context = start_worker(
            each_app, pool="threads", concurrency=4, perform_ping_check=False
        )
        started.append(context)
        return context.__enter__()

    yield start
    for context in started:
        context.__exit__(None, None, None)


def test_none_is_kept_out_and_one_runs_at_a_time(
    each_app: Celery, sync: Any, stage: Stage, worker: Any
) -> None:
    results = [sync.delay("a") for _ in range(20)]
    assert not any(each.conflict for each in results)
    worker()

    # No attempt is lost to those that had to wait.
    assert [each.get(timeout=20) for each in results] == [1] * 20
    assert stage.most == {"a": 1}


def test_those_with_another_key_run_meanwhile(
    each_app: Celery, sync: Any, stage: Stage, worker: Any
) -> None:
    results = [sync.delay(n % 4) for n in range(40)]
    worker()
    for each in results:
        each.get(timeout=20)

    assert stage.most == dict.fromkeys(range(4), 1)


def test_one_that_is_retried_gives_its_turn_to_others(
    each_app: Celery, sync: Any, stage: Stage, worker: Any
) -> None:
    results = [sync.delay("a", n, fail=n == 0) for n in range(5)]
    worker()
    for each in results:
        each.get(timeout=20)

    assert stage.most == {"a": 1}
    assert sorted(stage.order) == [0, 0, 1, 2, 3, 4]


# ── on PostgreSQL ───────────────────────────────────────────────────────────────────────


@pytest.fixture
def tables(postgres_app: Celery) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(postgres_app.conf.broker_url, autocommit=True) as connection:
        yield connection


class Crew:
    """A worker by hand: claims, asks whose turn it is, settles and passes on."""

    def __init__(self, app: Celery) -> None:
        self.database = app.database
        self.id = str(uuid4())
        self.back: list[Job] = []
        self.runnable: set[str] = set()
        self.turns = Turns(
            lambda: self.database,
            self.back.append,
            lambda queues: self.runnable.update(queues),
        )
        self.database.run(
            workers.register(
                id=self.id, name="w", hostname="h", pid=1, machine="m", process_started=1.0,
                begun_file=None, lease=600.0, queues=["celery"], pool="solo", concurrency=1,
                version="0", info={},
            )
        )  # fmt: skip

    def admit(self, demand: int = 100) -> list[Job]:
        marks = {"celery": jobs.LOWEST}
        query = jobs.fetch(marks, demand=demand, worker=self.id, token=str(uuid4()))
        return self.turns.admit(self.database.run(query).jobs)

    def settle(self, job: Job, state: str = "completed", **fields: Any) -> None:
        from pgtasks.job import Outcome

        outcome = Outcome(job.id, job.claim_token, state, **fields)
        self.database.run(jobs.ack([jobs.settle(outcome, job.task_id)]))
        key = key_of_turn(job.headers)
        assert key is not None
        self.turns.over([key])


@pytest.fixture
def crew(postgres_app: Celery) -> Crew:
    return Crew(postgres_app)


@pytest.fixture
def report(postgres_app: Celery) -> Any:
    @postgres_app.task(unique="while_executing")
    def report(): ...

    return report


def states(tables: Any) -> list[tuple[str, int]]:
    rows: list[tuple[str, int]] = tables.execute(
        "select state::text, attempt from pgtasks.jobs order by id"
    ).fetchall()
    return rows


def test_who_must_wait_is_put_back_at_no_cost_and_called_when_the_turn_is_over(
    report: Any, crew: Crew, tables: Any
) -> None:
    for _ in range(3):
        report.delay()

    [first] = crew.admit()
    assert states(tables) == [("executing", 1), ("scheduled", 0), ("scheduled", 0)]
    assert crew.admit() == []
    crew.settle(first)
    assert states(tables) == [("available", 0), ("scheduled", 0)]
    assert crew.runnable == {"celery"}
    [second] = crew.admit()

    assert second.attempt == 1


@pytest.mark.parametrize(
    ("state", "fields"),
    [
        ("discarded", {}),
        ("cancelled", {}),
        ("retryable", {"delay": 60.0}),
        ("scheduled", {"delay": 60.0, "give_back": True}),
    ],
)
def test_a_turn_is_over_however_the_job_leaves(
    report: Any, crew: Crew, state: str, fields: dict[str, Any]
) -> None:
    for _ in range(2):
        report.delay()
    [first] = crew.admit()
    crew.settle(first, state, **fields)

    [second] = crew.admit()

    assert second.task_id != first.task_id


def test_one_that_is_put_off_by_itself_is_not_called_before_its_time(
    report: Any, crew: Crew, tables: Any
) -> None:
    for _ in range(2):
        report.delay()
    [first] = crew.admit()
    crew.settle(first)
    [second] = crew.admit()
    # It has stood in line, and does not any more.
    crew.settle(second, "scheduled", delay=600.0, give_back=True)
    crew.turns.over([str(key_of_turn(second.headers))])

    assert crew.admit() == []
    assert states(tables) == [("scheduled", 0)]


def test_the_turn_of_a_worker_that_died_is_over_with_the_rescue(
    postgres_app: Celery, report: Any, crew: Crew
) -> None:
    for _ in range(2):
        report.apply_async(max_attempts=5)
    [first] = crew.admit()
    postgres_app.database.run(workers.stop(crew.id))
    other = Crew(postgres_app)
    other.database.run(workers.rescue(worker=other.id, traced=[], begun=[]))

    [again] = other.admit()

    assert again.task_id == first.task_id


def test_those_that_wait_come_by_themselves_if_nobody_calls_them(
    report: Any, crew: Crew, tables: Any
) -> None:
    for _ in range(2):
        report.delay()
    crew.admit()
    # The first one vanishes, and with it who would have called the second.
    tables.execute("delete from pgtasks.jobs where state = 'executing'")
    soon = "clock_timestamp() + interval '29 s' < scheduled_at"
    assert tables.execute(f"select {soon} from pgtasks.jobs".encode()).fetchall() == [
        (True,)
    ]
    tables.execute("update pgtasks.jobs set scheduled_at = clock_timestamp()")
    crew.database.run(jobs.stage(worker=crew.id))

    assert len(crew.admit()) == 1


def test_a_turn_that_ends_between_the_question_and_the_parking_is_noticed(
    report: Any, crew: Crew, tables: Any
) -> None:
    for _ in range(2):
        report.delay()
    marks = {"celery": jobs.LOWEST}
    query = jobs.fetch(marks, demand=2, worker=crew.id, token=str(uuid4()))
    claimed = crew.database.run(query).jobs
    keys = [(job, str(key_of_turn(job.headers))) for job in claimed]
    mine = crew.database.run(uniques.take_turns(keys))
    [first] = [job for job in claimed if job.id in mine]
    # It ends, and looks for somebody to call, before the other has been parked.
    with tables.transaction():
        tables.execute(
            "update pgtasks.jobs set scheduled_at = 'infinity' where state = 'scheduled'"
        )
        parked = tables.execute("delete from pgtasks.parked_jobs returning *").fetchall()
    crew.settle(first)
    assert states(tables) == [("scheduled", 0)]
    tables.execute("insert into pgtasks.parked_jobs values (%s, %s, %s)", parked[0])

    # What whoever has parked it does next.
    crew.turns.over([parked[0][0]])

    assert states(tables) == [("available", 0)]


def test_without_an_answer_jobs_are_handed_back(
    postgres_app: Celery, report: Any, crew: Crew, tables: Any
) -> None:
    report.delay()
    tables.execute("alter table pgtasks.turns rename to turns_away")
    try:
        assert crew.admit() == []
    finally:
        tables.execute("alter table pgtasks.turns_away rename to turns")

    assert len(crew.back) == 1


def test_a_hundred_that_wait_cost_few_statements_each(
    postgres_app: Celery, report: Any, crew: Crew
) -> None:
    """No busy loop: what waits is asked again when there is an answer."""
    for _ in range(100):
        report.delay()
    asked = 0
    done = 0
    while done < 100:
        admitted = crew.admit(demand=10)
        asked += 1
        for job in admitted:
            crew.settle(job)
            done += 1

    assert asked <= 120


def test_turns_and_places_that_are_over_are_forgotten(
    report: Any, crew: Crew, tables: Any
) -> None:
    for _ in range(3):
        report.delay()
    [first] = crew.admit()
    assert crew.database.run(uniques.forget_turns()) == 0
    crew.settle(first)
    tables.execute("delete from pgtasks.jobs")

    assert crew.database.run(uniques.forget_turns()) == 2
    assert tables.execute("select count(*) from pgtasks.parked_jobs").fetchone() == (0,)


def test_a_header_of_the_user_is_no_key(postgres_app: Celery, crew: Crew) -> None:
    postgres_app.send_task("t", headers={"alone": "x"})

    assert len(crew.admit()) == 1


def test_cancelling_one_that_waits_leaves_the_turn_alone(
    memory_app: Celery, desk: Any
) -> None:
    @memory_app.task(unique="while_executing")
    def report(): ...

    queue = queue_of(memory_app)
    results = [report.delay() for _ in range(3)]
    [running] = queue.get(["celery"], demand=5)
    queue.cancel([results[1].id])

    assert running.task_id == results[0].id
    assert queue.get(["celery"], demand=5) == []


def test_the_worker_in_a_process_lets_one_run_at_a_time(
    postgres_app: Celery, tables: Any
) -> None:
    """What the pool is makes no difference: turns are taken before it."""

    @postgres_app.task(unique="while_executing", name="tests.nap")
    def nap(): ...

    results = [nap.delay() for _ in range(30)]
    with start_worker(postgres_app, pool="solo", perform_ping_check=False):
        eventually(lambda: all(each.ready() for each in results), timeout=20)
