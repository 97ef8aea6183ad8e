"""Limits of the whole fleet and paused queues, with real workers, by the tasks' own notes.

``LIMITS=full`` runs the largest journey at full size: 20,000 jobs over 50 keys.
"""

from __future__ import annotations

import os
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from fleet import Fleet
from helpers import eventually
from pgtasks import Celery

pytestmark = [pytest.mark.journey, pytest.mark.timeout(180)]

FULL = os.environ.get("LIMITS") == "full"


class Note(NamedTuple):
    task: str
    key: str
    began: float
    ended: float


class Turnstile:
    """A fleet of workers of ``turnstile``, and what its tasks have noted."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self.fleet = fleet
        self.path = folder / "notes"
        self.path.touch()
        os.environ["JOURNEY_URL"] = fleet.url
        self.app = Celery("turnstile-client", broker=fleet.url, set_as_current=False)
        import turnstile

        for name in ("visit", "knock", "plain"):
            task = turnstile.app.tasks[f"turnstile.{name}"]
            self.app.task(
                name=task.name,
                concurrency=task.concurrency,
                concurrency_key=task.concurrency_key,
                rate=task.rate,
            )(task.run)
        self.app.finalize()

    def start(self, *options: str):
        return self.fleet.start(*options, app="turnstile", JOURNEY_NOTES=str(self.path))

    def send(self, task: str, *calls: tuple[object, ...], queue: str = "journey") -> None:
        self.app.send_tasks(
            [(f"turnstile.{task}", call, {}, {"queue": queue}) for call in calls]
        )

    def notes(self) -> list[Note]:
        lines = self.path.read_text().splitlines()
        return [
            Note(task, key, float(began), float(ended))
            for task, key, began, ended in (line.split(" ") for line in lines)
        ]

    def wait(self, count: int, timeout: float = 60) -> list[Note]:
        eventually(lambda: self.path.read_bytes().count(b"\n") >= count, timeout)
        return self.notes()


@pytest.fixture
def turnstile(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Turnstile]:
    monkeypatch.setenv("JOURNEY_URL", fleet.url)
    turnstile = Turnstile(fleet, tmp_path)
    yield turnstile
    turnstile.app.close()


def most_at_once(notes: list[Note]) -> dict[str, int]:
    """How many of each key ran at a time, at most."""
    moments = defaultdict(list)
    for note in notes:
        moments[note.key] += [(note.began, 1), (note.ended, -1)]
    most = {}
    for key, changes in moments.items():
        running = most[key] = 0
        for _, change in sorted(changes):
            running += change
            most[key] = max(most[key], running)
    return most


def most_within(moments: list[float], seconds: float) -> int:
    """How many of these are in any window of this length, at most."""
    ordered = sorted(moments)
    return max(
        sum(1 for other in ordered[place:] if other < moment + seconds)
        for place, moment in enumerate(ordered)
    )


def test_never_more_than_three_of_a_key_run_at_once_and_no_place_is_wasted(
    turnstile: Turnstile,
) -> None:
    jobs, keys, workers = (20_000, 50, 4) if FULL else (1_200, 10, 4)
    seconds = 0.4 if FULL else 0.1
    for _ in range(workers):
        turnstile.start("-P", "threads", "-c", str(keys), "-Q", "journey")
    ideal = jobs * seconds / (3 * keys)

    turnstile.send("visit", *[(f"a{number % keys}", seconds) for number in range(jobs)])
    notes = turnstile.wait(jobs, timeout=20 * ideal)

    took = max(note.ended for note in notes) - min(note.began for note in notes)
    print(f"{jobs} jobs in {took:.1f} s, ideal {ideal:.1f} s: {took / ideal:.2f}")
    assert len(notes) == jobs
    assert max(most_at_once(notes).values()) == 3
    assert took <= (1.3 if FULL else 2.5) * ideal


def test_a_killed_worker_gives_its_places_back(turnstile: Turnstile) -> None:
    doomed = turnstile.start("-P", "threads", "-c", "4", "-Q", "journey")
    turnstile.send("visit", *[("a", 60.0)] * 3)
    running = (
        "select running from pgtasks.gates where limit_name = 'concurrency:turnstile.visit'"
    )
    eventually(lambda: turnstile.fleet.query(running) == [(3,)])
    turnstile.fleet.query("update pgtasks.jobs set args = '[\"a\", 0.01]'")
    turnstile.send("visit", *[("a", 0.01)] * 5)

    os.killpg(doomed.pid, signal.SIGKILL)
    doomed.wait()
    turnstile.start("-P", "threads", "-c", "8", "-Q", "journey")
    notes = turnstile.wait(8, timeout=30)

    assert max(most_at_once(notes).values()) <= 3
    eventually(lambda: turnstile.fleet.query(running) == [(0,)])
    assert turnstile.fleet.query("select count(*) from pgtasks.places") == [(0,)]


def test_no_more_start_within_any_second_than_the_rate_allows(turnstile: Turnstile) -> None:
    for _ in range(2):
        turnstile.start("-P", "threads", "-c", "8", "-Q", "journey")

    turnstile.send("knock", *[()] * 70)
    turnstile.wait(70)

    def claimed() -> list[float]:
        rows = turnstile.fleet.query(
            "select extract(epoch from attempted_at)::float8 from pgtasks.finished_jobs"
        )
        return [moment for (moment,) in rows]

    moments = eventually(lambda: len(claimed()) == 70 and claimed())
    # A claim counts from its beginning, and notes in each row when it wrote it.
    assert most_within(moments, 0.95) <= 20
    assert 2.95 <= max(moments) - min(moments) < 10


def test_a_full_key_holds_nobody_up_behind_it(turnstile: Turnstile) -> None:
    turnstile.start("-P", "threads", "-c", "8", "-Q", "journey")
    turnstile.send("visit", *[("a", 30.0)] * 3)
    running = "select coalesce(sum(running), 0) from pgtasks.gates"
    eventually(lambda: turnstile.fleet.query(running) == [(3,)])
    turnstile.send("visit", *[("a", 0.0)] * 5_000)

    began = time.monotonic()
    turnstile.send("visit", ("b", 0.0))
    turnstile.send("plain", ())
    notes = turnstile.wait(2)

    assert {note.key for note in notes} == {"b", "-"}
    assert time.monotonic() - began < 3


def test_a_paused_queue_stays_paused_when_workers_start_anew(turnstile: Turnstile) -> None:
    first = turnstile.start("-P", "threads", "-c", "2", "-Q", "journey,other")
    turnstile.app.queues.pause("journey", by="the test")
    turnstile.send("plain", ("0.0",))
    turnstile.fleet.stop(first)
    turnstile.start("-P", "threads", "-c", "2", "-Q", "journey,other")
    turnstile.send("plain", (0.0,), queue="other")
    turnstile.wait(1)

    waiting = "select state::text from pgtasks.jobs"
    eventually(lambda: turnstile.fleet.query(waiting) == [("available",)])
    checked = turnstile.app.queues.check("journey")
    assert checked.paused and checked.by == "the test"
    assert checked.states == {"available": 1}

    turnstile.fleet.query("update pgtasks.jobs set args = '[0.0]'")
    turnstile.app.queues.resume("journey")
    turnstile.wait(2)


def test_after_pause_has_returned_nothing_is_claimed(turnstile: Turnstile) -> None:
    for _ in range(2):
        turnstile.start("-P", "threads", "-c", "4", "-Q", "journey")
    turnstile.send("plain", *[(0.002,)] * 3_000)
    turnstile.wait(50)

    for _ in range(5):
        began = time.monotonic()
        turnstile.app.queues.pause("journey")
        print(f"pause() took {(time.monotonic() - began) * 1000:.0f} ms")
        [(paused_at,)] = turnstile.fleet.query("select clock_timestamp()")
        held = "select count(*) from pgtasks.jobs where state = 'executing'"
        eventually(lambda held=held: turnstile.fleet.query(held) == [(0,)])
        late = "select count(*) from pgtasks.all_jobs where attempted_at > %s"
        assert turnstile.fleet.query(late, paused_at) == [(0,)]
        before = len(turnstile.notes())
        turnstile.app.queues.resume("journey")
        turnstile.wait(before + 100)


def test_no_more_jobs_of_a_queue_run_in_a_worker_than_it_was_started_for(
    turnstile: Turnstile,
) -> None:
    turnstile.start("-P", "threads", "-c", "6", "-Q", "journey:2,other")
    turnstile.send("plain", *[(0.05,)] * 20)
    turnstile.send("visit", *[("x", 0.05)] * 20, queue="other")
    notes = turnstile.wait(40)

    assert most_at_once(notes)["-"] == 2

    turnstile.app.queues.scale("journey", 4)
    turnstile.send("plain", *[(0.05,)] * 40)
    more = turnstile.wait(80)[40:]
    assert 2 < most_at_once(more)["-"] <= 4


def test_a_queue_is_started_and_stopped_on_one_node_and_stays_so(
    turnstile: Turnstile,
) -> None:
    first = turnstile.start("-P", "threads", "-c", "2", "-Q", "journey")
    turnstile.app.queues.start("extra", limit=1, node="w1@journey")
    turnstile.app.queues.stop("journey", node="w1@journey")
    turnstile.send("plain", *[(0.01,)] * 3, queue="extra")

    turnstile.start("-P", "threads", "-c", "2", "-Q", "journey")
    turnstile.wait(3)

    served = (
        "select name, queues from pgtasks.workers where stopped_at is null order by name"
    )
    assert turnstile.fleet.query(served) == [
        ("w0@journey", ["journey"]),
        ("w1@journey", ["extra"]),
    ]
    turnstile.fleet.stop(first)
    turnstile.app.queues.stop("extra")
    turnstile.app.queues.start("journey")
    eventually(lambda: turnstile.fleet.query(served) == [("w1@journey", ["journey"])])
