"""Sending: what a call becomes in the table, and what is refused before it gets there."""

from __future__ import annotations

import asyncio
import json
import math
import os
import threading
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from pgtasks import Celery, chord, exceptions, group, signals
from pgtasks.app import bulk, publish
from pgtasks.app.memory import queue_of
from pgtasks.result import ResultSet


@pytest.fixture
def app(each_app):
    return each_app


@pytest.fixture
def anything(each_app):
    @each_app.task(name="tests.anything", typing=False)
    def anything(*args, **kwargs):
        return [args, kwargs]

    return anything


def row(app: Celery, task_id: str) -> dict[str, Any]:
    with psycopg.connect(app.database.url, row_factory=psycopg.rows.dict_row) as connection:
        found = connection.execute(
            "select *, extract(epoch from scheduled_at - inserted_at)::float8 as wait,"
            " extract(epoch from expires_at - inserted_at)::float8 as life"
            " from pgtasks.jobs where task_id = %s",
            [task_id],
        ).fetchone()
    assert found is not None
    return found


# ── options and rows ────────────────────────────────────────────────────────────────────


def test_a_call_becomes_a_row_with_its_options(postgres_app):
    app = postgres_app
    result = app.send_task(
        "tests.anything",
        (1, "two"),
        {"three": [3]},
        queue="mail",
        priority=3,
        time_limit=30,
        soft_time_limit=20,
        max_attempts=5,
        ignore_result=True,
        tags=["a", "b"],
        meta={"customer": 7},
        headers={"tenant": "blue"},
        app_id="shop",
    )

    found = row(app, result.id)
    assert (found["task"], found["queue"], found["priority"]) == (
        "tests.anything",
        "mail",
        3,
    )
    assert (found["args"], found["kwargs"]) == ('[1, "two"]', '{"three": [3]}')
    assert (found["time_limit"], found["soft_time_limit"]) == (30, 20)
    assert (found["max_attempts"], found["ignore_result"]) == (5, True)
    assert (found["tags"], found["meta"]) == (["a", "b"], {"customer": 7})
    assert json.loads(found["headers"]) == {
        "headers": {"tenant": "blue"},
        "properties": {"app_id": "shop"},
    }
    assert found["origin"].startswith(f"gen{os.getpid()}@")
    assert found["state"] == "available"
    assert result.ignored is True


def test_ids_are_uuids_in_the_order_of_their_making(postgres_app):
    ids = [postgres_app.send_task("tests.anything").id for _ in range(20)]

    assert ids == sorted(ids)
    assert len(set(ids)) == 20
    assert all(len(each) == 36 and each[14] == "7" for each in ids)


@pytest.mark.parametrize(
    ("options", "wait", "state"),
    [
        ({"countdown": 60}, 60, "scheduled"),
        ({"countdown": timedelta(minutes=1)}, 60, "scheduled"),
        ({"countdown": 0}, 0, "available"),
        ({"countdown": -5}, 0, "available"),
        ({"countdown": 5, "eta": datetime(2050, 1, 1)}, 5, "scheduled"),
        ({"schedule_in": 60}, 60, "scheduled"),
        ({"schedule_in": timedelta(minutes=1)}, 60, "scheduled"),
        ({"countdown": 60, "schedule_in": 60}, 60, "scheduled"),
        ({"countdown": -5, "eta": datetime(2050, 1, 1)}, 0, "available"),
    ],
)
def test_a_countdown_is_an_interval_of_the_databases_clock(
    postgres_app, options, wait, state
):
    found = row(postgres_app, postgres_app.send_task("tests.anything", **options).id)

    assert found["wait"] == pytest.approx(wait, abs=0.01)
    assert found["state"] == state


@pytest.mark.parametrize(
    "eta",
    [
        datetime(2050, 3, 27, 2, 30),
        datetime(2050, 3, 27, 2, 30, tzinfo=timezone.utc),
        datetime(2050, 3, 27, 4, 30, tzinfo=timezone(timedelta(hours=2))),
        "2050-03-27T02:30:00",
        "2050-03-27T02:30:00Z",
        "2050-03-27T04:30:00+02:00",
    ],
)
def test_a_date_without_a_zone_is_utc(postgres_app, eta):
    found = row(postgres_app, postgres_app.send_task("tests.anything", eta=eta).id)

    assert found["scheduled_at"] == datetime(2050, 3, 27, 2, 30, tzinfo=timezone.utc)
    assert found["state"] == "scheduled"


