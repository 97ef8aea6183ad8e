"""A PostgreSQL for the session, and a database with clean tables for each test."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql

from pgtasks.dev.postgres import Server, private_server

# Rows only: a table that a test made itself is that test's to drop. Partitions are emptied
# through their parent. The replica role spares us the order that foreign keys ask for, but
# needs a superuser, so it is set only where it can be.
_EMPTY = """
do $$
declare
    name regclass;
begin
    if (select rolsuper from pg_roles where rolname = current_user) then
        set local session_replication_role = replica;
    end if;
    for name in
        select oid from pg_class
        where relnamespace = to_regnamespace('pgtasks') and relkind in ('r', 'p')
          and not relispartition and relname <> 'migrations'
    loop
        execute 'delete from ' || name;
    end loop;
end $$
"""


@dataclass(frozen=True)
class GivenServer:
    """The server of ``PGTASKS_TEST_DSN``: like :class:`Server`, but not ours to stop."""

    url: str

    def url_of(self, database: str) -> str:
        """The address of another database of this server."""
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{database}"))


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server | GivenServer]:
    """A PostgreSQL to work on: a private one, unless ``PGTASKS_TEST_DSN`` names another.

    Each xdist worker has its own, so that a test may restart it. Tests that do so skip
    when the server is a given one.
    """
    given = os.environ.get("PGTASKS_TEST_DSN")
    if given:
        yield GivenServer(given)
        return
    with private_server() as server:
        yield server


@pytest.fixture(scope="session")
def _names() -> str:
    # A given server may serve several runs and their workers at once.
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    return re.sub(r"\W", "_", f"pgtasks_test_{worker}_{os.getpid()}")


@pytest.fixture(scope="session")
def template(postgres: Server | GivenServer, _names: str) -> Iterator[str]:
    """The name of a database with our schema, from which others are copied in 50 ms."""
    from pgtasks.storage import schema

    name = f"{_names}_template"
    with _database(postgres, name):
        schema.apply(postgres.url_of(name))
        yield name


@pytest.fixture(scope="session")
def _worker_database(
    postgres: Server | GivenServer, template: str, _names: str
) -> Iterator[str]:
    with _database(postgres, _names, template):
        yield postgres.url_of(_names)


@pytest.fixture
def database_url(_worker_database: str) -> str:
    """The address of a database with our schema and no rows."""
    with psycopg.connect(_worker_database, autocommit=True) as connection:
        # A test that left a transaction open shall be told apart from a slow one.
        connection.execute("set lock_timeout = '10s'")
        connection.execute(_EMPTY)
    return _worker_database


@pytest.fixture
def fresh_database(postgres: Server | GivenServer) -> Iterator[str]:
    """The address of a new, empty database, for tests that change the schema."""
    name = f"pgtasks_test_{uuid.uuid4().hex[:12]}"
    with _database(postgres, name):
        yield postgres.url_of(name)


@pytest.fixture(scope="module")
def module_database(postgres: Server | GivenServer, template: str) -> Iterator[str]:
    """The address of a database for the tests of one module, which share a worker."""
    name = f"pgtasks_test_{uuid.uuid4().hex[:12]}"
    with _database(postgres, name, template):
        yield postgres.url_of(name)


@contextmanager
def _database(
    server: Server | GivenServer, name: str, template: str = "template1"
) -> Iterator[None]:
    """A database that exists inside the ``with``, copied from one that nobody uses now."""
    words = {"name": sql.Identifier(name), "template": sql.Identifier(template)}
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s",
            [template],
        )
        # Copied by WAL, indexes of unlogged tables are empty files after a crash of the
        # server (seen with 15 and 18), and tests make it crash. 14 always copies files.
        how = " strategy file_copy" if connection.info.server_version >= 150000 else ""
        create = sql.SQL("create database {name} template {template}" + how)
        connection.execute(create.format(**words))
    try:
        yield
    finally:
        # By force: a test's worker may still be connected.
        with psycopg.connect(server.url, autocommit=True) as connection:
            drop = sql.SQL("drop database if exists {name} with (force)")
            connection.execute(drop.format(**words))
