"""``self.complete(connection)``: a job's end in a transaction of the task's own."""

from __future__ import annotations

import psycopg
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.orm import sessionmaker
from sqlalchemy.pool import NullPool

from pgtasks.exceptions import CompletionError
from pgtasks.testing import perform_job
from transactions.drivers import ASYNC_DRIVERS, DRIVERS, ORDER, sqlalchemy_url


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("end", ["commit", "rollback", "raise", "raise behind the commit"])
def test_the_job_ends_with_the_transaction(
    app, work, state, witness, confirm, database_url, driver, end
):
    @app.task(bind=True)
    def book(self) -> str:
        with DRIVERS[driver](database_url) as transaction:
            self.complete(transaction.lend, "in the transaction")
            assert state(self.request)[0] == "executing"
            if end == "raise":
                transaction.rollback()
                raise KeyError(end)
            (transaction.rollback if end == "rollback" else transaction.commit)()
        if end != "rollback":
            assert state(self.request)[0] == "completed"
        if end == "raise behind the commit":
            raise KeyError(end)
        return "as usual"

    result = book.apply_async(link=confirm.s())
    outcome = work()[0]

    expected = {
        "commit": ("completed", "in the transaction"),
        "rollback": ("completed", "as usual"),
        "raise behind the commit": ("completed", "in the transaction"),
    }
    committed = end in ("commit", "raise behind the commit")
    assert (outcome.written is not None) == committed
    assert witness.orders() == committed
    if end == "raise":
        assert state(result)[0] == "discarded"
        return
    assert state(result)[:2] == expected[end]
    # The callback got the same, and was sent once.
    rows = witness.connection.execute(
        "select result from pgtasks.finished_jobs where task = 'tests.confirm'"
    )
    assert rows.fetchall() == [(f'"{expected[end][1]}"',)]


@pytest.mark.parametrize("driver", ASYNC_DRIVERS)
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_coroutine_completes_its_job(
    app, work, state, witness, database_url, driver, end
):
    @app.task(bind=True)
    async def book(self) -> str:
        async with ASYNC_DRIVERS[driver](database_url) as transaction:
            await self.acomplete(transaction.lend, "in the transaction")
            await getattr(transaction, end)()
        return "as usual"

    result = book.delay()
    work()

    expected = "in the transaction" if end == "commit" else "as usual"
    assert state(result)[:2] == ("completed", expected)
    assert witness.orders() == (end == "commit")


def test_whoever_has_lost_the_job_is_told_so_and_rolls_back(
    app, work, state, witness, database_url
):
    @app.task(bind=True)
    def book(self) -> None:
        with psycopg.connect(database_url) as connection:
            connection.execute(ORDER)
            witness.connection.execute(
                "update pgtasks.jobs set claim_token = gen_random_uuid()"
            )
            self.complete(connection)

    result = book.delay()
    [outcome] = work()

    assert outcome.written == []
    assert state(result)[0] == "executing"
    assert witness.orders() == 0


def test_a_transaction_that_is_left_open_is_rolled_back_and_the_task_fails(
    app, work, state, witness, database_url
):
    kept = []

    @app.task(bind=True)
    def book(self) -> None:
        connection = psycopg.connect(database_url)
        kept.append(connection)
        connection.execute(ORDER)
        self.complete(connection)

    result = book.delay()
    work()

    assert state(result)[0] == "discarded"
    assert "left the transaction open" in str(result.result)
    assert witness.orders() == 0


def test_a_connection_that_is_lost_before_the_commit_has_settled_nothing(
    app, work, state, witness, database_url
):
    @app.task(bind=True)
    def book(self) -> str:
        with psycopg.connect(database_url) as connection:
            connection.execute(ORDER)
            self.complete(connection)
            pid = connection.info.backend_pid
            witness.connection.execute("select pg_terminate_backend(%s, 5000)", [pid])
        return "never"

    result = book.delay()
    work()

    assert state(result)[0] == "discarded"
    assert witness.orders() == 0