def test_a_date_without_a_zone_is_local_where_utc_is_switched_off(postgres_app):
    postgres_app.conf.update(enable_utc=False, timezone="Europe/Paris")
    eta = datetime(2050, 1, 1, 12)
    found = row(postgres_app, postgres_app.send_task("tests.anything", eta=eta).id)

    assert found["scheduled_at"] == datetime(2050, 1, 1, 11, tzinfo=timezone.utc)


def test_a_date_in_the_past_is_due_at_once(postgres_app):
    past = datetime.now(timezone.utc) - timedelta(hours=1)
    found = row(postgres_app, postgres_app.send_task("tests.anything", eta=past).id)

    assert found["state"] == "available"


@pytest.mark.parametrize(
    ("expires", "life"),
    [(60, 60), (0.5, 0.5), (-1, -1), (timedelta(seconds=60), 60)],
)
def test_an_expiry_in_seconds_is_an_interval_of_the_databases_clock(
    postgres_app, expires, life
):
    found = row(postgres_app, postgres_app.send_task("tests.anything", expires=expires).id)

    assert found["life"] == pytest.approx(life, abs=0.01)


def test_an_expiry_may_be_a_date(postgres_app):
    for expires in ("2050-01-01T00:00:00", datetime(2050, 1, 1)):
        found = row(postgres_app, postgres_app.send_task("t", expires=expires).id)
        assert found["expires_at"] == datetime(2050, 1, 1, tzinfo=timezone.utc)


def test_the_options_of_a_registered_task_hold_for_send_task_unless_they_are_cleared(
    postgres_app,
):
    app = postgres_app

    @app.task(name="tests.limited", time_limit=30, expires=60, lazy=False)
    def limited():
        pass

    kept = row(app, app.send_task("tests.limited").id)
    cleared = row(app, app.send_task("tests.limited", time_limit=None, expires=None).id)

    assert (kept["time_limit"], kept["life"]) == (30, pytest.approx(60, abs=0.01))
    assert (cleared["time_limit"], cleared["expires_at"]) == (None, None)


def test_send_task_does_not_finalize_the_application(memory_app):
    memory_app.send_task("tests.unknown")
    assert not memory_app.finalized


def test_send_task_warns_that_it_is_never_eager(memory_app):
    memory_app.conf.task_always_eager = True
    with pytest.warns(exceptions.AlwaysEagerIgnored):
        memory_app.send_task("tests.unknown")


def test_a_route_names_the_queue_and_what_the_caller_says_wins(memory_app):
    memory_app.conf.task_routes = {"tests.*": {"queue": "routed", "priority": 5}}
    memory_app.send_task("tests.one")
    memory_app.send_task("tests.two", queue="mine", priority=1)
    memory_app.send_task("other")

    found = [(job.queue, job.priority) for job in queue_of(memory_app).waiting()]
    assert found == [("routed", 5), ("mine", 1), ("celery", 0)]


def test_a_kombu_queue_may_stand_for_its_name(memory_app):
    from kombu import Queue

    memory_app.send_task("tests.one", queue=Queue("mail"))
    assert [job.queue for job in queue_of(memory_app).waiting()] == ["mail"]


@pytest.mark.parametrize(
    ("broker", "order", "given", "stored"),
    [
        ("memory://", None, 3, 3),
        ("memory://", None, None, 0),
        ("memory://", "high_first", 9, 0),
        ("memory://", "high_first", None, 9),
        ("memory://", "low_first", 9, 9),
    ],
)
def test_the_direction_of_priorities_follows_the_setting(broker, order, given, stored):
    with Celery("t", broker=broker, task_priority_order=order, set_as_current=False) as app:
        app.send_task("tests.one", priority=given)
        assert queue_of(app).waiting()[0].priority == stored


