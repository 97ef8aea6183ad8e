"""Limits of tasks and words about queues, as an application says them."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from pgtasks import Celery, chain, chord
from pgtasks.app.limits import as_concurrency, as_rate
from pgtasks.exceptions import ImproperlyConfigured
from pgtasks.storage import jobs, limits, queues


@pytest.fixture
def app(postgres_app: Celery) -> Celery:
    return postgres_app


def rows(app: Celery) -> list[tuple[Any, ...]]:
    with app.database.connection() as session:
        return session.execute(
            "select task, limits, parked, state::text from pgtasks.jobs order by id"
        ).fetchall()


@pytest.mark.parametrize(
    ("rate", "read"),
    [
        ("100/m", (100, 60.0)),
        ("5/s", (5, 1.0)),
        ("1000/h", (1000, 3600.0)),
        (7, (7, 1.0)),
        ("0.5/s", (1, 2.0)),
        ("1.5/m", (1, 40.0)),
        (None, (None, None)),
    ],
)
def test_rates_are_read_as_celery_writes_them(rate, read):
    assert as_rate(rate, "it") == read


@pytest.mark.parametrize("rate", ["", "fast", "0/s", "-1/s", "5/d", "1e3/s"])
def test_a_rate_that_is_none_says_how_to_write_one(rate):
    with pytest.raises(ValueError, match="100/m"):
        as_rate(rate, "queue 'a'")


@pytest.mark.parametrize("value", [True, "3", 2.0])
def test_a_concurrency_that_is_no_whole_number_is_refused(value):
    with pytest.raises(TypeError, match="whole number"):
        as_concurrency(value, "it")


@pytest.mark.parametrize("value", [-1, 2**31])
def test_a_concurrency_out_of_range_is_refused(value):
    with pytest.raises(ValueError, match="0 or more"):
        as_concurrency(value, "it")


def test_a_call_names_the_gates_that_it_goes_through(app):
    @app.task(name="t", concurrency=3, concurrency_key="account", rate="5/s")
    def task(other, account=7):
        pass

    task.delay(1, 2)
    task.delay(1)
    task.delay(other=1, account="x")

    assert [row[1] for row in rows(app)] == [
        ["concurrency:t\x1f2", "rate:t"],
        ["concurrency:t\x1f7", "rate:t"],
        ["concurrency:t\x1fx", "rate:t"],
    ]
    assert {row[2:] for row in rows(app)} == {("?", "suspended")}


def test_a_key_may_be_a_function_of_the_arguments(app):
    @app.task(name="t", rate="5/s", rate_key=lambda args, kwargs: args[0]["tenant"])
    def task(document):
        pass

    task.delay({"tenant": "a"})

    assert rows(app)[0][1] == ["rate:t\x1fa"]


def test_a_bound_task_has_the_key_that_its_caller_gave(app):
    @app.task(name="t", bind=True, concurrency=1, concurrency_key="x")
    def task(self, x, y):
        pass

    task.delay("mine", "other")

    assert rows(app)[0][1] == ["concurrency:t\x1fmine"]


def test_calls_that_are_sent_together_have_each_their_own_key(app):
    @app.task(name="t", concurrency=1, concurrency_key="x")
    def task(x):
        pass

    task.delay_many([("a",), ("b",)])
    app.send_tasks([("t", ("c",)), ("t", ("d",))])

    assert [row[1][0][-1] for row in rows(app)] == ["a", "b", "c", "d"]


def test_long_and_unprintable_keys_are_kept_as_their_digest(app):
    @app.task(name="t", concurrency=1, concurrency_key="x")
    def task(x):
        pass

    task.delay("a" * 10_000)
    task.delay("a\0b")

    for _, (gate,), _, _ in rows(app):
        assert len(gate) == len("concurrency:t\x1f") + 64


def test_a_key_that_no_argument_is_given_for_is_an_error_of_the_call(app):
    @app.task(name="t", concurrency=1, concurrency_key="account")
    def task(x):
        pass

    with pytest.raises(TypeError, match="'account'"):
        task.delay(1)


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({"concurrency": "3"}, "whole number"),
        ({"rate": "often"}, "100/m"),
        ({"concurrency_key": "x"}, "give concurrency="),
        ({"rate": "1/s", "rate_key": 5}, "name of an argument"),
    ],
)
def test_options_that_cannot_be_limits_are_refused_with_the_definition(
    app, options, remedy
):
    with pytest.raises((TypeError, ValueError), match=remedy):  # noqa: PT012

        @app.task(name="t", **options)
        def task(x):
            pass

        app.finalize()


def test_tasks_without_limits_have_none(app):
    @app.task(name="t")
    def task():
        pass

    task.delay()

    assert rows(app) == [("t", None, None, "available")]


def test_what_is_due_later_meets_its_limits_when_it_is_due(app):
    @app.task(name="t", concurrency=1)
    def task():
        pass

    task.apply_async(countdown=0.001)
    assert rows(app)[0][2:] == ("", "scheduled")

    with app.database.connection() as session:
        session.execute("update pgtasks.jobs set scheduled_at = now()")
    app.database.run(jobs.stage(worker=str(uuid4())))

    assert rows(app)[0][2:] == ("?", "suspended")


def test_the_body_of_a_chord_and_the_link_of_a_chain_have_their_limits(app, desk):
    @app.task(name="t")
    def task(*args):
        return 1

    @app.task(name="limited", concurrency=1, concurrency_key="who")
    def limited(result, who):
        return result

    chord([task.s(), task.s()])(limited.s("me"))
    chain(task.s(), limited.s("you"))()
    assert ("limited", ["concurrency:limited\x1fme"], "", "suspended") in rows(app)

    at = desk(app)
    at.work_off()

    left = [row for row in rows(app) if row[0] == "limited"]
    assert sorted(row[1][0][-2:] for row in left) == ["me", "ou"]
    # Either may be tried by a claim that minds limits, and by no other.
    declared = limits.declare([limits.Limit("concurrency:limited", 1)])
    app.database.run(declared)
    for _ in range(2):
        passed = app.database.run(
            limits.fetch(
                {"celery": jobs.LOWEST}, demand=5, worker=at.worker, token=str(uuid4())
            )
        )
    assert len(passed.claimed.jobs) == 2


# ── words about queues ──────────────────────────────────────────────────────────────────


def claims(app: Celery, worker: str, queue: str = "celery", node: str = "") -> int:
    marks = {queue: jobs.LOWEST, "another": jobs.LOWEST}
    several = jobs.fetch(marks, demand=1, worker=worker, token=str(uuid4()), node=node)
    single = jobs.fetch(
        {queue: jobs.LOWEST}, demand=1, worker=worker, token=str(uuid4()), node=node
    )
    found = [len(app.database.run(each).jobs) for each in (several, single)]
    assert len(set(found)) == 1
    return found[0]


@pytest.fixture
def worker(app, desk) -> str:
    for _ in range(20):
        app.send_task("t")
    return desk(app).worker


def test_a_paused_queue_is_not_claimed_from_until_it_is_resumed(app, worker):
    assert claims(app, worker) == 1
    app.queues.pause("celery")
    assert claims(app, worker) == 0
    app.queues.resume("celery")
    assert claims(app, worker) == 1


def test_the_more_particular_word_goes_before_the_general_one(app, worker):
    app.queues.pause_all()
    assert claims(app, worker) == 0
    app.queues.resume("celery")
    assert claims(app, worker) == 1
    app.queues.pause("celery", node="w1")
    assert claims(app, worker, node="w1") == 0
    assert claims(app, worker, node="w2") == 1


def test_the_last_word_to_the_fleet_takes_back_what_was_said_to_nodes(app, worker):
    app.queues.pause("celery", node="w1")
    app.queues.resume("celery")
    assert claims(app, worker, node="w1") == 1
    app.queues.pause("celery")
    app.queues.pause("other")
    app.queues.resume_all()
    assert claims(app, worker) == 1
    assert not app.queues.check("other").paused


def test_pausing_twice_keeps_the_first_moment_and_name(app):
    app.queues.pause("celery", by="first")
    before = app.queues.check("celery")
    app.queues.pause("celery", by="second")

    assert app.queues.check("celery")[:4] == before[:4]
    assert before.by == "first" and before.since is not None


def test_a_pause_waits_for_the_claims_that_did_not_know_of_it(app, worker):
    with app.database.connection() as session, session.transaction():
        session.execute("select from pgtasks.queues")
        session.execute("update pgtasks.jobs set priority = priority where false")

        assert len(app.database.run(queues.claiming())) == 1

    assert app.database.run(queues.claiming()) == set()


def test_a_check_tells_how_a_queue_does(app, worker):
    claims(app, worker)
    app.queues.scale("celery", 3)
    app.queues.scale("celery", 5, node="w1")
    checked = app.queues.check("celery")

    assert checked.states == {"available": 18, "executing": 2}
    assert checked.running == {"celery@desk": 2}
    assert checked.workers == ["celery@desk"]
    assert checked.age is not None and 0 <= checked.age < 60
    assert checked.limit == 3
    assert [(said.node, said.limit) for said in checked.said] == [(None, 3), ("w1", 5)]


def test_a_queue_that_nobody_knows_is_empty_and_paused_with_all(app):
    assert app.queues.check("nowhere").states == {}
    assert not app.queues.check("nowhere").paused
    app.queues.pause_all(by="ops")
    assert app.queues.check("nowhere").paused
    assert app.queues.check("nowhere").by == "ops"


def test_limits_are_listed_with_who_said_them(app):
    app.queues.limit("celery", concurrency=5, rate="100/m")
    app.queues.limit(task="t", concurrency=2)
    app.database.run(limits.declare([limits.Limit("concurrency:t", 9)]))

    assert [known[:5] for known in app.queues.limits()] == [
        ("concurrency:t", 2, None, None, True),
        ("queue:celery", 5, 100, 60.0, True),
    ]
    assert app.queues.unlimit("celery") is True
    assert app.queues.unlimit("celery") is False
    assert app.queues.unlimit(task="t") is True


@pytest.mark.parametrize("name", ["", "*", None])
def test_a_name_that_is_none_is_refused(app, name):
    with pytest.raises(ValueError, match="pause_all"):
        app.queues.pause(name)


def test_queues_in_memory_cannot_be_paused(memory_app):
    with pytest.raises(ImproperlyConfigured, match="memory://"):
        memory_app.queues.pause("celery")


def test_limits_mean_nothing_to_jobs_in_memory(memory_app, desk):
    @memory_app.task(name="t", concurrency=1, rate="1/h", shared=False)
    def task():
        return 1

    results = [task.delay(), task.delay()]
    desk(memory_app).work_off()

    assert [result.get() for result in results] == [1, 1]
