"""Events on PostgreSQL and in memory: sent, kept for those who listen, read in order."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from helpers import eventually
from pgtasks import Celery
from pgtasks.events.feed import Feed
from pgtasks.exceptions import OperationalError
from pgtasks.storage import events
from pgtasks.storage.database import compiled


@pytest.fixture
def app(postgres_app: Celery) -> Celery:
    return postgres_app


@pytest.fixture
def feed(app: Celery) -> Iterator[Feed]:
    feed = Feed(app, name="test")
    feed.join()
    yield feed
    feed.leave()


def tell(app: Any, *names: str) -> None:
    with app.events.default_dispatcher(hostname="me@here") as dispatcher:
        for name in names:
            dispatcher.send(f"test-{name}", name=name)


def names(found: list[dict[str, Any]]) -> list[str]:
    return [event["name"] for event in found]


def count(app: Celery, table: str = "events") -> int:
    with psycopg.connect(app.database.url, autocommit=True) as connection:
        row = connection.execute(f"select count(*) from pgtasks.{table}").fetchone()
    assert row is not None
    return int(row[0])


# ── what is kept, and for whom ──────────────────────────────────────────────────────────


def test_nothing_is_kept_while_nobody_listens(app: Celery) -> None:
    tell(app, "a")

    assert not app.database.run(events.listened())
    assert count(app) == 0


def test_one_who_listens_gets_what_comes_and_in_order(app: Celery, feed: Feed) -> None:
    tell(app, "a", "b")
    tell(app, "c")

    assert names(feed.read(10)) == ["a", "b", "c"]
    assert feed.read(0) == []


def test_two_who_listen_both_get_everything(each_app: Celery) -> None:
    both = []
    for _ in range(2):
        heard: list[str] = []
        receiver = each_app.events.Receiver(
            None, handlers={"*": lambda event, heard=heard: heard.append(event["name"])}
        )
        receiver.queue.declare()
        both.append((receiver, heard))
    tell(each_app, "a", "b")
    for receiver, heard in both:
        receiver.capture(limit=2, timeout=30)
        assert heard == ["a", "b"]
        receiver.close()


def test_who_comes_later_hears_what_comes_later(app: Celery, feed: Feed) -> None:
    tell(app, "a")
    other = Feed(app, name="later")
    other.join()
    tell(app, "b")

    assert names(feed.read(10)) == ["a", "b"]
    assert names(other.read(10)) == ["b"]
    other.leave()


def test_what_all_have_read_is_deleted_and_nothing_else(app: Celery, feed: Feed) -> None:
    slow = Feed(app, name="slow")
    slow.join()
    tell(app, "a")
    assert names(feed.read(10)) == ["a"]
    feed._renew_at = 0.0
    feed.read(0)
    assert count(app) == 1

    assert names(slow.read(10)) == ["a"]
    slow._renew_at = 0.0
    slow.read(0)
    assert count(app) == 0
    slow.leave()


def test_one_who_has_died_holds_up_nothing_for_long(app: Celery) -> None:
    dead = Feed(app, name="dead", lifetime=0.3)
    dead.join()
    tell(app, "a")
    assert count(app) == 1

    eventually(lambda: not app.database.run(events.listened()))
    tell(app, "b")
    assert count(app) == 1
    eventually(lambda: app.database.run(events.prune(0.3)) or count(app) == 0)
    eventually(
        lambda: app.database.run(events.prune(0.3)) or not count(app, "event_receivers")
    )
    dead.rest()


# ── a hard life ─────────────────────────────────────────────────────────────────────────


def test_an_event_that_commits_late_is_read_late_and_once(app: Celery, feed: Feed) -> None:
    insert = "insert into pgtasks.events (bundle) values (%s)"
    with (
        psycopg.connect(app.database.url) as late,
        psycopg.connect(app.database.url) as never,
    ):
        for connection, name in ((late, "late"), (never, "never")):
            connection.execute(insert, [f'{{"events": [{{"name": "{name}"}}]}}'])
        tell(app, "early")
        assert names(feed.read(10)) == ["early"]
        never.rollback()
        # Others may not delete what this one still waits for.
        feed._renew_at = 0.0
        assert feed.read(0) == []
        late.commit()
    assert names(feed.read(10)) == ["late"]
    assert feed.read(0) == []


def test_after_a_crash_of_the_server_it_goes_on(app: Celery, feed: Feed) -> None:
    tell(app, "a")
    assert names(feed.read(10)) == ["a"]
    with psycopg.connect(app.database.url, autocommit=True) as connection:
        # What recovery does to unlogged tables.
        connection.execute("truncate pgtasks.events, pgtasks.event_receivers")
    feed._renew_at = 0.0
    feed.read(0)
    tell(app, "b")

    assert names(feed.read(10)) == ["b"]


def test_a_lost_connection_is_waited_for(app: Celery, feed: Feed, caplog: Any) -> None:
    tell(app, "a")
    assert names(feed.read(10)) == ["a"]
    run = app.database.run
    from pgtasks.storage.errors import StorageUnavailable

    def away(*args: Any, **kwargs: Any) -> Any:
        raise StorageUnavailable("the server is away")

    app.database.run = away  # type: ignore[method-assign]
    assert feed.read(0.3) == []
    assert feed.read(0) == []
    app.database.run = run  # type: ignore[method-assign]
    tell(app, "b")

    assert names(feed.read(10)) == ["b"]
    assert caplog.text.count("Cannot read events") == 1


def test_sessions_that_are_ended_are_replaced(app: Celery, feed: Feed) -> None:
    tell(app, "a")
    assert names(feed.read(10)) == ["a"]
    with psycopg.connect(app.database.url, autocommit=True) as connection:
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where datname = current_database() and pid <> pg_backend_pid()"
        )
    found: list[str] = []

    def told() -> bool:
        tell_anyway(app, "b")
        found.extend(names(feed.read(0.5)))
        return "b" in found

    eventually(told, timeout=30)


def tell_anyway(app: Celery, name: str) -> None:
    try:
        tell(app, name)
    except OperationalError:
        pass


def test_one_that_is_too_slow_says_so(app: Celery, caplog: Any) -> None:
    slow = Feed(app, name="slow", lifetime=1000.0)
    slow.join()
    tell(app, "a", "b")
    with psycopg.connect(app.database.url, autocommit=True) as connection:
        connection.execute(
            "delete from pgtasks.events where id = (select min(id) from pgtasks.events)"
        )
        connection.execute(
            "update pgtasks.events set inserted_at = now() - interval '950 s'"
        )

    assert names(slow.read(10)) == ["b"]
    assert slow.behind > 900
    assert "it has missed some" in caplog.text
    slow.leave()


def test_a_row_that_nobody_can_read_is_left_out(
    app: Celery, feed: Feed, caplog: Any
) -> None:
    app.database.run(events.tell("[nonsense"))
    tell(app, "a")
    found: list[str] = []
    eventually(lambda: found.extend(names(feed.read(1))) or found == ["a"])

    assert "Cannot read the events in row" in caplog.text


# ── receivers ───────────────────────────────────────────────────────────────────────────


def test_capture_goes_on_behind_the_event_whose_handler_raised(each_app: Celery) -> None:
    heard: list[str] = []

    def handle(event: dict[str, Any]) -> None:
        heard.append(event["name"])
        if event["name"] == "bad":
            raise ValueError("a handler's own")

    receiver = each_app.events.Receiver(None, handlers={"*": handle})
    receiver.queue.declare()
    tell(each_app, "bad", "good")
    with pytest.raises(ValueError, match="a handler's own"):
        receiver.capture(limit=2, timeout=30)
    receiver.capture(limit=1, timeout=30)

    assert heard == ["bad", "good"]
    receiver.close()


def test_capture_returns_after_a_limit_and_leaves_the_rest(each_app: Celery) -> None:
    heard: list[str] = []
    receiver = each_app.events.Receiver(
        None, handlers={"*": lambda event: heard.append(event["name"])}
    )
    receiver.queue.declare()
    tell(each_app, "a", "b", "c")
    receiver.capture(limit=2, timeout=30)
    assert heard == ["a", "b"]
    assert len(list(receiver.itercapture(limit=1, timeout=30))) == 1
    assert heard == ["a", "b", "c"]
    receiver.close()


def test_silence_is_an_error_where_a_timeout_was_given(each_app: Celery) -> None:
    receiver = each_app.events.Receiver(None)
    with pytest.raises(TimeoutError):
        receiver.capture(timeout=0.05)
    receiver.close()


def test_it_ends_when_it_is_told_to(each_app: Celery) -> None:
    receiver = each_app.events.Receiver(None)
    thread = threading.Thread(target=receiver.capture)
    thread.start()
    receiver.should_stop = True
    thread.join(30)

    assert not thread.is_alive()
    receiver.close()


@pytest.mark.parametrize(
    ("key", "heard"),
    [
        ("#", ["test-a", "task-failed", "worker-online"]),
        ("task.#", ["task-failed"]),
        ("*.failed", ["task-failed"]),
        ("test.a", ["test-a"]),
        ("worker.*", ["worker-online"]),
        ("none.#", []),
    ],
)
def test_a_routing_key_chooses(memory_app: Celery, key: str, heard: list[str]) -> None:
    told: list[str] = []
    receiver = memory_app.events.Receiver(
        None, handlers={"*": lambda event: told.append(event["type"])}, routing_key=key
    )
    receiver.queue.declare()
    with memory_app.events.default_dispatcher() as dispatcher:
        for type in ("test-a", "task-failed", "worker-online"):
            dispatcher.send(type, uuid="a")
    if heard:
        receiver.capture(limit=len(heard), timeout=30)
    with pytest.raises(TimeoutError):
        receiver.capture(timeout=0.01)

    assert told == heard


def test_a_database_that_is_away_at_the_beginning_is_an_error() -> None:
    with (
        Celery("away", broker="postgresql://127.0.0.1:1/none", set_as_current=False) as app,
        app.connection() as connection,
        pytest.raises(OperationalError, match="Cannot listen to events"),
    ):
        app.events.Receiver(connection).capture(timeout=1)


def test_events_carry_the_fields_that_all_have(each_app: Celery) -> None:
    heard: list[dict[str, Any]] = []
    receiver = each_app.events.Receiver(None, handlers={"test-a": heard.append})
    receiver.queue.declare()
    tell(each_app, "a")
    receiver.capture(limit=1, timeout=30)

    assert set(heard[0]) == {
        "type", "hostname", "pid", "clock", "utcoffset", "timestamp", "local_received",
        "name",
    }  # fmt: skip
    assert heard[0]["hostname"] == "me@here"
    assert each_app.clock.value >= heard[0]["clock"] > 0
    receiver.close()


def test_clocks_of_processes_that_never_met_agree_on_what_was_later() -> None:
    from pgtasks.utils.clocks import Clock

    first, second = Clock(), Clock()
    numbers = []
    for clock in (first, second, first, second):
        numbers.append(clock.forward())
        # Two processes cannot tell what happens within the same microsecond.
        eventually(lambda: Clock().forward() > numbers[-1])

    assert numbers == sorted(numbers)
    assert first.adjust(numbers[-1] + 10**12) > numbers[-1] + 10**12
    assert first.forward() > numbers[-1] + 10**12
    assert first.take(5) + 5 == first.forward()


# ── dispatchers ─────────────────────────────────────────────────────────────────────────


def test_a_group_that_is_not_wanted_is_not_sent(memory_app: Celery) -> None:
    sent: list[Any] = []
    dispatcher = memory_app.events.Dispatcher(groups=["worker"])
    dispatcher.producer = _Producer(sent)
    dispatcher.send("task-sent", uuid="a")
    dispatcher.send("worker-online")
    dispatcher.disable()
    dispatcher.send("worker-online")

    assert [event["type"] for event in sent] == ["worker-online"]


def test_a_group_may_be_collected(memory_app: Celery) -> None:
    sent: list[Any] = []
    collected: list[int] = []
    dispatcher = memory_app.events.Dispatcher(
        buffer_group=["task"], buffer_limit=3, on_send_buffered=lambda: collected.append(1)
    )
    dispatcher.producer = _Producer(sent)
    for _ in range(3):
        dispatcher.send("task-sent", uuid="a")
    assert ([len(each) for each in sent], len(collected)) == ([3], 2)
    dispatcher.send("task-sent", uuid="a")
    dispatcher.flush()

    assert [len(each) for each in sent] == [3, 1]


def test_what_cannot_be_sent_is_kept_and_goes_before_the_next(memory_app: Celery) -> None:
    sent: list[Any] = []
    dispatcher = memory_app.events.Dispatcher()
    producer = dispatcher.producer = _Producer(sent)
    producer.away = True
    dispatcher.send("test-a")
    producer.away = False
    dispatcher.send("test-b")
    assert [event["type"] for event in sent] == ["test-a", "test-b"]

    producer.away, dispatcher.buffer_while_offline = True, False
    with pytest.raises(ConnectionError):
        dispatcher.send("test-c")


def test_whoever_wants_to_know_is_told_of_enabling_and_disabling(
    memory_app: Celery,
) -> None:
    told: list[str] = []
    dispatcher = memory_app.events.Dispatcher(enabled=False)
    dispatcher.on_enabled.add(lambda: told.append("on"))
    dispatcher.on_disabled.add(lambda: told.append("off"))
    dispatcher.enable()
    dispatcher.disable()
    dispatcher.disable()

    assert told == ["on", "off"]


class _Producer:
    def __init__(self, sent: list[Any]) -> None:
        self.sent = sent
        self.away = False

    def publish(self, event: Any, **options: Any) -> None:
        if self.away:
            raise ConnectionError("away")
        self.sent.append(event)


# ── task-sent ───────────────────────────────────────────────────────────────────────────


@pytest.fixture
def sending(each_app: Celery) -> Iterator[Any]:
    each_app.conf.task_send_sent_event = True

    @each_app.task(name="add", shared=False)
    def add(x, y):
        return x + y

    heard: list[dict[str, Any]] = []
    receiver = each_app.events.Receiver(None, handlers={"*": heard.append})
    receiver.queue.declare()
    yield add, receiver, heard
    receiver.close()


def test_what_is_sent_is_told_if_that_is_wanted(sending: Any) -> None:
    add, receiver, heard = sending
    result = add.apply_async((1, 2), queue="sums")
    many = add.delay_many([(3, 4), (5, 6)])
    receiver.capture(limit=3, timeout=30)

    assert [event["uuid"] for event in heard] == [result.id, *(each.id for each in many)]
    assert {event["type"] for event in heard} == {"task-sent"}
    assert (heard[0]["name"], heard[0]["args"], heard[0]["queue"]) == (
        "add",
        "(1, 2)",
        "sums",
    )


def test_coroutines_tell_it_too(sending: Any) -> None:
    add, receiver, heard = sending

    async def send() -> Any:
        one = await add.adelay(1, 2)
        await (
            add.app.async_database.close()
        ) if receiver.app.conf.broker_url != "memory://" else 0
        return one

    result = asyncio.run(send())
    receiver.capture(limit=1, timeout=30)

    assert heard[0]["uuid"] == result.id


def test_a_job_of_a_transaction_is_told_of_when_that_commits(app: Celery) -> None:
    app.conf.task_send_sent_event = True

    @app.task(name="add", shared=False)
    def add(x, y):
        return x + y

    feed = Feed(app, name="test")
    feed.join()
    with psycopg.connect(app.database.url) as connection:
        add.apply_async((1, 2), connection=connection)
        connection.rollback()
        kept = add.apply_async((3, 4), connection=connection)
        assert feed.read(0) == []
    assert [event["uuid"] for event in feed.read(10)] == [kept.id]
    feed.leave()


def test_an_event_that_cannot_be_told_takes_no_job_along(app: Celery, caplog: Any) -> None:
    app.conf.task_send_sent_event = True

    @app.task(name="add", shared=False)
    def add(x, y):
        return x + y

    with psycopg.connect(app.database.url) as connection:
        connection.execute("alter table pgtasks.events rename to elsewhere")
        lent = add.apply_async((1, 2), connection=connection)
        connection.execute("alter table pgtasks.elsewhere rename to events")
    assert "could not be told" in caplog.text
    assert app.jobs.get(lent.id) is not None


def test_one_whose_handlers_take_long_goes_on_listening(app: Celery) -> None:
    receiver = app.events.Receiver(None, queue_expires=1.2)
    receiver.queue.declare()
    app.database.run(
        events.tell('{"events": [' + ",".join(['{"type": "test-a"}'] * 40) + "]}")
    )
    for _ in receiver.itercapture(limit=40, timeout=30):
        # Much longer than it counts as listening, but for each event less.
        time.sleep(0.05)
        assert app.database.run(events.listened())
    receiver.close()


def test_where_tasks_run_eagerly_nothing_is_sent(app: Celery, feed: Feed) -> None:
    app.conf.task_always_eager = True
    tell(app, "a")

    assert feed.read(0) == []


def test_without_notifications_it_looks_often(app: Celery, monkeypatch: Any) -> None:
    monkeypatch.setattr(app.notifier, "subscribe", lambda *args: lambda: None)
    feed = Feed(app, name="deaf")
    feed.join()
    tell(app, "a")

    assert names(feed.read(30)) == ["a"]
    timer = threading.Timer(0.1, tell, (app, "b"))
    timer.start()
    assert names(feed.read(30)) == ["b"]
    timer.join()
    feed.leave()


@pytest.mark.parametrize(
    "query", [events.read(20_000, [7, 19_000]), events.prune(60.0)], ids=["read", "prune"]
)
def test_a_long_table_is_not_read_from_end_to_end(app: Celery, query: Any) -> None:
    statement, given = compiled(query.statement, "pgtasks")
    values = ", ".join(
        f"'{{{','.join(map(str, value))}}}'" if isinstance(value, list) else f"'{value}'"
        for value in (query.params[name] for name in given)
    )
    with app.database.connection() as session:
        session.execute("set plan_cache_mode = force_generic_plan")
        session.execute("prepare asked as " + statement.decode())
        with session.transaction(force_rollback=True):
            session.execute(
                "insert into pgtasks.events (id, bundle) "
                "select n, 'x' from generate_series(1, 20000) as n"
            )
            session.execute("analyze pgtasks.events")
            rows = session.execute(f"explain execute asked({values})").fetchall()
    plan = "\n".join(row[0] for row in rows)

    assert "events_pkey" in plan
    assert "Seq Scan on events" not in plan
