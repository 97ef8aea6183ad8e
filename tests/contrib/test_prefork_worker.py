"""A worker with child processes in a thread of the test's own process."""

from __future__ import annotations

import logging
import os
import warnings
from typing import Any

import pytest

from helpers import eventually
from pgtasks import chord, group
from pgtasks.app.traceinfo import LOG_FAILURE, LOG_RECEIVED, LOG_SUCCESS
from pgtasks.contrib.testing.app import setup_default_app
from pgtasks.contrib.testing.worker import start_worker
from pgtasks.exceptions import ChordError, ImproperlyConfigured, TaskRevokedError
from pgtasks.worker import state
from pgtasks.worker.pools.prefork import PreforkPool

pytestmark = pytest.mark.usefixtures("logging_as_it_was")


class Unpicklable(Exception):
    """An exception that holds what cannot be sent from process to process."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.held = lambda: None


@pytest.fixture
def work(postgres_app, tmp_path):
    """The tasks of this module, and a worker with one child that runs them."""
    app = postgres_app
    app.conf.worker_hijack_root_logger = False

    class Tasks:
        @app.task(name="add", shared=False)
        def add(x, y):
            return x + y

        @app.task(name="pid", shared=False)
        def pid(*args):
            return os.getpid()

        @app.task(name="fail", shared=False)
        def fail(*args):
            raise ValueError("burnt")

        @app.task(name="fail_oddly", shared=False)
        def fail_oddly():
            raise Unpicklable("odd")

        @app.task(name="again", bind=True, shared=False)
        def again(self, path):
            if not self.request.retries:
                raise self.retry(countdown=1)
            with open(path) as opened:
                opened.read()

        @app.task(name="wait_for", shared=False)
        def wait_for(path):
            eventually(lambda: os.path.exists(path), timeout=30)

        @app.task(name="look", shared=False)
        def look(request, exc, traceback, path):
            seen = app.AsyncResult(request.id)
            with open(path, "w") as opened:
                opened.write(f"{seen.state} {seen.result!r}")

        @app.task(name="note", shared=False)
        def note(path):
            with open(path, "a") as opened:
                opened.write("called\n")

        @app.task(name="vanish", bind=True, shared=False)
        def vanish(self):
            from pgtasks.canvas import _chain

            raise self.replace(_chain())

    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.INFO)
    try:
        with (
            warnings.catch_warnings(),
            setup_default_app(app),
        ):
            warnings.simplefilter("error", RuntimeWarning)  # of threads that are forked
            with start_worker(
                app, pool="prefork", loglevel="INFO", perform_ping_check=False
            ) as worker:
                Tasks.worker = worker
                yield Tasks
    finally:
        root.setLevel(level)


def of(caplog: Any, result: Any) -> list[tuple[str, str]]:
    return [
        (record.name, record.msg)
        for record in list(caplog.records)
        if getattr(record, "data", {}).get("id") == result.id
    ]


def test_children_run_the_jobs_and_the_test_sees_all_that_becomes_of_them(work, caplog):
    assert work.worker.pool_cls is PreforkPool
    result = work.add.s(2, 2).set(argsrepr="secret", kwargsrepr="none").delay()
    assert result.get(timeout=30) == 4
    assert work.pid.delay().get(timeout=30) != os.getpid()

    # The log of the child, too.
    received = ("celery.worker.strategy", LOG_RECEIVED)
    eventually(
        lambda: of(caplog, result) == [received, ("celery.app.trace", LOG_SUCCESS)],
        timeout=30,
    )
    told = [record.data for record in caplog.records if hasattr(record, "data")]
    assert {(each["args"], each["kwargs"]) for each in told if each["id"] == result.id} == {
        ("secret", "none")
    }
    odd = work.fail_oddly.delay()
    with pytest.raises(Exception, match="odd"):
        odd.get(timeout=30)
    eventually(
        lambda: of(caplog, odd) == [received, ("celery.app.trace", LOG_FAILURE)],
        timeout=30,
    )

    eventually(lambda: result.id in state.successful_requests, timeout=30)
    assert odd.id not in state.successful_requests


def test_a_task_that_runs_is_pending_until_it_says_more(work, tmp_path):
    """As in Celery; so the first word of one that is retried is RETRY."""
    path = tmp_path / "open"
    running = work.wait_for.delay(str(path))
    eventually(
        lambda: running.id in [job.task_id for job in work.worker.held()], timeout=30
    )
    assert running.state == "PENDING"
    path.touch()
    running.get(timeout=30)

    again = work.again.delay(str(path))
    eventually(lambda: again.state != "PENDING", timeout=30)
    assert again.state == "RETRY"
    assert again.get(timeout=30) is None


def test_an_errback_that_is_called_at_once_sees_how_the_task_has_ended(work, tmp_path):
    path = tmp_path / "seen"
    failed = work.fail.apply_async(link_error=work.look.s(str(path)))
    with pytest.raises(ValueError, match="burnt"):
        failed.get(timeout=30)

    assert path.read_text() == "FAILURE ValueError('burnt')"


def test_a_chord_raises_what_its_member_raised(work):
    for _ in range(5):
        result = chord([work.add.si(1, 1) | work.fail.si()], work.pid.s()).delay()
        with pytest.raises(ValueError, match="burnt"):
            result.get(timeout=30)
        several = group(work.pid.s(), work.pid.s())
        result = chord([work.add.si(1, 1), work.fail.si()], several).delay()
        with pytest.raises(ValueError, match="burnt"):
            result.get(timeout=30)


def test_an_errback_of_a_chord_is_called_once_though_one_in_its_header_fails(
    work, tmp_path
):
    inner = chord([work.add.si(1, 1), work.fail.si()], work.pid.s())
    outer = chord([work.add.si(2, 2), inner], work.pid.s())
    with pytest.warns(PendingDeprecationWarning, match="header"):
        outer.link_error(work.note.si(str(tmp_path / "notes")))
    result = outer.delay()
    with pytest.raises(ChordError, match="burnt"):
        result.get(timeout=30)

    after = work.note.si(str(tmp_path / "after")).delay()
    after.get(timeout=30)
    eventually(lambda: (tmp_path / "notes").exists(), timeout=30)
    eventually(lambda: not work.worker.held(), timeout=30)
    assert (tmp_path / "notes").read_text() == "called\n"


def test_what_was_revoked_by_its_stamps_before_it_was_sent_does_not_run(work):
    for number in range(20):
        stamped = work.pid.s()
        stamped.stamp(order=f"order-{number}")
        result = stamped.freeze()
        result.revoke_by_stamped_headers(headers={"order": [f"order-{number}"]})
        stamped.apply_async()
        with pytest.raises(TaskRevokedError):
            result.get(timeout=30)
    assert isinstance(work.pid.delay().get(timeout=30), int)


def test_nothing_takes_the_place_of_a_task_that_is_replaced_with_nothing(work):
    with pytest.raises(ImproperlyConfigured, match="Cannot replace with an empty chain"):
        work.vanish.delay().get(timeout=30)
