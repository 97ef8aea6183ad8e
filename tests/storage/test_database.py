import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from helpers import eventually
from pgtasks.dev.postgres import Server
from pgtasks.storage import pool
from pgtasks.storage.database import Database, compiled
from pgtasks.storage.errors import (
    BadData,
    StorageBusy,
    StorageError,
    StorageMisconfigured,
    StorageUnavailable,
)
from pgtasks.storage.query import Query

Admin = psycopg.Connection[tuple[Any, ...]]


def ask(statement: str, **params: object) -> Query[Any]:
    """A query for one value."""
    return Query(statement, params, lambda rows: rows[0][0] if rows else None)


PID = ask("select pg_backend_pid()")


def setting(name: str) -> Query[str]:
    return ask("select current_setting(%(name)s::text)", name=name)


@contextmanager
def occupied(database: Database, admin: Admin) -> Iterator[None]:
    """Keeps one of the database's connections at work until the block ends."""
    admin.execute("select pg_advisory_lock(1)")
    with ThreadPoolExecutor(1) as pool:
        work = pool.submit(database.run, ask("select pg_advisory_xact_lock(1)"), timeout=20)
        eventually(
            lambda: admin.execute("select 1 from pg_locks where not granted").fetchone()
        )
        try:
            yield
        finally:
            admin.execute("select pg_advisory_unlock(1)")
            work.result()