def test_the_same_id_is_one_job_and_the_second_call_says_so(app, anything):
    first = anything.apply_async((1,), task_id="the-id")
    second = anything.apply_async((2,), task_id="the-id")

    assert (first.conflict, second.conflict) == (False, True)
    assert first == second


def test_an_id_that_is_over_may_be_used_again(app, anything, desk):
    anything.apply_async((1,), task_id="again")
    desk(app).work_off()
    second = anything.apply_async((2,), task_id="again")

    assert second.conflict is False


def test_an_id_may_be_anything_that_has_a_text(memory_app):
    assert memory_app.send_task("t", task_id=5).id == "5"
    assert len(memory_app.send_task("t", task_id="").id) == 36


@pytest.mark.parametrize("serializer", ["pickle", "yaml", "msgpack"])
def test_another_serializer_that_is_accepted_reaches_the_task(
    app, anything, desk, serializer
):
    app.conf.accept_content = ["json", serializer]
    result = anything.apply_async(([1, "ü"],), {"a": b"b"}, serializer=serializer)
    desk(app).work_off()

    assert result.get(timeout=5) == [[[1, "ü"]], {"a": b"b"}]


@pytest.mark.parametrize("compression", ["gzip", "bzip2"])
def test_arguments_may_be_compressed(app, anything, desk, compression):
    result = anything.apply_async(("x" * 10_000,), compression=compression)
    desk(app).work_off()

    assert result.get(timeout=5) == [["x" * 10_000], {}]


# ── receivers of the publishing signals ─────────────────────────────────────────────────


def test_receivers_are_told_what_celery_tells_them(app, anything, heard):
    told = heard("before_task_publish", "after_task_publish")
    result = anything.apply_async((1,), {"x": 2}, headers={"a": "b"}, countdown=9)

    before, after = told
    assert (before["name"], before["sender"]) == ("before_task_publish", "tests.anything")
    args, kwargs, embed = before["body"]
    assert (list(args), kwargs, set(embed)) == (
        [1],
        {"x": 2},
        {"callbacks", "errbacks", "chain", "chord"},
    )
    headers = before["headers"]
    assert (headers["id"], headers["task"], headers["a"]) == (result.id, anything.name, "b")
    assert (headers["argsrepr"], headers["kwargsrepr"]) == ("(1,)", "{'x': 2}")
    assert (headers["retries"], headers["root_id"]) == (0, result.id)
    assert "T" in headers["eta"]
    assert before["properties"]["correlation_id"] == result.id
    assert (before["exchange"], before["routing_key"]) == ("", "celery")
    assert before["retry_policy"]["max_retries"] == 3
    assert (after["name"], after["headers"] is headers) == ("after_task_publish", True)


def test_what_a_receiver_changes_in_place_goes_into_the_job(app, anything, desk):
    from pgtasks.signals import before_task_publish

    seen = {}

    @app.task(bind=True, typing=False)
    def look(self, *args, **kwargs):
        seen.update(
            args=args,
            kwargs=kwargs,
            trace=self.request.trace_id,
            nested=self.request.headers,
        )

    def change(body, headers, properties, **_):
        body[0].append("more")
        body[1]["also"] = True
        headers["trace_id"] = "t-1"
        headers["headers"] = {"sentry-trace": "s-1"}
        headers["id"] = "not this"

    before_task_publish.connect(change)
    try:
        result = look.apply_async(["one"], {})
    finally:
        before_task_publish.disconnect(change)
    desk(app).work_off()

    assert result.get(timeout=5) is None
    assert seen == {
        "args": ("one", "more"),
        "kwargs": {"also": True},
        "trace": "t-1",
        "nested": {"sentry-trace": "s-1"},
    }


def test_headers_survive_a_retry(app, desk):
    seen = []

    @app.task(bind=True)
    def again(self):
        seen.append((self.request.headers, self.request.properties["app_id"]))
        if not self.request.retries:
            raise self.retry(countdown=0)

    again.apply_async(headers={"tenant": "blue"}, app_id="shop")
    desk(app).work_off()

    assert seen == [({"tenant": "blue"}, "shop")] * 2


