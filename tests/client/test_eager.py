"""Tasks run in the caller's process: ``apply()`` and ``task_always_eager``."""

from __future__ import annotations

import asyncio
import copy
import pickle
from datetime import datetime

import pytest

from pgtasks import exceptions
from pgtasks.app.memory import queue_of
from pgtasks.exceptions import Cancel, Discard, MaxRetriesExceededError, Retry, Snooze
from pgtasks.result import EagerResult


@pytest.fixture
def app(memory_app):
    return memory_app


@pytest.fixture
def eager(memory_app):
    memory_app.conf.task_always_eager = True
    return memory_app


def test_apply_returns_a_result_that_is_there(app):
    @app.task(name="tests.add")
    def add(x, y):
        return x + y

    result = add.apply((1, 2), task_id="the-id")

    assert isinstance(result, EagerResult)
    assert (result.get(), result.result, result.info) == (3, 3, 3)
    assert (result.id, result.name) == ("the-id", "tests.add")
    assert (result.state, result.status, result.ready()) == ("SUCCESS", "SUCCESS", True)
    assert (result.successful(), result.failed()) == (True, False)
    assert repr(result) == "<EagerResult: the-id>"
    assert not queue_of(app).waiting()


def test_a_failure_is_raised_by_get_and_not_by_apply(app):
    @app.task
    def fail():
        raise KeyError("no")

    result = fail.apply()
    assert result.failed()
    assert "KeyError: 'no'" in result.traceback
    assert repr(result.get(propagate=False)) == "KeyError('no')"
    with pytest.raises(KeyError):
        result.get()


def test_a_failure_is_raised_at_once_where_that_is_wanted(app, eager):
    @app.task
    def fail():
        raise KeyError("no")

    with pytest.raises(KeyError):
        fail.apply(throw=True)
    eager.conf.task_eager_propagates = True
    with pytest.raises(KeyError):
        fail.delay()


def test_the_request_of_an_eager_task(app):
    seen = {}

    @app.task(bind=True, time_limit=9)
    def look(self, x):
        seen.update(vars(self.request))

    result = look.apply((1,), headers={"a": 1}, priority=3)

    assert (seen["id"], seen["is_eager"], seen["called_directly"]) == (
        result.id,
        True,
        False,
    )
    assert (seen["args"], seen["headers"]) == ((1,), {"a": 1})
    assert (seen["time_limit"], seen["retries"], seen["root_id"]) == (9, 0, result.id)
    assert seen["delivery_info"]["priority"] == 3


def test_arguments_go_through_the_serializer_and_back(eager):
    @eager.task(typing=False)
    def same(*args, **kwargs):
        return [args, kwargs]

    when = datetime(2030, 1, 1)
    assert same.delay((1, 2), {3: when}).get() == [([1, 2], {"3": when}), {}]
    with pytest.raises(exceptions.EncodeError):
        same.delay({1, 2})


def test_arguments_are_checked_eagerly_too(eager):
    @eager.task
    def add(x, y):
        return x + y

    with pytest.raises(TypeError):
        add.delay(1)


def test_a_bulk_call_runs_eagerly_too(eager):
    @eager.task
    def add(x, y):
        return x + y

    results = add.delay_many([(1, 2), add.s(3, y=4)])
    assert [result.get() for result in results] == [3, 7]


def test_eager_retries_run_at_once_and_return_the_last_result(app):
    seen = []

    @app.task(bind=True)
    def again(self, x):
        seen.append((x, self.request.retries))
        if self.request.retries < 2:
            raise self.retry(args=[x + 1], countdown=600)
        return x

    assert again.apply((1,)).get() == 3
    assert seen == [(1, 0), (2, 1), (3, 2)]


def test_eager_retries_have_their_limit(app):
    @app.task(bind=True, max_retries=2)
    def again(self):
        raise self.retry()

    with pytest.raises(MaxRetriesExceededError):
        again.apply().get()