def in_a_child(fork: Callable[[], int], work: Callable[[], object]) -> str:
    """What ``work`` returned, or raised, in a forked process."""
    reading, writing = os.pipe()
    pid = fork()
    if pid == 0:
        try:
            answer = repr(work())
        except BaseException as error:
            answer = f"raised {error!r}"
        os.write(writing, answer.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answers:
        answer = answers.read()
    os.waitpid(pid, 0)
    return answer


# ── queries ────────────────────────────────────────────────────────────────────────────


def test_a_query_is_run_and_read(database: Database) -> None:
    query = Query(
        "select n, 100 %% n from generate_series(1, %(last)s::integer) as n",
        {"last": 3},
        dict,
    )

    assert database.run(query) == {1: 0, 2: 0, 3: 1}


def test_a_statement_without_rows_reads_none(database: Database) -> None:
    assert database.run(Query("set jit = off", {}, list)) == []


def test_statements_follow_the_schema(database_url: str, admin: Admin) -> None:
    other = Database(database_url, schema="elsewhere")

    statement, names = compiled(
        "select pgtasks.f(%(a)s, %(b)s, %(a)s) -- 5 %%", "elsewhere"
    )

    assert statement == b"select elsewhere.f($1, $2, $1) -- 5 %"
    assert names == ("a", "b")
    assert other.run(setting("search_path")) == "elsewhere,pg_catalog,pg_temp"
    other.close()


def test_a_single_percent_sign_is_explained() -> None:
    with pytest.raises(ValueError, match=r"write %\(name\)s or %%"):
        compiled("select 5 % 3", "pgtasks")


def test_statements_are_prepared_once(database: Database) -> None:
    for number in range(3):
        database.run(ask("select %(number)s::integer", number=number))

    count = ask(
        "select count(*) from pg_prepared_statements where statement like %(like)s::text",
        like="select $1::integer",
    )
    assert database.run(count) == 1


def test_nothing_happens_before_the_first_query(database_url: str, admin: Admin) -> None:
    threads = threading.active_count()
    database = Database(database_url, application_name="lazy")
    seen = "select count(*) from pg_stat_activity where application_name = 'lazy'"

    before = admin.execute(seen).fetchone()
    database.run(PID)
    after = admin.execute(seen).fetchone()

    assert (before, after) == ((0,), (1,))
    assert threading.active_count() == threads
    database.close()


# ── the session ────────────────────────────────────────────────────────────────────────


def test_every_wait_has_an_end(database: Database) -> None:
    expected = {
        "statement_timeout": "30s",
        "lock_timeout": "3s",
        "idle_in_transaction_session_timeout": "15s",
        "client_connection_check_interval": "5s",
        "default_transaction_isolation": "read committed",
        "search_path": "pgtasks,pg_catalog,pg_temp",
        "application_name": "pgtasks",
        "client_encoding": "UTF8",
    }

    assert {name: database.run(setting(name)) for name in expected} == expected
    client = database.endpoint.parameters()
    assert client["keepalives_idle"] == "5"
    assert client["tcp_user_timeout"] == "10000"
    assert client["connect_timeout"] == "10"
    assert client["target_session_attrs"] == "read-write"


def test_the_users_own_parameters_win(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGAPPNAME", "from the environment")
    own = {
        "options": "-c statement_timeout=7s",
        "connect_timeout": 3,
        "keepalives_idle": 99,
    }
    database = Database(make_conninfo(database_url, **own))

    assert database.run(setting("statement_timeout")) == "7s"
    assert database.run(setting("lock_timeout")) == "3s"
    assert database.run(setting("application_name")) == "from the environment"
    assert database.endpoint.parameters()["connect_timeout"] == "3"
    assert database.endpoint.parameters()["keepalives_idle"] == "99"
    database.close()


def test_options_of_the_environment_are_kept(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c work_mem=5MB")
    database = Database(database_url)

    assert database.run(setting("work_mem")) == "5MB"
    assert database.run(setting("lock_timeout")) == "3s"
    database.close()


def test_a_setting_that_the_server_does_not_know_is_done_without(database_url: str) -> None:
    database = Database(database_url)
    database.endpoint.settings["not_invented_yet"] = "1"

    assert database.run(setting("lock_timeout")) == "3s"
    assert "not_invented_yet" not in database.endpoint.settings
    database.close()


def test_a_direct_server_is_not_taken_for_a_pooler(database: Database) -> None:
    assert database.behind_pooler is False


# ── connections ────────────────────────────────────────────────────────────────────────


def test_one_after_the_other_uses_one_connection(database: Database) -> None:
    assert len({database.run(PID) for _ in range(5)}) == 1


def test_two_at_a_time_use_two(database: Database, admin: Admin) -> None:
    first = database.run(PID)

    with occupied(database, admin):
        second = database.run(PID)

    assert first != second


def test_the_pool_has_a_bound_and_says_so(database_url: str, admin: Admin) -> None:
    database = Database(database_url, pool_size=1)

    with (
        occupied(database, admin),
        pytest.raises(StorageBusy, match=r"All 1 connections .* 'broker_pool_limit'"),
    ):
        database.run(PID, timeout=0.05)
    database.close()


def test_nobody_waits_for_a_connection_longer_than_the_pool_says(
    database_url: str, admin: Admin
) -> None:
    database = Database(database_url, pool_size=1, pool_timeout=0.05)
    tight = database.under({"work_mem": "1MB"})

    for each in (database, tight):
        for timeout in (None, 20.0):
            with occupied(each, admin), pytest.raises(StorageBusy, match="All 1 conn"):
                each.run(PID, timeout=timeout)
        each.close()


def test_who_waits_gets_the_connection_that_comes_free(
    database_url: str, admin: Admin
) -> None:
    database = Database(database_url, pool_size=1)
    first = database.run(PID)

    with ThreadPoolExecutor(1) as threads:
        with occupied(database, admin):
            later = threads.submit(database.run, PID)
            eventually(lambda: database._pool._waiting)
        assert later.result() == first
    database.close()


def test_many_threads_share_few_connections(database_url: str) -> None:
    database = Database(database_url, pool_size=3)

    def work(number: int) -> tuple[int, int]:
        query = Query(
            "select %(number)s::integer, pg_backend_pid()",
            {"number": number},
            lambda r: r[0],
        )
        answer: tuple[int, int] = database.run(query)
        return answer

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(work, range(400)))

    assert [number for number, _ in answers] == list(range(400))
    assert len({pid for _, pid in answers}) <= 3
    database.close()


def test_closing_ends_the_sessions_and_the_next_query_opens_another(
    database: Database, admin: Admin
) -> None:
    first = database.run(PID)

    database.close()

    gone = "select 1 from pg_stat_activity where pid = %s"
    eventually(lambda: admin.execute(gone, [first]).fetchone() is None)
    assert database.run(PID) != first


def test_a_connection_at_work_is_closed_when_it_is_done(
    database_url: str, admin: Admin
) -> None:
    database = Database(database_url, application_name="at work")
    with occupied(database, admin):
        database.close()

    ours = "select 1 from pg_stat_activity where application_name = 'at work'"
    eventually(lambda: admin.execute(ours).fetchone() is None)


def test_connections_that_nobody_misses_are_closed(
    database_url: str, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(database_url, application_name="missed")
    with occupied(database, admin):
        database.run(PID)
    monkeypatch.setattr(pool, "MAX_IDLE", -1.0)
    database.run(PID)
    monkeypatch.setattr(pool, "MAX_IDLE", 300.0)

    ours = "select count(*) from pg_stat_activity where application_name = 'missed'"
    eventually(lambda: admin.execute(ours).fetchone() == (1,))
    database.close()


def test_an_old_connection_is_replaced(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "MAX_AGE", 0.0)

    assert database.run(PID) != database.run(PID)


# ── what goes wrong ────────────────────────────────────────────────────────────────────


def kill(admin: Admin, pid: int) -> None:
    admin.execute("select pg_terminate_backend(%s, 5000)", [pid])


def test_a_connection_that_died_while_idle_is_noticed_before_it_is_used(
    database: Database, admin: Admin
) -> None:
    first = database.run(PID)
    kill(admin, first)

    assert database.run(PID) != first


def test_a_connection_lost_at_work_is_reported_and_dropped(database: Database) -> None:
    with pytest.raises(StorageUnavailable) as caught:
        database.run(ask("select pg_terminate_backend(pg_backend_pid())"))

    assert isinstance(caught.value.__cause__, psycopg.Error)
    assert not caught.value.not_run
    assert database.run(ask("select 1")) == 1


def test_a_repeatable_query_survives_lost_connections(
    database: Database, admin: Admin
) -> None:
    admin.execute("create sequence public.tries")
    query = ask(
        "select case when nextval('public.tries') < 3 "
        "then pg_terminate_backend(pg_backend_pid()) end"
    )

    database.run(query, retry=True)

    assert admin.execute("select last_value from public.tries").fetchone() == (3,)
    admin.execute("drop sequence public.tries")


def test_a_repeatable_query_outlives_a_restart(database: Database, postgres: Any) -> None:
    if not isinstance(postgres, Server):
        pytest.skip("the server of PGTASKS_TEST_DSN is not ours to restart")
    database.run(PID)
    postgres.stop("immediate")
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(database.run, ask("select 42"), retry=True)
        postgres.start()

        assert answer.result() == 42


def test_trying_again_ends_with_the_timeout_and_counts(unused_url: str) -> None:
    database = Database(unused_url)

    begun = time.monotonic()
    with pytest.raises(StorageUnavailable, match="Given up after") as caught:
        database.run(PID, retry=True, timeout=0.5)

    assert caught.value.attempts > 1
    assert time.monotonic() - begun < 5


def test_what_cannot_work_is_not_tried_again(database: Database) -> None:
    with pytest.raises(StorageMisconfigured) as missing:
        database.run(ask("select 1 from pgtasks.nowhere"), retry=True)
    with pytest.raises(BadData) as bad:
        database.run(ask("select 'x'::integer"), retry=True)

    assert "pgtasks schema apply" in str(missing.value)
    assert (missing.value.attempts, bad.value.attempts) == (1, 1)


def test_a_query_may_ask_for_less_time(database: Database) -> None:
    with pytest.raises(StorageBusy) as caught:
        database.run(ask("select pg_sleep(20)"), timeout=0.05)

    assert caught.value.sqlstate == "57014"
    assert database.run(setting("statement_timeout")) == "30s"
    assert database.run(setting("statement_timeout"), timeout=7) == "7s"
    assert database.run(setting("statement_timeout"), timeout=70) == "30s"


def test_a_lock_is_waited_for_only_so_long(database_url: str, admin: Admin) -> None:
    database = Database(database_url, lock_timeout=0.05)
    admin.execute("select pg_advisory_lock(2)")

    with pytest.raises(StorageBusy) as caught:
        database.run(ask("select pg_advisory_xact_lock(2)"))

    assert caught.value.sqlstate == "55P03"
    database.close()


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b"])
def test_text_that_cannot_be_stored_is_bad_data(database: Database, text: str) -> None:
    first = database.run(PID)

    with pytest.raises(BadData):
        database.run(ask("select %(text)s::text", text=text))
    assert database.run(PID) == first


def test_a_parameter_that_is_missing_costs_no_connection(database: Database) -> None:
    with pytest.raises(KeyError):
        database.run(ask("select %(text)s::text"))
    assert not database._pool._open


def test_a_bug_in_a_statement_is_neither_retried_nor_misnamed(database: Database) -> None:
    with pytest.raises(StorageError) as caught:
        database.run(ask("selct 1"), retry=True)

    assert type(caught.value) is StorageError


def test_an_exception_in_the_middle_does_not_shift_the_answers(database: Database) -> None:
    class TimeLimit(Exception):
        pass

    def strike(*_: object) -> None:
        raise TimeLimit

    database.run(PID)
    before = signal.signal(signal.SIGUSR1, strike)
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1)).start()
    try:
        with pytest.raises(TimeLimit):
            database.run(ask("select pg_sleep(20)"))
    finally:
        signal.signal(signal.SIGUSR1, before)

    assert database.run(ask("select 7")) == 7


def test_a_signal_handler_may_run_queries_too(database: Database) -> None:
    answers = []

    def handler(*_: object) -> None:
        answers.append(database.run(ask("select 8")))

    before = signal.signal(signal.SIGUSR1, handler)
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1)).start()
    try:
        for number in range(100_000):
            assert database.run(ask("select %(n)s::integer", n=number)) == number
            if answers:
                break
    finally:
        signal.signal(signal.SIGUSR1, before)

    assert answers == [8]


