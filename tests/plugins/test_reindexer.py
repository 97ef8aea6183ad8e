"""Bloated indexes are made anew while everybody works on, and remains are cleared away."""

from __future__ import annotations

import logging

import psycopg
import pytest

from pgtasks import Celery
from pgtasks.plugins.reindexer import Reindexer
from pgtasks.storage import schema, upkeep

SMALL = {"min_size": 100_000, "ratio": 2.0}


@pytest.fixture
def house(fresh_house):
    return fresh_house


@pytest.fixture
def bloated(house):
    """A table of jobs of which nine tenths are gone, and its indexes with it."""
    house.rows(
        "insert into pgtasks.jobs (task, task_id) "
        "select 't', gen_random_uuid()::text from generate_series(1, 40000)"
    )
    house.rows("delete from pgtasks.jobs where id %% 20 <> 0")
    house.rows("vacuum analyze pgtasks.jobs")
    return house


def size(house, index: str = "jobs_task_id_key") -> int:
    [(bytes_,)] = house.rows(f"select pg_relation_size('pgtasks.{index}')")
    return bytes_


def test_a_bloated_index_is_made_anew_and_the_others_are_left(bloated):
    before = size(bloated)
    [(oid,)] = bloated.rows("select 'pgtasks.finished_jobs_pkey'::regclass::oid::bigint")
    done = bloated.lead(Reindexer, **SMALL).run()

    assert done["reindexed_count"] >= 1
    assert size(bloated) < before / 4
    assert bloated.rows(
        "select 1 from pgtasks.jobs where task_id = (select max(task_id) from pgtasks.jobs)"
    )
    assert bloated.rows("select 'pgtasks.finished_jobs_pkey'::regclass::oid::bigint") == [
        (oid,)
    ]


def test_an_index_that_needs_its_room_is_left_alone(house):
    house.rows(
        "insert into pgtasks.jobs (task, task_id) "
        "select 't', lpad(n::text, 36, '0') from generate_series(1, 40000) as n"
    )
    house.rows("vacuum analyze pgtasks.jobs")

    assert house.lead(Reindexer, **SMALL).run() == {
        "reindexed_count": 0,
        "dropped_count": 0,
    }


def test_the_remains_of_an_attempt_that_was_broken_off_are_dropped(house):
    house.rows("create index jobs_due_ccnew on pgtasks.jobs (scheduled_at)")
    house.rows("create index half_made on pgtasks.jobs (scheduled_at)")
    house.rows(
        "update pg_index set indisvalid = false "
        "where indexrelid in ('pgtasks.jobs_due_ccnew'::regclass, 'pgtasks.half_made'::regclass)"
    )

    assert house.lead(Reindexer).run()["dropped_count"] == 1
    assert house.rows(
        "select to_regclass('pgtasks.jobs_due_ccnew') is null, "
        "to_regclass('pgtasks.half_made') is null"
    ) == [(True, False)]


def test_whoever_may_not_says_once_what_the_owner_may_run(bloated, caplog):
    caplog.set_level(logging.WARNING)
    role = "upkeep_guest"
    for statement in (
        f"create role {role} login",
        f"grant usage on schema pgtasks to {role}",
        f"grant select, insert, update, delete on all tables in schema pgtasks to {role}",
    ):
        bloated.rows(statement)
    info = bloated.connection.info
    try:
        guest = Celery(
            "guest",
            broker=f"postgresql://{role}@/{info.dbname}?host={info.host}&port={info.port}",
            set_as_current=False,
        )
        plugin = Reindexer(guest, **SMALL)
        plugin.seat = bloated.stand()
        first, second = plugin.run(), plugin.run()
        guest.close()
    finally:
        bloated.rows(f"drop owned by {role}")
        bloated.rows(f"drop role {role}")

    assert first == second == {"reindexed_count": 0, "dropped_count": 0}
    assert caplog.text.count("reindex index concurrently pgtasks.jobs_task_id_key;") == 1


def test_a_transaction_in_the_way_is_not_waited_for_for_long(bloated, caplog):
    plugin = bloated.lead(Reindexer, **SMALL, lock_timeout=0.2, limit=1)
    with psycopg.connect(plugin.database.url) as elsewhere:
        elsewhere.execute("update pgtasks.jobs set priority = 1")
        done = plugin.run()

    assert done["reindexed_count"] == 0
    assert "Could not reindex index concurrently" in caplog.text
    # What the attempt has left behind goes with the next run, which succeeds.
    assert plugin.run() == {"reindexed_count": 1, "dropped_count": 1}


def test_who_leads_no_longer_makes_nothing_anew(bloated):
    plugin = bloated.lead(Reindexer, **SMALL)
    bloated.stand()

    assert plugin.run()["reindexed_count"] == 0


def test_a_schema_of_another_name_is_looked_after_as_well(fresh_database: str):
    schema.apply(fresh_database, schema="elsewhere")
    with psycopg.connect(fresh_database, autocommit=True) as connection:
        connection.execute(
            "insert into elsewhere.jobs (task, task_id) "
            "select 't', gen_random_uuid()::text from generate_series(1, 40000)"
        )
        connection.execute("delete from elsewhere.jobs where id % 20 <> 0")
        connection.execute("vacuum analyze elsewhere.jobs")
    app = Celery("t", broker=fresh_database, set_as_current=False)
    app.conf.database_schema = "elsewhere"
    found = app.database.run(upkeep.bloated("elsewhere", ratio=2.0, least=100_000))
    app.close()

    assert "jobs_task_id_key" in {each.name for each in found}


@pytest.mark.parametrize(
    "options", [{"ratio": 1.0}, {"limit": 0}, {"min_size": "1GB"}, {"lock_timeout": 0}]
)
def test_options_that_mean_nothing_are_refused(house, options):
    with pytest.raises((TypeError, ValueError), match="reindexer"):
        Reindexer(house.app, **options)