# ── misuse ──────────────────────────────────────────────────────────────────────────────


def test_a_job_has_one_end(app, work, state, witness, database_url):
    @app.task(bind=True)
    def book(self) -> None:
        with psycopg.connect(database_url) as connection:
            self.complete(connection, 1)
            self.complete(connection, 2)

    result = book.delay()
    work()

    assert state(result)[0] == "discarded"
    assert "a second time" in str(result.result)


def test_autocommit_is_refused(app, work, state, database_url):
    engine = create_engine(
        sqlalchemy_url(database_url, "psycopg"),
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT",
    )

    @app.task(bind=True)
    def on_psycopg(self) -> None:
        with psycopg.connect(database_url, autocommit=True) as connection:
            self.complete(connection)

    @app.task(bind=True)
    def on_sqlalchemy(self) -> None:
        with engine.connect() as connection:
            self.complete(connection)

    @app.task(bind=True)
    def in_a_session(self) -> None:
        with sessionmaker(engine)() as session:
            session.execute(text("select 1"))
            self.complete(session)

    @app.task(bind=True)
    def in_a_block(self) -> None:
        with (
            psycopg.connect(database_url, autocommit=True) as connection,
            connection.transaction(),
        ):
            self.complete(connection, "a block is a transaction")

    results = [each.delay() for each in (on_psycopg, on_sqlalchemy, in_a_session)]
    last = in_a_block.delay()
    work()

    for result in results:
        assert "commits each statement at once" in str(result.result)
    assert state(last)[:2] == ("completed", "a block is a transaction")


def test_another_database_is_refused(app, work, fresh_database):
    @app.task(bind=True)
    def book(self) -> None:
        with psycopg.connect(fresh_database) as connection:
            self.complete(connection)

    result = book.delay()
    work()

    assert "leads to another database" in str(result.result)


def test_what_is_no_connection_is_refused(app, work):
    @app.task(bind=True)
    def book(self) -> None:
        self.complete(object())

    result = book.delay()
    work()

    assert isinstance(result.result, TypeError)


def test_a_transactional_task_needs_none_of_this(app, work):
    @app.task(bind=True, transactional=True)
    def book(self) -> None:
        self.complete(self.connection)

    result = book.delay()
    work()

    assert "its own connection settles the job" in str(result.result)


def test_it_is_for_the_body_of_a_task(app, database_url):
    @app.task(bind=True)
    def book(self) -> None:
        with psycopg.connect(database_url) as connection:
            self.complete(connection)

    with pytest.raises(CompletionError, match="outside of a run"):
        book()
    with pytest.raises(CompletionError, match="eager run"):
        book.apply(throw=True)


def test_a_function_called_inside_is_no_run_of_its_own(app, work, database_url):
    @app.task(bind=True)
    def inner(self) -> None:
        with psycopg.connect(database_url) as connection:
            self.complete(connection)

    @app.task(bind=True)
    def outer(self) -> None:
        inner()

    result = outer.delay()
    work()

    assert "outside of a run" in str(result.result)


def test_in_memory_there_is_no_row(memory_app, desk, database_url):
    @memory_app.task(bind=True)
    def book(self) -> None:
        with psycopg.connect(database_url) as connection:
            self.complete(connection)

    result = book.delay()
    desk(memory_app).work_off()

    assert "memory://" in str(result.result)


def test_a_promised_retry_is_not_taken_back(app, work, database_url):
    @app.task(bind=True)
    def book(self) -> None:
        self.retry(throw=False, countdown=60)
        with psycopg.connect(database_url) as connection:
            self.complete(connection)

    book.delay()
    [outcome] = work()

    assert outcome.state == "retryable"


def test_a_test_sees_the_result_that_was_given(app, witness, database_url):
    @app.task(bind=True)
    def book(self) -> str:
        with psycopg.connect(database_url) as connection:
            connection.execute(ORDER)
            self.complete(connection, "in the transaction")
        return "ignored"

    assert perform_job(book).result == "in the transaction"
    assert witness.orders() == 1
