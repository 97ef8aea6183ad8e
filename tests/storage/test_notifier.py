import gc
import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from helpers import eventually
from pgtasks.dev.postgres import Server
from pgtasks.storage import notifier as module
from pgtasks.storage.database import Database
from pgtasks.storage.notifier import Notifier

Admin = psycopg.Connection[tuple[Any, ...]]


class Heard(list[str | None]):
    """A callback that remembers what it was called with."""

    def __call__(self, payload: str | None) -> None:
        self.append(payload)


@pytest.fixture
def notifier(database: Database) -> Iterator[Notifier]:
    notifier = Notifier(database)
    yield notifier
    notifier.close()


def notify(admin: Admin, channel: str, payload: str = "") -> None:
    admin.execute("select pg_notify(%s, %s)", [channel, payload])


def listeners(admin: Admin) -> list[int]:
    rows = admin.execute(
        "select pid from pg_stat_activity "
        "where query ilike 'listen%' and datname = current_database()"
    ).fetchall()
    return [pid for (pid,) in rows]


def test_subscribers_hear_their_channel_and_no_other(
    notifier: Notifier, admin: Admin
) -> None:
    jobs, results = Heard(), Heard()
    notifier.subscribe("pgtasks.jobs", jobs)
    notifier.subscribe("pgtasks.results", results)
    assert notifier.wait_listening(10)

    notify(admin, "pgtasks.jobs", "mailers")
    notify(admin, "pgtasks.results", "id")
    notify(admin, "pgtasks.control", "ping")

    eventually(lambda: (jobs, results) == ([None, "mailers"], [None, "id"]))


def test_all_subscribers_of_a_channel_hear_it(notifier: Notifier, admin: Admin) -> None:
    first, second = Heard(), Heard()
    notifier.subscribe("pgtasks.jobs", first)
    notifier.subscribe("pgtasks.jobs", second)
    assert notifier.wait_listening(10)

    notify(admin, "pgtasks.jobs", "mailers")

    eventually(lambda: first == second == [None, "mailers"])


def test_one_thread_and_one_connection_serve_them_all(
    notifier: Notifier, admin: Admin
) -> None:
    threads = threading.active_count()

    for channel in ("jobs", "results", "control", "jobs"):
        notifier.subscribe(f"pgtasks.{channel}", Heard())

    assert notifier.wait_listening(10)
    assert threading.active_count() == threads + 1
    assert len(listeners(admin)) == 1


def test_nothing_happens_before_the_first_subscription(
    notifier: Notifier, admin: Admin
) -> None:
    assert not notifier.listening
    assert "pgtasks-notifier" not in {thread.name for thread in threading.enumerate()}
    assert not notifier.wait_listening(0)


def test_a_channel_that_is_added_later_is_heard_too(
    notifier: Notifier, admin: Admin
) -> None:
    notifier.subscribe("pgtasks.jobs", Heard())
    assert notifier.wait_listening(10)

    late = Heard()
    notifier.subscribe("pgtasks.results", late)
    assert notifier.wait_listening(10)
    notify(admin, "pgtasks.results", "id")

    eventually(lambda: late == [None, "id"])


def test_who_unsubscribed_hears_nothing_more(notifier: Notifier, admin: Admin) -> None:
    gone, left = Heard(), Heard()
    unsubscribe = notifier.subscribe("pgtasks.jobs", gone)
    notifier.subscribe("pgtasks.jobs", left)
    assert notifier.wait_listening(10)

    unsubscribe()
    unsubscribe()
    notify(admin, "pgtasks.jobs", "mailers")

    eventually(lambda: left == [None, "mailers"])
    assert gone == [None]


def test_channels_move_along_with_the_schema(database_url: str, admin: Admin) -> None:
    notifier = Notifier(Database(database_url, schema="elsewhere"))
    heard = Heard()
    notifier.subscribe("pgtasks.jobs", heard)
    assert notifier.wait_listening(10)

    notify(admin, "pgtasks.jobs", "not ours")
    notify(admin, "elsewhere.jobs", "ours")

    eventually(lambda: heard == [None, "ours"])
    notifier.close()


