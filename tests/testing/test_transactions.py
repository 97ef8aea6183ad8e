"""The helpers inside a transaction of the test's own, which is rolled back in the end."""

from __future__ import annotations

import asyncio
import importlib
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

import pgtasks
from pgtasks import chain
from pgtasks.testing import (
    Testing,
    all_enqueued,
    assert_enqueued,
    drain_queue,
    refute_enqueued,
)

PROJECT = Path(__file__).parents[1] / "contrib" / "django_project"


@pytest.fixture
def app(postgres_app):
    return postgres_app


@pytest.fixture
def seen():
    return []


@pytest.fixture
def note(app, seen):
    @app.task(name="tests.note")
    def note(value):
        seen.append(value)

    return note


@pytest.fixture
def outer(app, note):
    @app.task(name="tests.outer")
    def outer():
        note.delay("inner")

    return outer


@contextmanager
def by_psycopg(url):
    with psycopg.connect(url) as connection:
        yield connection
        connection.rollback()


@contextmanager
def by_psycopg2(url):
    psycopg2 = pytest.importorskip("psycopg2")
    connection = psycopg2.connect(url)
    try:
        yield connection
    finally:
        connection.rollback()
        connection.close()


@contextmanager
def by_sqlalchemy(url, driver="psycopg"):
    """A session that may commit, within a connection's transaction that never is."""
    sqlalchemy = pytest.importorskip("sqlalchemy")
    orm = pytest.importorskip("sqlalchemy.orm")
    engine = sqlalchemy.create_engine(
        f"postgresql+{driver}://",
        creator=lambda: __import__(driver).connect(url),
        poolclass=sqlalchemy.pool.NullPool,
    )
    with engine.connect() as connection:
        transaction = connection.begin()
        with orm.Session(connection, join_transaction_mode="create_savepoint") as session:
            yield session
        transaction.rollback()
    engine.dispose()


LENT = {
    "psycopg": by_psycopg,
    "psycopg2": by_psycopg2,
    "sqlalchemy-psycopg": by_sqlalchemy,
    "sqlalchemy-psycopg2": lambda url: by_sqlalchemy(url, "psycopg2"),
}


@pytest.fixture(params=LENT)
def lent(request, database_url):
    with LENT[request.param](database_url) as connection:
        yield connection


def test_what_is_enqueued_in_the_transaction_is_seen_there_only(note, lent):
    note.apply_async((1,), connection=lent, meta={"a": 1}, tags=["b"])

    job = assert_enqueued(note, args=[1], connection=lent)
    assert (job.meta, job.tags) == ({"a": 1}, ["b"])
    assert len(all_enqueued(note, connection=lent)) == 1
    refute_enqueued(note)


def test_the_transaction_of_using_is_found_by_itself(app, note, lent, seen):
    with pgtasks.using(lent):
        note.delay(1)
        assert_enqueued(note, args=[1])
        assert drain_queue(app)["completed"] == 1
        refute_enqueued(note)

    assert seen == [1]


def test_drained_jobs_and_what_they_send_stay_in_the_transaction(
    app, note, outer, lent, seen, database_url
):
    testing = Testing(app, lent)
    with pgtasks.using(lent):
        outer.delay()
        chain(note.s("a"), note.si("b")).delay()

    counts = testing.drain_queue(with_recursion=True, with_scheduled=True)

    assert (counts["completed"], sorted(seen)) == (4, ["a", "b", "inner"])
    with psycopg.connect(database_url) as other:
        (rows,) = other.execute("select count(*) from pgtasks.all_jobs").fetchone()
    assert rows == 0


def test_a_body_that_is_no_json_is_read_on_every_driver(app, note, lent, seen):
    app.conf.accept_content = ["json", "pickle"]
    note.apply_async(({1, 2},), serializer="pickle", connection=lent)

    assert assert_enqueued(note, connection=lent).args == [{1, 2}]
    assert drain_queue(app, connection=lent)["completed"] == 1
    assert seen == [{1, 2}]


def test_nothing_is_left_when_the_transaction_is_rolled_back(
    app, note, lent, seen, database_url
):
    note.apply_async(("late",), countdown=60, connection=lent)
    note.apply_async(("now",), connection=lent)
    drain_queue(app, connection=lent)
    lent.rollback()

    with psycopg.connect(database_url) as other:
        (rows,) = other.execute("select count(*) from pgtasks.all_jobs").fetchone()
    assert rows == 0


def test_a_session_may_commit_within_the_transaction_of_the_test(app, note, database_url):
    with by_sqlalchemy(database_url) as session:
        note.apply_async((1,), connection=session)
        session.commit()
        note.apply_async((2,), connection=session)
        session.rollback()

        assert [job.args for job in all_enqueued(note, connection=session)] == [[1]]
    assert all_enqueued(note) == []