# ── the database is away ────────────────────────────────────────────────────────────────


def test_without_a_database_sending_ends_in_an_operational_error(postgres_app):
    postgres_app.conf.broker_url = "postgresql://nobody@127.0.0.1:1/none"

    with pytest.raises(exceptions.OperationalError, match="tried 3 times"):
        postgres_app.send_task(
            "t", retry_policy={"max_retries": 2, "interval_step": 0, "interval_max": 0}
        )
    with pytest.raises(exceptions.OperationalError):
        postgres_app.send_task("t", retry=False)


def test_an_insert_whose_answer_was_lost_is_not_made_twice(postgres_app, monkeypatch):
    from pgtasks.storage.database import Database
    from pgtasks.storage.errors import StorageUnavailable

    run, lost = Database.run, []

    def lose_first_answer(self, query, **options):
        answer = run(self, query, **options)
        if not lost:
            lost.append(answer)
            raise StorageUnavailable("The connection was lost in COMMIT.")
        return answer

    monkeypatch.setattr(Database, "run", lose_first_answer)
    result = postgres_app.send_task("t", task_id="once")

    assert lost
    assert result.conflict is False
    with psycopg.connect(postgres_app.database.url) as connection:
        (count,) = connection.execute("select count(*) from pgtasks.all_jobs").fetchone()
    assert count == 1


def test_a_job_inserted_on_a_lent_connection_is_part_of_its_transaction(postgres_app):
    with psycopg.connect(postgres_app.database.url) as connection:
        kept = postgres_app.send_task("t", connection=connection)
        assert not kept.exists()
        connection.commit()
        gone = postgres_app.send_task("t", connection=connection)
        connection.rollback()

    assert kept.exists()
    assert not gone.exists()


def test_an_aborted_transaction_is_not_swallowed(postgres_app):
    with psycopg.connect(postgres_app.database.url) as connection:
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("select 1 / 0")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            postgres_app.send_task("t", connection=connection)


# ── coroutines, threads, forks ──────────────────────────────────────────────────────────


def test_coroutines_send_and_wait_without_blocking_their_loop(app, anything, desk):
    async def main():
        result = await anything.adelay(1)
        other = await anything.aapply_async((2,), queue="celery")
        bench = desk(app)
        worker = asyncio.get_running_loop().run_in_executor(None, bench.work_off)
        values = [await result.aget(timeout=10), await other]
        await worker
        if hasattr(app, "_connections") and not publish.sender(app).in_memory:
            await app.async_database.close()
        return values

    assert asyncio.run(main()) == [[[1], {}], [[2], {}]]


def test_delay_works_inside_a_running_loop(app, anything):
    async def main():
        return anything.delay(1)

    assert asyncio.run(main()).id


def test_many_threads_send_at_once(postgres_app):
    ids: list[str] = []

    def send():
        ids.extend(postgres_app.send_task("t").id for _ in range(20))

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    with psycopg.connect(postgres_app.database.url) as connection:
        rows = connection.execute("select task_id from pgtasks.jobs").fetchall()
    assert sorted(ids) == sorted(task_id for (task_id,) in rows)
    assert len(ids) == 160


@pytest.mark.filterwarnings("ignore:This process.*fork:DeprecationWarning")
def test_a_forked_child_sends_on_a_connection_of_its_own(postgres_app):
    postgres_app.send_task("t", task_id="parent")
    pid = os.fork()
    if pid == 0:
        try:
            postgres_app.send_task("t", task_id="child")
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    postgres_app.send_task("t", task_id="parent again")

    with psycopg.connect(postgres_app.database.url) as connection:
        rows = connection.execute("select task_id from pgtasks.jobs order by id").fetchall()
    assert [task_id for (task_id,) in rows] == ["parent", "child", "parent again"]


# ── in bulk ─────────────────────────────────────────────────────────────────────────────


