"""Both demos from end to end, as `make demo` and `pgtasks demo` run them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

NEWSLETTER = Path(__file__).parents[2] / "docs" / "examples" / "newsletter"

pytestmark = pytest.mark.journey


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=100,
    )


@pytest.mark.slow
def test_each_subscriber_is_served_exactly_once():
    demo = run(NEWSLETTER / "demo.py")

    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "2000 of 2000 jobs" in demo.stdout
    assert "each of 1,968 subscribers got the letter, exactly once" in flat(demo.stdout)
    assert demo.stderr == ""


@pytest.mark.slow
def test_a_killed_worker_costs_no_subscriber_the_letter():
    demo = run(NEWSLETTER / "demo.py", CHAOS="1")

    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "kill -9" in demo.stdout
    assert "2000 of 2000 jobs" in demo.stdout
    assert "each of 1,968 subscribers got the letter" in flat(demo.stdout)


def test_ctrl_c_leaves_no_process_behind():
    demo = subprocess.Popen(
        [sys.executable, "-u", NEWSLETTER / "demo.py"], stdout=subprocess.PIPE, text=True
    )
    assert demo.stdout
    for line in demo.stdout:
        if line.endswith("of 2000 jobs\n"):
            break
    offspring = descendants(demo.pid)
    demo.send_signal(signal.SIGINT)
    rest = demo.communicate(timeout=30)[0]

    assert demo.returncode == 130
    assert "Nothing of the demo is left running" in rest
    assert len(offspring) > 4
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and any(map(alive, offspring)):
        os.sched_yield()
    assert not [pid for pid in offspring if alive(pid)]


def test_a_demo_without_postgresql_ends_with_the_remedy(tmp_path):
    demo = run(NEWSLETTER / "demo.py", PGTASKS_PG_BIN=str(tmp_path))

    assert demo.returncode == 1
    assert "The demo stopped." in demo.stdout
    assert "PGTASKS_PG_BIN" in demo.stdout
    assert demo.stderr == ""


def test_the_small_demo_runs_without_the_examples():
    demo = run("-c", "from pgtasks.cli.demo import small; small(chaos=True)")

    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "kill -9" in demo.stdout
    assert "500 of 500 jobs" in demo.stdout


def flat(text: str) -> str:
    """The text without the line ends that the width of the terminal made."""
    return " ".join(text.split())


def descendants(pid: int) -> list[int]:
    """The children of a process, theirs, and so on."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    found = [int(child) for child in children]
    return found + [each for child in found for each in descendants(child)]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
