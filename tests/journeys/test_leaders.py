"""One worker of a fleet leads, whatever becomes of it."""

from __future__ import annotations

import os
import signal

import pytest

from fleet import Fleet
from helpers import eventually

pytestmark = [pytest.mark.journey]


def leading(fleet: Fleet) -> tuple[int, str]:
    """Term and node of who leads; nobody is term 0."""
    rows = fleet.query(
        "select term, node from pgtasks.leaders where expires_at > clock_timestamp()"
    )
    return rows[0] if rows else (0, "")


def acts(fleet: Fleet, term: int) -> int:
    [(count,)] = fleet.query(
        "select count(*) from ledger where event = 'act' and task_id = %s", str(term)
    )
    return count


def test_a_leader_that_was_stopped_past_its_lease_does_nothing_under_its_old_term(
    fleet: Fleet,
):
    first = fleet.start(app="cabinet")
    eventually(lambda: acts(fleet, 1) > 3)
    fleet.start(app="cabinet")

    os.kill(first.pid, signal.SIGSTOP)
    eventually(lambda: leading(fleet)[0] == 2, timeout=15)
    eventually(lambda: acts(fleet, 2) > 3)
    before = acts(fleet, 1)
    # The office goes with a lease of its own; that it is dead may be seen a little later.
    dead = "select dead_at is not null from pgtasks.workers where pid = %s"
    eventually(lambda: fleet.query(dead, first.pid) == [(True,)], timeout=15)
    os.kill(first.pid, signal.SIGCONT)
    # It goes on as a new worker: long enough for everything that it had under way.
    eventually(lambda: "goes on as a new one" in fleet.log(0), timeout=15)
    then = acts(fleet, 2)
    eventually(lambda: acts(fleet, 2) > then + 20)

    assert acts(fleet, 1) == before
    assert leading(fleet) == (2, "w1@journey")
    assert "leads plugins no longer: its term 1 is over" in fleet.log(0)


def test_a_clean_stop_hands_over_before_the_lease_ends(fleet: Fleet):
    fleet.lease = 60.0
    first = fleet.start(app="cabinet")
    eventually(lambda: acts(fleet, 1) > 0)
    fleet.start(app="cabinet")

    assert fleet.stop(first) == 0
    eventually(lambda: leading(fleet) == (2, "w1@journey"), timeout=10)
    eventually(lambda: acts(fleet, 2) > 0)


def test_a_leader_that_was_killed_is_followed_after_its_lease(fleet: Fleet):
    first = fleet.start(app="cabinet")
    eventually(lambda: acts(fleet, 1) > 0)
    fleet.start(app="cabinet")

    first.kill()
    eventually(lambda: acts(fleet, 2) > 0, timeout=15)


def test_old_jobs_are_pruned_while_jobs_run(fleet: Fleet):
    fleet.query(
        """
        insert into pgtasks.finished_jobs (
            id, scheduled_at, inserted_at, finished_at, state, attempt, retries, crashes,
            lost, priority, task, task_id, queue, args, kwargs, errors, meta, tags
        )
        select n, now(), now(), now() - interval '1 day' + n * interval '1 ms', 'completed',
               1, 0, 0, 0, 0, 't', 'old-' || n, 'q', '[]', '{}', '[]', '{}', '{}'
        from generate_series(1, 50000) as n
        """
    )
    fleet.start(app="cabinet")
    ids = fleet.insert("nap", 500, args="[0]")

    def old() -> int:
        [(count,)] = fleet.query(
            "select count(*) from pgtasks.finished_jobs where task_id like 'old-%%'"
        )
        return count

    assert set(fleet.wait(ids).values()) == {"completed"}
    eventually(lambda: old() == 0, timeout=60)
    assert fleet.finished(ids) == 500, "what is young stays"
    [(longest,)] = fleet.query(
        "select coalesce(max(extract(epoch from now() - xact_start)), 0)::float8 "
        "from pg_stat_activity where state <> 'idle' and pid <> pg_backend_pid() "
        "and backend_type = 'client backend'"
    )
    assert longest < 5
