"""Functions in greenlets, hundreds of them in one worker; and clients that gevent patched."""

from __future__ import annotations

import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from textwrap import dedent
from typing import Any

import pytest

from ensemble import PATIENCE, Ensemble, ensemble
from fleet import Fleet
from helpers import eventually
from pgtasks import chain, chord, group
from pgtasks.exceptions import TaskRevokedError, TimeLimitExceeded
from pgtasks.job import NewJob
from pgtasks.storage import jobs

pytest.importorskip("gevent")
pytestmark = [pytest.mark.journey, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def choir(module_database: str, tmp_path_factory: Any) -> Iterator[Ensemble]:
    folder = tmp_path_factory.mktemp("choir")
    with ensemble(module_database, folder, "-P", "gevent", "-c", "300") as choir:
        yield choir


def test_three_hundred_wait_side_by_side(choir: Ensemble):
    results = group(choir.sig("nap", 1) for _ in range(300)).apply_async()
    found = results.get(timeout=PATIENCE)

    for result, seen in zip(results.results, found, strict=True):
        assert set(seen) == {result.id}
    [(took,)] = choir.fleet.query(
        "select extract(epoch from max(finished_at) - min(attempted_at)) "
        "from pgtasks.finished_jobs where group_id = %s",
        results.id,
    )
    assert took < 30  # one after the other it would be 300


def test_they_wait_for_the_database_side_by_side(choir: Ensemble):
    results = group(choir.sig("ask_the_server", 1) for _ in range(30)).apply_async()

    assert set(results.get(timeout=PATIENCE)) == {choir.pid}
    [(took,)] = choir.fleet.query(
        "select extract(epoch from max(finished_at) - min(attempted_at)) "
        "from pgtasks.finished_jobs where group_id = %s",
        results.id,
    )
    assert took < 15  # one after the other it would be 30


def test_one_that_is_revoked_is_interrupted_and_may_tidy_up(choir: Ensemble):
    result = choir.send("long_nap", 60)
    choir.expect(result, "start")
    result.revoke(terminate=True)

    with pytest.raises(TaskRevokedError, match="terminated"):
        result.get(timeout=PATIENCE)
    choir.expect(result, "start", "tidied up")


def test_time_limits_are_kept(choir: Ensemble):
    soft, hard = choir.send("softly_napped"), choir.send("killed_napping")
    late = choir.send("late_napping")

    assert soft.get(timeout=PATIENCE) == "in good time"
    with pytest.raises(TimeLimitExceeded):
        hard.get(timeout=PATIENCE)
    with pytest.raises(Exception, match="took longer than its timeout"):
        late.get(timeout=PATIENCE)
    assert [each["kind"] for each in choir.fleet.errors(late.id)] == ["TaskTimeout"] * 2


def test_coroutines_run_there_too(choir: Ensemble):
    together = group(choir.sig("rest", 0.2) for _ in range(5)).apply_async()
    soft, hard = choir.send("softly"), choir.send("killed")
    linked = chain(choir.sig("add", 1, 2), choir.sig("add", 4)).apply_async()
    joined = chord([choir.sig("add", n, n) for n in range(4)], choir.sig("total"))
    joined = joined.apply_async()

    for result, (*seen, _) in zip(
        together.results, together.get(timeout=PATIENCE), strict=True
    ):
        assert set(seen) == {result.id}
    assert soft.get(timeout=PATIENCE) == "in good time"
    with pytest.raises(TimeLimitExceeded):
        hard.get(timeout=PATIENCE)
    assert linked.get(timeout=PATIENCE) == 7
    assert joined.get(timeout=PATIENCE) == 12


def test_a_patched_client_sends_and_waits_side_by_side(choir: Ensemble):
    program = f"""
        from gevent import monkey
        monkey.patch_all()
        import gevent, time
        from pgtasks import Celery

        app = Celery("client", broker={choir.fleet.url!r})
        ticks = []

        def tick():
            while True:
                ticks.append(1)
                gevent.sleep(0.01)

        def ask(n):
            options = {{"args": [n, n], "queue": "journey"}}
            return app.send_task("choir.add", **options).get(timeout={PATIENCE})

        ticker = gevent.spawn(tick)
        greenlets = [gevent.spawn(ask, n) for n in range(20)]
        slow = app.send_task("choir.nap", args=[0.5], queue="journey")
        slow.get(timeout={PATIENCE})
        gevent.joinall(greenlets, raise_error=True)
        print([each.value for each in greenlets] == [2 * n for n in range(20)])
        # Others went on while it waited.
        print(len(ticks) > 10)
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", dedent(program)],
        capture_output=True,
        text=True,
        timeout=100,
    )

    assert done.stderr == ""
    assert done.stdout.split() == ["True", "True"]


@pytest.mark.parametrize(("pool", "task"), [("gevent", "long_nap"), ("asyncio", "long")])
def test_a_cold_stop_lets_what_it_interrupts_tidy_up(fleet: Fleet, pool: str, task: str):
    worker = fleet.start("-P", pool, "-c", "2", "-Q", "journey", app="choir")
    job = NewJob(f"choir.{task}", str(uuid.uuid4()), queue="journey", args="[60]")
    fleet.database.run(jobs.insert([job]))
    eventually(lambda: fleet.events()[job.task_id] == ["start"])

    worker.send_signal(signal.SIGQUIT)
    worker.wait(30)

    assert fleet.events()[job.task_id][-1] == "tidied up"
    assert fleet.states([job.task_id]) == {job.task_id: "discarded"}
    assert fleet.errors(job.task_id)[-1]["kind"] == "WorkerLostError"