def test_a_plan_older_than_a_migration_is_made_anew(
    database: Database, admin: Admin
) -> None:
    admin.execute("create table public.shape (a integer)")
    admin.execute("insert into public.shape values (1)")
    query = Query("select * from public.shape", {}, list)
    with occupied(database, admin):
        database.run(query)
    database.run(query)

    admin.execute("alter table public.shape add column b integer default 2")

    assert database.run(query) == [(1, 2)]
    admin.execute("drop table public.shape")


def test_a_primary_that_became_a_standby_is_left(database: Database, admin: Admin) -> None:
    admin.execute("create table public.written (a integer)")
    first = database.run(PID)
    database.run(Query("set session characteristics as transaction read only", {}, len))

    database.run(Query("insert into public.written values (1)", {}, len))

    assert database.run(PID) != first
    admin.execute("drop table public.written")


# ── connecting ─────────────────────────────────────────────────────────────────────────


@pytest.fixture
def unused_url() -> str:
    return "postgresql://someone:sEcret77@127.0.0.1:1/db"


def test_a_server_that_is_down_is_unavailable(unused_url: str) -> None:
    with pytest.raises(StorageUnavailable, match="Start the server") as caught:
        Database(unused_url).run(PID)

    assert caught.value.sqlstate is None
    assert "someone@127.0.0.1:1/db" in str(caught.value)


