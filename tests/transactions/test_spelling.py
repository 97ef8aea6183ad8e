"""One statement, three spellings."""

from __future__ import annotations

import asyncpg
import psycopg2
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from pgtasks.storage import borrowed
from pgtasks.storage.places import same_place
from pgtasks.storage.query import Query
from pgtasks.storage.spelling import for_format, for_names, for_numbers
from transactions.drivers import sqlalchemy_url

STATEMENT = """
    -- A comment: with:colons, '12:30' and 7 %% of something.
    select %(a)s::smallint, %(b)s::json ->> 'x', %(c)s::text[], '100 %%', 'a:b',
           %(a)s::smallint::text, %(d)s::boolean, %(e)s::timestamptz = %(e)s::timestamptz,
           '{"pgtasks.jobs": 1}'::json::text, %(f)s::text, %(g)s::uuid is null
"""
VALUES = {
    "a": -32768,
    "b": '{"x": "\\" :y %s $1 ü"}',
    "c": ["a:b", "%s", "'"],
    "d": True,
    "e": "2024-02-29T12:00:00+00:00",
    "f": None,
    "g": None,
}
ROW = (
    -32768, '" :y %s $1 ü', ["a:b", "%s", "'"], "100 %", "a:b", "-32768", True, True,
    '{"mine.jobs": 1}', None, True,
)  # fmt: skip
QUERY = Query(STATEMENT, VALUES, lambda rows: rows[0])


def test_psycopg2_reads_it(database_url):
    connection = psycopg2.connect(database_url)

    assert borrowed.run(QUERY, on=connection, schema="mine") == ROW
    connection.close()


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_sqlalchemy_reads_it(driver, database_url):
    engine = create_engine(sqlalchemy_url(database_url, driver), poolclass=NullPool)
    with engine.connect() as connection:
        assert borrowed.run(QUERY, on=connection, schema="mine") == ROW


@pytest.mark.parametrize("with_codec", [False, True])
def test_asyncpg_reads_it(with_codec, database_url, run):
    async def main():
        connection = await asyncpg.connect(database_url)
        if with_codec:
            await connection.set_type_codec(
                "json", schema="pg_catalog", encoder=repr, decoder=repr
            )
        try:
            return await borrowed.arun(QUERY, on=connection, schema="mine")
        finally:
            await connection.close()

    assert run(main()) == ROW


def test_a_value_is_named_once():
    numbered, names = for_numbers("%(a)s, %(b)s::jsonb, %(a)s::int %%", "pgtasks")

    assert (numbered, names) == ("$1, $2::text::jsonb, $1::int %", ("a", "b"))


def test_types_stand_behind_a_cast():
    statement = "%(a)s::pgtasks.job_state, x::text, '%%'"

    assert for_format(statement, "mine") == "CAST(%(a)s AS mine.job_state), x::text, '%%'"
    assert text(for_names(statement, "mine")).text == (
        "CAST(:a AS mine.job_state), x::text, '%'"
    )


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"dbname": "a"}, {"dbname": "a", "port": 5432}, True),
        ({"dbname": "a", "host": "127.0.0.1"}, {"dbname": "a", "host": "localhost"}, True),
        ({"dbname": "a", "host": "/tmp/"}, {"dbname": "a"}, True),
        ({"user": "a"}, {"dbname": "a"}, True),
        ({"dbname": "a"}, {"dbname": "b"}, False),
        ({"dbname": "a", "host": "x"}, {"dbname": "a", "host": "y"}, False),
        ({"dbname": "a", "host": "/x"}, {"dbname": "a", "host": "/y"}, False),
        ({"dbname": "a", "port": 6432}, {"dbname": "a"}, False),
        ({"service": "shop"}, {"service": "shop"}, True),
        ({"service": "shop"}, {"service": "other"}, False),
    ],
)
def test_a_place_has_several_names(one, other, same, monkeypatch):
    for name in ("PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)

    assert same_place(one, other) is same
