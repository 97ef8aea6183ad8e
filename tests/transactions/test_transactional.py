"""What a transactional task does, and how it ends, are one: both or neither."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import psycopg
import psycopg2
import pytest
from psycopg import errors
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import scoped_session, sessionmaker
from sqlalchemy.pool import NullPool

from fix_client import Desk, PostgresDesk
from pgtasks import Celery, chain, chord, current_task
from pgtasks.app.task import Task
from pgtasks.contrib.sqlalchemy import join
from pgtasks.exceptions import (
    Cancel,
    Discard,
    ImproperlyConfigured,
    Snooze,
)
from pgtasks.job import Job, Outcome
from pgtasks.testing import drain_queue, mode, perform_job
from transactions.drivers import sqlalchemy_url

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
        query = (
            "select state::text, result, attempt from pgtasks.all_jobs where task_id = %s"
        )
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


# ── how a body may end ──────────────────────────────────────────────────────────────────


def test_a_returned_snooze_keeps_what_was_done_and_a_raised_one_does_not(
    app, work, state, witness
):
    @app.task(bind=True, transactional=True)
    def book(self, raises: bool) -> Snooze:
        self.connection.execute(ORDER)
        if raises:
            raise Snooze(60)
        return Snooze(60)

    raised = book.delay(True)
    work()
    assert state(raised)[0] == "scheduled"
    assert witness.orders() == 0

    returned = book.delay(False)
    [outcome] = work()
    assert outcome.written == []
    assert state(returned) == ("scheduled", None, 0)
    assert witness.orders() == 1


@pytest.mark.parametrize(
    ("end", "expected", "status"),
    [(Discard("no"), "discarded", "FAILURE"), (Cancel("no"), "cancelled", "REVOKED")],
)
def test_a_returned_end_is_written_with_what_was_done(
    app, work, state, witness, end, expected, status
):
    @app.task(bind=True, transactional=True)
    def book(self) -> Any:
        self.connection.execute(ORDER)
        return end

    result = book.delay()
    [outcome] = work()

    assert outcome.written == []
    assert state(result)[0] == expected
    assert result.state == status
    assert witness.orders() == 1


def test_a_retry_rolls_back_and_runs_again(app, work, state, witness):
    @app.task(bind=True, transactional=True, default_retry_delay=0)
    def book(self) -> str:
        self.connection.execute(ORDER)
        if not self.request.retries:
            raise self.retry(exc=ValueError("not yet"))
        return "done"

    result = book.delay()
    work()

    assert state(result) == ("completed", "done", 2)
    assert witness.orders() == 1


def test_what_takes_its_place_comes_with_what_was_done(app, work, state, witness, confirm):
    @app.task(bind=True, transactional=True)
    def book(self) -> Any:
        self.connection.execute(ORDER)
        return self.replace(confirm.s(8))

    result = book.delay()
    outcomes = work()

    assert [each.state for each in outcomes] == ["completed", "completed"]
    assert outcomes[0].written == ["celery"]
    assert result.get(timeout=1) == 8
    assert witness.orders() == 1


def test_a_chain_and_a_chord_go_on_by_the_commit(app, work, state, witness):
    @app.task(bind=True, transactional=True)
    def add(self, x: int, y: int) -> int:
        self.connection.execute(ORDER)
        return x + y

    @app.task(bind=True, transactional=True)
    def total(self, numbers: list[int]) -> int:
        return sum(numbers)

    chained = chain(add.s(1, 2), add.s(3), add.s(4)).delay()
    summed = chord([add.s(1, n) for n in range(5)], total.s()).delay()
    outcomes = work()

    assert all(each.written is not None for each in outcomes)
    assert chained.get(timeout=1) == 10
    assert summed.get(timeout=1) == 15
    assert witness.orders() == 8


def test_callbacks_of_both_ends_are_sent(app, work, witness, confirm):
    @app.task(bind=True, transactional=True)
    def book(self, fails: bool) -> int:
        if fails:
            return Discard("no")
        return 5

    @app.task(name="tests.mourn")
    def mourn(id: str) -> None:
        pass

    book.apply_async((False,), link=confirm.s())
    book.apply_async((True,), link_error=mourn.s())
    outcomes = work()

    assert [each.state for each in outcomes].count("completed") == 3
    ran = witness.connection.execute("select task from pgtasks.finished_jobs").fetchall()
    assert ("tests.mourn",) in ran
    assert ("tests.confirm",) in ran


def test_an_error_at_the_commit_is_the_tasks_own(app, work, state, witness):
    witness.connection.execute(
        "alter table public.orders add constraint one unique (number) "
        "deferrable initially deferred"
    )
    tries = []

    @app.task(
        bind=True,
        transactional=True,
        autoretry_for=(errors.UniqueViolation,),
        default_retry_delay=0,
        max_retries=1,
        retry_backoff=False,
    )
    def book(self) -> None:
        tries.append(self.request.retries)
        self.connection.execute(ORDER)
        self.connection.execute(ORDER)

    result = book.delay()
    work()

    assert tries == [0, 1]
    assert state(result)[0] == "discarded"
    with pytest.raises(errors.UniqueViolation):
        result.get(timeout=1)
    assert witness.orders() == 0


def test_a_result_that_cannot_be_stored_rolls_back(app, work, state, witness):
    @app.task(bind=True, transactional=True)
    def book(self) -> Any:
        self.connection.execute(ORDER)
        return object()

    result = book.delay()
    work()

    assert state(result)[0] == "discarded"
    assert witness.orders() == 0


def test_success_is_told_after_the_commit_and_only_then(app, work, witness, heard):
    told = heard("task_success", "task_failure", "task_postrun")
    seen = []

    class Booking(Task):
        def on_success(self, *args: Any) -> None:
            seen.append(witness.orders())

    @app.task(bind=True, transactional=True, base=Booking)
    def book(self) -> str:
        self.connection.execute(ORDER)
        return "done"

    book.delay()
    work()

    assert seen == [1]
    assert [each["name"] for each in told] == ["task_success", "task_postrun"]
    assert told[1]["retval"] == "done"
    assert told[1]["state"] == "SUCCESS"


def test_a_verdict_on_a_lost_worker_is_replaced_by_the_truth(app, work, state, witness):
    @app.task(bind=True, transactional=True)
    def book(self) -> str:
        self.connection.execute(ORDER)
        witness.connection.execute(
            "with gone as (delete from pgtasks.jobs where task_id = %(id)s returning *) "
            "insert into pgtasks.finished_jobs (id, scheduled_at, inserted_at, state, "
            "attempt, retries, crashes, lost, priority, task, task_id, queue, args, kwargs, "
            "content_type, content_encoding, errors, meta, tags, claim_token, abandoned) "
            "select id, scheduled_at, inserted_at, 'discarded', attempt, retries, crashes, "
            "lost, priority, task, task_id, queue, args, kwargs, content_type, "
            "content_encoding, errors, meta, tags, claim_token, true from gone",
            {"id": self.request.id},
        )
        return "after all"

    result = book.delay()
    [outcome] = work()

    assert outcome.written == []
    assert state(result)[:2] == ("completed", "after all")
    assert witness.orders() == 1


# ── the connection ──────────────────────────────────────────────────────────────────────


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


# ── coroutines ──────────────────────────────────────────────────────────────────────────


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


# ── without a worker ────────────────────────────────────────────────────────────────────


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


# ── a connection that is lost ───────────────────────────────────────────────────────────


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
