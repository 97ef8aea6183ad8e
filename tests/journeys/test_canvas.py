"""Work-flows on real workers: Celery's guide, and what happens when workers are killed."""

from __future__ import annotations

import importlib
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fleet import Fleet
from helpers import children, eventually
from pgtasks import chain, chord, group
from pgtasks.exceptions import ChordError

pytestmark = [pytest.mark.journey, pytest.mark.timeout(300)]

#: How often a worker is killed in the long test; 50 for the full proof.
KILLS = int(os.environ.get("JOURNEY_KILLS", "8"))


@pytest.fixture
def kitchen(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The application, as the process that sends its tasks knows it."""
    monkeypatch.setenv("JOURNEY_URL", fleet.url)
    monkeypatch.setenv("JOURNEY_LEDGER", fleet.url)
    for name in ("kitchen", "shop"):
        sys.modules.pop(name, None)
    kitchen = importlib.import_module("kitchen")
    yield kitchen
    kitchen.app.close()
    for name in ("kitchen", "shop"):
        sys.modules.pop(name, None)


GUIDE: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "a chain": (lambda k: chain(k.add.s(2, 2), k.add.s(4), k.add.s(8)), 16),
    "pipes": (lambda k: k.add.s(2, 2) | k.add.s(4) | k.add.s(8), 16),
    "partials": (lambda k: k.add.s(4) | k.mul.s(8), None),
    "an immutable link": (lambda k: k.add.s(2, 2) | k.add.si(4, 4) | k.add.si(8, 8), 16),
    "a group": (lambda k: group(k.add.s(i, i) for i in range(10)), list(range(0, 20, 2))),
    "a chord": (lambda k: chord((k.add.s(i, i) for i in range(100)), k.xsum.s()), 9900),
    "a chord by pipe": (lambda k: group(k.add.s(i, i) for i in range(9)) | k.xsum.s(), 72),
    "a chord of one": (lambda k: chord([k.add.s(1, 1)], k.xsum.s()), 2),
    "a chord with an immutable body": (
        lambda k: chord([k.add.s(1, 1), k.add.s(2, 2)], k.add.si(20, 22)),
        42,
    ),
    "an empty chord": (lambda k: chord([], k.xsum.s()), 0),
    "a group behind a task": (
        lambda k: k.add.s(1, 1) | group(k.add.s(i) for i in range(3)),
        [2, 3, 4],
    ),
    "a group between tasks": (
        lambda k: k.add.s(1, 1) | group(k.add.s(i) for i in range(3)) | k.xsum.s(),
        9,
    ),
    "groups in a row": (
        lambda k: (
            group(k.add.s(i, i) for i in range(4))
            | k.xsum.s()
            | group(k.add.s(i) for i in range(4))
            | k.xsum.s()
            | k.add.s(1)
        ),
        55,
    ),
    "a group of chains": (
        lambda k: group(k.add.s(i, i) | k.mul.s(10) for i in range(4)),
        [0, 20, 40, 60],
    ),
    "a chord of chains": (
        lambda k: chord([k.add.s(i, i) | k.mul.s(10) for i in range(4)], k.xsum.s()),
        120,
    ),
    "a chord in a chord": (
        lambda k: chord(
            [chord([k.add.s(i, j) for j in range(3)], k.xsum.s()) for i in range(3)],
            k.xsum.s(),
        ),
        18,
    ),
    "a group as the body of a chord": (
        lambda k: (
            group(k.add.s(i, i) for i in range(3))
            | group(k.xsum.s(), k.identity.s())
        ),
        [6, [0, 2, 4]],
    ),
    "a group in a group": (
        lambda k: chord([k.add.s(1, 1), group(k.add.s(2, 2), k.add.s(3, 3))], k.xsum.s()),
        12,
    ),
    "a map": (lambda k: k.xsum.map([list(range(10)), list(range(100))]), [45, 4950]),
    "a starmap": (lambda k: k.add.starmap(zip(range(4), range(4), strict=True)), [0, 2, 4, 6]),
    "chunks": (
        lambda k: k.add.chunks(zip(range(9), range(9), strict=True), 3).group(),
        [[0, 2, 4], [6, 8, 10], [12, 14, 16]],
    ),
    "a task that becomes another": (lambda k: k.become.s(5) | k.add.s(1), 106),
    "a task that becomes a group": (lambda k: k.spread.s(10) | k.xsum.s(), 33),
    "a member that becomes a group": (
        lambda k: chord([k.spread.s(10), k.spread.s(20)], k.identity.s()),
        [[10, 11, 12], [20, 21, 22]],
    ),
    "a member that becomes another task": (
        lambda k: chord([k.become.s(1), k.add.s(1, 1)], k.xsum.s()),
        103,
    ),
    "a member that is retried": (
        lambda k: chord([k.at_second_try.s(1), k.add.s(1, 1)], k.xsum.s()),
        3,
    ),
    "a body that is retried": (
        lambda k: chord([k.add.s(1, 1)], k.xsum.s() | k.at_second_try.s()),
        2,
    ),
}  # fmt: skip


def test_the_canvas_of_the_guide(fleet: Fleet, kitchen: Any) -> None:
    fleet.start("-c", "2", "-Q", "journey", app="kitchen")
    found, expected = {}, {}
    for name, (make, value) in GUIDE.items():
        signature = make(kitchen)
        args = (2,) if name == "partials" else ()
        expected[name] = 48 if name == "partials" else value
        try:
            found[name] = signature.apply_async(args).get(timeout=20)
        except Exception as error:
            found[name] = error

    assert found == expected
    assert fleet.query("select task, task_id, state from pgtasks.jobs") == []


def test_a_chain_of_many_groups_stays_small(fleet: Fleet, kitchen: Any) -> None:
    flow = kitchen.identity.s(1)
    for _ in range(10):
        flow = flow | group(kitchen.add.s(n) for n in range(25)) | kitchen.xsum.s()
        flow = flow | kitchen.mul.s(0) | kitchen.add.s(1)
    result = flow.apply_async()
    fleet.start("-c", "2", "-Q", "journey", app="kitchen")

    assert result.get(timeout=60) == 1
    [(longest,)] = fleet.query(
        "select max(length(embed)) from pgtasks.finished_jobs where task <> 'kitchen.identity'"
    )
    assert longest < 128 * 1024


def test_failures_reach_everybody_who_waits(fleet: Fleet, kitchen: Any) -> None:
    fleet.start("-c", "2", "-Q", "journey", app="kitchen")
    errback = kitchen.on_error.s()
    body = kitchen.xsum.s().on_error(errback)
    failed = chord([kitchen.add.s(1, 1), kitchen.fail.s(), kitchen.add.s(2, 2)], body)()
    behind = (kitchen.fail.si() | kitchen.add.s(1) | kitchen.add.s(2))()
    nested = chord([kitchen.add.s(1, 1), kitchen.fail.si() | kitchen.add.s(1)], body)()

    # Not by its parents: somebody else may know no more than the id.
    for result in (failed, nested):
        with pytest.raises(ChordError, match=r"Dependency .* raised ValueError\('burnt'\)"):
            kitchen.app.AsyncResult(result.id).get(timeout=20)
        with pytest.raises((ChordError, ValueError), match="burnt"):
            result.get(timeout=20)
    with pytest.raises(ValueError, match="burnt"):
        kitchen.app.AsyncResult(behind.id).get(timeout=20)
    eventually(
        lambda: fleet.events().get(failed.id) == ["ChordError"], message=fleet.events
    )


def test_a_chain_goes_on_when_a_task_that_was_given_up_has_finished_after_all(
    fleet: Fleet, kitchen: Any
) -> None:
    sleeper = fleet.start("-c", "1", "-Q", "journey", app="kitchen")
    result = (kitchen.once.s(1, 2) | kitchen.add.s(10) | kitchen.add.s(100)).delay()
    ids = [result.parent.parent.id, result.parent.id, result.id]
    # Not by its row: what has been claimed and not begun is handed back, and runs at once.
    eventually(lambda: fleet.events().get(ids[0]) == ["start"])
    processes = [sleeper.pid, *children(sleeper.pid)]
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    fleet.start("-c", "1", "-Q", "journey", app="kitchen")

    assert set(fleet.wait(ids).values()) == {"discarded"}
    for pid in processes:
        os.kill(pid, signal.SIGCONT)

    eventually(
        lambda: set(fleet.states(ids).values()) == {"completed"},
        message=lambda: str(fleet.states(ids)),
    )
    assert kitchen.app.AsyncResult(result.id).get(timeout=5) == 111


def test_every_work_flow_ends_rightly_however_often_workers_are_killed(
    fleet: Fleet, kitchen: Any
) -> None:
    # group( chain( task, chord( header, body ), task ) ), of tasks that may run again.
    def flow(base: int) -> Any:
        return group(
            kitchen.add.s(base, number, 0.01)
            | chord([kitchen.add.s(each, 0.01) for each in range(5)], kitchen.xsum.s(0.01))
            | kitchen.add.s(1, 0.01)
            for number in range(4)
        )

    def expected(base: int) -> list[int]:
        return [5 * (base + number) + 10 + 1 for number in range(4)]

    generator = random.Random(KILLS)
    runs: list[tuple[int, Any]] = []
    worker = fleet.start("-c", "2", "-Q", "journey", app="kitchen")
    for kill in range(KILLS):
        for base in range(2 * kill, 2 * kill + 2):
            runs.append((base, flow(base).apply_async()))
        time.sleep(generator.uniform(0.02, 0.6))  # what is random here is the moment
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
        worker = fleet.start("-c", "2", "-Q", "journey", app="kitchen")

    for base, result in runs:
        assert result.get(timeout=60) == expected(base)
    eventually(lambda: fleet.query("select count(*) from pgtasks.jobs") == [(0,)])
    # Each task of each run is there once: 4 x (1 + 5 + 1 + 1).
    assert fleet.query(
        "select count(*), count(*) filter (where state = 'completed') "
        "from pgtasks.finished_jobs"
    ) == [(32 * len(runs), 32 * len(runs))]
