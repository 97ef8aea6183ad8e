"""Jobs from SQL: what `pgtasks.enqueue` inserts, refuses, and whom it wakes."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import psycopg
import pytest

from pgtasks import Celery
from pgtasks.app import values
from pgtasks.storage import schema
from pgtasks.storage.query import Query


@pytest.fixture
def connection(database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


def enqueue(connection: psycopg.Connection, given: str) -> str:
    return connection.execute(f"select pgtasks.enqueue({given})".encode()).fetchone()[0]


def job(connection: psycopg.Connection, task_id: str, columns: str) -> tuple:
    return connection.execute(
        f"select {columns} from pgtasks.jobs where task_id = %s".encode(), [task_id]
    ).fetchone()


def test_a_job_is_what_delay_would_have_made_of_it(connection, database_url: str):
    app = Celery("t", broker=database_url, set_as_current=False)
    by_sql = enqueue(connection, "'proj.send', '[1, \"two\"]', '{\"three\": 3}'")
    by_python = app.send_task("proj.send", [1, "two"], {"three": 3}).id
    app.close()

    columns = (
        "task, queue, priority, args::jsonb, kwargs::jsonb, state::text, content_type, "
        "content_encoding, max_attempts, retries, headers, embed, meta, tags, unique_key, "
        "expires_at, ignore_result, root_id, parent_id, chord, awaits"
    )
    assert job(connection, by_sql, columns) == job(connection, by_python, columns)


def test_every_option_has_its_column(connection):
    id = enqueue(
        connection,
        "task => 'proj.send', args => jsonb_build_array(1), kwargs => '{}', queue => 'mail', "
        "priority => 3, expires => '2090-01-01 00:00+00', task_id => 'mine', "
        "max_attempts => 5, meta => '{\"a\": 1}', tags => '{x,y}', "
        'headers => \'{"trace": "t1", "id": "forged"}\'',
    )

    columns = "queue, priority, expires_at, max_attempts, meta, tags, headers::jsonb"
    assert id == "mine"
    assert job(connection, id, columns) == (
        "mail", 3, datetime(2090, 1, 1, tzinfo=timezone.utc), 5, {"a": 1}, ["x", "y"],
        {"headers": {"trace": "t1"}},
    )  # fmt: skip


def test_ids_that_we_make_are_in_the_order_of_time(connection):
    ids = [enqueue(connection, "'t'") for _ in range(3)]
    found = [uuid.UUID(id) for id in ids]
    since = datetime.fromtimestamp((found[0].int >> 80) / 1000, timezone.utc)

    assert [each.version for each in found] == [7, 7, 7]
    assert abs(datetime.now(timezone.utc) - since) < timedelta(minutes=1)
    assert len(set(ids)) == 3


@pytest.mark.parametrize(
    ("options", "state", "seconds"),
    [
        ("countdown => 60", "scheduled", 60),
        ("countdown => 0.5", "scheduled", 0.5),
        ("countdown => 0", "available", 0),
        ("countdown => -5", "available", 0),
        ("eta => now() + interval '1 hour'", "scheduled", 3600),
        ("eta => now() - interval '1 hour'", "available", -3600),
        ("countdown => 60, eta => now() + interval '1 hour'", "scheduled", 60),
        ("countdown => 0, eta => now() + interval '1 hour'", "scheduled", 3600),
        ("countdown => null, eta => null", "available", 0),
    ],
)
def test_when_it_is_due(connection, options, state, seconds):
    id = enqueue(connection, f"'t', {options}")
    found, due = job(
        connection, id, "state::text, extract(epoch from scheduled_at - now())::float8"
    )

    assert found == state
    assert abs(due - seconds) < 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("''", "A task needs a name"),
        ("null", "A task needs a name, and null is none"),
        ("repeat('é', 128)", "255 bytes at most"),
        ("'t', '{}'", "args must be a JSON array, not object"),
        ("'t', '1'", "args must be a JSON array, not number"),
        ("'t', 'null'", "args must be a JSON array, not null"),
        ("'t', '[]', '[]'", "kwargs must be a JSON object, not array"),
        ("'t', queue => ' '", "must not be blank"),
        ("'t', queue => repeat('q', 129)", "128 bytes at most"),
        ("'t', priority => 40000", "out of range"),
        ("'t', countdown => 'NaN'", "finite"),
        ("'t', countdown => 'Infinity'", "finite"),
        ("'t', countdown => 1e12", "not in milliseconds"),
        ("'t', countdown => 252000000000", "not in milliseconds"),
        ("'t', eta => 'infinity'", "years 2 to 9998"),
        ("'t', eta => '20000-01-01'", "years 2 to 9998"),
        ("'t', expires => '-infinity'", "years 2 to 9998"),
        ("'t', max_attempts => 0", "1 or more"),
        ("'t', task_id => repeat('x', 256)", "255 bytes at most"),
        ("'t', meta => '[]'", "meta must be a JSON object"),
        ("'t', tags => array['a', null]", "they must be texts"),
        ("'t', headers => '[]'", "headers must be a JSON object"),
    ],
)
def test_what_apply_async_refuses_is_refused(connection, given, said):
    with pytest.raises(psycopg.errors.InvalidParameterValue, match=said) as refused:
        enqueue(connection, given)

    assert refused.value.diag.message_hint
    assert connection.execute("select count(*) from pgtasks.jobs").fetchone() == (0,)


def test_a_priority_out_of_range_is_bounded_with_a_warning(connection):
    notices: list[str] = []
    connection.add_notice_handler(lambda each: notices.append(each.message_primary))
    id = enqueue(connection, "'t', priority => -3")

    assert job(connection, id, "priority") == (0,)
    assert notices == ["priority = -3 is out of range and becomes 0: use 0 to 9."]


def test_the_headers_that_are_left_out_are_those_of_apply_async(connection):
    headers = json.dumps(dict.fromkeys(sorted(values.RESERVED), 1))
    id = enqueue(connection, f"'t', headers => '{headers}'")

    assert job(connection, id, "headers") == (None,)


def test_an_id_that_is_taken_is_left_to_the_job_that_has_it(connection):
    enqueue(connection, "'first', task_id => 'a'")

    assert enqueue(connection, "'second', task_id => 'a'") == "a"
    assert job(connection, "a", "task") == ("first",)


@pytest.mark.parametrize(
    ("options", "heard"),
    [
        ("queue => 'mail'", ["mail"]),
        ("countdown => 2", [""]),
        ("countdown => 60", []),
    ],
)
def test_who_sleeps_is_woken_by_the_commit(connection, database_url: str, options, heard):
    with psycopg.connect(database_url, autocommit=True) as listener:
        listener.execute('listen "pgtasks.jobs"')
        with connection.transaction():
            enqueue(connection, f"'t', {options}")
            before = [each.payload for each in listener.notifies(timeout=0.1)]
        after = [each.payload for each in listener.notifies(timeout=1, stop_after=1)]

    assert (before, after) == ([], heard)


def test_what_is_rolled_back_never_was(connection):
    with connection.transaction(force_rollback=True):
        id = enqueue(connection, "'t'")
        there = job(connection, id, "task")

    assert there == ("t",)
    assert job(connection, id, "task") is None


def test_a_role_needs_the_right_to_call_it_and_no_other(connection):
    role = f"shop_{uuid.uuid4().hex[:8]}"
    connection.execute(f"create role {role}".encode())
    try:
        connection.execute(f"grant usage on schema pgtasks to {role}".encode())
        connection.execute(f"set role {role}".encode())
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="function"):
            enqueue(connection, "'t'")
        connection.execute("reset role")
        connection.execute(f"grant execute on function pgtasks.enqueue to {role}".encode())
        connection.execute(f"set role {role}".encode())
        enqueue(connection, "'t', task_id => 'a'")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select * from pgtasks.jobs")
    finally:
        connection.execute("reset role")
        connection.execute(f"drop owned by {role}".encode())
        connection.execute(f"drop role {role}".encode())

    assert job(connection, "a", "task") == ("t",)


def test_a_search_path_of_the_callers_changes_nothing(connection):
    connection.execute(
        "create schema trap; "
        "create function trap.pg_notify(text, text) returns void language plpgsql "
        "as $$ begin raise exception 'trapped'; end $$; "
        "create function trap.clock_timestamp() returns timestamptz language plpgsql "
        "as $$ begin raise exception 'trapped'; end $$"
    )
    try:
        connection.execute("set search_path = trap, pg_catalog")
        connection.execute("create temp table jobs (task text)")
        id = enqueue(connection, "'t'")
        assert job(connection, id, "task") == ("t",)
    finally:
        connection.execute("reset search_path; drop schema trap cascade")


def test_a_schema_of_another_name_has_it_too(fresh_database: str):
    schema.apply(fresh_database, schema="elsewhere")
    app = Celery("t", broker=fresh_database, set_as_current=False)
    app.conf.database_schema = "elsewhere"
    with psycopg.connect(fresh_database, autocommit=True) as connection:
        connection.execute('listen "elsewhere.jobs"')
        connection.execute("select elsewhere.enqueue('t', task_id => 'a')")
        heard = [each.payload for each in connection.notifies(timeout=2, stop_after=1)]
    rows = app.database.run(Query("select task_id from pgtasks.jobs", {}, list))
    app.close()

    assert heard == ["celery"]
    assert rows == [("a",)]
