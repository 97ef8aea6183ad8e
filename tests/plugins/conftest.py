"""An application on a clean database, and its plugins without a worker."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest

from pgtasks import Celery
from pgtasks.plugins import Plugin
from pgtasks.storage import leaders, schema


class House:
    """Makes plugins that lead, and looks at the tables."""

    def __init__(self, url: str) -> None:
        self.app = Celery("house", broker=url, set_as_current=False)
        self.connection = psycopg.connect(url, autocommit=True)
        self.seat: leaders.Seat | None = None

    def rows(self, statement: str, *params) -> list[tuple]:
        cursor = self.connection.execute(statement, params)
        return cursor.fetchall() if cursor.description else []

    def stand(self) -> leaders.Seat:
        self.rows("update pgtasks.leaders set expires_at = now()")
        stood = self.app.database.run(
            leaders.stand("plugins", holder=str(uuid4()), node="celery@test", lease=30.0)
        )
        assert stood is not None and stood.seat is not None
        self.seat = stood.seat
        return stood.seat

    def lead(self, kind: type[Plugin], **options) -> Plugin:
        plugin = kind(self.app, **options)
        plugin.seat = self.seat or self.stand()
        return plugin

    def finished(self, count: int, age: float, **given) -> None:
        """Jobs that ended ``age`` seconds ago, one a microsecond."""
        known = {"state": "completed", "task": "t", "queue": "q", **given}
        self.rows(
            """
            insert into pgtasks.finished_jobs (
                id, scheduled_at, inserted_at, finished_at, state, attempt, retries, crashes,
                lost, priority, task, task_id, queue, args, kwargs, errors, meta, tags
            )
            select n, now(), now(), now() - make_interval(secs => %s) + n * interval '1 us',
                   %s, 1, 0, 0, 0, 0, %s, gen_random_uuid()::text, %s, '[]', '{}', '[]', '{}', '{}'
            from generate_series(1, %s) as n
            """,
            age, known["state"], known["task"], known["queue"], count,
        )  # fmt: skip

    def left(self, column: str = "task") -> dict[str, int]:
        return dict(
            self.rows(
                f"select {column}::text, count(*) from pgtasks.finished_jobs group by 1"
            )
        )

    def close(self) -> None:
        self.connection.close()
        self.app.close()


@pytest.fixture
def house(database_url: str) -> Iterator[House]:
    house = House(database_url)
    yield house
    house.close()


@pytest.fixture
def fresh_house(fresh_database: str) -> Iterator[House]:
    """The same on a database of its own, for tests that make and drop indexes."""
    schema.apply(fresh_database)
    house = House(fresh_database)
    yield house
    house.close()
