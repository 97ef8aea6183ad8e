"""The connection of a transactional task: which one it is, what it may be, and if it is lost."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.orm import sessionmaker
from sqlalchemy.pool import NullPool

from pgtasks import current_task
from pgtasks.app.task import Task
from pgtasks.contrib.sqlalchemy import join
from pgtasks.exceptions import (
    ImproperlyConfigured,
)
from transactions.drivers import sqlalchemy_url

ORDER = "insert into public.orders values (1)"


def test_the_body_cannot_commit_behind_our_back(app, work, state, witness):
    @app.task(bind=True, transactional=True)
    def book(self) -> None:
        self.connection.execute(ORDER)
        self.connection.commit()

    result = book.delay()
    work()

    assert state(result)[0] == "discarded"
    assert witness.orders() == 0


def test_a_rollback_from_inside_is_no_silent_success(app, work, state, witness):
    @app.task(bind=True, transactional=True)
    def book(self) -> None:
        self.connection.execute(ORDER)
        raise psycopg.Rollback

    result = book.delay()
    work()

    assert state(result)[0] == "discarded"
    assert "ended from inside" in str(result.result)
    assert witness.orders() == 0


def test_its_session_has_the_settings_of_the_role(app, work, state):
    names = ("enable_seqscan", "statement_timeout", "search_path", "lock_timeout")

    @app.task(bind=True, transactional=True)
    def look(self) -> list[str]:
        rows = [self.connection.execute(f"show {name}").fetchone() for name in names]
        return [value for (value,) in rows]

    result = look.delay()
    work()

    assert state(result)[1] == ["on", "0", '"$user", public', "0"]


def test_connections_are_kept_and_come_back_as_they_were(app, work):
    seen = []

    @app.task(bind=True, transactional=True)
    def book(self) -> None:
        self.connection.row_factory = psycopg.rows.dict_row
        seen.append(self.connection.info.backend_pid)

    @app.task(bind=True, transactional=True)
    def look(self) -> Any:
        return self.connection.execute("select 1").fetchone()

    book.delay()
    book.delay()
    result = look.delay()
    work()

    assert len(set(seen)) == 1
    assert result.get(timeout=1) == [1]


def test_there_is_no_connection_elsewhere(app, work, state):
    @app.task(bind=True)
    def everyday(self) -> None:
        assert not hasattr(self, "connection")
        self.connection  # noqa: B018 - it raises

    result = everyday.delay()
    work()

    assert state(result)[0] == "discarded"
    assert "transactional=True" in str(result.result)
    with pytest.raises(AttributeError, match="transactional=True"):
        everyday.connection  # noqa: B018 - it raises


def test_a_function_called_inside_has_the_same_connection(app, work, witness):
    @app.task(bind=True, transactional=True)
    def inner(self) -> None:
        self.connection.execute(ORDER)

    @app.task(bind=True, transactional=True)
    def outer(self) -> None:
        inner()
        raise ValueError

    outer.delay()
    work()

    assert witness.orders() == 0


def test_a_body_that_is_not_bound_finds_it_in_the_current_task(app, work, state, witness):
    @app.task(transactional=True)
    def book() -> str:
        current_task.connection.execute(ORDER)
        return "done"

    result = book.delay()
    work()

    assert state(result)[1] == "done"
    assert witness.orders() == 1


def test_jobs_leave_the_transaction_with_connection_none(app, work, witness, confirm):
    @app.task(bind=True, transactional=True)
    def book(self) -> None:
        confirm.apply_async((1,), connection=None)
        raise ValueError("and yet it was sent")

    book.delay()
    outcomes = work()

    assert [each.state for each in outcomes] == ["discarded", "completed"]


def test_a_registered_sessionmaker_is_found(app, work, state, witness, database_url):
    maker = sessionmaker(
        create_engine(sqlalchemy_url(database_url, "psycopg"), poolclass=NullPool)
    )
    join(app, maker)

    @app.task(bind=True, transactional=True)
    def book(self) -> str:
        self.connection.execute(text(ORDER))
        return type(self.connection).__module__

    result = book.delay()
    work()

    assert state(result)[1] == "sqlalchemy.orm.session"
    assert witness.orders() == 1


def test_one_that_leads_elsewhere_is_not(app, work, state, postgres):
    maker = sessionmaker(
        create_engine(sqlalchemy_url(postgres.url_of("postgres"), "psycopg"))
    )
    join(app, maker)

    @app.task(bind=True, transactional=True)
    def book(self) -> str:
        return type(self.connection).__module__

    @app.task(bind=True, transactional="sqlalchemy")
    def insist(self) -> None:
        pass

    result, insisted = book.delay(), insist.delay()
    work()

    assert state(result)[1] == "pgtasks.storage.connections"
    assert "no sessionmaker" in str(insisted.result)


def test_a_function_that_does_not_commit_is_an_error(
    app, work, state, witness, database_url
):
    engine = create_engine(sqlalchemy_url(database_url, "psycopg"), poolclass=NullPool)

    @app.task(bind=True, transactional=engine.connect)
    def book(self) -> None:
        self.connection.execute(text(ORDER))

    result = book.delay()
    work()

    assert state(result)[0] == "discarded"
    assert "did not commit" in str(result.result)
    assert witness.orders() == 0


def test_another_database_is_an_error(app, work, state, fresh_database, postgres, template):
    # One without our tables, and one with.
    places = {"empty": fresh_database, "ours as well": None}
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f'create database "pgtasks_other" template "{template}"')
    places["ours as well"] = postgres.url_of("pgtasks_other")
    results = {}
    for name, url in places.items():

        @app.task(bind=True, name=name, transactional=lambda url=url: psycopg.connect(url))
        def book(self) -> None:
            pass

        results[name] = book.delay()

    work()
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("drop database pgtasks_other with (force)")

    for result in results.values():
        assert state(result)[0] == "discarded"
        assert "leads to another database" in str(result.result)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda: nullcontext(None), "transactional='django'"),
        (lambda: nullcontext(object()), "is no connection"),
    ],
    ids=["nothing", "an object"],
)
def test_what_is_no_connection_is_an_error(app, work, state, given, message):
    @app.task(bind=True, transactional=given)
    def book(self) -> None:
        pass

    result = book.delay()
    work()

    assert state(result)[0] == "discarded"
    assert message in str(result.result)


def test_a_connection_in_autocommit_is_an_error(app, work, state, witness, database_url):
    @app.task(
        bind=True, transactional=lambda: psycopg.connect(database_url, autocommit=True)
    )
    def book(self) -> None:
        self.connection.execute(ORDER)

    result = book.delay()
    work()

    assert "commits each statement at once" in str(result.result)
    assert witness.orders() == 0


@pytest.mark.parametrize("given", ["postgres", 7, ["django"]])
def test_an_option_that_cannot_work_is_refused_at_once(app, given):
    with pytest.raises(ImproperlyConfigured, match="transactional="):

        @app.task(transactional=given, lazy=False)
        def book() -> None:
            pass


def test_such_a_task_may_run_again_unless_it_says_otherwise(app):
    @app.task(transactional=True)
    def book() -> None:
        pass

    @app.task(transactional=True, acks_late=False)
    def once() -> None:
        pass

    assert (book.acks_late, book.reject_on_worker_lost) == (True, True)
    assert once.acks_late is False


def test_a_programs_own_attribute_of_that_name_stays_its_own(app, work, state):
    class Own(Task):
        def __init__(self) -> None:
            self.connection = "its own"

    @app.task(bind=True, base=Own)
    def book(self) -> str:
        return self.connection

    result = book.delay()
    work()

    assert state(result)[1] == "its own"


def test_a_class_may_be_transactional(app, work, state, witness):
    class Book(Task):
        name = "tests.book"
        transactional = True

        def run(self, amount: int) -> int:
            self.connection.execute(ORDER)
            return amount

    result = app.register_task(Book()).delay(3)
    [outcome] = work()

    assert outcome.written == []
    assert state(result)[1] == 3
    assert witness.orders() == 1


def test_a_job_whose_connection_went_away_runs_again(app, work, state, witness, kind):
    transactional, execute = kind
    attempts = []

    @app.task(bind=True, transactional=transactional)
    def book(self) -> str:
        attempts.append(self.request.attempt)
        execute(self.connection, ORDER)
        if len(attempts) == 1:
            end_other_sessions(witness)
            execute(self.connection, ORDER)
        return "done"

    result = book.delay()
    outcomes = work()

    assert [(each.state, each.crashed) for each in outcomes] == [
        ("available", True),
        ("completed", False),
    ]
    assert state(result) == ("completed", "done", 2)
    assert witness.orders() == 1


def test_one_that_takes_the_server_down_each_time_is_given_up(app, work, state, witness):
    attempts = []

    @app.task(bind=True, transactional=True)
    def book(self) -> None:
        attempts.append(self.request.attempt)
        end_other_sessions(witness)
        self.connection.execute(ORDER)

    result = book.delay()
    work()

    assert attempts == [1, 2, 3]
    assert state(result)[0] == "discarded"
    assert witness.orders() == 0


def test_attempts_that_are_counted_have_their_pauses(app, work, state, witness):
    @app.task(bind=True, transactional=True, max_attempts=2)
    def book(self) -> None:
        end_other_sessions(witness)
        self.connection.execute(ORDER)

    result = book.delay()
    work()

    assert state(result)[0] == "retryable"


def test_the_loss_of_another_connection_is_an_error_like_any_other(
    app, work, state, witness, database_url
):
    @app.task(bind=True, transactional=True)
    def book(self) -> None:
        self.connection.execute(ORDER)
        with psycopg.connect(database_url) as other:
            pid = other.info.backend_pid
            witness.connection.execute("select pg_terminate_backend(%s, 5000)", [pid])
            other.execute("select 1")

    result = book.delay()
    [outcome] = work()

    assert outcome.state == state(result)[0] == "discarded"


def end_other_sessions(witness: Any) -> None:
    witness.connection.execute(
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity "
        "where datname = current_database() and pid <> pg_backend_pid() "
        "and state like 'idle in transaction%'"
    )


def test_a_connection_that_was_lost_between_two_jobs_costs_none(app, work, state, witness):
    @app.task(bind=True, transactional=True)
    def book(self) -> int:
        self.connection.execute(ORDER)
        return self.connection.info.backend_pid

    first = book.delay()
    work()
    pid = state(first)[1]
    witness.connection.execute("select pg_terminate_backend(%s, 5000)", [pid])
    second = book.delay()
    work()

    assert state(second)[0] == "completed"
    assert state(second)[1] != pid
    assert witness.orders() == 2


def test_a_server_that_is_out_of_reach_before_the_body_is_waited_for(app, work, state):
    tries = []

    def connect() -> Any:
        tries.append(1)
        url = app.database.url if len(tries) > 1 else "postgresql://127.0.0.1:1/nowhere"
        return psycopg.connect(url)

    @app.task(bind=True, transactional=connect)
    def book(self) -> str:
        return "done"

    result = book.delay()
    work()

    assert state(result) == ("completed", "done", 2)