def test_an_unknown_host_is_unavailable() -> None:
    with pytest.raises(StorageUnavailable, match="host name"):
        Database("postgresql://nowhere.invalid/db").run(PID)


def test_a_missing_database_and_a_missing_role_are_for_a_person(database_url: str) -> None:
    with pytest.raises(StorageMisconfigured, match="createdb"):
        Database(make_conninfo(database_url, dbname="no_such_database")).run(
            PID, retry=True
        )
    with pytest.raises(StorageMisconfigured, match=r"createuser|pg_hba|authentication"):
        Database(make_conninfo(database_url, user="no_such_role")).run(PID, retry=True)


def test_a_wrong_password_is_for_a_person(pgbouncer: Callable[..., str]) -> None:
    url = pgbouncer(extra="auth_type = plain\nauth_file = /dev/null")
    database = Database(url.replace("@", ":sEcret77@"))

    with pytest.raises(StorageMisconfigured, match="PGPASSFILE") as caught:
        database.run(PID)

    assert "sEcret77" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p@h:5433/d?sslmode=disable",
        "postgres://u:p@h:5433/d?sslmode=disable",
        "postgresql+psycopg://u:p@h:5433/d?sslmode=disable",
        "postgresql+psycopg2://u:p@h:5433/d?sslmode=disable",
        "db+postgresql://u:p@h:5433/d?sslmode=disable",
        "host=h port=5433 user=u password=p dbname=d sslmode=disable",
    ],
)
def test_addresses_come_in_many_spellings(url: str) -> None:
    database = Database(url)

    assert database.endpoint.given == {
        "host": "h",
        "port": "5433",
        "user": "u",
        "password": "p",
        "dbname": "d",
        "sslmode": "disable",
    }
    assert database.endpoint.address == "postgresql://u@h:5433/d"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "redis://u:sEcret77@h",
        "postgresql://u:sEcret77@h/d?no_such_parameter=1",
        "postgresql://u:sEcret77%zz@h/d",
        "host=h password=sEcret77 sEcret77",
        "host=h password='sEcret77 sEcret77",
    ],
)
def test_an_unreadable_address_is_explained_without_its_password(url: str) -> None:
    with pytest.raises(StorageMisconfigured, match="Expected postgresql://") as caught:
        Database(url)

    assert "sEcret77" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "password", ["sEcret77", "a@sEcret77/b#c", "sEcret77/b", "x:sEcret77@y"]
)
def test_no_password_is_ever_shown(password: str) -> None:
    database = Database(f"postgresql://u:{password}@127.0.0.1:1/d")

    with pytest.raises(StorageError) as caught:
        database.run(PID)

    shown = [repr(database), repr(database.endpoint), str(caught.value)]
    assert not [text for text in shown if "sEcret77" in text]


