"""Unique keys in the tables: replacing, other statements, other transactions, tidying up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import psycopg
import pytest

import pgtasks
from fix_bench import Bench
from helpers import eventually
from pgtasks import Celery
from pgtasks.job import Job, NewJob, Outcome
from pgtasks.storage import jobs, uniques, workers
from pgtasks.storage.jobs import Inserted

INCOMPLETE = ["suspended", "scheduled", "available", "executing", "retryable"]


def new(task_id: str | None = None, key: str | None = "k", **fields: Any) -> NewJob:
    rule = {
        name: fields.pop(name)
        for name in ("blocks", "period", "by_schedule", "forced", "replaces")
        if name in fields
    }
    uniqueness = None if key is None else {"blocks": INCOMPLETE, **rule}
    return NewJob(
        "t", task_id or str(uuid4()), unique_key=key, uniqueness=uniqueness, **fields
    )


@pytest.fixture
def put(database: Any) -> Callable[..., list[Inserted]]:
    def put(*new: NewJob, **options: Any) -> list[Inserted]:
        return uniques.answer(uniques.insertion(new, **options), database.run)

    return put


@pytest.fixture
def database(bench: Bench) -> Any:
    return bench.database


@pytest.fixture
def bench(database_url: str) -> Any:
    bench = Bench(database_url)
    yield bench
    bench.database.close()
    bench.connection.close()


@pytest.fixture
def admin(database_url: str) -> Any:
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


class Hand:
    """One worker, whose every statement is made by hand."""

    def __init__(self, database: Any) -> None:
        self.database = database
        self.id = str(uuid4())
        database.run(
            workers.register(
                id=self.id, name="w", hostname="h", pid=1, machine="m", process_started=1.0,
                begun_file=None, lease=600.0, queues=["celery"], pool="solo", concurrency=1,
                version="0", info={},
            )
        )  # fmt: skip

    def claim(self, demand: int = 100) -> list[Job]:
        marks = {"celery": jobs.LOWEST}
        query = jobs.fetch(marks, demand=demand, worker=self.id, token=str(uuid4()))
        return self.database.run(query).jobs

    def settle(self, job: Job, state: str, **fields: Any) -> None:
        self.settle_all([(job, state, fields)])

    def settle_all(self, ends: list[tuple[Job, str, dict[str, Any]]]) -> None:
        batch = [
            jobs.settle(Outcome(job.id, job.claim_token, state, **fields), job.task_id)
            for job, state, fields in ends
        ]
        assert self.database.run(jobs.ack(batch)).ids == {job.id for job, _, _ in ends}


@pytest.fixture
def hand(database: Any) -> Hand:
    return Hand(database)


# ── one statement ───────────────────────────────────────────────────────────────────────


def test_of_a_list_the_first_of_each_key_goes_in(put: Any) -> None:
    got = put(new("a"), new("b", "other"), new("c"), new("d", None), new("e", "other"))

    assert [each.conflict for each in got] == [False, False, True, False, True]
    assert [each.task_id for each in got] == ["a", "b", "a", "d", "b"]
    assert got[2].id == got[0].id


def test_of_a_list_those_that_do_not_keep_each_other_out_all_go_in(put: Any) -> None:
    got = put(*[new(key="k", blocks=["scheduled"]) for _ in range(5)])

    assert not any(each.conflict for each in got)


def test_a_state_that_is_not_named_keeps_nobody_out(put: Any, hand: Hand) -> None:
    put(new("a", blocks=["scheduled", "available"]))
    hand.claim()

    [second] = put(new("b", blocks=["scheduled", "available"]))

    assert not second.conflict


def test_what_the_new_job_says_counts_not_what_the_old_one_said(
    put: Any, hand: Hand
) -> None:
    put(new("a", blocks=["available", "scheduled"]))
    hand.claim()

    assert put(new("b"))[0].task_id == "a"


def test_the_second_try_of_a_lost_answer_finds_its_own_job(put: Any, hand: Hand) -> None:
    [first] = put(new("a"))
    assert put(new("a"), again=True) == [first]
    [job] = hand.claim()
    hand.settle(job, "completed", result="1")

    # Over already: it is not sent again.
    assert put(new("a"), again=True) == [first]
    assert hand.claim() == []


def test_an_id_that_is_taken_is_a_conflict_of_its_own(put: Any) -> None:
    [first] = put(new("a"))

    assert put(new("a")) == [Inserted(first.id, "a", True)]
    assert put(new("a", "another key")) == [Inserted(None, "a", True)]


def test_what_others_wait_for_goes_in_whoever_has_the_key(put: Any) -> None:
    put(new("a"))
    got = put(*[new(f"m{n}", forced=True) for n in range(3)])

    assert [(each.task_id, each.conflict) for each in got] == [
        ("m0", False),
        ("m1", False),
        ("m2", False),
    ]
    assert put(new("b"))[0].task_id == "a"


def test_and_takes_the_key_if_it_is_free(put: Any) -> None:
    put(new("m", forced=True))

    assert put(new("b"))[0].task_id == "m"


# ── replacing ───────────────────────────────────────────────────────────────────────────


def row(admin: Any, task_id: str, *columns: str) -> tuple[Any, ...]:
    query = f"select {', '.join(columns)} from pgtasks.jobs where task_id = %s"
    found: tuple[Any, ...] = admin.execute(query.encode(), [task_id]).fetchone()
    return found


EVERYTHING = [
    "args", "kwargs", "max_attempts", "meta", "priority", "queue", "scheduled_at", "tags",
    "task",
]  # fmt: skip


def test_each_field_of_the_job_that_has_the_key_can_be_replaced(
    put: Any, admin: Any
) -> None:
    put(new("a", args="[1]"))
    changed = new(
        "b", args="[2]", kwargs='{"k": 2}', max_attempts=7, meta='{"m": 2}', priority=3,
        queue="other", delay=60.0, tags=["x"], replaces={"available": EVERYTHING},
    )  # fmt: skip
    changed.task = "t2"
    [got] = put(changed)

    assert got.task_id == "a"
    assert row(
        admin, "a", "args", "kwargs", "max_attempts", "meta", "priority", "queue", "tags",
        "task", "state::text", "scheduled_at > clock_timestamp() + interval '50 s'",
    ) == ("[2]", '{"k": 2}', 7, {"m": 2}, 3, "other", ["x"], "t2", "scheduled", True)  # fmt: skip


@pytest.mark.parametrize("name", EVERYTHING)
def test_what_is_not_named_stays(put: Any, admin: Any, name: str) -> None:
    put(new("a"))
    before = row(admin, "a", *EVERYTHING)
    changed = new(
        "b", args="[2]", kwargs='{"k": 2}', max_attempts=7, meta='{"m": 2}', priority=3,
        queue="other", delay=60.0, tags=["x"], replaces={"available": [name]},
    )  # fmt: skip
    changed.task = "t2"
    put(changed)
    after = row(admin, "a", *EVERYTHING)

    assert [
        field
        for field, old, fresh in zip(EVERYTHING, before, after, strict=True)
        if old != fresh
    ] == [name]


def test_it_depends_on_the_state_of_the_job(put: Any, admin: Any, hand: Hand) -> None:
    put(new("a", args="[1]"))
    put(new("b", args="[2]", replaces={"scheduled": ["args"]}))
    assert row(admin, "a", "args") == ("[1]",)
    hand.claim()
    put(new("c", args="[3]", replaces={"executing": ["args"]}))

    assert row(admin, "a", "args", "state::text") == ("[3]", "executing")


def test_of_a_list_the_last_one_replaces(put: Any, admin: Any) -> None:
    rule = {"available": ["args"]}
    got = put(*[new(f"j{n}", args=f"[{n}]", replaces=rule) for n in range(1000)])

    assert {each.task_id for each in got} == {"j0"}
    assert [each.conflict for each in got] == [False] + [True] * 999
    assert row(admin, "j0", "args") == ("[999]",)


def test_a_job_that_is_put_off_again_and_again_runs_once(put: Any, admin: Any) -> None:
    rule = {"scheduled": ["scheduled_at"]}
    for delay in (10.0, 20.0, 30.0):
        put(new(f"d{delay}", delay=delay, replaces=rule))

    late = "scheduled_at > clock_timestamp() + interval '25 s'"
    assert row(admin, "d10.0", "state::text", late) == ("scheduled", True)
    put(new("now", replaces=rule))
    assert row(admin, "d10.0", "state::text") == ("available",)


def test_arguments_in_another_form_are_replaced_as_one_piece(put: Any, admin: Any) -> None:
    put(new("a", args="[1]", kwargs='{"x": 1}'))
    pickled = {"body": b"\x80", "content_type": "application/x-python-serialize"}
    put(new("b", replaces={"available": ["args"]}, **pickled))
    assert row(admin, "a", "body", "content_type", "kwargs") == (*pickled.values(), "{}")
    put(new("c", args="[3]", replaces={"available": ["kwargs"]}))

    assert row(admin, "a", "args", "body", "content_type") == (
        "[3]",
        None,
        "application/json",
    )


def test_a_worker_that_sleeps_is_told_of_a_job_that_moved_to_its_queue(
    put: Any, database: Any, database_url: str, hand: Hand
) -> None:
    put(new("a", queue="elsewhere"))
    database.run(workers.sleep(hand.id, True))
    with psycopg.connect(database_url, autocommit=True) as listener:
        listener.execute('listen "pgtasks.jobs"')
        put(new("b", replaces={"available": ["queue"]}))

        told = [each.payload for each in listener.notifies(timeout=5, stop_after=1)]
    assert told == ["celery"]


# ── what other statements do ────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "blocks",
    [["scheduled", "available"], ["scheduled", "available", "retryable"], INCOMPLETE],
)
@pytest.mark.parametrize(
    ("state", "fields"),
    [
        ("retryable", {"delay": 60.0, "retried": True}),
        ("scheduled", {"delay": 60.0, "give_back": True}),
        ("available", {"give_back": True}),
    ],
)
def test_a_job_that_goes_on_beside_its_twin_harms_nobody_in_its_batch(
    put: Any, hand: Hand, admin: Any, blocks: list[str], state: str, fields: Any
) -> None:
    put(new("a", blocks=blocks), new("other", "another"))
    a, other = sorted(hand.claim(), key=lambda job: job.task_id)
    # A twin that has the same key, whatever it took to make it one.
    admin.execute("delete from pgtasks.unique_keys")
    put(new("twin", blocks=blocks))

    hand.settle_all([(a, state, fields), (other, "completed", {})])

    assert row(admin, "a", "state::text") == (state,)
    assert row(admin, "other", "state") is None
    assert put(new("b", blocks=blocks))[0].task_id == "twin"


def test_a_job_that_is_retried_by_hand_beside_its_twin_runs_too(
    put: Any, hand: Hand, admin: Any
) -> None:
    put(new("a"))
    [job] = hand.claim()
    hand.settle(job, "discarded")
    put(new("twin"))
    with admin.transaction():
        admin.execute("delete from pgtasks.finished_jobs where task_id = 'a'")
        admin.execute("insert into pgtasks.jobs (task, task_id) values ('t', 'a')")

    assert {job.task_id for job in hand.claim()} == {"a", "twin"}


def test_a_job_that_is_retried_by_hand_has_its_key_still_if_nobody_took_it(
    put: Any, hand: Hand, admin: Any
) -> None:
    put(new("a"))
    [job] = hand.claim()
    hand.settle(job, "discarded")
    with admin.transaction():
        admin.execute("delete from pgtasks.finished_jobs where task_id = 'a'")
        admin.execute("insert into pgtasks.jobs (task, task_id) values ('t', 'a')")

    assert put(new("b"))[0].task_id == "a"


def test_rescued_and_staged_jobs_keep_others_out_as_before(
    put: Any, hand: Hand, database: Any, admin: Any
) -> None:
    put(new("a"), new("b", "later", delay=0.001))
    hand.claim()
    database.run(workers.stop(hand.id))
    other = Hand(database)
    database.run(workers.rescue(worker=other.id, traced=[hand.id], begun=[]))
    eventually(lambda: database.run(jobs.stage(worker=other.id)).queues)

    got = put(new("c"), new("d", "later"))

    assert [each.task_id for each in got] == ["a", "b"]
    assert {job.task_id for job in other.claim()} == {"a", "b"}


def test_a_job_that_is_deleted_by_hand_keeps_nobody_out(put: Any, admin: Any) -> None:
    put(new("a"))
    admin.execute("delete from pgtasks.jobs")

    assert not put(new("b"))[0].conflict


# ── other transactions ──────────────────────────────────────────────────────────────────


def test_who_comes_second_waits_for_the_transaction_of_the_first(
    postgres_app: Celery, database_url: str
) -> None:
    @postgres_app.task(unique=True)
    def report(): ...

    results: list[Any] = []
    with psycopg.connect(database_url) as connection:
        first = report.apply_async(connection=connection)
        waiting = threading.Thread(target=lambda: results.append(report.delay()))
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
        connection.commit()
        waiting.join(10)

    assert results == [first]
    assert results[0].conflict


def test_and_takes_its_place_if_that_is_rolled_back(
    postgres_app: Celery, database_url: str
) -> None:
    @postgres_app.task(unique=True)
    def report(): ...

    results: list[Any] = []
    with psycopg.connect(database_url) as connection:
        first = report.apply_async(connection=connection)
        waiting = threading.Thread(target=lambda: results.append(report.delay()))
        waiting.start()
        waiting.join(0.2)
        connection.rollback()
        waiting.join(10)

    assert not results[0].conflict
    assert results[0].id != first.id


def test_the_job_of_ones_own_transaction_keeps_the_next_one_out(
    postgres_app: Celery, database_url: str
) -> None:
    @postgres_app.task(unique=True)
    def report(): ...

    with psycopg.connect(database_url) as connection, pgtasks.using(connection):
        first, again = report.delay(), report.delay()
        with pytest.raises(pgtasks.exceptions.NotCommitted):
            again.get(timeout=1)

    assert (again.id, again.conflict) == (first.id, True)


def test_a_conflict_in_an_open_transaction_keeps_no_worker_from_the_job(
    postgres_app: Celery, database_url: str, desk: Any
) -> None:
    @postgres_app.task(unique=True)
    def report():
        return 5

    first = report.delay()
    with psycopg.connect(database_url) as connection:
        assert report.apply_async(connection=connection).conflict
        desk(postgres_app).work_off()

        assert first.get(timeout=5) == 5


def test_a_key_that_was_taken_over_in_an_open_transaction_keeps_no_worker_either(
    postgres_app: Celery, database_url: str, desk: Any
) -> None:
    @postgres_app.task(unique={"states": ["scheduled", "available"]})
    def report():
        return 5

    ours = desk(postgres_app)
    first = report.delay()
    [job] = ours.claim()
    with psycopg.connect(database_url) as connection:
        assert not report.apply_async(connection=connection).conflict
        ours.run(job)

        assert first.get(timeout=5) == 5


# ── a key that has just been finished ───────────────────────────────────────────────────


def test_an_insert_that_meets_the_end_of_a_job_never_makes_a_second_one(
    postgres_app: Celery, database_url: str, bench: Bench
) -> None:
    """Jobs end all the time while others ask for their keys, within the period."""
    keys = [f"k{n}" for n in range(300)]
    rule = {"blocks": [*INCOMPLETE, "completed"], "period": 3600.0}
    made: list[str] = []
    done = threading.Event()

    def produce(order: list[str]) -> None:
        with Celery("p", broker=database_url, set_as_current=False) as app:
            for key in order:
                job = NewJob("t", str(uuid4()), unique_key=key, uniqueness=rule)
                [got] = uniques.answer(uniques.insertion([job]), app.database.run)
                if not got.conflict:
                    made.append(key)

    def work() -> None:
        hand = Hand(bench.database)
        while not done.is_set():
            claimed = hand.claim(5)
            if claimed:
                hand.settle_all([(job, "completed", {}) for job in claimed])

    worker = threading.Thread(target=work)
    producers = [threading.Thread(target=produce, args=(keys,)) for _ in range(6)]
    worker.start()
    for each in producers:
        each.start()
    for each in producers:
        each.join()
    done.set()
    worker.join()

    assert sorted(made) == sorted(keys)


# ── tidying up ──────────────────────────────────────────────────────────────────────────


def test_keys_of_jobs_that_keep_nobody_out_any_more_are_forgotten(
    put: Any, hand: Hand, database: Any, admin: Any
) -> None:
    lately = {"blocks": [*INCOMPLETE, "completed"]}
    put(
        new("over", "1"),
        new("within", "2", period=60.0, **lately),
        new("past", "3", period=0.001, **lately),
        new("kept", "4", **lately),
        new("gone", "5", **lately),
    )
    for job in hand.claim():
        hand.settle(job, "completed")
    put(new("waits", "6"))
    admin.execute("delete from pgtasks.finished_jobs where task_id = 'gone'")

    last: str | None = ""
    forgotten = 0
    while last is not None:
        keys, last = database.run(uniques.forget(last, limit=2))
        forgotten += keys

    left = admin.execute("select task_id from pgtasks.unique_keys order by key").fetchall()
    assert left == [("within",), ("kept",), ("waits",)]
    assert forgotten == 3


def test_keys_are_forgotten_while_they_are_taken(put: Any, database: Any) -> None:
    stop = threading.Event()

    def forget() -> None:
        while not stop.is_set():
            database.run(uniques.forget())

    tidying = threading.Thread(target=forget)
    tidying.start()
    try:
        for n in range(100):
            got = put(*[new(key=f"k{n}-{m % 10}") for m in range(20)])
            assert [each.conflict for each in got] == [False] * 10 + [True] * 10
    finally:
        stop.set()
        tidying.join()