def test_a_callback_that_fails_harms_nobody(
    notifier: Notifier, admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(payload: str | None) -> None:
        raise ZeroDivisionError

    heard = Heard()
    notifier.subscribe("pgtasks.jobs", broken)
    notifier.subscribe("pgtasks.jobs", heard)
    assert notifier.wait_listening(10)

    notify(admin, "pgtasks.jobs", "a")
    notify(admin, "pgtasks.jobs", "b")

    eventually(lambda: heard == [None, "a", "b"])
    assert "A callback for notifications on 'pgtasks.jobs' failed" in caplog.text


def test_a_callback_may_subscribe_and_unsubscribe(notifier: Notifier, admin: Admin) -> None:
    second = Heard()

    def once(payload: str | None) -> None:
        if payload:
            unsubscribe()
            notifier.subscribe("pgtasks.results", second)

    unsubscribe = notifier.subscribe("pgtasks.jobs", once)
    assert notifier.wait_listening(10)
    notify(admin, "pgtasks.jobs", "now")
    eventually(lambda: second == [None])
    notify(admin, "pgtasks.results", "id")

    eventually(lambda: second == [None, "id"])


# ── connections that break ─────────────────────────────────────────────────────────────


def test_a_listener_that_was_terminated_comes_back_and_says_look_again(
    notifier: Notifier, admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    heard = Heard()
    notifier.subscribe("pgtasks.jobs", heard)
    assert notifier.wait_listening(10)
    (pid,) = listeners(admin)

    with caplog.at_level(logging.INFO):
        admin.execute("select pg_terminate_backend(%s, 5000)", [pid])
        eventually(lambda: heard == [None, None])
        assert notifier.wait_listening(10)
    notify(admin, "pgtasks.jobs", "mailers")

    eventually(lambda: heard == [None, None, "mailers"])
    assert "only polling" in caplog.text
    assert "again" in caplog.text


def test_a_server_that_restarts_is_waited_for(
    notifier: Notifier, database_url: str, postgres: Any, caplog: pytest.LogCaptureFixture
) -> None:
    if not isinstance(postgres, Server):
        pytest.skip("the server of PGTASKS_TEST_DSN is not ours to restart")
    heard = Heard()
    notifier.subscribe("pgtasks.jobs", heard)
    assert notifier.wait_listening(10)

    postgres.stop()
    eventually(lambda: not notifier.listening)
    postgres.start()

    assert notifier.wait_listening(20)
    with psycopg.connect(database_url, autocommit=True) as admin:
        notify(admin, "pgtasks.jobs", "mailers")
    eventually(lambda: heard == [None, None, "mailers"])
    warnings = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert len(warnings) == 1


def test_a_server_that_is_not_there_is_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    notifier = Notifier(Database("postgresql://u:sEcret77@127.0.0.1:1/d"))

    notifier.subscribe("pgtasks.jobs", Heard())
    eventually(lambda: "only polling" in caplog.text)

    assert not notifier.listening
    assert not notifier.wait_listening(0.01)
    notifier.close()
    assert "sEcret77" not in caplog.text


def test_an_idle_listener_holds_no_snapshot_and_dies_with_its_network(
    notifier: Notifier, admin: Admin
) -> None:
    notifier.subscribe("pgtasks.jobs", Heard())
    assert notifier.wait_listening(10)
    (pid,) = listeners(admin)

    row = admin.execute(
        "select state, backend_xmin, backend_xid from pg_stat_activity where pid = %s",
        [pid],
    ).fetchone()
    settings = notifier.database.direct.parameters({"tcp_user_timeout": "15000"})

    assert row == ("idle", None, None)
    assert "-c tcp_user_timeout=15000" in settings["options"]


# ── ends ───────────────────────────────────────────────────────────────────────────────


def test_closing_ends_the_thread_and_the_session(notifier: Notifier, admin: Admin) -> None:
    notifier.subscribe("pgtasks.jobs", Heard())
    assert notifier.wait_listening(10)

    notifier.close()

    assert "pgtasks-notifier" not in {thread.name for thread in threading.enumerate()}
    assert not notifier.listening
    eventually(lambda: not listeners(admin))


def test_a_closed_notifier_begins_anew(notifier: Notifier, admin: Admin) -> None:
    notifier.subscribe("pgtasks.jobs", Heard())
    notifier.close()
    heard = Heard()

    notifier.subscribe("pgtasks.jobs", heard)
    assert notifier.wait_listening(10)
    notify(admin, "pgtasks.jobs", "mailers")

    eventually(lambda: heard == [None, "mailers"])


def test_a_callback_may_close_the_notifier(notifier: Notifier, admin: Admin) -> None:
    def close(payload: str | None) -> None:
        if payload:
            notifier.close()

    notifier.subscribe("pgtasks.jobs", close)
    assert notifier.wait_listening(10)
    notify(admin, "pgtasks.jobs", "now")

    eventually(lambda: not listeners(admin))


def test_a_notifier_without_subscribers_lingers_and_leaves(
    database: Database, admin: Admin
) -> None:
    notifier = Notifier(database, linger=0.05)
    unsubscribe = notifier.subscribe("pgtasks.jobs", Heard())
    assert notifier.wait_listening(10)

    unsubscribe()

    eventually(lambda: not listeners(admin))
    eventually(lambda: notifier._listener is None)
    heard = Heard()
    notifier.subscribe("pgtasks.jobs", heard)
    assert notifier.wait_listening(10)
    notifier.close()


def test_a_channel_that_nobody_wants_is_no_longer_listened_to(
    database: Database, admin: Admin
) -> None:
    notifier = Notifier(database, linger=0.05)
    unsubscribe = notifier.subscribe("pgtasks.results", Heard())
    notifier.subscribe("pgtasks.jobs", Heard())
    assert notifier.wait_listening(10)

    unsubscribe()

    listener = notifier._listener
    assert listener is not None
    eventually(lambda: listener.channels == {"pgtasks.jobs"})
    notifier.close()


def test_a_channel_is_kept_for_a_while_in_case_somebody_comes_back(
    database: Database, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(module, "monotonic", lambda: clock[0])
    notifier = Notifier(database, linger=100)
    jobs = Heard()
    notifier.subscribe("pgtasks.jobs", jobs)
    unsubscribe = notifier.subscribe("pgtasks.results", Heard())
    assert notifier.wait_listening(10)
    listener = notifier._listener
    assert listener is not None

    clock[0] = 1000
    unsubscribe()
    notify(admin, "pgtasks.jobs", "a")
    eventually(lambda: jobs == [None, "a"])
    kept = listener.channels
    clock[0] = 1099
    notify(admin, "pgtasks.jobs", "b")
    eventually(lambda: jobs == [None, "a", "b"])
    kept &= listener.channels
    clock[0] = 1101
    notify(admin, "pgtasks.jobs", "c")

    assert kept == {"pgtasks.jobs", "pgtasks.results"}
    eventually(lambda: listener.channels == {"pgtasks.jobs"})
    notifier.close()


def test_nothing_is_left_of_a_closed_notifier(database: Database) -> None:
    notifier = Notifier(database)
    notifier.subscribe("pgtasks.jobs", Heard())
    assert notifier.wait_listening(10)
    notifier.close()
    left = weakref.ref(notifier)

    del notifier
    gc.collect()

    assert left() is None


def test_who_waits_is_told_of_a_subscription_to_what_is_listened_to_already(
    notifier: Notifier,
) -> None:
    unsubscribe = notifier.subscribe("pgtasks.jobs", Heard())
    assert notifier.wait_listening(10)
    unsubscribe()
    waiting = threading.Event()
    changed = notifier._changed

    def wait() -> bool:
        with changed:  # nobody can announce anything before the wait has begun
            waiting.set()
            return notifier.wait_listening(60)

    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(wait)
        waiting.wait(10)
        with changed:
            pass
        notifier.subscribe("pgtasks.jobs", Heard())
        assert answer.result(30)


def test_a_forked_child_begins_without_subscriptions(
    notifier: Notifier, admin: Admin
) -> None:
    heard = Heard()
    notifier.subscribe("pgtasks.jobs", heard)
    assert notifier.wait_listening(10)
    reading, writing = os.pipe()

    pid = os.fork()
    if pid == 0:
        try:
            answer = [notifier.listening, notifier._subscriptions]
            own = Heard()
            notifier.subscribe("pgtasks.results", own)
            answer.append(notifier.wait_listening(10))
            notifier.close()
            answer.append(own)
        except BaseException as error:
            answer = [error]
        os.write(writing, repr(answer).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answers:
        in_child = answers.read()
    os.waitpid(pid, 0)

    assert in_child == "[False, [], True, [None]]"
    assert notifier.listening
    notify(admin, "pgtasks.jobs", "mailers")
    eventually(lambda: heard == [None, "mailers"])


# ── PgBouncer ──────────────────────────────────────────────────────────────────────────


def test_behind_a_pooler_that_delivers_nothing_it_gives_up_and_says_so_once(
    pgbouncer: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    notifier = Notifier(Database(pgbouncer("transaction")))
    heard = Heard()

    notifier.subscribe("pgtasks.jobs", heard)
    eventually(lambda: "'database_direct_url'" in caplog.text)
    notifier.subscribe("pgtasks.results", heard)

    assert not notifier.wait_listening(10)
    assert heard == []
    eventually(lambda: "pgtasks-notifier" not in {t.name for t in threading.enumerate()})
    assert caplog.text.count("database_direct_url") == 1
    notifier.close()


@pytest.mark.parametrize("direct", [False, True])
def test_behind_a_pooler_it_hears_in_session_mode_and_by_the_direct_way(
    pgbouncer: Callable[..., str], database_url: str, admin: Admin, direct: bool
) -> None:
    if direct:
        database = Database(pgbouncer("transaction"), direct_url=database_url)
    else:
        database = Database(pgbouncer("session"))
    notifier = Notifier(database)
    heard = Heard()

    notifier.subscribe("pgtasks.jobs", heard)
    assert notifier.wait_listening(10)
    notify(admin, "pgtasks.jobs", "mailers")

    eventually(lambda: heard == [None, "mailers"])
    notifier.close()
    database.close()