def test_many_calls_are_sent_at_once_and_waited_for_at_once(app, desk):
    @app.task
    def add(x, y):
        return x + y

    results = add.delay_many([(1, 2), {"x": 3, "y": 4}, add.s(5, y=6), [7, 8]])
    desk(app).work_off()

    assert isinstance(results, ResultSet)
    assert results.get(timeout=10) == [3, 7, 11, 15]


def test_a_call_in_bulk_is_checked_like_any_other_and_nothing_is_sent(app):
    @app.task
    def add(x, y):
        return x + y

    with pytest.raises(TypeError):
        add.delay_many([(1, 2), (1,)])
    with pytest.raises(TypeError, match="is no call"):
        add.delay_many(["ab"])
    assert add.delay_many([]).results == []


def test_options_hold_for_every_job_of_a_bulk_call(postgres_app):
    @postgres_app.task(name="tests.add")
    def add(x, y):
        return x + y

    results = add.apply_async_many(
        [(1, 2), (3, 4)], queue="bulk", priority=2, countdown=60, headers={"a": 1}
    )

    for result, args in zip(results, ("[1, 2]", "[3, 4]"), strict=True):
        found = row(postgres_app, result.id)
        assert (found["args"], found["queue"], found["priority"]) == (args, "bulk", 2)
        assert found["state"] == "scheduled"
        assert json.loads(found["headers"]) == {"headers": {"a": 1}}


def test_tasks_of_several_kinds_are_sent_at_once(app, desk):
    @app.task(name="tests.add")
    def add(x, y):
        return x + y

    @app.task(name="tests.mul")
    def mul(x, y):
        return x * y

    results = app.send_tasks(
        [("tests.add", (1, 2)), ("tests.mul", None, {"x": 3, "y": 4}), add.s(5, 6)]
    )
    desk(app).work_off()

    assert [result.get(timeout=5) for result in results] == [3, 12, 11]


def test_ten_thousand_jobs_are_sent_in_one_call_in_their_order(postgres_app):
    @postgres_app.task(name="tests.one", ignore_result=True)
    def one(x):
        pass

    results = one.delay_many((number,) for number in range(10_000))

    with psycopg.connect(postgres_app.database.url) as connection:
        rows = connection.execute(
            "select task_id, args from pgtasks.jobs order by id"
        ).fetchall()
    assert [task_id for task_id, _ in rows] == [result.id for result in results]
    assert [args for _, args in rows] == [f"[{number}]" for number in range(10_000)]


@pytest.mark.parametrize(("atomic", "kept"), [(True, 0), (False, bulk.CHUNK)])
def test_an_atomic_bulk_call_is_all_or_nothing(postgres_app, atomic, kept):
    @postgres_app.task(name="tests.one")
    def one(x):
        pass

    calls = [(number,) for number in range(bulk.CHUNK)]
    # What only the server can find out, in a later chunk.
    bad = one.s(-1).set(group_id="a\0b")
    with pytest.raises(Exception, match=r"(?i)unicode|null|0x00|u0000"):
        one.delay_many([*calls, bad], atomic=atomic)

    with psycopg.connect(postgres_app.database.url) as connection:
        (count,) = connection.execute("select count(*) from pgtasks.jobs").fetchone()
    assert count == kept


# ── what is refused at the call ─────────────────────────────────────────────────────────

_circle: list[Any] = []
_circle.append(_circle)


def _nested(depth: int) -> Any:
    found: Any = []
    for _ in range(depth):
        found = [found]
    return found


UNWRITABLE = {
    "a set": {1, 2},
    "a complex number": 1j,
    "an object": object(),
    "a function": lambda: 1,
    "a generator": (x for x in ()),
    "a circle": _circle,
    "an exception": ValueError("x"),
    "a bytearray": bytearray(b"x"),
    "a list 20,000 deep": _nested(20_000),
    "an int of 5,000 digits": 10**5000,
    "a disguise": {"__type__": "datetime", "__value__": "not a date"},
    "an unknown disguise": {"__type__": "os.system", "__value__": "id"},
}


@pytest.mark.parametrize("value", UNWRITABLE.values(), ids=UNWRITABLE)
def test_what_json_cannot_write_is_refused_at_the_call(app, anything, value):
    with pytest.raises(exceptions.EncodeError):
        anything.delay(value)
    anything.delay("still usable")


