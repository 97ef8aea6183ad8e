"""The trigger of the page "Enqueue from SQL", and a worker that runs what it sends."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from fleet import Fleet
from helpers import eventually

pytestmark = [pytest.mark.journey]

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "enqueue-from-sql.md"


@pytest.fixture
def customers(fleet: Fleet) -> Iterator[psycopg.Connection]:
    """A database with the table and the trigger of the page."""
    blocks = re.findall(r"^```sql\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    [trigger] = [block for block in blocks if "create trigger" in block]
    with psycopg.connect(fleet.url, autocommit=True) as connection:
        connection.execute(trigger.encode())
        yield connection
        connection.execute("drop table customers; drop function welcome_customer")


def test_a_row_that_is_inserted_becomes_a_job_that_is_run(
    fleet: Fleet, customers: psycopg.Connection
):
    fleet.start("-Q", "celery", app="counter")
    with customers.transaction(force_rollback=True):
        customers.execute("insert into customers (email, name) values ('nobody', 'Nobody')")
    customers.execute(
        "insert into customers (email, name) "
        "values ('ada@example.org', 'Ada'), ('brian@example.org', 'Brian')"
    )
    events = eventually(lambda: len(fleet.events()) == 2 and fleet.events())

    assert sorted(event for each in events.values() for event in each) == [
        "ada@example.org Ada {'customer': 2} ['welcome']",
        "brian@example.org Brian {'customer': 3} ['welcome']",
    ]
    eventually(lambda: set(fleet.states(list(events)).values()) == {"completed"})


def test_a_worker_that_sleeps_begins_at_once(fleet: Fleet):
    fleet.start("-Q", "celery", app="counter")
    eventually(lambda: fleet.query("select asleep from pgtasks.workers") == [(True,)])
    [(id,)] = fleet.query(
        "select pgtasks.enqueue('proj.tasks.welcome', jsonb_build_array('ada@example.org'))"
    )
    fleet.wait([id], timeout=5)

    [(waited,)] = fleet.query(
        "select extract(epoch from attempted_at - inserted_at)::float8 "
        "from pgtasks.finished_jobs where task_id = %s",
        id,
    )
    assert waited < 0.5
