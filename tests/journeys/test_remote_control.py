"""Remote control at the size of a fleet: how soon many answer, and how soon a task is stopped."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet import Fleet
from helpers import eventually
from pgtasks import Celery

pytestmark = [pytest.mark.journey, pytest.mark.timeout(600)]

# At full size 50 and 200; then the figures are held, too, on a machine that does nothing else.
WORKERS = int(os.environ.get("REMOTE_CONTROL_WORKERS", "10"))
TERMINATIONS = int(os.environ.get("REMOTE_CONTROL_TERMINATIONS", "12"))
AT_ONCE = 5
"""Workers of one process, and tasks that run at a time."""

PROGRAM = Path(__file__).with_name("switchboard.py")


def report(what: str, seconds: list[float]) -> float:
    """Print the middle and the 99th of a hundred; the answer is the latter."""
    ordered = sorted(seconds)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    print(f"\n{what}: median {ordered[len(ordered) // 2]:.3f} s, p99 {p99:.3f} s, "
          f"of {len(ordered)}")  # fmt: skip
    return p99


@pytest.fixture
def switchboards(database_url: str) -> Iterator[None]:
    """As many workers as there shall be, that do nothing but answer."""
    started = [
        subprocess.Popen(
            [sys.executable, str(PROGRAM), database_url, str(first), str(AT_ONCE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for first in range(0, WORKERS, AT_ONCE)
    ]
    for process in started:
        assert process.stdout.readline() == b"ready\n"
    yield
    for process in started:
        process.communicate(timeout=60)


@pytest.mark.usefixtures("switchboards")
def test_a_whole_fleet_answers_at_once(database_url: str) -> None:
    with Celery("asking", broker=database_url, set_as_current=False) as app:
        inspect = app.control.inspect(timeout=60)
        asked = []
        for _ in range(10):
            began = time.monotonic()
            assert len(inspect.ping()) == WORKERS
            asked.append(time.monotonic() - began)
    commands = {}
    for words in (("inspect", "ping"), ("status",)):
        commands[words] = []
        for _ in range(3):
            began = time.monotonic()
            shown = subprocess.run(
                [sys.executable, "-m", "pgtasks", "-b", database_url, *words, "-t", "60"],
                capture_output=True,
                text=True,
                check=True,
            )
            commands[words].append(time.monotonic() - began)
            assert f"{WORKERS} nodes online." in shown.stdout
    slowest = report(f"ping of {WORKERS} workers", asked)
    slowest = max(
        [slowest]
        + [report(f"pgtasks {' '.join(w)}", took) for w, took in commands.items()]
    )  # fmt: skip

    if WORKERS >= 50:
        assert slowest < 1.0


def test_a_task_on_another_node_is_stopped_at_once(fleet: Fleet) -> None:
    for _ in range(2):
        fleet.start("-Q", "journey", "-c", str(AT_ONCE))
    took: list[float] = []
    with Celery("stopping", broker=fleet.url, set_as_current=False) as app:
        while len(took) < TERMINATIONS:
            ids = fleet.insert("nap", min(AT_ONCE, TERMINATIONS - len(took)), args="[600]")
            processes = eventually(lambda ids=ids: running(fleet, ids), timeout=60)
            for task_id, pid in processes.items():
                began = time.monotonic()
                app.control.revoke(task_id, terminate=True)
                eventually(lambda pid=pid: not alive(pid), timeout=60)
                eventually(
                    lambda task_id=task_id: fleet.states([task_id])[task_id] == "cancelled",
                    timeout=60,
                )
                took.append(time.monotonic() - began)
    p99 = report("revoke(terminate=True) to its end as REVOKED", took)

    events = fleet.events()
    assert all(told == ["start"] for told in events.values())
    if TERMINATIONS >= 200:
        assert p99 < 1.0


def running(fleet: Fleet, ids: list[str]) -> dict[str, int]:
    """The processes that run these tasks, if all of them have begun."""
    rows = fleet.query(
        "select task_id, pid from ledger where event = 'start' and task_id = any(%s)", ids
    )
    return dict(rows) if len(rows) == len(ids) else {}


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