ROUND_TRIPS = {
    "infinity": [math.inf, -math.inf],
    "negative zero": -0.0,
    "a NUL": "a\0b",
    "a NUL in a key": {"a\0": 1},
    "a lone surrogate": "\ud800",
    "surrogates in the wrong order": "\udc00\ud800",
    "a right-to-left override": "\u202egnp.exe",
    "joined emoji": "\U0001f468\u200d\U0001f469",
    "bytes": b"\xff\x00",
    "no bytes": b"",
    "beyond int8": 2**63,
    "a large int": 2**200,
    "the longest int": 10**4299,
    "a decimal": Decimal("1.10"),
    "a naive date": datetime(2026, 3, 29, 2, 30),
    "an aware date": datetime(2026, 1, 1, tzinfo=timezone.utc),
    "the last date": datetime.max,
    "an odd offset": datetime(2026, 1, 1, tzinfo=timezone(timedelta(seconds=30))),
    "a uuid": uuid4(),
    "the order of keys": {"zz": 1, "a": 2},
    "a list 500 deep": _nested(500),
    "a megabyte": "x" * 900_000,
}


@pytest.mark.parametrize("value", ROUND_TRIPS.values(), ids=ROUND_TRIPS)
def test_a_value_comes_back_as_it_was_sent(app, anything, desk, value):
    result = anything.delay(value)
    desk(app).work_off()

    (back,) = result.get(timeout=5)[0]
    assert back == value
    assert repr(back) == repr(value)


def test_nan_comes_back(app, anything, desk):
    result = anything.delay(math.nan)
    desk(app).work_off()

    assert math.isnan(result.get(timeout=5)[0][0])


def test_what_json_has_no_word_for_comes_back_as_celery_brings_it(app, anything, desk):
    result = anything.delay((1, 2), {1: 2, None: 3})
    desk(app).work_off()

    assert result.get(timeout=5)[0] == [[1, 2], {"1": 2, "null": 3}]


