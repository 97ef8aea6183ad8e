"""What sending does while a test runs: ``pgtasks.testing.mode`` and ``task_testing``."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from pgtasks import Celery, chain, chord, group
from pgtasks.app.memory import queue_of
from pgtasks.contrib.testing.worker import TestWorkController
from pgtasks.exceptions import ImproperlyConfigured, NotRegistered
from pgtasks.result import EagerResult
from pgtasks.testing import all_enqueued, drain_queue, mode, perform_job


@pytest.fixture
def app(memory_app):
    return memory_app


@pytest.fixture
def add(app):
    @app.task(name="tests.add")
    def add(x, y):
        return x + y

    return add


@pytest.fixture
def total(app):
    @app.task(name="tests.total")
    def total(numbers):
        return sum(numbers)

    return total


def waiting(app):
    return [job.task for job in queue_of(app).waiting()]


# ── inline ──────────────────────────────────────────────────────────────────────────────


def test_inline_runs_a_job_at_once_and_stores_nothing(app, add):
    with mode(app, "inline"):
        result = add.delay(1, 2)

    assert isinstance(result, EagerResult)
    assert (result.state, result.get()) == ("SUCCESS", 3)
    assert waiting(app) == []


def test_inline_needs_no_database():
    app = Celery("tests", broker="postgresql://localhost:1/none", set_as_current=False)

    @app.task
    def add(x, y):
        return x + y

    with mode(app, "inline"):
        assert add.delay(1, 2).get() == 3
        assert chain(add.s(1, 2), add.s(4)).delay().get() == 7


@pytest.mark.parametrize(
    "when", [{"countdown": 3600}, {"schedule_in": timedelta(days=1)}, {"expires": 10}]
)
def test_inline_runs_at_once_what_is_scheduled_for_later(app, add, when):
    with mode(app, "inline"):
        assert add.apply_async((1, 2), **when).get() == 3


def test_inline_keeps_the_error_in_the_result(app):
    @app.task
    def fail():
        raise KeyError("no")

    with mode(app, "inline"):
        result = fail.delay()

    assert result.state == "FAILURE"
    with pytest.raises(KeyError):
        result.get()


def test_inline_raises_the_error_where_that_is_wanted(app):
    app.conf.task_eager_propagates = True

    @app.task
    def fail():
        raise KeyError("no")

    with mode(app, "inline"), pytest.raises(KeyError):
        fail.delay()


def test_inline_runs_what_follows_from_a_job(app, add, total):
    seen = []

    @app.task
    def note(value):
        seen.append(value)

    with mode(app, "inline"):
        add.apply_async((1, 2), link=note.s())
        chain(add.s(1, 2), add.s(10), note.s()).delay()
        group(add.s(1, 1), add.s(2, 2)).delay()
        chord([add.s(1, 1), add.s(2, 2)], total.s() | note.s()).delay()

    assert seen == [3, 13, 6]
    assert waiting(app) == []


def test_inline_runs_work_flows_that_coroutines_send(app, add, total):
    async def main():
        return [
            await chain(add.s(1, 2), add.s(10)).adelay(),
            await group(add.s(1, 1), add.s(2, 2)).adelay(),
            await chord([add.s(1, 1), add.s(2, 2)], total.s()).adelay(),
        ]

    with mode(app, "inline"):
        one, many, last = asyncio.run(main())

    assert (one.get(), many.get(), last.get()) == (13, [2, 4], 6)
    assert waiting(app) == []


def test_inline_runs_what_a_job_sends(app, add):
    @app.task
    def outer():
        return add.delay(1, 2).result

    with mode(app, "inline"):
        assert outer.delay().get() == 3
    assert waiting(app) == []


def test_inline_retries_at_once(app):
    seen = []

    @app.task(bind=True, max_attempts=3)
    def flaky(self):
        seen.append(self.request.attempt)
        if self.request.attempt < 3:
            raise ConnectionError
        return "done"

    with mode(app, "inline"):
        assert flaky.delay().get() == "done"
    assert seen == [1, 2, 3]


def test_inline_shows_the_task_its_meta_and_tags(app):
    @app.task(bind=True)
    def look(self):
        return dict(self.request.meta), list(self.request.tags)

    with mode(app, "inline"):
        result = look.apply_async(meta={"source": "api"}, tags=["a", "b"])
    assert result.get() == ({"source": "api"}, ["a", "b"])


def test_inline_runs_what_is_sent_by_name_and_in_bulk(app, add):
    with mode(app, "inline"):
        assert app.send_task("tests.add", (1, 2)).get() == 3
        assert [each.get() for each in add.delay_many([(1, 2), (3, 4)])] == [3, 7]
        assert [each.get() for each in app.send_tasks([("tests.add", (1, 1))])] == [2]
        assert asyncio.run(app.asend_task("tests.add", (5, 5))).get() == 10
        assert asyncio.run(add.adelay(6, 6)).get() == 12
    assert waiting(app) == []


def test_inline_says_which_task_it_cannot_run(app):
    with mode(app, "inline"), pytest.raises(NotRegistered, match=r"elsewhere\.task"):
        app.send_task("elsewhere.task")


# ── manual ──────────────────────────────────────────────────────────────────────────────


def test_manual_stores_jobs_whatever_the_settings_say(app, add):
    app.conf.task_always_eager = True
    with mode(app, "manual"):
        result = add.delay(1, 2)

    assert not isinstance(result, EagerResult)
    assert waiting(app) == ["tests.add"]
    assert isinstance(add.delay(1, 2), EagerResult)


def test_no_worker_starts_where_nothing_is_to_run(each_app):
    each_app.conf.task_testing = "manual"

    with pytest.raises(ImproperlyConfigured, match="task_testing"):
        TestWorkController(each_app)


# ── how far a mode reaches ──────────────────────────────────────────────────────────────


def test_the_setting_holds_for_the_whole_app(app, add):
    app.conf.task_testing = "inline"

    assert add.delay(1, 2).get() == 3
    assert waiting(app) == []


def test_a_setting_that_is_no_mode_is_refused(app, add):
    app.conf.task_testing = "inlien"

    with pytest.raises(ImproperlyConfigured, match="'inlien' is no mode"):
        add.delay(1, 2)


def test_a_mode_that_does_not_exist_is_refused(app):
    with pytest.raises(ValueError, match="'eager'"), mode(app, "eager"):
        pass


def test_the_innermost_mode_counts(app, add):
    with mode(app, "inline"):
        with mode(app, "manual"):
            add.delay(1, 2)
        assert add.delay(1, 2).get() == 3
    add.delay(1, 2)

    assert waiting(app) == ["tests.add"] * 2


def test_a_mode_ends_with_an_error_too(app, add):
    with contextlib.suppress(KeyError), mode(app, "inline"):
        raise KeyError
    add.delay(1, 2)

    assert waiting(app) == ["tests.add"]


def test_a_mode_is_of_one_app(app, add):
    with Celery("other", broker="memory://", set_as_current=False) as other:
        other.task(name="tests.other")(lambda: None)
        with mode(app, "inline"):
            other.send_task("tests.other")
            assert add.delay(1, 2).get() == 3

        assert waiting(other) == ["tests.other"]


def test_threads_that_are_started_inside_see_the_mode(app, add):
    results = []
    with mode(app, "inline"):
        thread = threading.Thread(target=lambda: results.append(add.delay(1, 2)))
        thread.start()
        thread.join()
        with ThreadPoolExecutor(1) as pool:
            results.append(pool.submit(add.delay, 3, 4).result())

    assert [each.get() for each in results] == [3, 7]


def test_threads_of_before_do_not(app, add):
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: None).result()
        with mode(app, "inline"):
            pool.submit(add.delay, 1, 2).result()

    assert waiting(app) == ["tests.add"]


def test_a_thread_that_outlives_the_mode_is_outside_of_it(app, add):
    go = threading.Event()

    def later():
        go.wait(10)
        add.delay(1, 2)

    with mode(app, "inline"):
        thread = threading.Thread(target=later)
        thread.start()
    go.set()
    thread.join()

    assert waiting(app) == ["tests.add"]


def test_asyncio_tasks_that_are_started_inside_see_the_mode(app, add):
    async def main():
        with mode(app, "inline"):
            inside = asyncio.create_task(add.adelay(1, 2))
            in_thread = asyncio.to_thread(add.delay, 3, 4)
            found = [(await inside).get(), (await in_thread).get()]
        return found

    assert asyncio.run(main()) == [3, 7]


def test_two_coroutines_have_modes_of_their_own(app, add):
    both = []

    async def one(name, expected):
        with mode(app, name):
            both.append(name)
            while len(both) < 2:
                await asyncio.sleep(0)
            assert isinstance(await add.adelay(1, 2), EagerResult) is expected

    async def main():
        await asyncio.gather(one("inline", True), one("manual", False))

    asyncio.run(main())
    assert waiting(app) == ["tests.add"]


# ── where a worker's code runs meanwhile ────────────────────────────────────────────────


def test_a_retry_of_a_performed_job_does_not_run_inline(app):
    @app.task(bind=True)
    def again(self):
        raise self.retry(countdown=30)

    with mode(app, "inline"):
        performed = perform_job(again)

    assert (performed.state, performed.delay) == ("retryable", 30)


def test_what_a_performed_job_leads_to_does_not_run_inline(app, add):
    with mode(app, "inline"):
        performed = perform_job(add, (1, 2), link=add.s(3))

    assert [job.task for job in performed.follow_ups] == ["tests.add"]


def test_what_a_drained_job_sends_runs_inline(app, add):
    @app.task
    def outer():
        return add.delay(1, 2).result

    outer.delay()
    with mode(app, "inline"):
        assert drain_queue(app)["completed"] == 1
    assert all_enqueued(app=app) == []
