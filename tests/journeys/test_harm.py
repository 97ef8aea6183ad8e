"""What survives when processes, connections and the server are harmed in mid-run.

The promises are those of docs/explanation/delivery-guarantees.md: nothing is lost, what
had begun runs again only if its task was declared safe, what had not begun always runs.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from fleet import Fleet, Proxy
from helpers import children, eventually

pytestmark = [pytest.mark.journey, pytest.mark.timeout(120)]


def test_sigkill_of_the_parent_loses_nothing_and_repeats_only_what_is_safe(fleet: Fleet):
    doomed = fleet.start("-c", "4", "-Q", "journey")
    early = fleet.insert("nap", 400, "[0.01]")
    safe = fleet.insert("safe_nap", 100, "[0.02]")
    eventually(lambda: fleet.finished(early) >= 60)

    doomed.kill()
    doomed.wait()
    fleet.start("-c", "4", "-Q", "journey")
    states = fleet.wait(early + safe, timeout=60)

    events = fleet.events()
    for task_id in safe:
        assert states[task_id] == "completed"
    for task_id in early:
        started = events[task_id].count("start")
        if states[task_id] == "completed":
            assert events[task_id] == ["start", "end"]
        else:
            # It had begun and nobody may run it again: visible, and counted once.
            assert started == 1, f"{task_id} was given up although it had not begun"
            assert fleet.errors(task_id)[-1]["kind"] == "WorkerLostError"
    given_up = [task_id for task_id in early if states[task_id] == "discarded"]
    assert len(given_up) <= 4 + 4, "more than the running ones, and those not yet written"


@pytest.mark.parametrize("pool", ["prefork", "threads", "asyncio"])
def test_sigkill_while_long_jobs_run_and_others_wait(fleet: Fleet, pool: str):
    doomed = fleet.start("-c", "2", "-P", pool, "-Q", "journey")
    running = fleet.insert("nap", 2, "[60]")
    eventually(lambda: len(fleet.events()) == 2)
    waiting = fleet.insert("quick", 20)

    os.killpg(doomed.pid, signal.SIGKILL)
    doomed.wait()
    fleet.start("-c", "2", "-P", pool, "-Q", "journey")
    fleet.wait(running + waiting)

    assert set(fleet.states(running).values()) == {"discarded"}
    assert set(fleet.states(waiting).values()) == {"completed"}
    assert all(events.count("start") == 1 for events in fleet.events().values())


def test_sigkill_of_a_child_costs_the_job_it_ran_and_no_other(fleet: Fleet):
    fleet.start("-c", "2", "-Q", "journey")
    ids = fleet.insert("die_at_first", 1, "[1]") + fleet.insert("quick", 200)
    states = fleet.wait(ids)

    assert states.pop(ids[0]) == "discarded"
    assert set(states.values()) == {"completed"}
    error = fleet.errors(ids[0])[-1]
    assert error["kind"] == "WorkerLostError"
    assert "signal 9 (SIGKILL)" in error["message"]
    assert all(events.count("start") == 1 for events in fleet.events().values())


def test_a_job_that_kills_its_process_each_time_is_given_up_after_three(fleet: Fleet):
    fleet.start("-c", "2", "-Q", "journey")
    poison = fleet.insert("poison", 2)
    innocent = fleet.insert("quick", 100)

    states = fleet.wait(poison + innocent)

    assert {states[task_id] for task_id in poison} == {"discarded"}
    assert {states[task_id] for task_id in innocent} == {"completed"}
    assert all(fleet.events()[task_id] == ["start"] * 3 for task_id in poison)


def test_an_immediate_restart_of_the_server_in_mid_run_loses_and_repeats_nothing(
    fleet: Fleet, postgres
):
    if not hasattr(postgres, "restart"):
        pytest.skip("the server of PGTASKS_TEST_DSN is not ours to restart")
    fleet.start("-c", "2", "-Q", "journey")
    ids = fleet.insert("nap", 300, "[0.01]")
    eventually(lambda: fleet.finished(ids) >= 50)

    postgres.restart("immediate")
    states = fleet.wait(ids, timeout=60)

    assert set(states.values()) == {"completed"}
    # The ledger itself may have lost an answer and noted the same start twice.
    repeated = [id for id, events in fleet.events().items() if events.count("end") > 1]
    assert len(repeated) <= 2


def test_every_backend_terminated_in_mid_run_loses_and_repeats_nothing(fleet: Fleet):
    fleet.start("-c", "2", "-Q", "journey")
    ids = fleet.insert("nap", 300, "[0.01]")
    for mark in (40, 100, 160):
        eventually(lambda mark=mark: fleet.finished(ids) >= mark)
        fleet.query(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where datname = current_database() and application_name like 'pgtasks%%'"
        )

    states = fleet.wait(ids, timeout=60)

    assert set(states.values()) == {"completed"}
    assert all(events == ["start", "end"] for events in fleet.events().values())


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_stopped_past_its_lease_is_rescued_and_wakes_up_harmless(
    fleet: Fleet, pool: str
):
    sleeper = fleet.start("-c", "2", "-P", pool, "-Q", "journey")
    safe = fleet.insert("safe_nap", 2, "[0.5]")
    eventually(lambda: len(fleet.events()) == 2)
    group = [sleeper.pid, *children(sleeper.pid)] if pool == "prefork" else [sleeper.pid]

    for pid in group:
        os.kill(pid, signal.SIGSTOP)
    fleet.start("-c", "2", "-P", pool, "-Q", "journey")
    states = fleet.wait(safe, timeout=30)
    for pid in group:
        os.kill(pid, signal.SIGCONT)
    more = fleet.insert("quick", 50)
    fleet.wait(more)

    assert set(states.values()) == {"completed"}
    eventually(
        lambda: "goes on as a new one" in fleet.log(0),
        message="the worker did not notice that it had been given up",
    )
    assert set(fleet.states(safe).values()) == {"completed"}
    rows = fleet.query(
        "select lost from pgtasks.finished_jobs where task_id = any(%s)", safe
    )
    assert all(lost == (1,) for lost in rows)


def test_a_lost_answer_to_a_claim_loses_no_job(fleet: Fleet):
    proxy = Proxy(fleet.url)
    try:
        fleet.start("-c", "2", "-Q", "journey", url=proxy.url)
        proxy.lose_answer_with = b"shop.quick"
        ids = fleet.insert("quick", 40)

        states = fleet.wait(ids, timeout=30)
    finally:
        proxy.close()

    assert proxy.lost == 1
    assert set(states.values()) == {"completed"}
    assert all(events == ["start"] for events in fleet.events().values())


@pytest.fixture
def refusal(fleet: Fleet) -> Iterator[None]:
    """Have the server refuse one result, as it refuses text that it cannot hold."""
    fleet.query(
        "alter table pgtasks.finished_jobs add constraint refusal "
        "check (result is distinct from '\"unstorable\"')"
    )
    yield
    fleet.query("alter table pgtasks.finished_jobs drop constraint refusal")


@pytest.mark.usefixtures("refusal")
def test_a_result_that_the_server_refuses_costs_no_neighbour(fleet: Fleet):
    ids = fleet.insert("quick", 60)
    [bad] = fleet.insert("unstorable")
    ids += fleet.insert("quick", 60)
    fleet.start("-c", "2", "-Q", "journey")

    states = fleet.wait([*ids, bad])

    assert set(fleet.states(ids).values()) == {"completed"}
    assert states[bad] == "discarded"
    assert "could not be stored" in fleet.errors(bad)[-1]["message"]
    assert all(events == ["start"] for events in fleet.events().values())


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo", "asyncio", "gevent"])
def test_sigterm_lets_running_jobs_end_and_hands_waiting_ones_back(fleet: Fleet, pool: str):
    worker = fleet.start("-c", "2", "-P", pool, "-Q", "journey")
    count = 1 if pool == "solo" else 2
    running = fleet.insert("nap", count, "[1.5]")
    eventually(lambda: len(fleet.events()) == count)
    waiting = fleet.insert("quick", 30)

    code = fleet.stop(worker)

    assert code == 0
    assert set(fleet.states(running).values()) == {"completed"}
    assert fleet.tally(waiting) == {"available": 30}
    assert fleet.query("select max(attempt), max(lost) from pgtasks.jobs") == [(0, 0)]
    assert fleet.query("select count(*) from pgtasks.workers where stopped_at is null") == [
        (0,)
    ]


def test_time_limits_end_the_job_that_they_are_meant_for(fleet: Fleet):
    fleet.start("-c", "1", "-Q", "journey")
    hard, soft = fleet.insert("overrun"), fleet.insert("soft_overrun")
    others = fleet.insert("quick", 30)

    states = fleet.wait(hard + soft + others)

    assert states[hard[0]] == "discarded"
    assert fleet.errors(hard[0])[-1]["kind"] == "TimeLimitExceeded"
    assert states[soft[0]] == "completed"
    assert set(fleet.states(others).values()) == {"completed"}
    assert all(events.count("start") == 1 for events in fleet.events().values())


def test_a_short_job_does_not_wait_behind_a_long_one(fleet: Fleet):
    fleet.start("-c", "2", "-Q", "journey")
    fleet.wait(fleet.insert("quick", 300))  # so that it looks ahead
    ids = fleet.insert("quick", 50)
    long = fleet.insert("nap", 1, "[20]")
    ids += fleet.insert("quick", 100)

    began = time.monotonic()
    fleet.wait(ids)

    assert time.monotonic() - began < 5
    assert fleet.states(long)[long[0]] == "executing"


def test_children_are_replaced_after_their_share_of_jobs(fleet: Fleet):
    fleet.start("-c", "1", "-Q", "journey", "--max-tasks-per-child", "10")

    ids = fleet.insert("quick", 100)
    fleet.wait(ids)

    [(processes,)] = fleet.query("select count(distinct pid) from ledger")
    assert processes == 10
    assert all(events == ["start"] for events in fleet.events().values())


def test_a_task_that_holds_the_interpreter_is_not_taken_for_dead(fleet: Fleet):
    fleet.lease = 1.0
    fleet.start("-c", "2", "-P", "threads", "-Q", "journey")
    ids = fleet.insert("hold_the_interpreter", 1, "[4]")
    eventually(lambda: len(fleet.events()) == 1)
    fleet.start("-c", "1", "-Q", "journey")

    states = fleet.wait(ids, timeout=60)

    assert states[ids[0]] == "completed"
    assert fleet.events()[ids[0]] == ["start", "end"]
    assert "goes on as a new one" not in fleet.log(0)