def test_a_hundred_thousand_arguments_are_no_problem(app, anything, desk):
    result = anything.delay(*range(100_000))
    desk(app).work_off()

    assert len(result.get(timeout=5)[0]) == 100_000


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"countdown": math.nan}, ValueError, "finite"),
        ({"countdown": math.inf}, ValueError, "finite"),
        ({"countdown": 1e18}, ValueError, "out of range"),
        ({"countdown": "soon"}, TypeError, "number of seconds"),
        ({"eta": datetime.max}, ValueError, "out of range"),
        ({"eta": "10000-01-01"}, ValueError, "no date"),
        ({"eta": "infinity"}, ValueError, "no date"),
        ({"eta": 5}, TypeError, "datetime"),
        ({"expires": "tomorrow"}, ValueError, "no date"),
        ({"expires": math.nan}, ValueError, "finite"),
        ({"priority": 40_000}, ValueError, "out of range"),
        ({"priority": 1.5}, TypeError, "whole number"),
        ({"priority": "high"}, TypeError, "whole number"),
        ({"retries": -1}, ValueError, "retries"),
        ({"retries": "one"}, TypeError, "whole number"),
        ({"max_attempts": 0}, ValueError, "max_attempts"),
        ({"time_limit": -1}, ValueError, "positive"),
        ({"time_limit": "long"}, TypeError, "number of seconds"),
        ({"task_id": "a\0b"}, ValueError, "NUL"),
        ({"task_id": "\ud800"}, ValueError, "Unicode"),
        ({"task_id": "x" * 10_000}, ValueError, "255 bytes"),
        ({"queue": "  "}, ValueError, "blank"),
        ({"queue": "q" * 200}, ValueError, "128 bytes"),
        ({"queue": "a\0"}, ValueError, "NUL"),
        ({"headers": [1]}, TypeError, "mapping"),
        ({"headers": {"x": object()}}, Exception, "JSON"),
        (
            {"headers": {"x": "y" * 20_000_000}},
            exceptions.PayloadTooLarge,
            "task_body_max_size",
        ),
        ({"meta": [1]}, TypeError, "dict"),
        ({"tags": [1]}, TypeError, "texts"),
        ({"serializer": "pickle"}, Exception, "accept_content"),
        ({"serializer": "yaml"}, Exception, "accept_content"),
        ({"serializer": "nope"}, Exception, "nope"),
        ({"compression": "nope"}, exceptions.ImproperlyConfigured, "not known"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_option_that_cannot_work_is_refused_at_the_call(
    memory_app, options, error, words
):
    with pytest.raises(error, match=words):
        memory_app.send_task("t", **options)
    assert not queue_of(memory_app).waiting()


@pytest.mark.parametrize("name", ["", "x" * 300, "a\0b"])
def test_a_name_that_cannot_be_is_refused_at_the_call(memory_app, name):
    with pytest.raises(ValueError, match="name"):
        memory_app.send_task(name)


def test_arguments_beyond_the_limit_are_refused_with_their_size(app, anything):
    with pytest.raises(exceptions.PayloadTooLarge, match=r"100,000,0\d\d bytes"):
        anything.delay("x" * 100_000_000)
    with pytest.raises(exceptions.PayloadTooLarge):
        anything.delay_many([("x",), ("x" * 20_000_000,)])


def test_large_arguments_are_sent_and_said_to_be_large(app, anything, caplog):
    anything.delay("x" * 1_100_000)
    assert "task_body_warn_size" in caplog.text


@pytest.mark.parametrize(("given", "becomes"), [(-1, 0), (256, 255)])
def test_a_priority_a_little_out_of_range_is_bounded_with_a_warning(
    memory_app, given, becomes
):
    with pytest.warns(UserWarning, match=f"becomes {becomes}"):
        memory_app.send_task("t", priority=given)
    assert queue_of(memory_app).waiting()[0].priority == becomes


def test_a_soft_limit_beyond_the_hard_one_warns(memory_app):
    with pytest.warns(UserWarning, match="never comes to it"):
        memory_app.send_task("t", soft_time_limit=10, time_limit=5)


@pytest.mark.parametrize(
    "queue", ["a\"b'; drop table x;--", "q" * 60, "очередь-é", "%s%(x)s{0}"]
)
def test_any_printable_text_is_a_queue(app, anything, desk, queue):
    result = anything.apply_async(queue=queue)
    desk(app, queue).work_off()

    assert result.get(timeout=5) == [[], {}]


def test_options_that_change_in_place_are_seen_from_call_to_call(memory_app):
    headers = {"number": 0}
    sent = []
    for number in range(3):
        headers["number"] = number
        memory_app.send_task("tasks.add", (1,), headers=headers)
        (job,) = queue_of(memory_app).get(["celery"], 10)
        sent.append(json.loads(job.headers)["headers"]["number"])

    assert sent == [0, 1, 2]


def test_a_call_like_the_one_before_differs_where_it_should(memory_app):
    for number in range(2):
        memory_app.send_task("tasks.add", (number,), {"y": number}, task_id=f"id-{number}")
    memory_app.send_task("tasks.add", (2,), queue="celery", priority=5)
    memory_app.conf.task_default_queue = "other"
    memory_app.send_task("tasks.add", (3,))

    first, second, third = queue_of(memory_app).get(["celery"], 10)
    (fourth,) = queue_of(memory_app).get(["other"], 10)
    assert [job.args for job in (first, second, third, fourth)] == [
        "[0]",
        "[1]",
        "[2]",
        "[3]",
    ]
    assert [first.task_id, second.task_id] == ["id-0", "id-1"]
    assert len({job.task_id for job in (first, second, third, fourth)}) == 4
    assert (second.kwargs, third.kwargs, third.priority) == ('{"y": 1}', "{}", 5)


def test_a_receiver_that_is_connected_later_is_told(memory_app):
    heard = []

    def hear(sender, **_):
        heard.append(sender)

    memory_app.send_task("tasks.add")
    signals.before_task_publish.connect(hear)
    try:
        memory_app.send_task("tasks.add")
    finally:
        signals.before_task_publish.disconnect(hear)

    assert heard == ["tasks.add"]


def test_a_task_whose_attributes_change_is_sent_as_it_is_now(memory_app):
    @memory_app.task
    def changing():
        pass

    for attempts in (None, 3):
        changing.max_attempts = attempts
        changing.delay()

    first, second = queue_of(memory_app).get(["celery"], 10)
    assert (first.max_attempts, second.max_attempts) == (None, 3)


def test_a_task_that_is_registered_later_is_sent_by_name_with_its_options(memory_app):
    memory_app.send_task("late")
    memory_app.task(lambda: None, name="late", time_limit=9, lazy=False)
    memory_app.send_task("late")

    first, second = queue_of(memory_app).get(["celery"], 10)
    assert (first.time_limit, second.time_limit) == (None, 9)


def test_a_forked_process_says_that_it_was_itself(memory_app):
    @memory_app.task
    def forked():
        pass

    own = publish.sender(memory_app)
    forked.delay()
    own._pid = -1  # as if the process were another
    own._origin = "gen-1@elsewhere"
    own._last = own._last._replace(
        behind_index=("gen-1@elsewhere", *own._last.behind_index[1:])
    )
    forked.delay()

    _, second = queue_of(memory_app).get(["celery"], 10)
    assert second.origin == own.origin != "gen-1@elsewhere"


@pytest.fixture
def page(postgres_app):
    @postgres_app.task(name="tests.page")
    def page(*args):
        return None

    return page


def test_a_call_says_when_it_may_run_in_celerys_words_or_in_obans(postgres_app, page):
    due = datetime(2050, 1, 2, 3, 4, tzinfo=timezone.utc)

    result = page.apply_async(scheduled_at=due)
    assert row(postgres_app, result.id)["scheduled_at"] == due
    assert row(postgres_app, result.id)["state"] == "scheduled"
    past = page.apply_async(scheduled_at=datetime(2020, 1, 1, tzinfo=timezone.utc))
    assert row(postgres_app, past.id)["state"] == "available"
    with pytest.raises(TypeError, match="in two ways"):
        page.apply_async(eta=due, scheduled_at=due + timedelta(days=1))
    with pytest.raises(TypeError, match="countdown=5 and schedule_in=6"):
        page.apply_async(countdown=5, schedule_in=6)


def test_of_a_chord_the_header_waits_for_its_time(postgres_app, page):
    due = chord([page.s(), page.s()], page.s()).apply_async(schedule_in=60)

    members = due.parent.results
    assert {row(postgres_app, each.id)["state"] for each in members} == {"scheduled"}
    assert row(postgres_app, due.id)["state"] == "suspended"


# ── whether a call waits for the disk ───────────────────────────────────────────────────


@pytest.fixture
def durabilities(monkeypatch):
    """Whether each insert waited for the disk, as its transaction saw it at the end."""
    from pgtasks.storage.database import Database

    seen: list[bool] = []
    run = Database.run

    def look(self, query, **options):
        if "durable" in query.params:
            seen.append(query.params["durable"])
        return run(self, query, **options)

    monkeypatch.setattr(Database, "run", look)
    return seen


def test_a_transient_call_does_not_wait_for_the_disk(postgres_app, page, durabilities):
    page.delay()
    page.apply_async(delivery_mode="transient")
    page.apply_async(delivery_mode=1)
    page.apply_async(delivery_mode=2)
    postgres_app.conf.task_default_delivery_mode = "transient"
    page.delay()
    page.apply_async(delivery_mode="persistent", countdown=5)
    page.delay_many([()] * 3)

    assert durabilities == [True, False, False, True, False, True, False]


def test_a_work_flow_is_as_durable_as_the_most_durable_of_its_jobs(
    postgres_app, page, durabilities
):
    group(page.si().set(delivery_mode=1), page.si()).delay()
    group(page.si().set(delivery_mode=1), page.si().set(delivery_mode=1)).delay()

    assert durabilities == [True, False]


def test_another_delivery_mode_is_refused(app, anything):
    with pytest.raises(ValueError, match=r"delivery_mode is 'often'.*transient"):
        anything.apply_async(delivery_mode="often")
