"""Transactional tasks as coroutines, and without a worker: eager, in tests, in memory."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import sessionmaker
from sqlalchemy.pool import NullPool

from pgtasks import Celery
from pgtasks.contrib.sqlalchemy import join
from pgtasks.exceptions import (
    ImproperlyConfigured,
    Snooze,
)
from pgtasks.testing import drain_queue, mode, perform_job
from transactions.conftest import Counter
from transactions.drivers import sqlalchemy_url

ORDER = "insert into public.orders values (1)"


@pytest.fixture(params=["our own", "sessions on psycopg", "sessions on asyncpg", "engine"])
def async_kind(request: pytest.FixtureRequest, database_url: str) -> Any:
    async def plainly(connection: Any, sql: str) -> None:
        await connection.execute(sql)

    async def as_text(connection: Any, sql: str) -> None:
        await connection.execute(text(sql))

    if request.param == "our own":
        return True, plainly
    driver = "psycopg" if request.param.endswith("psycopg") else "asyncpg"
    engine = create_async_engine(sqlalchemy_url(database_url, driver), poolclass=NullPool)
    return engine if request.param == "engine" else async_sessionmaker(engine), as_text


def test_a_coroutine_has_a_connection_of_its_loop(
    app, work, state, witness, confirm, async_kind
):
    transactional, execute = async_kind

    @app.task(bind=True, transactional=transactional)
    async def book(self, fails: bool) -> str:
        await execute(self.connection, ORDER)
        await confirm.adelay(1)
        assert witness.orders() == 0
        if fails:
            raise ValueError("no cover")
        return "done"

    failed = book.delay(True)
    [outcome] = work()
    assert outcome.state == "discarded"
    assert failed.state == "FAILURE"
    assert witness.orders() == 0

    result = book.delay(False)
    outcomes = work()
    assert [each.state for each in outcomes] == ["completed", "completed"]
    assert outcomes[0].written == []
    assert state(result)[1] == "done"
    assert witness.orders() == 1


def test_a_coroutine_that_has_lost_the_job_leaves_no_trace(
    app, work, state, witness, async_kind
):
    transactional, execute = async_kind

    @app.task(bind=True, transactional=transactional)
    async def book(self) -> None:
        await execute(self.connection, ORDER)
        witness.connection.execute(
            "update pgtasks.jobs set claim_token = gen_random_uuid()"
        )

    result = book.delay()
    [outcome] = work()

    assert outcome.written == []
    assert state(result)[0] == "executing"
    assert witness.orders() == 0


def test_a_body_that_is_no_coroutine_cannot_wait_for_a_connection(
    app, work, state, database_url
):
    engine = create_async_engine(
        sqlalchemy_url(database_url, "asyncpg"), poolclass=NullPool
    )

    @app.task(bind=True, transactional=engine)
    def book(self) -> None:
        pass

    result = book.delay()
    work()

    assert "async def" in str(result.result)


def test_an_eager_run_has_a_transaction_and_commits_it(app, witness):
    @app.task(bind=True, transactional=True)
    def book(self, fails: bool) -> int:
        self.connection.execute(ORDER)
        assert witness.orders() == 0
        if fails:
            raise ValueError
        return 5

    assert book.apply((True,)).state == "FAILURE"
    assert witness.orders() == 0
    assert book.apply((False,)).get() == 5
    assert witness.orders() == 1


@pytest.mark.parametrize("how", ["apply", "inline", "perform_job"])
def test_a_run_without_a_worker_is_part_of_the_transaction_around_it(
    app, witness, database_url, how
):
    import pgtasks

    @app.task(bind=True, transactional=True)
    def book(self, fails: bool) -> int:
        self.connection.execute(ORDER)
        if fails:
            raise ValueError
        return 5

    def run(fails: bool) -> Any:
        if how == "apply":
            return book.apply((fails,)).result
        if how == "perform_job":
            return perform_job(book, (fails,)).result
        with mode(app, "inline"):
            return book.delay(fails).result

    with psycopg.connect(database_url) as connection, pgtasks.using(connection):
        count = "select count(*) from public.orders"
        connection.execute(ORDER)
        run(True)
        assert connection.execute(count).fetchone() == (1,)
        assert run(False) == 5
        assert connection.execute(count).fetchone() == (2,)
        assert witness.orders() == 0
        connection.rollback()
    assert witness.orders() == 0


def test_a_job_that_is_performed_is_not_settled(app, witness):
    @app.task(bind=True, transactional=True)
    def book(self, end: Any = None) -> Any:
        self.connection.execute(ORDER)
        return Snooze(5) if end == "snooze" else 7

    assert perform_job(book).result == 7
    assert perform_job(book, ("snooze",)).state == "snoozed"
    assert witness.orders() == 2
    assert witness.jobs() == []


@pytest.mark.parametrize("lent", [True, False])
def test_a_queue_is_drained_of_them(app, witness, database_url, lent):
    import pgtasks

    @app.task(bind=True, transactional=True)
    def book(self) -> int:
        self.connection.execute(ORDER)
        return 7

    if lent:
        with psycopg.connect(database_url) as connection, pgtasks.using(connection):
            book.delay()
            assert drain_queue(app)["completed"] == 1
            connection.rollback()
        assert witness.orders() == 0
        return
    result = book.delay()
    assert drain_queue(app)["completed"] == 1
    assert result.get(timeout=1) == 7
    assert witness.orders() == 1


def test_behind_a_pooler_too_effects_and_end_are_one(pgbouncer, witness):
    with Celery("pooled", broker=pgbouncer(), set_as_current=False) as app:

        @app.task(bind=True, transactional=True)
        def book(self, fails: bool) -> str:
            self.connection.execute(ORDER)
            if fails:
                raise ValueError
            return "booked"

        book.delay(True)
        booked = book.delay(False)
        outcomes = Counter(app).work_off()

        assert [(each.state, each.written) for each in outcomes] == [
            ("discarded", None),
            ("completed", []),
        ]
        assert booked.get(timeout=10) == "booked"
        assert witness.orders() == 1


def test_without_a_database_there_is_no_transaction(memory_app):
    @memory_app.task(bind=True, transactional=True)
    def book(self) -> None:
        pass

    with pytest.raises(ImproperlyConfigured, match="memory://"):
        book.apply(throw=True)


def test_with_a_function_it_runs_in_memory_too(memory_app, witness, database_url, desk):
    @memory_app.task(bind=True, transactional=lambda: psycopg.connect(database_url))
    def book(self, fails: bool) -> None:
        self.connection.execute(ORDER)
        if fails:
            raise ValueError

    book.delay(True)
    book.delay(False)
    outcomes = desk(memory_app).work_off()

    assert [each.state for each in outcomes] == ["discarded", "completed"]
    assert witness.orders() == 1


def test_in_memory_a_registered_session_may_lead_anywhere(memory_app, desk):
    maker = sessionmaker(create_engine("sqlite://", poolclass=NullPool))
    join(memory_app, maker)

    @memory_app.task(bind=True, transactional=True)
    def book(self) -> int:
        return self.connection.execute(text("select 7")).scalar()

    result = book.delay()
    desk(memory_app).work_off()

    assert result.get(timeout=1) == 7
