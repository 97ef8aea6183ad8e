"""Sessions of SQLAlchemy's whose transactions jobs join by themselves."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import (
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    scoped_session,
    sessionmaker,
)
from sqlalchemy.pool import NullPool

from pgtasks import Celery, using
from pgtasks.contrib.sqlalchemy import join
from pgtasks.exceptions import NotCommitted
from transactions.drivers import sqlalchemy_url


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    __table_args__ = {"schema": "public"}

    number: Mapped[int] = mapped_column(primary_key=True)


@pytest.fixture
def engine(app: Celery) -> Iterator[Any]:
    url = sqlalchemy_url(app.database.url, "psycopg")
    engine = create_engine(url, poolclass=NullPool)
    yield engine
    engine.dispose()


@pytest.fixture(params=["psycopg", "asyncpg"])
def async_engine(request: pytest.FixtureRequest, app: Celery) -> Any:
    url = sqlalchemy_url(app.database.url, request.param)
    return create_async_engine(url, poolclass=NullPool)


@pytest.mark.parametrize("kind", ["sessionmaker", "scoped_session", "class"])
class TestAJob:
    @pytest.fixture
    def open_session(self, kind: str, app: Celery, engine: Any) -> Any:
        maker: Any = sessionmaker(engine)
        if kind == "class":

            class Own(Session):
                pass

            maker = sessionmaker(engine, class_=Own)
            join(app, Own)
        elif kind == "scoped_session":
            maker = scoped_session(maker)
            join(app, maker)
        else:
            join(app, maker)
        return maker

    def test_is_committed_with_the_session(self, open_session, confirm, witness):
        with open_session() as session:
            session.add(Order(number=1))
            sent = confirm.delay(1)
            also = confirm.delay_many([(2,), (3,)])
            assert witness.jobs() == []
            session.commit()

        assert witness.jobs() == sorted([sent.id, *[each.id for each in also]])
        assert witness.orders() == 1

    def test_is_rolled_back_with_the_session(self, open_session, confirm, witness):
        with open_session() as session:
            session.add(Order(number=1))
            confirm.delay(1)
            (confirm.si(2) | confirm.si(3)).delay()
            session.rollback()

        assert witness.jobs() == []

    def test_is_sent_at_once_outside_of_transactions(self, open_session, confirm, witness):
        with open_session() as session:
            first = confirm.delay(1)
            assert witness.jobs() == [first.id]
            session.execute(text("select 1"))
            session.commit()
            confirm.delay(2)

        assert len(witness.jobs()) == 2

    def test_joins_a_transaction_that_has_only_been_begun(
        self, open_session, confirm, witness
    ):
        with open_session() as session, session.begin():
            sent = confirm.delay(1)
            assert witness.jobs() == []

        assert witness.jobs() == [sent.id]

    def test_vanishes_with_a_savepoint(self, open_session, confirm, witness):
        with open_session() as session:
            with session.begin_nested() as savepoint:
                confirm.delay(1)
                savepoint.rollback()
            kept = confirm.delay(2)
            session.commit()

        assert witness.jobs() == [kept.id]

    def test_stays_out_if_told_so(self, open_session, app, confirm, witness):
        with open_session() as session, session.begin():
            confirm.apply_async((1,), connection=None)
            with using(None):
                confirm.delay(2)
            app.conf.task_join_transaction = False
            confirm.delay(3)
            assert len(witness.jobs()) == 3

    def test_is_not_waited_for_before_the_commit(self, open_session, confirm, witness):
        with open_session() as session, session.begin():
            sent = confirm.delay(1)
            with pytest.raises(NotCommitted):
                sent.get(timeout=60)

    def test_of_another_thread_stays_out(self, open_session, confirm, witness):
        with open_session() as session, session.begin():
            thread = threading.Thread(target=confirm.delay)
            thread.start()
            thread.join()
            assert len(witness.jobs()) == 1


def test_a_session_begun_in_one_context_is_joined_where_it_is_used(
    app, engine, confirm, witness
):
    maker = sessionmaker(engine)
    join(app, maker)
    sessions = []

    def open_session() -> None:
        sessions.append(maker())
        sessions[0].execute(text("select 1"))

    thread = threading.Thread(target=open_session)
    thread.start()
    thread.join()
    [session] = sessions
    session.add(Order(number=1))
    sent = confirm.delay(1)
    assert witness.jobs() == []
    session.commit()
    session.close()

    assert witness.jobs() == [sent.id]


def test_the_session_that_was_used_last_is_joined(app, engine, confirm, witness):
    maker = sessionmaker(engine)
    join(app, maker)

    with maker() as outer, maker() as inner:
        outer.execute(text("select 1"))
        inner.execute(text("select 1"))
        lost = confirm.delay(1)
        inner.rollback()
        kept = confirm.delay(2)
        outer.commit()

    assert witness.jobs() == [kept.id]
    assert lost.id != kept.id


def test_a_session_on_another_database_is_not_joined(app, confirm, witness):
    url = sqlalchemy_url(app.database.url, "psycopg")
    elsewhere = create_engine(url, poolclass=NullPool)
    elsewhere = create_engine(elsewhere.url.set(database="postgres"), poolclass=NullPool)
    sqlite = create_engine("sqlite://")
    for engine in (elsewhere, sqlite):
        maker = sessionmaker(engine)
        join(app, maker)
        with maker() as session:
            session.execute(text("select 1"))
            confirm.delay()
            session.rollback()
        engine.dispose()

    assert len(witness.jobs()) == 2


def test_sessions_of_other_makers_are_left_alone(app, engine, confirm, witness):
    join(app, sessionmaker(engine))

    with sessionmaker(engine)() as session:
        session.execute(text("select 1"))
        confirm.delay()
        assert len(witness.jobs()) == 1


@pytest.mark.parametrize("end", ["commit", "rollback"])
@pytest.mark.parametrize("kind", ["async_sessionmaker", "async_scoped_session"])
def test_jobs_of_coroutines_join_the_session(
    kind, end, app, async_engine, confirm, witness, run
):
    async def main() -> list[str]:
        maker: Any = async_sessionmaker(async_engine)
        if kind == "async_scoped_session":
            maker = async_scoped_session(maker, scopefunc=asyncio.current_task)
        join(app, maker)
        async with maker() as session:
            session.add(Order(number=1))
            await session.flush()
            sent = [(await confirm.adelay(1)).id]
            flow = confirm.si(2) | confirm.si(3)
            sent.append((await flow.adelay()).parent.id)
            await session.run_sync(lambda _: sent.append(confirm.delay(4).id))
            with pytest.raises(TypeError, match="adelay"):
                confirm.delay(5)
            assert witness.jobs() == []
            await getattr(session, end)()
        await async_engine.dispose()
        return sent

    sent = run(main())

    assert witness.jobs() == (sorted(sent) if end == "commit" else [])


def test_coroutines_do_not_join_each_others_sessions(
    app, async_engine, confirm, witness, run
):
    maker = async_sessionmaker(async_engine)
    join(app, maker)
    begun, sent = asyncio.Event(), asyncio.Event()

    async def one() -> None:
        async with maker() as session:
            await session.execute(text("select 1"))
            begun.set()
            await sent.wait()
            await session.rollback()

    async def other() -> None:
        await begun.wait()
        await confirm.adelay()
        sent.set()

    async def main() -> None:
        await asyncio.gather(one(), other())
        await async_engine.dispose()

    run(main())

    assert len(witness.jobs()) == 1


def test_a_session_that_was_only_asked_is_joined_by_coroutines(
    app, async_engine, confirm, witness, run
):
    maker = async_sessionmaker(async_engine)
    join(app, maker)

    async def main() -> None:
        session = maker()
        # In the way of a framework's dependency: begun by a task of its own.
        await asyncio.create_task(session.connection())
        await session.execute(text("select 1"))
        await confirm.adelay()
        assert witness.jobs() == []
        await session.commit()
        await session.close()
        await async_engine.dispose()

    run(main())

    assert len(witness.jobs()) == 1


def test_two_applications_join_the_same_sessions(app, engine, confirm, witness):
    maker = sessionmaker(engine)
    with Celery("other", broker=app.database.url, set_as_current=False) as other:
        join(other, Session)
        join(app, maker)
        with maker.begin() as session:
            confirm.delay()
            other.send_task("tests.confirm")
            assert witness.jobs() == []
            session.rollback()

    assert witness.jobs() == []


def test_no_scope_is_no_session(app, engine, confirm, witness):
    def scope() -> None:
        raise RuntimeError("There is no request.")

    join(app, scoped_session(sessionmaker(engine), scopefunc=scope))
    confirm.delay()

    assert len(witness.jobs()) == 1


def test_an_application_in_memory_joins_nothing(memory_app, engine):
    @memory_app.task
    def add(x: int, y: int) -> int:
        return x + y

    maker = sessionmaker(engine)
    join(memory_app, maker)
    with maker.begin() as session:
        session.execute(text("select 1"))
        add.delay(1, 2)
        add.delay_many([(1, 2)])
        (add.s(1, 2) | add.s(3)).delay()


def test_a_single_session_is_refused_with_advice(app, engine):
    with Session(engine) as session, pytest.raises(TypeError, match=r"using\(session\)"):
        join(app, session)
