"""Workers are told to stop in every way there is: what runs, what waits, and how they end."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import time

import psycopg
import pytest

from fleet import Fleet
from helpers import children, eventually

pytestmark = [pytest.mark.journey, pytest.mark.timeout(300)]

# At full size 10 and 2,000, which takes a minute.
MIXES = int(os.environ.get("SHUTDOWN_MIXES", "3"))
JOBS = int(os.environ.get("SHUTDOWN_JOBS", "300"))

TERM, INT, QUIT = signal.SIGTERM, signal.SIGINT, signal.SIGQUIT
WARM = "worker: Warm shutdown (MainProcess)"
COLD = "worker: Cold shutdown (MainProcess)"


def started(fleet: Fleet, ids: list[str]) -> set[str]:
    return {each for each, events in fleet.events().items() if "start" in events} & set(ids)


def runs(fleet: Fleet, task_id: str) -> None:
    eventually(lambda: started(fleet, [task_id]), timeout=30)


def ended(process: subprocess.Popen[bytes], timeout: float = 60) -> int:
    return process.wait(timeout)


def row(fleet: Fleet, task_id: str) -> tuple[str, int, int, int]:
    [found] = fleet.query(
        "select state::text, attempt, crashes, lost from pgtasks.all_jobs where task_id = %s",
        task_id,
    )
    return found  # type: ignore[return-value]


# ── a random mix ────────────────────────────────────────────────────────────────────────


def exit_codes(signals: list[signal.Signals]) -> set[int]:
    """What a worker may end with, if it had begun when these came.

    The first signal says; but whoever wants it cold three times has it end on the spot.
    """
    codes = {1 if signals[0] is INT else 0}
    interrupts, quits = 0, 0
    for each in signals:
        interrupts += each is INT
        quits += each is QUIT or (each is INT and (interrupts > 1 or quits > 0))
    return codes | ({1} if quits > 2 else set())


def test_random_mixes_of_signals_lose_nothing_and_run_nothing_twice(fleet: Fleet):
    seed = int(os.environ.get("SHUTDOWN_SEED", random.randrange(10**6)))
    dice = random.Random(seed)
    once = fleet.insert("nap", JOBS // 2, args="[0.01]")
    again = fleet.insert("safe_nap", JOBS // 2, args="[0.01]")
    long = fleet.insert("nap", MIXES, args="[1.0]")
    ids = once + again + long
    forced = 0

    for mix in range(MIXES):
        soft = dice.choice([0.0, 0.0, 0.3])
        worker = fleet.start("-c", "4", "--", f"worker.soft_shutdown_timeout={soft}")
        mark = (mix + 1) * len(ids) // (MIXES + 2)
        eventually(lambda mark=mark: fleet.finished(ids) >= mark, timeout=60)
        sequence = [dice.choice([TERM, INT, QUIT]) for _ in range(dice.randint(1, 4))]
        for each in sequence:
            if worker.poll() is None:
                worker.send_signal(each)
            time.sleep(dice.uniform(0, 0.2))
        code = ended(worker)

        told = f"seed {seed}, mix {mix}: {[each.name for each in sequence]}, soft {soft}"
        assert code in exit_codes(sequence), f"{told}\n{fleet.log(mix)}"
        if fleet.query(
            "select 1 from pgtasks.workers where stopped_at is null and dead_at is null"
        ):
            forced += 1  # ended on the spot: what it held is rescued by the next one
        else:
            left = fleet.query(
                "select state::text, attempt from pgtasks.jobs where worker is not null"
            )
            assert left == [], told

    fleet.start("-c", "4")
    states = fleet.wait(ids, timeout=120)
    events = fleet.events()

    assert {states[each] for each in again} == {"completed"}, seed
    assert {states[each] for each in once + long} <= {"completed", "discarded"}, seed
    twice = [each for each in once + long if events[each].count("start") > 1]
    assert twice == [], seed
    for each in once + long:
        # What is given up had begun, and may have come to its end without having said so;
        # what had not begun runs.
        if states[each] == "discarded":
            assert events[each][:1] == ["start"], seed
            assert fleet.errors(each)[-1]["kind"] == "WorkerLostError"
        else:
            assert events[each] == ["start", "end"], seed
    # What was handed back has cost nothing: no attempt but those that were lost by force.
    rows = fleet.query(
        "select attempt, lost, crashes from pgtasks.finished_jobs where state = 'completed'"
    )
    assert all(attempt == 1 + lost and crashes == 0 for attempt, lost, crashes in rows), (
        seed
    )
    assert forced or not any(lost for _, lost, _ in rows)


# ── each stage ──────────────────────────────────────────────────────────────────────────


def test_a_warm_stop_lets_running_jobs_end_however_often_it_is_asked_for(fleet: Fleet):
    worker = fleet.start("-c", "1")
    [first] = fleet.insert("nap", args="[1.5]")
    waiting = fleet.insert("nap", 5, args="[0.01]")
    runs(fleet, first)

    for _ in range(3):
        worker.send_signal(TERM)
    # While the long one runs, what waited is free for others, and has cost nothing.
    eventually(lambda: fleet.tally(waiting) == {"available": 5})
    assert {row(fleet, each)[1:] for each in waiting} == {(0, 0, 0)}

    assert ended(worker) == 0
    assert fleet.states([first]) == {first: "completed"}
    assert fleet.tally(waiting) == {"available": 5}
    assert WARM in fleet.log(0)
    assert COLD not in fleet.log(0)


def test_ctrl_c_is_warm_and_then_cold(fleet: Fleet):
    worker = fleet.start("-c", "2")
    [first] = fleet.insert("nap", args="[60]")
    [safe] = fleet.insert("safe_nap", args="[60]")
    runs(fleet, first)
    runs(fleet, safe)

    # As a terminal does, which sends it to every process.
    os.killpg(worker.pid, INT)
    eventually(lambda: WARM in fleet.log(0))
    assert fleet.finished([first, safe]) == 0
    os.killpg(worker.pid, INT)

    assert ended(worker) == 1
    log = fleet.log(0)
    texts = [
        "worker: Hitting Ctrl+C again will initiate cold shutdown, terminating all running tasks!",
        WARM,
        "worker: Hitting Ctrl+C again will terminate all running tasks!",
        COLD,
    ]
    assert [log.index(text) for text in texts] == sorted(log.index(text) for text in texts)
    # One may not run again, and fails; the other is there at once, and has lost nothing.
    assert row(fleet, first)[0] == "discarded"
    assert row(fleet, safe) == ("available", 0, 0, 0)


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_a_cold_stop_waits_for_no_job_that_it_cannot_kill(fleet: Fleet, pool: str):
    worker = fleet.start("-c", "1", "-P", pool)
    [safe] = fleet.insert("safe_nap", args="[300]")
    runs(fleet, safe)

    worker.send_signal(TERM)
    eventually(lambda: WARM in fleet.log(0))
    worker.send_signal(QUIT)

    assert ended(worker) == 0
    assert row(fleet, safe) == ("available", 0, 0, 0)
    assert COLD in fleet.log(0)


def test_a_third_demand_for_the_cold_ends_it_on_the_spot(fleet: Fleet):
    worker = fleet.start("-c", "1")
    [safe] = fleet.insert("safe_nap", args="[300]")
    runs(fleet, safe)

    with psycopg.connect(fleet.url) as connection:
        # Nothing can be written, so that it cannot stop in order.
        connection.execute("lock table pgtasks.jobs")
        for text in (
            "worker: Hitting Ctrl+C again will terminate all running tasks!",
            "Waiting gracefully for cold shutdown to complete...",
        ):
            worker.send_signal(QUIT)
            eventually(lambda text=text: text in fleet.log(0))
        worker.send_signal(QUIT)
        assert ended(worker) == 1

    # Whoever comes next finds that it is dead, and what it had begun.
    fleet.start("-c", "1")
    eventually(lambda: len(fleet.events()[safe]) == 2, timeout=60)


# ── soft ────────────────────────────────────────────────────────────────────────────────


def test_a_soft_stop_may_be_cut_short(fleet: Fleet):
    worker = fleet.start("-c", "1", "--", "worker.soft_shutdown_timeout=300")
    [safe] = fleet.insert("safe_nap", args="[300]")
    runs(fleet, safe)

    worker.send_signal(QUIT)
    eventually(lambda: "Initiating Soft Shutdown" in fleet.log(0))
    assert COLD not in fleet.log(0)
    worker.send_signal(QUIT)

    assert ended(worker) == 0
    assert "Waiting gracefully for cold shutdown to complete..." in fleet.log(0)
    assert row(fleet, safe) == ("available", 0, 0, 0)


def test_a_soft_stop_ends_in_a_cold_one(fleet: Fleet):
    worker = fleet.start(
        "-c", "1", "--", "worker.soft_shutdown_timeout=0.5", REMAP_SIGTERM="SIGQUIT"
    )
    [safe] = fleet.insert("safe_nap", args="[300]")
    runs(fleet, safe)

    worker.send_signal(TERM)

    assert ended(worker) == 0
    log = fleet.log(0)
    assert log.index("Initiating Soft Shutdown, terminating in 0.5 seconds") < log.index(
        COLD
    )
    assert WARM not in log
    assert row(fleet, safe) == ("available", 0, 0, 0)


# ── other signals ───────────────────────────────────────────────────────────────────────


def test_a_worker_tells_where_it_is_opens_a_debugger_and_begins_anew(fleet: Fleet):
    pidfile = str(fleet.folder / "%n.pid")
    worker = fleet.start("-c", "1", "--pidfile", pidfile, CELERY_RDBSIG="1")
    worker.send_signal(signal.SIGUSR1)
    eventually(lambda: "MainThread" in fleet.log(0), message=lambda: fleet.log(0))
    fleet.wait(fleet.insert("quick"))
    [child] = children(worker.pid)

    os.kill(child, signal.SIGUSR2)
    told = eventually(
        lambda: re.search(r"telnet (\S+) (\d+)", fleet.log(0)),
        timeout=15,
        message=lambda: fleet.log(0)[-3000:],
    )
    with socket.create_connection((told[1], int(told[2])), timeout=30) as debugger:
        # It stops at the next line that the child comes to, which waits for a job.
        ids = fleet.insert("quick", 2)
        assert b"receive" in debugger.recv(1000)
        debugger.sendall(b"continue\n")
        fleet.wait(ids)

    [nap] = fleet.insert("nap", args="[0.5]")
    runs(fleet, nap)

    worker.send_signal(signal.SIGHUP)
    eventually(
        lambda: fleet.log(0).count("ready.") == 2, timeout=60, message=lambda: fleet.log(0)
    )

    assert fleet.states([nap]) == {nap: "completed"}
    assert "Restarting pgtasks worker" in fleet.log(0)
    # Still the same process, for whoever watches it.
    assert (fleet.folder / "w0.pid").read_text() == f"{worker.pid}\n"
    fleet.wait(fleet.insert("quick", 3))
    assert fleet.stop(worker) == 0
    assert not (fleet.folder / "w0.pid").exists()