def test_a_schema_must_have_a_plain_name() -> None:
    with pytest.raises(StorageMisconfigured, match="lower-case letters"):
        Database("postgresql://h/d", schema='x"; drop table y; --')


# ── connections of one's own ───────────────────────────────────────────────────────────


def test_a_connection_can_be_had_for_oneself(database: Database, admin: Admin) -> None:
    with database.connection({"statement_timeout": "0"}) as connection:
        pid = connection.info.backend_pid
        mine = connection.execute("show statement_timeout").fetchone()
        assert connection.autocommit

    gone = "select 1 from pg_stat_activity where pid = %s"
    assert mine == ("0",)
    assert pid != database.run(PID)
    eventually(lambda: admin.execute(gone, [pid]).fetchone() is None)


def test_its_errors_are_sorted_too(database: Database) -> None:
    with pytest.raises(BadData), database.connection() as connection:
        connection.execute("select 'x'::integer")


def test_it_leads_around_a_pooler(database_url: str) -> None:
    database = Database("postgresql://127.0.0.1:1/pooler", direct_url=database_url)

    with database.connection() as connection:
        assert connection.execute("select 1").fetchone() == (1,)


# ── forks ──────────────────────────────────────────────────────────────────────────────


def raw_fork() -> int:
    """Forks as uWSGI does: Python's hooks are not run."""
    return int(ctypes.PyDLL(None).fork())


