"""Stopping a worker from inside of its process: by its methods, and by `worker.state`."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from helpers import eventually
from pgtasks import Celery, signals
from pgtasks.apps.worker import Worker, install_worker_term_handler
from pgtasks.contrib.testing.worker import start_worker
from pgtasks.worker import state


@pytest.fixture
def app(database_url: str) -> Iterator[Celery]:
    with Celery("stopping", broker=database_url, set_as_current=False) as app:
        yield app


@pytest.fixture
def told() -> Iterator[list[tuple[str, Any, int]]]:
    heard: list[tuple[str, Any, int]] = []

    def note(sender, sig, how, exitcode, **kwargs):
        heard.append((how, sig, exitcode))

    signals.worker_shutting_down.connect(note)
    yield heard
    signals.worker_shutting_down.disconnect(note)


@pytest.fixture
def busy(app: Celery) -> Iterator[dict[str, threading.Event]]:
    """A task that runs until it is let go."""
    events = {"begun": threading.Event(), "free": threading.Event()}

    @app.task(name="stopping.wait", acks_late=True, shared=False)
    def wait():
        events["begun"].set()
        events["free"].wait(60)

    yield events
    events["free"].set()


def states(app: Celery) -> list[tuple[str, int]]:
    import psycopg

    with psycopg.connect(app.conf.broker_url) as connection:
        return connection.execute(
            "select state::text, attempt from pgtasks.all_jobs"
        ).fetchall()


@pytest.mark.parametrize(
    ("flag", "code", "how"), [("should_stop", 3, "Warm"), ("should_terminate", 4, "Cold")]
)
def test_a_flag_stops_the_workers_of_the_process(
    app, told, monkeypatch, flag: str, code: int, how: str
):
    monkeypatch.setattr(state, flag, None)
    with start_worker(app, pool="threads", perform_ping_check=False) as worker:
        setattr(state, flag, code)
        eventually(lambda: worker.ended, timeout=20)

    assert worker.exitcode == code
    assert [each[0] for each in told] == [how]


def test_a_program_may_have_a_signal_of_its_own_stop_a_worker(app, told, monkeypatch):
    monkeypatch.setattr(state, "should_stop", None)
    before = signal.getsignal(signal.SIGUSR2)
    try:
        with start_worker(app, pool="threads", perform_ping_check=False) as worker:
            install_worker_term_handler(worker, sig="SIGUSR2", exitcode=3)
            os.kill(os.getpid(), signal.SIGUSR2)
            eventually(lambda: worker.ended, timeout=20)
    finally:
        signal.signal(signal.SIGUSR2, before)

    assert worker.exitcode == 3
    assert told[0] == ("Warm", "SIGUSR2", 3)


def test_a_subclass_may_override_what_a_worker_is_told(app):
    class Wide(Worker):
        def setup_defaults(self, **kwargs):
            super().setup_defaults(**kwargs)
            self.concurrency = 7

    assert Wide(app, concurrency=2, pool="solo").concurrency == 7


def test_who_asks_first_says_the_exit_code_and_a_failure_overrides_it(app, told):
    with start_worker(app, pool="threads", perform_ping_check=False) as worker:
        worker.stop(exitcode=5)
        worker.stop(exitcode=6)
        assert worker.exitcode == 5
        worker.died("test", None)
        eventually(lambda: worker.exitcode == 70)

    assert told[0] == ("Warm", None, 5)


def test_a_job_that_no_one_can_stop_is_given_to_others(app, busy, told):
    with start_worker(app, pool="threads", perform_ping_check=False) as worker:
        app.send_task("stopping.wait")
        assert busy["begun"].wait(20)
        worker.terminate()
        eventually(lambda: worker.ended, timeout=20)

        assert states(app) == [("available", 0)]
    assert told == [("Cold", None, 1)]


def test_a_soft_stop_is_over_when_nothing_runs(app, busy):
    app.conf.worker_soft_shutdown_timeout = 300
    with start_worker(app, pool="threads", perform_ping_check=False) as worker:
        app.send_task("stopping.wait")
        assert busy["begun"].wait(20)
        worker.stop_soon(cold=True, soft=True)
        eventually(lambda: worker.stopping)
        busy["free"].set()
        eventually(lambda: worker.ended, timeout=20)

    assert states(app) == [("completed", 1)]


def test_an_idle_worker_waits_for_a_soft_stop_only_if_it_is_told_to(app, monkeypatch):
    app.conf.worker_soft_shutdown_timeout = 300
    waits: list[float] = []
    with start_worker(app, pool="threads", perform_ping_check=False) as worker:
        monkeypatch.setattr(worker._hurry, "wait", waits.append)
        worker.wait_for_soft_shutdown()
        assert waits == []
        app.conf.worker_enable_soft_shutdown_on_idle = True
        thread = threading.Thread(target=worker.wait_for_soft_shutdown, daemon=True)
        thread.start()
        eventually(lambda: waits)
        worker._hurry.set()
        thread.join(20)

    assert 299 < waits[0] <= 300
    assert not thread.is_alive()
