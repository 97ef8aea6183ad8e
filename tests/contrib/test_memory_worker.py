"""A worker beside a test whose jobs and results are in memory: no database, no process."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from helpers import eventually
from pgtasks import Celery, signals
from pgtasks.app.memory import queue_of
from pgtasks.contrib.testing.worker import TestWorkController, start_worker
from pgtasks.exceptions import TaskRevokedError

pytest_plugins = ["pytester"]


@pytest.fixture
def app(memory_app, logging_as_it_was):
    """Its settings leave the root logger alone, so that pytest still hears it."""
    memory_app.conf.worker_hijack_root_logger = False
    memory_app.log.loglevel = 0
    return memory_app


@pytest.fixture
def work(app):
    """Starts workers that end with the test."""

    def work(**options: Any):
        options.setdefault("perform_ping_check", False)
        return start_worker(app, loglevel=0, **options)

    return work


def test_it_runs_what_is_sent(app, work):
    @app.task
    def add(x, y):
        return x + y

    with work() as worker:
        assert add.delay(1, 2).get(timeout=10) == 3
        assert isinstance(worker, TestWorkController)
        assert (worker.queues, worker.concurrency) == (["celery"], 1)


def test_it_answers_the_ping_of_start_worker(app, work):
    import pgtasks.contrib.testing.tasks  # noqa: F401 - celery.ping

    with work(perform_ping_check=True, hostname="me@here") as worker:
        assert worker.hostname == "me@here"


@pytest.mark.parametrize("pool", ["solo", "threads"])
def test_no_thread_is_left(app, work, pool):
    before = set(threading.enumerate())
    with work(pool=pool, concurrency=3):
        assert set(threading.enumerate()) - before
    left = set(threading.enumerate()) - before

    assert not [thread for thread in left if thread.name.startswith(("test worker", "gen"))]


def test_threads_run_tasks_beside_each_other(app, work):
    meeting = threading.Barrier(2)

    @app.task
    def meet():
        meeting.wait(10)
        return threading.get_ident()

    with work(pool="threads", concurrency=2):
        one, other = meet.delay(), meet.delay()
        assert one.get(timeout=10) != other.get(timeout=10)


def test_what_is_due_later_runs_later(app, work):
    ran = []

    @app.task
    def note(name):
        ran.append(name)

    with work():
        later = note.apply_async(("later",), countdown=0.2)
        note.delay("now")
        later.get(timeout=10)

    assert ran == ["now", "later"]


def test_retries_are_run_until_they_succeed(app, work):
    @app.task(bind=True, max_retries=5, default_retry_delay=0.01)
    def flaky(self):
        if self.request.retries < 2:
            raise self.retry()
        return self.request.retries

    with work():
        assert flaky.delay().get(timeout=10) == 2


def test_failures_call_errbacks_and_callbacks_follow_success(app, work):
    called = []

    @app.task
    def fail():
        raise KeyError("x")

    @app.task
    def note(value):
        called.append(value)

    @app.task
    def double(x):
        return 2 * x

    with work():
        failed = fail.apply_async(link_error=note.s())
        with pytest.raises(KeyError):
            failed.get(timeout=10)
        double.apply_async((21,), link=note.s())
        eventually(lambda: called == [failed.id, 42])


def test_a_job_that_has_expired_is_revoked(app, work):
    @app.task
    def never():
        raise AssertionError("run after it had expired")

    result = never.apply_async(expires=-1)
    with work(), pytest.raises(TaskRevokedError, match="expired"):
        result.get(timeout=10)
    assert result.state == "REVOKED"


def test_a_worker_takes_from_its_own_queues(app, work):
    @app.task
    def name():
        return "x"

    with work(queues=["mail"]):
        elsewhere = name.delay()
        assert name.apply_async(queue="mail").get(timeout=10) == "x"
        assert not elsewhere.ready()
    assert [job.task_id for job in queue_of(app).waiting()] == [elsewhere.id]


def test_the_worker_is_named_in_extended_results(app, work):
    app.conf.result_extended = True

    @app.task
    def add(x, y=0):
        return x + y

    with work(hostname="me@here"):
        result = add.delay(1, y=2)
        result.get(timeout=10)

    assert (result.name, result.worker) == (add.name, "me@here")
    assert (result.args, result.kwargs) == ([1], {"y": 2})
    assert (result.retries, result.queue) == (0, "celery")


def test_a_running_task_ends_before_the_worker(app, work):
    begun, ended = threading.Event(), []

    @app.task
    def slow(seconds):
        begun.set()
        threading.Event().wait(seconds)
        ended.append(seconds)

    with work():
        slow.delay(0.1)
        assert begun.wait(10)

    assert ended == [0.1]


def test_what_waits_is_left_for_the_next_worker(app, work):
    @app.task
    def add(x, y):
        return x + y

    with work():
        pass
    result = add.delay(1, 1)
    with work():
        assert result.get(timeout=10) == 2


def test_signals_tell_of_its_life(app, work, heard):
    told = heard(
        "worker_init",
        "worker_process_init",
        "worker_ready",
        "worker_shutting_down",
        "worker_shutdown",
    )
    with work():
        pass

    assert [each["name"] for each in told] == [
        "worker_init",
        "worker_process_init",
        "worker_ready",
        "worker_shutting_down",
        "worker_shutdown",
    ]


def test_a_worker_that_cannot_start_says_why(app, work):
    def refuse(**kwargs: Any) -> None:
        raise SystemExit("no tasks here")

    signals.worker_init.connect(refuse)
    try:
        with pytest.raises(SystemExit, match="no tasks here"), work():
            raise AssertionError("not reached")
    finally:
        signals.worker_init.disconnect(refuse)


def test_an_exception_of_the_test_ends_the_worker(app, work):
    with pytest.raises(LookupError), work() as worker:
        raise LookupError

    assert worker._ended.is_set()


def test_the_app_of_a_test_is_current_in_its_tasks(app, work):
    from pgtasks import current_app

    @app.task
    def which():
        return current_app.main

    with Celery("other", set_as_current=False), work():
        assert which.delay().get(timeout=10) == "tests"


def test_the_fixtures_of_the_plugin_need_no_database(pytester):
    pytester.makeconftest("pytest_plugins = ['pgtasks.contrib.pytest']")
    pytester.makepyfile(
        """
        def test_add(celery_app, celery_worker):
            @celery_app.task
            def add(x, y):
                return x + y

            assert celery_app.conf.broker_url == "memory://"
            assert add.delay(2, 3).get(timeout=10) == 5

        def test_another(celery_app, celery_worker):
            assert celery_worker.app is celery_app
        """
    )

    run = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    run.assert_outcomes(passed=2)