def test_a_registered_session_is_found_by_itself(app, note, database_url, seen):
    sqlalchemy = pytest.importorskip("sqlalchemy")
    orm = pytest.importorskip("sqlalchemy.orm")
    from pgtasks.contrib.sqlalchemy import join

    engine = sqlalchemy.create_engine(
        database_url.replace("postgresql://", "postgresql+psycopg://", 1)
    )
    sessions = orm.sessionmaker(engine)
    join(app, sessions)
    with sessions() as session:
        session.execute(sqlalchemy.text("select 1"))
        note.delay(1)
        assert_enqueued(note, args=[1])
        assert drain_queue(app)["completed"] == 1
        session.rollback()
    engine.dispose()

    assert seen == [1]
    assert all_enqueued(note) == []


DJANGO = """
import unittest

import django
import shop

django.setup()

import pgtasks
from django.db import connection, transaction
from django.test import TestCase
from orders.models import Order
from orders.tasks import count, ship
from pgtasks.testing import all_enqueued, assert_enqueued, drain_queue, refute_enqueued


class Orders(TestCase):
    def order(self):
        with transaction.atomic():
            order = Order.objects.create()
            ship.delay(order.pk)
        return order

    def test_a(self):
        order = self.order()
        assert_enqueued(ship, args=[order.pk], queue="shop")
        assert len(all_enqueued(ship)) == 1
        # The task sees the order that nobody has committed, and what it does is seen here.
        assert drain_queue()["completed"] == 1
        order.refresh_from_db()
        self.assertEqual(order.state, "shipped")
        refute_enqueued(ship)

    def test_b_sees_nothing_of_the_other(self):
        assert all_enqueued() == []
        self.assertEqual(Order.objects.count(), 0)

    def test_c_a_block_that_is_rolled_back_enqueues_nothing(self):
        try:
            with transaction.atomic():
                ship.delay(1)
                raise KeyError
        except KeyError:
            pass
        refute_enqueued(ship)

    def test_d_what_waits_for_the_commit_is_sent_by_it(self):
        with self.captureOnCommitCallbacks(execute=True):
            count.delay_on_commit()
            refute_enqueued(count)
        assert_enqueued(count)

    def test_e_performs_a_job(self):
        order = Order.objects.create()
        self.assertTrue(pgtasks.testing.perform_job(ship, [order.pk]).result)
        order.refresh_from_db()
        self.assertEqual(order.state, "shipped")

    def test_f_runs_inline(self):
        with pgtasks.testing.mode(pgtasks.current_app, "inline"):
            order = self.order()
        order.refresh_from_db()
        self.assertEqual(order.state, "shipped")


unittest.main()
"""


def test_djangos_testcase(database_url):
    pytest.importorskip("django")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(
            filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")])
        ),
        "SHOP_DATABASE_URL": database_url,
        "DJANGO_SETTINGS_MODULE": "shop.settings",
    }
    prepare = (
        "import django, shop; django.setup()\n"
        "from django.db import connection\n"
        "from orders.models import Order\n"
        "with connection.schema_editor() as editor: editor.create_model(Order)"
    )
    try:
        for program in (prepare, DJANGO):
            done = subprocess.run(
                [sys.executable, "-W", "error", "-c", program],
                env=environment,
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert done.returncode == 0, done.stderr
    finally:
        # Other tests have this database and this project, too.
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute("drop table if exists orders_order")
    assert "Ran 6 tests" in done.stderr


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_an_async_session_lends_itself_by_run_sync(
    app, outer, note, seen, database_url, driver
):
    pytest.importorskip(driver)
    asyncio_extension = pytest.importorskip("sqlalchemy.ext.asyncio")

    async def connect(*args, **kwargs):
        if driver == "asyncpg":
            return await importlib.import_module("asyncpg").connect(dsn=database_url)
        return await psycopg.AsyncConnection.connect(database_url)

    async def main():
        engine = asyncio_extension.create_async_engine(
            f"postgresql+{driver}://", async_creator=connect
        )
        async with engine.connect() as connection:
            await connection.begin()
            async with asyncio_extension.AsyncSession(
                connection, join_transaction_mode="create_savepoint"
            ) as session:
                await outer.aapply_async(connection=session)
                await session.commit()

                def look(lent):
                    assert_enqueued(outer, connection=lent)
                    drained = drain_queue(app, with_recursion=True, connection=lent)
                    refute_enqueued(app=app, connection=lent)
                    return drained["completed"]

                assert await session.run_sync(look) == 2
            await connection.rollback()
        await engine.dispose()

    asyncio.run(main())
    assert seen == ["inner"]
    assert all_enqueued(app=app) == []
