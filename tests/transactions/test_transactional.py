"""What a transactional task does, and how it ends, are one: both or neither."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import psycopg2
import pytest
from psycopg import errors
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import scoped_session, sessionmaker
from sqlalchemy.pool import NullPool

from transactions.drivers import sqlalchemy_url
from fix_client import Desk, PostgresDesk
from pgtasks import Celery, chain, chord
from pgtasks.app.task import Task
from pgtasks.app.trace import execute
from pgtasks.contrib.sqlalchemy import join
from pgtasks.exceptions import (
    Cancel,
    CompletionError,
    Discard,
    ImproperlyConfigured,
    Snooze,
)
from pgtasks.job import Job, Outcome
from pgtasks.testing import drain_queue, mode, perform_job

ORDER = "insert into public.orders values (1)"


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
        query = "select state::text, result, attempt from pgtasks.all_jobs where task_id = %s"
        [found] = witness.connection.execute(query, [result.id]).fetchall()
        return found

    return state


# ── each kind of connection ─────────────────────────────────────────────────────────────


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


def test_the_effects_and_the_end_are_committed_together(app, work, state, witness, kind):
    transactional, execute = kind

    @app.task(bind=True, transactional=transactional)
    def book(self, amount: int) -> int:
        execute(self.connection, ORDER)
        assert witness.orders() == 0
        return amount

    result = book.delay(7)
    [outcome] = work()

    assert outcome.written == []
    assert state(result) == ("completed", 7, 1)
    assert witness.orders() == 1
    assert result.get(timeout=1) == 7


def test_what_a_failed_body_has_done_is_rolled_back(app, work, state, witness, kind):
    transactional, execute = kind

    @app.task(bind=True, transactional=transactional)
    def book(self) -> None:
        execute(self.connection, ORDER)
        raise ValueError("no cover")

    result = book.delay()
    [outcome] = work()

    assert outcome.written is None
    assert state(result)[0] == "discarded"
    assert witness.orders() == 0
    with pytest.raises(ValueError, match="no cover"):
        result.get(timeout=1)


def test_whoever_has_lost_the_job_leaves_no_trace(app, work, state, witness, kind):
    transactional, execute = kind
    told = []

    @app.task(bind=True, transactional=transactional)
    def book(self) -> None:
        execute(self.connection, ORDER)
        witness.connection.execute(
            "update pgtasks.jobs set claim_token = gen_random_uuid() where task_id = %s",
            [self.request.id],
        )
        told.append(self.request.id)

    result = book.delay()
    [outcome] = work()

    assert outcome.written == []
    assert outcome.state == "available"
    assert told == [result.id]
    assert state(result)[0] == "executing"
    assert witness.orders() == 0


def test_what_is_sent_inside_goes_with_the_transaction(app, work, witness, confirm, kind):
    transactional, execute = kind
    seen = []

    @app.task(bind=True, transactional=transactional)
    def book(self, fails: bool) -> None:
        execute(self.connection, ORDER)
        confirm.delay(1)
        seen.append(len(witness.jobs()))
        if fails:
            raise ValueError

    first = book.delay(True)
    work()
    assert seen == [1]
    assert witness.jobs() == []
    assert first.state == "FAILURE"

    book.delay(False)
    outcomes = work()

    assert [each.state for each in outcomes] == ["completed", "completed"]
    assert seen == [1, 1]