def test_a_retry_is_raised_where_exceptions_are(app):
    @app.task(bind=True)
    def again(self):
        raise self.retry(exc=ValueError("no"))

    with pytest.raises(Retry):
        again.apply(throw=True)


def test_max_attempts_hold_for_eager_runs(app):
    attempts = []

    @app.task(bind=True, max_attempts=3)
    def flaky(self):
        attempts.append(self.request.attempt)
        if self.request.attempt < 3:
            raise ValueError("no")
        return "third"

    assert flaky.apply().get() == "third"
    assert attempts == [1, 2, 3]


def test_ends_of_its_own_choice(app):
    @app.task
    def end(how):
        raise {"snooze": Snooze(5), "discard": Discard("no"), "cancel": Cancel("off")}[how]

    snoozed, discarded, cancelled = (
        end.apply((how,)) for how in ("snooze", "discard", "cancel")
    )

    assert (snoozed.state, snoozed.get()) == ("SNOOZED", None)
    assert discarded.state == "FAILURE"
    with pytest.raises(Discard):
        discarded.get()
    assert cancelled.state == "REVOKED"
    with pytest.raises(exceptions.TaskRevokedError, match="off"):
        cancelled.get()


def test_callbacks_of_an_eager_task_run_eagerly(eager):
    seen = []

    @eager.task
    def note(value):
        seen.append(value)

    @eager.task
    def failed(request, exc, traceback):
        seen.append(repr(exc))

    @eager.task
    def add(x, y):
        return x + y

    add.apply_async((1, 2), link=note.s())
    add.apply_async((1, None), link_error=failed.s())

    assert seen[0] == 3
    assert seen[1].startswith("TypeError")


def test_waiting_for_another_task_is_refused_eagerly_too(eager):
    @eager.task
    def leaf():
        return 1

    @eager.task
    def root():
        return leaf.delay().get()

    with pytest.raises(RuntimeError, match="Never call"):
        root.delay().get()


def test_eager_results_are_stored_where_that_is_wanted(app):
    app.conf.update(task_always_eager=True, task_store_eager_result=True)

    @app.task
    def add(x, y):
        return x + y

    result = add.delay(1, 2)
    assert app.AsyncResult(result.id).get(timeout=1) == 3


def test_reading_the_backend_warns_where_eager_results_are_not_stored(eager):
    with pytest.warns(RuntimeWarning, match="task_store_eager_result"):
        _ = eager.AsyncResult("x").state


def test_revoking_an_eager_result_replaces_it(app):
    @app.task
    def one():
        return 1

    result = one.apply()
    result.revoke()

    assert result.state == "REVOKED"
    with pytest.raises(exceptions.TaskRevokedError):
        result.get()
    assert isinstance(result.get(propagate=False), exceptions.TaskRevokedError)


def test_an_eager_result_can_be_copied_and_pickled(app):
    @app.task
    def one():
        return {"a": [1]}

    result = one.apply()
    for again in (copy.copy(result), pickle.loads(pickle.dumps(result))):
        assert again is not result
        assert (again.id, again.get(), again.name) == (result.id, {"a": [1]}, result.name)


def test_a_promise_of_an_eager_result_is_kept_at_once(app):
    @app.task
    def one():
        return 1

    kept = []
    one.apply().then(kept.append)
    assert kept[0].get() == 1


def test_a_coroutine_function_runs_eagerly_also_inside_a_loop(eager):
    @eager.task(bind=True)
    async def double(self, x):
        return [2 * x, self.request.is_eager]

    async def main():
        return double.delay(2).get()

    assert double.delay(1).get() == [2, True]
    assert asyncio.run(main()) == [4, True]


def test_after_an_eager_run_no_request_is_left(app):
    @app.task(bind=True)
    def fail(self):
        raise KeyError

    fail.apply()
    assert len(fail.request_stack) == 0
    assert app.current_task is None


@pytest.mark.parametrize("state", ["RETRY", "PENDING"])
def test_a_result_without_an_end_is_none(state):
    assert EagerResult("x", "value", state).get() is None
