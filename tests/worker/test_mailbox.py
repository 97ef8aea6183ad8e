"""Remote control from end to end: `app.control` on one side, the mailbox on the other."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from helpers import eventually
from pgtasks import Celery
from pgtasks.app import control
from pgtasks.exceptions import (
    DuplicateNodenameWarning,
    ImproperlyConfigured,
    PayloadTooLarge,
    WorkerShutdown,
)
from pgtasks.storage import mailbox, workers
from pgtasks.storage.notifier import Notifier
from pgtasks.worker.control import Panel, control_command, inspect_command
from pgtasks.worker.mailbox import Mailbox


@pytest.fixture
def app(database_url: str) -> Iterator[Celery]:
    with Celery("tests", broker=database_url, set_as_current=False) as app:
        yield app


@pytest.fixture
def desk(app: Celery) -> Iterator[Callable[..., Desk]]:
    """Makes workers that do nothing but read their mail."""
    with ExitStack() as stack:

        def desk(name: str = "w@here", *, start: bool = True, **changes: Any) -> Desk:
            desk = Desk(app, name, **changes)
            stack.callback(desk.close)
            if start:
                desk.mailbox.start()
            return desk

        yield desk


class Desk:
    """As much of a worker as its mailbox needs."""

    def __init__(self, app: Celery, name: str, **changes: Any) -> None:
        self.app = app
        self.hostname = name
        self.begun = SimpleNamespace(worker=str(uuid4()))
        self.queues = ["celery"]
        self.concurrency = 1
        self.fetcher = SimpleNamespace(wakeup=threading.Event())
        self.stopped = threading.Event()
        self.exitcode: int | None = None
        self.deaths: list[object] = []
        app.database.run(
            workers.register(
                id=self.begun.worker,
                name=name,
                hostname="here",
                pid=os.getpid(),
                machine="test",
                process_started=0.0,
                begun_file=None,
                lease=changes.get("lease", 60.0),
                queues=self.queues,
                pool="threads",
                concurrency=1,
                version="0",
                info={},
            )
        )
        self.mailbox = Mailbox(self)  # type: ignore[arg-type]
        self.mailbox.on_death = lambda what, error: self.deaths.append(error)

    def stop(self, *, exitcode: int | None = None) -> None:
        self.exitcode = exitcode
        self.stopped.set()

    def close(self) -> None:
        self.mailbox.stop()
        assert self.mailbox.join(5)
        assert self.deaths == []
        # Signed off, as a worker does: nobody waits for its replies any more.
        self.app.database.run(workers.stop(self.begun.worker))


@pytest.fixture
def command() -> Iterator[Callable[..., Any]]:
    """Adds commands for the time of one test."""
    data, meta = dict(Panel.data), dict(Panel.meta)
    yield inspect_command
    Panel.data.clear()
    Panel.meta.clear()
    Panel.data.update(data)
    Panel.meta.update(meta)


def rows(url: str, table: str) -> int:
    with psycopg.connect(url) as connection:
        [(count,)] = connection.execute(f"select count(*) from pgtasks.{table}")
    return count


# ── asking ──────────────────────────────────────────────────────────────────────────────


def test_every_worker_replies(app, desk):
    desk("a@here")
    desk("b@here")
    replies = app.control.ping(timeout=10)

    assert sorted(replies, key=str) == [
        {"a@here": {"ok": "pong"}},
        {"b@here": {"ok": "pong"}},
    ]
    assert app.control.inspect(timeout=10).ping() == {
        "a@here": {"ok": "pong"},
        "b@here": {"ok": "pong"},
    }


def test_nobody_waits_longer_than_for_the_last_reply(app, desk):
    desk()
    begun = time.monotonic()
    app.control.ping(timeout=30)

    assert time.monotonic() - begun < 10


def test_without_workers_there_is_no_answer_in_the_time_given(app):
    begun = time.monotonic()
    replies = app.control.ping(timeout=0.2)

    assert replies == []
    assert time.monotonic() - begun >= 0.2
    assert app.control.inspect(timeout=0.05).ping() is None


def test_only_those_addressed_reply(app, desk):
    desk("a@here")
    desk("b@here")

    assert app.control.ping(destination=["b@here"], timeout=10) == [
        {"b@here": {"ok": "pong"}}
    ]
    assert app.control.inspect(destination="a@here", timeout=10).ping() == {"ok": "pong"}
    assert app.control.inspect(timeout=10).ping(destination=["a@here"]) == {
        "a@here": {"ok": "pong"}
    }


def test_those_whose_name_matches_reply(app, desk):
    desk("mail1@here")
    desk("mail2@here")
    desk("video@here")

    def matching(pattern, matcher):
        inspect = app.control.inspect(pattern=pattern, matcher=matcher, timeout=10)
        return sorted(inspect.ping() or ())

    assert matching("mail*", "glob") == ["mail1@here", "mail2@here"]
    assert matching(r"\w+1@", "pcre") == ["mail1@here"]
    assert matching("nobody*", "glob") == []


def test_as_many_replies_as_were_asked_for_are_enough(app, desk):
    desk("a@here")
    desk("b@here")

    assert len(app.control.ping(timeout=10, limit=1)) == 1


def test_each_reply_is_told_as_it_comes(app, desk):
    desk()
    told = []
    app.control.ping(timeout=10, callback=told.append)

    assert told == [{"w@here": {"ok": "pong"}}]


def test_workers_of_one_name_are_warned_of(app, desk):
    desk("same@here")
    desk("same@here")
    with pytest.warns(DuplicateNodenameWarning, match="-n worker1@%h"):
        replies = app.control.inspect(timeout=10).ping()

    assert replies == {"same@here": {"ok": "pong"}}


def test_nobody_is_waited_for_who_is_dead(app, desk):
    desk("alive@here")
    dead = desk("dead@here", start=False)
    app.database.run(workers.bury(dead.begun.worker, beat=0))
    begun = time.monotonic()

    assert app.control.ping(timeout=30) == [{"alive@here": {"ok": "pong"}}]
    assert time.monotonic() - begun < 10


def test_arguments_and_replies_keep_what_json_can(app, desk, command):
    got = []

    @command()
    def remember(state, **arguments):
        got.append(arguments)
        return {"when": arguments["when"], "hostname": state.hostname, "odd": "\x00\udc80"}

    desk()
    when = datetime(2026, 1, 2, 3, 4, tzinfo=timezone.utc)
    [reply] = app.control.broadcast(
        "remember", arguments={"when": when}, more=[1, None], reply=True, timeout=10
    )

    assert got == [{"when": when, "more": [1, None]}]
    assert reply == {"w@here": {"when": when, "hostname": "w@here", "odd": "\x00\udc80"}}


def test_replies_are_cleared_away_when_they_have_been_read(app, desk, database_url):
    desk()
    app.control.ping(timeout=10)

    assert rows(database_url, "replies") == 0


def test_expired_words_go_as_new_ones_come(app, desk, database_url):
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "insert into pgtasks.commands "
            "(key, command, arguments, wants_reply, sender, expires_at) "
            "select gen_random_uuid(), 'ping', '{}', false, 'x', clock_timestamp() "
            "from generate_series(1, 700)"
        )
        connection.execute(
            "insert into pgtasks.replies (key, worker, name, reply, expires_at) "
            "select gen_random_uuid(), gen_random_uuid(), 'x', '1', clock_timestamp() "
            "from generate_series(1, 700)"
        )
    desk()
    app.control.ping(timeout=10)

    assert rows(database_url, "commands") == 1
    assert rows(database_url, "replies") == 0


def test_what_every_worker_would_have_to_read_is_bounded(app):
    with pytest.raises(PayloadTooLarge, match="more than the 1,000,000"):
        app.control.broadcast("ping", arguments={"much": "x" * 1_000_000})


# ── reading ─────────────────────────────────────────────────────────────────────────────


def test_a_command_is_done_once(app, desk, command):
    done = []

    @command()
    def count(state):
        done.append(state.hostname)

    one = desk(start=False)
    app.control.broadcast("count")

    assert one.mailbox.look() == 1
    assert one.mailbox.look() == 0
    assert done == ["w@here"]


def test_a_command_is_done_once_though_its_id_is_remembered_for_a_minute_only(
    app, desk, command, monkeypatch
):
    done = []

    @command()
    def count(state):
        done.append(state.hostname)

    monkeypatch.setattr("pgtasks.worker.mailbox.MEMORY", -1.0)
    one = desk(start=False)
    for _ in range(3):
        app.control.broadcast("count")
        one.mailbox.look()
        one.mailbox.look()

    assert len(done) == 3
    assert one.mailbox._answered == {}


def test_a_command_that_is_sent_again_after_a_lost_answer_is_one(app, desk):
    one = desk(start=False)
    twice = mailbox.send(
        "ping", "{}", key=str(uuid4()), destination=None, wants_reply=False,
        sender="x", lifetime=60.0,
    )  # fmt: skip

    assert app.database.run(twice) == app.database.run(twice) == {one.begun.worker}
    assert one.mailbox.look() == 1


def test_a_worker_does_not_do_what_others_were_told_before_it_started(app, desk):
    app.control.shutdown()
    late = desk(start=False)

    assert late.mailbox.look() == 0
    app.control.shutdown()
    assert late.mailbox.look() == 1
    assert late.stopped.wait(5)


def test_a_command_that_has_expired_is_not_done(app, desk):
    one = desk(start=False)
    app.database.run(
        mailbox.send(
            "shutdown",
            "{}",
            key=str(uuid4()),
            destination=None,
            wants_reply=False,
            sender="x",
            lifetime=-1.0,
        )
    )

    assert one.mailbox.look() == 0


def test_a_hundred_commands_at_once_are_all_done(app, desk, command):
    done = []

    @command()
    def count(state, n):
        done.append(n)

    one = desk(start=False)
    for n in range(120):
        app.control.broadcast("count", n=n)
    while one.mailbox.look():
        pass

    assert done == list(range(120))


def test_without_notifications_commands_are_found_by_polling(app, desk, monkeypatch):
    # What a pooler in transaction mode does: it takes LISTEN and delivers nothing.
    monkeypatch.setattr(Notifier, "subscribe", lambda self, channel, callback: lambda: None)
    monkeypatch.setattr("pgtasks.worker.mailbox.POLL", 0.05)
    desk()

    assert app.control.ping(timeout=10) == [{"w@here": {"ok": "pong"}}]


def test_a_forged_notification_does_nothing(app, desk, database_url):
    one = desk()
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("notify \"pgtasks.control\", 'shutdown'")
    app.control.ping(timeout=10)

    assert not one.stopped.is_set()


def test_a_worker_outlives_a_lost_connection(app, desk, database_url):
    one = desk()
    app.control.ping(timeout=10)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where datname = current_database() and pid <> pg_backend_pid()"
        )

    def answers():
        return app.control.ping(timeout=1)

    assert eventually(answers, timeout=30) == [{"w@here": {"ok": "pong"}}]
    assert one.deaths == []


# ── replying ────────────────────────────────────────────────────────────────────────────


def test_an_unknown_command_is_an_error_with_a_hint(app, desk):
    desk()
    [reply] = app.control.broadcast("pin", reply=True, timeout=10)

    assert reply == {
        "w@here": {"error": "This worker knows no command 'pin'. Did you mean 'ping'?"}
    }


def test_a_command_that_raises_is_an_error_and_the_next_is_done(app, desk, command):
    @command()
    def fail(state):
        raise ValueError("no")

    desk()
    [failed] = app.control.broadcast("fail", reply=True, timeout=10)

    assert failed == {"w@here": {"error": "ValueError('no')"}}
    assert app.control.ping(timeout=10) == [{"w@here": {"ok": "pong"}}]


def test_arguments_that_a_command_does_not_take_are_an_error(app, desk, command):
    @command()
    def plain(state):
        return 1

    desk()
    [reply] = app.control.broadcast("plain", surplus=1, reply=True, timeout=10)

    assert "surplus" in reply["w@here"]["error"]


def test_a_reply_that_is_not_json_is_shown_as_text(app, desk, command):
    @command()
    def odd(state):
        return {"it": {1, 2}, "self": object}

    @command()
    def odder(state):
        return {("a", "b"): 1}

    desk()
    [reply] = app.control.broadcast("odd", reply=True, timeout=10)
    [refused] = app.control.broadcast("odder", reply=True, timeout=10)

    assert reply["w@here"]["self"] == "<class 'object'>"
    assert "The reply cannot be sent" in refused["w@here"]["error"]


def test_a_reply_that_is_too_large_says_so(app, desk, command):
    @command()
    def much(state):
        return "x" * 5_000_000

    desk()
    [reply] = app.control.broadcast("much", reply=True, timeout=10)

    assert "more than the 4,000,000 that fit" in reply["w@here"]["error"]


# ── what commands do ────────────────────────────────────────────────────────────────────


def test_shutdown_stops_the_worker_that_it_is_meant_for(app, desk):
    one, other = desk("one@here"), desk("other@here")
    replies = app.control.shutdown(destination=["one@here"], reply=True, timeout=10)

    assert one.stopped.wait(5)
    assert replies == [{"one@here": {"ok": "warm shutdown"}}]
    assert not other.stopped.is_set()


def test_a_command_may_stop_the_worker_as_in_celery(app, desk, command):
    @control_command()
    def enough(state):
        raise WorkerShutdown(3)

    one = desk()
    app.control.broadcast("enough")

    assert one.stopped.wait(5)
    assert one.exitcode == 3


def test_a_queue_is_added_where_producers_look_too(app, desk):
    one = desk()
    app.control.add_consumer("mail", reply=True, timeout=10)
    [row] = app.database.run(workers.live())

    assert one.queues == row.queues == ["celery", "mail"]
    app.control.cancel_consumer("celery", reply=True, timeout=10)
    [row] = app.database.run(workers.live())
    assert one.queues == row.queues == ["mail"]


def test_queues_are_described_as_kombu_does(app, desk):
    from kombu import Exchange, Queue

    desk()
    queues = app.control.inspect(timeout=10).active_queues()["w@here"]

    plain = Queue("celery", Exchange("celery"), "celery")
    assert queues == [plain.as_dict(recurse=True)]


def test_scheduled_jobs_are_the_next_ones_of_the_workers_queues(app, desk):
    app.send_task("a", countdown=7200, task_id="second", args=[1], kwargs={"x": 2})
    app.send_task("a", countdown=3600, task_id="first", priority=3)
    app.send_task("a", countdown=3600, task_id="elsewhere", queue="other")
    app.send_task("a", task_id="now")
    desk()
    entries = app.control.inspect(timeout=10).scheduled()["w@here"]

    assert [entry["request"]["id"] for entry in entries] == ["first", "second"]
    assert entries[0]["priority"] == 6
    assert entries[0]["request"]["delivery_info"]["priority"] == 3
    request = entries[1]["request"]
    assert (request["args"], request["kwargs"]) == ([1], {"x": 2})
    due = datetime.fromisoformat(entries[0]["eta"])
    assert 3000 < (due - datetime.now(timezone.utc)).total_seconds() < 3700


# ── the client alone ────────────────────────────────────────────────────────────────────


def test_purging_deletes_what_waits_in_the_applications_queues(app):
    app.send_task("a")
    app.send_task("a", queue="other")

    assert app.control.purge() == 1
    assert app.control.discard_all() == 0
    assert app.control.purge(queues=["other"]) == 1


def test_in_memory_there_are_no_workers_to_talk_to():
    app = Celery("m", broker="memory://", set_as_current=False)
    app.send_task("a")

    assert app.control.ping() == []
    assert app.control.broadcast("shutdown") is None
    assert app.control.purge() == 1


def test_a_command_that_no_worker_knows_is_in_its_log_if_nobody_waits(app, desk, caplog):
    there = desk()
    app.control.broadcast("dance")

    eventually(lambda: "knows no command 'dance'" in caplog.text)
    there.close()


def test_a_verb_that_does_not_exist_is_no_method(app):
    with pytest.raises(
        AttributeError, match="'Control' object has no attribute 'nonsense'"
    ):
        app.control.nonsense()


def test_settings_that_contradict_each_other_are_refused(database_url):
    app = Celery("c", broker=database_url, set_as_current=False)
    app.conf.control_queue_durable = True
    with pytest.raises(ImproperlyConfigured, match="cannot both be True"):
        control.Control(app)


def test_every_command_has_its_method(app):
    inspect = app.control.inspect()
    for name, info in Panel.meta.items():
        assert hasattr(inspect if info.type == "inspect" else app.control, name)
