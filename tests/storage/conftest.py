"""Connections for the tests of the storage."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from fix_bench import Bench
from pgtasks.storage.database import Database


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture
def bench(database_url: str) -> Iterator[Bench]:
    bench = Bench(database_url)
    yield bench
    bench.database.close()
    bench.connection.close()


@pytest.fixture
def admin(database_url: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A connection of the test itself, to look at the server from outside."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection
