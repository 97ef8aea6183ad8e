"""One statement and its answer, without a cursor."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from pgtasks.storage.connections import Session
from pgtasks.storage.database import Database
from pgtasks.storage.exchange import ask


@pytest.fixture
def session(database_url: str) -> Iterator[Session]:
    database = Database(database_url)
    with database.connection() as session:
        yield session
    database.close()


def prepared(session: Session) -> list[str]:
    rows = session.execute(
        "select statement from pg_prepared_statements where not from_sql", prepare=False
    )
    return [statement for (statement,) in rows]


def test_one_preparation_serves_values_of_every_size(session: Session):
    statement = b"select $1::numeric, $2::text[], $3::bytea, $4::boolean, $5::float8"
    rows = [
        (1, ["a"], b"\0", True, 0.5),
        (2**70, ["ä", None, 'q"{,}'], b"", False, float("inf")),
        (-5, [], None, None, None),
    ]

    assert [session.wait(ask(session, statement, row)) for row in rows] == [
        [row] for row in rows
    ]
    assert len(prepared(session)) == 1


def test_a_statement_without_rows_has_none(session: Session):
    assert session.wait(ask(session, b"set work_mem = '4MB'", [])) == []
    assert session.wait(ask(session, b"select 1 where false", [])) == []


def test_what_cannot_be_prepared_can_be_once_it_is_possible(session: Session):
    with pytest.raises(psycopg.errors.UndefinedTable) as refused:
        session.wait(ask(session, b"select * from nowhere_yet", []))
    assert refused.value.diag.sqlstate == "42P01"

    session.execute("create temp table nowhere_yet as select 1 as n")
    assert session.wait(ask(session, b"select * from nowhere_yet", [])) == [(1,)]


def test_text_that_the_server_could_not_keep_never_gets_there(session: Session):
    for text in ("a\0b", "\ud800"):
        with pytest.raises((psycopg.DataError, UnicodeEncodeError)):
            session.wait(ask(session, b"select $1::text", [text]))
    assert session.wait(ask(session, b"select $1::text", ["fine"])) == [("fine",)]
