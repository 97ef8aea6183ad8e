"""A task, a table of orders, and somebody who looks on from another connection."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from pgtasks import Celery
from pgtasks.app.task import Task


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
