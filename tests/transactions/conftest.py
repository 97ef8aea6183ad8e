"""A task, a table of orders, and somebody who looks on from another connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import psycopg2
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.orm import scoped_session, sessionmaker
from sqlalchemy.pool import NullPool

from fix_client import Desk, PostgresDesk
from pgtasks import Celery
from pgtasks.app.task import Task
from pgtasks.job import Job, Outcome
from transactions.drivers import sqlalchemy_url


class Witness:
    """Sees what is committed, and hears what is notified."""

    def __init__(self, url: str) -> None:
        self.connection = psycopg.connect(url, autocommit=True)
        self.connection.execute('listen "pgtasks.jobs"')

    def jobs(self) -> list[str]:
        rows = self.connection.execute("select task_id from pgtasks.jobs").fetchall()
        return sorted(task_id for (task_id,) in rows)

    def orders(self) -> int:
        rows = self.connection.execute("select count(*) from public.orders").fetchall()
        return int(rows[0][0])

    def heard(self, timeout: float = 0.0) -> set[str]:
        """The queues that sleeping workers were told of; waits for the first one."""
        told = self.connection.notifies(timeout=timeout, stop_after=1 if timeout else None)
        return {each.payload for each in told}


@pytest.fixture
def witness(database_url: str) -> Iterator[Witness]:
    witness = Witness(database_url)
    witness.connection.execute("create table public.orders (number integer)")
    yield witness
    witness.connection.execute("drop table public.orders")
    witness.connection.close()


@pytest.fixture
def app(postgres_app: Celery) -> Celery:
    return postgres_app


@pytest.fixture
def confirm(app: Celery) -> Task[Any, Any]:
    @app.task(name="tests.confirm")
    def confirm(number: Any = 0) -> Any:
        return number

    return confirm


@pytest.fixture
def run(app: Celery) -> Any:
    """Runs a coroutine, and closes the connections of its loop."""

    def run(coroutine: Any) -> Any:
        async def main() -> Any:
            try:
                return await coroutine
            finally:
                await app.async_database.close()

        return asyncio.run(main())

    return run


# ── jobs that settle themselves ─────────────────────────────────────────────────────────


class Counter(PostgresDesk):
    """A desk that writes what is left to be written, as a worker does."""

    def settle(self, job: Job, outcome: Outcome) -> None:
        if outcome.written is None:
            super().settle(job, outcome)


@pytest.fixture
def work(app: Celery) -> Callable[[], list[Outcome]]:
    """Runs what waits, as a worker does; the desk is opened when all tasks are defined."""
    counter: list[Desk] = []

    def work() -> list[Outcome]:
        if not counter:
            counter.append(Counter(app))
        return counter[0].work_off()

    return work


@pytest.fixture
def state(witness: Any) -> Callable[[Any], tuple[Any, ...]]:
    """State and result of a job, as others see it."""

    def state(result: Any) -> tuple[Any, ...]:
        query = (
            "select state::text, result, attempt from pgtasks.all_jobs where task_id = %s"
        )
        [found] = witness.connection.execute(query, [result.id]).fetchall()
        return found

    return state


# What `transactional=` may be, and how a statement is run on what comes of it.


def own(url: str) -> Iterator[Any]:
    yield True, lambda connection, sql: connection.execute(sql)


def psycopg_function(url: str) -> Iterator[Any]:
    def connect() -> Any:
        return psycopg.connect(url)

    yield connect, lambda connection, sql: connection.execute(sql)


def psycopg2_function(url: str) -> Iterator[Any]:
    @contextmanager
    def connect() -> Iterator[Any]:
        connection = psycopg2.connect(url)
        with connection:
            yield connection
        connection.close()

    yield connect, lambda connection, sql: connection.cursor().execute(sql)


def engine(driver: str) -> Any:
    def opened(url: str) -> Iterator[Any]:
        engine = create_engine(sqlalchemy_url(url, driver), poolclass=NullPool)
        yield engine, lambda connection, sql: connection.execute(text(sql))

    return opened


def sessions(driver: str) -> Any:
    def opened(url: str) -> Iterator[Any]:
        engine = create_engine(sqlalchemy_url(url, driver), poolclass=NullPool)
        yield sessionmaker(engine), lambda session, sql: session.execute(text(sql))

    return opened


def scope(url: str) -> Iterator[Any]:
    engine = create_engine(sqlalchemy_url(url, "psycopg"), poolclass=NullPool)
    session = scoped_session(sessionmaker(engine))
    yield session, lambda _, sql: session.execute(text(sql))


KINDS = {
    "our own": own,
    "a function on psycopg": psycopg_function,
    "a function on psycopg2": psycopg2_function,
    "engine on psycopg": engine("psycopg"),
    "engine on psycopg2": engine("psycopg2"),
    "sessionmaker on psycopg": sessions("psycopg"),
    "sessionmaker on psycopg2": sessions("psycopg2"),
    "scoped_session": scope,
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, database_url: str) -> Iterator[Any]:
    """What ``transactional=`` may be, and how a statement is run on what comes of it."""
    yield from KINDS[request.param](database_url)