@pytest.mark.parametrize("fork", [os.fork, raw_fork])
def test_a_forked_child_leaves_its_parents_connections_alone(
    database: Database, fork: Callable[[], int]
) -> None:
    first = database.run(PID)

    in_child = in_a_child(fork, lambda: database.run(PID))

    assert in_child.isdigit()
    assert in_child != str(first)
    assert database.run(PID) == first


def test_a_child_that_closes_everything_ends_nothing_of_its_parent(
    database: Database,
) -> None:
    first = database.run(PID)
    with database.connection() as own:

        def close_all() -> str:
            own.close()
            database.close()
            return "closed"

        assert in_a_child(os.fork, close_all) == "'closed'"
        assert own.execute("select 1").fetchone() == (1,)
    assert database.run(PID) == first


def test_a_child_forked_while_another_thread_works_is_not_blocked(
    database: Database, admin: Admin
) -> None:
    with occupied(database, admin):
        database._pool._freed.acquire()
        try:
            answer = in_a_child(os.fork, lambda: database.run(ask("select 9")))
        finally:
            database._pool._freed.release()

    assert answer == "9"


def test_two_databases_in_a_child_do_not_cut_each_other_off(
    database: Database, database_url: str
) -> None:
    other = Database(database_url)
    database.run(PID)
    other.run(PID)

    def work() -> list[int]:
        first = database.run(PID)
        other.run(PID)
        return [database.run(PID) == first]

    assert in_a_child(raw_fork, work) == "[True]"
    other.close()


# ── PgBouncer ──────────────────────────────────────────────────────────────────────────

POOLERS = [
    {"mode": "transaction"},
    {"mode": "transaction", "extra": "ignore_startup_parameters = options"},
    {"mode": "session"},
]


@pytest.mark.parametrize("settings", POOLERS)
def test_a_pooler_is_noticed_and_everything_works(
    pgbouncer: Callable[..., str], settings: dict[str, str]
) -> None:
    # In session mode it hands each client a server of its own, of which it has five.
    database = Database(pgbouncer(**settings), pool_size=4)

    def work(number: int) -> int:
        return int(database.run(ask("select %(number)s::integer", number=number)))

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(work, range(200))) == list(range(200))
    assert database.behind_pooler
    assert database.run(ask("select count(*) from pg_prepared_statements")) == 0
    database.close()


@pytest.mark.parametrize("settings", POOLERS)
def test_behind_a_pooler_each_statement_brings_its_limits_and_leaves_none(
    pgbouncer: Callable[..., str], settings: dict[str, str]
) -> None:
    url = pgbouncer(**settings)
    database = Database(url, schema="elsewhere")

    assert database.run(setting("lock_timeout")) == "3s"
    assert database.run(setting("statement_timeout")) == "30s"
    assert database.run(setting("search_path")) == "elsewhere,pg_catalog,pg_temp"
    with pytest.raises(StorageBusy):
        database.run(ask("select pg_sleep(20)"), timeout=0.05)
    with psycopg.connect(url, prepare_threshold=None, autocommit=True) as stranger:
        assert stranger.execute("show lock_timeout").fetchone() == ("0",)
        assert stranger.execute("show statement_timeout").fetchone() == ("0",)
    database.close()


def test_a_pooler_that_hides_is_noticed_by_its_statements(
    pgbouncer: Callable[..., str],
) -> None:
    database = Database(pgbouncer(), pooled=False)

    def work(number: int) -> int:
        query = ask("select %(n)s::integer, pg_sleep(0.001)", n=number)
        return int(database.run(query))

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(work, range(100))) == list(range(100))
    assert database.behind_pooler
    database.close()


def test_errors_behind_a_pooler_are_sorted_the_same(pgbouncer: Callable[..., str]) -> None:
    database = Database(pgbouncer())

    with pytest.raises(BadData):
        database.run(ask("select 'x'::integer"))
    with pytest.raises(StorageMisconfigured):
        database.run(ask("select 1 from pgtasks.nowhere"))
    assert database.run(ask("select 1")) == 1
    database.close()
