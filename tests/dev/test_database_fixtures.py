"""Each test finds the databases that the suite's fixtures promise."""

from __future__ import annotations

import psycopg
import pytest

TABLES = """
select relname from pg_class
where relnamespace = to_regnamespace('pgtasks') and relkind in ('r', 'p')
"""
JOB = "insert into pgtasks.jobs (task, task_id) values ('demo', gen_random_uuid())"


@pytest.mark.parametrize("turn", ["before", "after"])
def test_rows_of_another_test_are_gone_and_migrations_stay(
    database_url: str, turn: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        assert connection.execute("select count(*) from pgtasks.jobs").fetchone() == (0,)
        assert connection.execute("select from pgtasks.migrations limit 1").rowcount == 1
        connection.execute(JOB)  # for the other turn to trip over


@pytest.mark.parametrize("turn", ["before", "after"])
def test_a_fresh_database_has_nothing_in_it(fresh_database: str, turn: str) -> None:
    with psycopg.connect(fresh_database, autocommit=True) as connection:
        assert connection.execute(TABLES).fetchall() == []
        connection.execute("create table left_behind ()")


def test_a_fresh_database_goes_although_somebody_is_connected(
    fresh_database: str, request: pytest.FixtureRequest
) -> None:
    connection = psycopg.connect(fresh_database)
    request.addfinalizer(connection.close)


def test_the_database_of_a_worker_is_its_own(database_url: str, worker_id: str) -> None:
    assert worker_id.replace("master", "main") in database_url
