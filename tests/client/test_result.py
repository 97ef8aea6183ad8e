"""Results: looked at, waited for, forgotten, put into sets."""

from __future__ import annotations

import asyncio
import copy
import pickle
import threading
import time
from datetime import datetime, timezone
from typing import Any

import psycopg
import pytest

from helpers import eventually
from pgtasks import _state, chain, exceptions, group, states
from pgtasks.result import (
    AsyncResult,
    GroupResult,
    ResultSet,
    allow_join_result,
    assert_will_not_block,
    denied_join_result,
    result_from_tuple,
)
from pgtasks.storage.notifier import Notifier


@pytest.fixture
def app(each_app):
    return each_app


@pytest.fixture
def add(each_app):
    @each_app.task(name="tests.add")
    def add(x, y):
        return x + y

    return add


@pytest.fixture
def fail(each_app):
    @each_app.task(name="tests.fail")
    def fail():
        raise KeyError("no")

    return fail


def work_later(app: Any, desk: Any, *task_ids: str) -> threading.Thread:
    """A worker that begins when somebody waits for these tasks."""
    bench = desk(app)

    def awaited() -> bool:
        with psycopg.connect(app.database.url, autocommit=True) as connection:
            rows = connection.execute(
                "select awaited or heralds is not null from pgtasks.jobs"
                " where task_id = any(%s)",
                [list(task_ids)],
            ).fetchall()
        return bool(rows) and all(flag for (flag,) in rows)

    def work() -> None:
        eventually(awaited, timeout=20)
        app.notifier.wait_listening(20)
        bench.work_off()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


# ── looking ─────────────────────────────────────────────────────────────────────────────


def test_an_unknown_task_is_pending_and_does_not_exist(app):
    result = app.AsyncResult("nobody")

    assert (result.state, result.result, result.traceback) == ("PENDING", None, None)
    assert not result.ready()
    assert not result.exists()
    assert result.children is None
    assert result.date_done is None


def test_a_finished_task_shows_all_of_itself(app, add, desk):
    app.conf.result_extended = True
    sent = add.apply_async((1,), {"y": 2})
    desk(app).work_off()
    result = app.AsyncResult(sent.id)

    assert result.ready()
    assert result.successful()
    assert result.exists()
    assert not result.failed()
    assert (result.state, result.status) == ("SUCCESS", "SUCCESS")
    assert (result.result, result.info) == (3, 3)
    assert (result.name, result.queue, result.retries) == ("tests.add", "celery", 0)
    age = datetime.now(timezone.utc) - result.date_done
    assert abs(age.total_seconds()) < 60


def test_a_row_knows_the_arguments_of_its_task(postgres_app, desk):
    sent = postgres_app.send_task("tests.add", (1,), {"y": 2})
    result = postgres_app.AsyncResult(sent.id)

    assert (result.args, result.kwargs) == ([1], {"y": 2})
    assert (result.job.task, result.job.state) == ("tests.add", "available")
    assert postgres_app.AsyncResult("nobody").job is None


def test_a_failed_task_shows_its_exception(app, fail, desk):
    result = fail.delay()
    desk(app).work_off()

    assert (result.state, result.failed(), result.successful()) == ("FAILURE", True, False)
    assert repr(result.result) == "KeyError('no')"
    assert "KeyError: 'no'" in result.traceback
    assert repr(result.get(timeout=5, propagate=False)) == "KeyError('no')"
    with pytest.raises(KeyError):
        result.get(timeout=5)
    with pytest.raises(KeyError):
        result.maybe_throw()


def test_a_result_that_was_ignored_is_not_waited_for(app, desk):
    @app.task(ignore_result=True)
    def quiet():
        return 1

    result = quiet.delay()
    assert result.ignored is True
    assert result.get() is None
    assert app.AsyncResult(result.id).ignored is False


def test_a_finished_result_is_read_once(postgres_app, desk, monkeypatch):
    @postgres_app.task
    def one():
        return 1

    result = one.delay()
    desk(postgres_app).work_off()
    assert result.state == "SUCCESS"
    monkeypatch.setattr(type(postgres_app.database), "run", None)

    assert (result.result, result.get(), result.state) == (1, 1, "SUCCESS")


@pytest.mark.parametrize("serializer", ["pickle", "yaml"])
def test_results_may_have_another_serializer(app, desk, serializer):
    app.conf.update(result_serializer=serializer, accept_content=["json", serializer])

    @app.task
    def make(fails):
        if fails:
            raise ValueError("no", 1)
        return [1, "ü"]

    made, failed = make.delay(False), make.delay(True)
    desk(app).work_off()

    assert made.get(timeout=5) == [1, "ü"]
    with pytest.raises(ValueError, match="no") as raised:
        failed.get(timeout=5)
    assert raised.value.args == ("no", 1)


def test_a_result_in_a_serializer_that_is_not_accepted_is_not_read(postgres_app, desk):
    postgres_app.conf.update(result_serializer="pickle", accept_content=["json", "pickle"])

    @postgres_app.task
    def make():
        return 1

    result = make.delay()
    desk(postgres_app).work_off()
    postgres_app.conf.accept_content = ["json"]
    postgres_app._backend_cache = None

    with pytest.raises(exceptions.ContentDisallowed):
        postgres_app.AsyncResult(result.id).get(timeout=5)


def store_by_hand(app: Any, task_id: str, stored: dict[str, Any]) -> None:
    import json

    from pgtasks.storage import results

    app.database.run(
        results.store(
            task_id, state="discarded", status="FAILURE", result=json.dumps(stored)
        )
    )


def test_a_stored_exception_cannot_name_a_function(postgres_app):
    stored = {"exc_module": "os", "exc_type": "system", "exc_message": "echo harm"}
    store_by_hand(postgres_app, "evil", stored)

    with pytest.raises(exceptions.SecurityError, match=r"os\.system"):
        postgres_app.AsyncResult("evil").get(timeout=5)


def test_a_stored_exception_cannot_end_the_reader(postgres_app):
    stored = {"exc_module": "builtins", "exc_type": "SystemExit", "exc_message": [3]}
    store_by_hand(postgres_app, "exit", stored)

    with pytest.raises(Exception, match="3") as raised:
        postgres_app.AsyncResult("exit").get(timeout=5)
    assert type(raised.value).__name__ == "SystemExit"


def test_an_exception_whose_class_is_not_loaded_gets_one_of_that_name(postgres_app):
    stored = {"exc_module": "not.loaded", "exc_type": "OddError", "exc_message": ["x", 1]}
    store_by_hand(postgres_app, "odd", stored)

    with pytest.raises(Exception, match="x") as raised:
        postgres_app.AsyncResult("odd").get(timeout=5)
    assert (type(raised.value).__name__, raised.value.args) == ("OddError", ("x", 1))


# ── waiting ─────────────────────────────────────────────────────────────────────────────


def test_waiting_ends_with_a_timeout_of_our_own_class(app, add):
    result = add.delay(1, 2)

    with pytest.raises(exceptions.TimeoutError):
        result.get(timeout=0.01)
    with pytest.raises(exceptions.TimeoutError):
        result.get(timeout=0)
    assert not issubclass(exceptions.TimeoutError, TimeoutError)
    assert AsyncResult.TimeoutError is exceptions.TimeoutError


def test_a_timeout_says_what_the_job_is_doing(postgres_app):
    waiting = postgres_app.send_task("t", countdown=60)

    with pytest.raises(exceptions.TimeoutError, match=r"PENDING \(scheduled\)"):
        waiting.get(timeout=0)
    with pytest.raises(exceptions.TimeoutError, match="no such job"):
        postgres_app.AsyncResult("nobody").get(timeout=0)


def test_the_end_of_a_task_wakes_who_waits_for_it(postgres_app, desk):
    @postgres_app.task
    def one():
        return 1

    result = one.delay()
    thread = work_later(postgres_app, desk, result.id)
    began = time.monotonic()
    # Were it not for the notification, the next look would be in a minute.
    value = result.get(timeout=50, interval=60)
    thread.join(20)

    assert value == 1
    assert time.monotonic() - began < 40


@pytest.fixture
def line(postgres_app):
    """Three tasks in a row, of which only the first is a row when it is sent."""

    @postgres_app.task
    def one_more(x):
        return x + 1

    return chain(one_more.s(0), one_more.s(), one_more.s())


def test_the_end_of_a_chain_wakes_who_waits_for_it(postgres_app, line, desk):
    result = line.delay()
    thread = work_later(postgres_app, desk, result.parent.parent.id)

    began = time.monotonic()
    # Nobody looks again before a minute has passed: the first link tells the next ones.
    assert result.get(timeout=50, interval=60) == 3
    assert time.monotonic() - began < 40
    thread.join(20)


def test_a_group_at_the_end_of_a_chain_wakes_who_waits_for_it(postgres_app, line, desk):
    plus = line.tasks[-1]
    result = (line | group(plus.clone(), plus.clone())).delay()
    thread = work_later(postgres_app, desk, result.parent.parent.parent.id)

    began = time.monotonic()
    assert result.get(timeout=50, interval=60) == [4, 4]
    assert time.monotonic() - began < 40
    thread.join(20)


def test_a_coroutine_that_waits_for_a_chain_is_woken_by_its_end(postgres_app, line, desk):
    async def main():
        result = line.delay()
        thread = work_later(postgres_app, desk, result.parent.parent.id)
        value = await result.aget(timeout=50, interval=60)
        await asyncio.to_thread(thread.join, 20)
        await postgres_app.async_database.close()
        return value

    began = time.monotonic()
    assert asyncio.run(main()) == 3
    assert time.monotonic() - began < 40


def test_a_task_that_another_took_the_place_of_wakes_who_waits(postgres_app, line, desk):
    @postgres_app.task(bind=True)
    def detour(self):
        return self.replace(line)

    result = detour.delay()
    thread = work_later(postgres_app, desk, result.id)

    began = time.monotonic()
    assert result.get(timeout=50, interval=60) == 3
    assert time.monotonic() - began < 40
    thread.join(20)


def test_the_parents_of_a_long_chain_are_looked_at_in_one_question(
    postgres_app, line, monkeypatch
):
    [plus, *_] = line.tasks[1:]
    result = (line | chain(plus.clone() for _ in range(50))).delay()
    database, asked = postgres_app.database, []
    run = type(database).run

    def count(self, query, **options):
        asked.append(query)
        return run(self, query, **options)

    monkeypatch.setattr(type(database), "run", count)
    with pytest.raises(exceptions.TimeoutError):
        result.get(timeout=0)
    assert len(asked) <= 3


def test_without_notifications_results_are_found_by_looking(
    postgres_app, desk, monkeypatch
):
    monkeypatch.setattr(Notifier, "subscribe", lambda *args: lambda: None)

    @postgres_app.task
    def one():
        return 1

    result = one.delay()
    thread = work_later(postgres_app, desk, result.id)
    monkeypatch.setattr(Notifier, "wait_listening", lambda *args: False)

    assert result.get(timeout=20) == 1
    thread.join(20)


def test_coroutines_wait_without_holding_up_their_loop(postgres_app, desk):
    @postgres_app.task
    def one(x):
        return x

    async def main():
        first, second = await one.adelay(1), await one.adelay(2)
        thread = work_later(postgres_app, desk, first.id, second.id)
        values = await asyncio.gather(
            first.aget(timeout=50, interval=60), second.aget(timeout=50, interval=60)
        )
        with pytest.raises(exceptions.TimeoutError):
            await postgres_app.AsyncResult("nobody").aget(timeout=0.01)
        await asyncio.to_thread(thread.join, 20)
        await postgres_app.async_database.close()
        return values

    assert asyncio.run(main()) == [1, 2]


def test_a_failure_is_raised_in_the_coroutine_that_waits(app, fail, desk):
    result = fail.delay()
    desk(app).work_off()

    async def main():
        try:
            with pytest.raises(KeyError):
                await result.aget(timeout=5)
            return await app.AsyncResult(result.id).aget(timeout=5, propagate=False)
        finally:
            if app.conf.broker_url != "memory://":
                await app.async_database.close()

    assert repr(asyncio.run(main())) == "KeyError('no')"


def test_hooks_are_called_while_waiting_and_at_the_end(app, add, desk):
    looked, got = [], []
    result = add.delay(1, 2)

    def look(*args):
        looked.append(args)
        if len(looked) == 1:
            desk(app).work_off()

    result.get(
        timeout=10, on_interval=look, callback=lambda id, value: got.append((id, value))
    )
    assert looked
    assert got == [(result.id, 3)]
    with pytest.raises(exceptions.ImproperlyConfigured, match="on_message"):
        app.AsyncResult("other").get(timeout=0, on_message=print)


def test_the_failure_of_a_parent_is_raised_by_its_child(app, fail, desk):
    parent = fail.delay()
    desk(app).work_off()
    child = app.AsyncResult("never runs", parent=parent)

    with pytest.raises(KeyError):
        child.get(timeout=10)
    with pytest.raises(exceptions.TimeoutError):
        child.get(timeout=0, follow_parents=False)


def test_waiting_inside_a_task_is_a_matter_of_permission():
    assert_will_not_block()
    with denied_join_result():
        with pytest.raises(RuntimeError, match="Never call"):
            assert_will_not_block()
        with allow_join_result():
            assert_will_not_block()
        with pytest.raises(RuntimeError):
            assert_will_not_block()
    assert not _state.task_join_will_block()


def test_a_promise_is_kept_when_the_result_is_seen(app, add, desk):
    kept = []
    result = add.delay(1, 2)
    result.then(kept.append)
    desk(app).work_off()
    assert kept == []
    assert result.get(timeout=5) == 3

    assert kept == [result]


# ── storing by hand, forgetting ─────────────────────────────────────────────────────────


def test_a_result_may_be_stored_by_hand(app):
    backend = app.backend
    backend.mark_as_done("done", {"a": 1})
    backend.mark_as_failure("failed", ValueError("no"), traceback="the traceback")
    backend.mark_as_revoked("revoked", "changed my mind")

    assert app.AsyncResult("done").get(timeout=1) == {"a": 1}
    assert app.AsyncResult("failed").traceback == "the traceback"
    with pytest.raises(ValueError, match="no"):
        app.AsyncResult("failed").get(timeout=1)
    with pytest.raises(exceptions.TaskRevokedError, match="changed my mind"):
        app.AsyncResult("revoked").get(timeout=1)
    assert backend.get_state("done") == "SUCCESS"
    assert backend.get_result("done") == {"a": 1}
    assert backend.get_traceback("failed") == "the traceback"
    assert not backend.get_children("done")


def test_a_success_is_not_overwritten_and_a_failure_is(app):
    app.backend.mark_as_done("good", 1)
    app.backend.mark_as_failure("good", ValueError("late"))
    app.backend.mark_as_failure("bad", ValueError("early"))
    app.backend.mark_as_done("bad", 2)

    assert app.AsyncResult("good").get(timeout=1) == 1
    assert app.AsyncResult("bad").get(timeout=1) == 2


def test_a_forgotten_result_is_gone(app, add, desk):
    result = add.delay(1, 2)
    desk(app).work_off()
    assert result.get(timeout=5) == 3
    result.forget()

    assert result.result is None
    assert app.AsyncResult(result.id).result is None


def test_old_results_are_cleaned_up(postgres_app, desk):
    @postgres_app.task
    def one():
        return 1

    result = one.delay()
    desk(postgres_app).work_off()
    postgres_app.backend.expires = 3600
    postgres_app.backend.cleanup()
    assert result.exists()
    with psycopg.connect(postgres_app.database.url) as connection:
        connection.execute(
            "update pgtasks.finished_jobs set finished_at = now() - interval '2 hours'"
        )
    postgres_app.backend.cleanup()

    assert not result.exists()


def test_nothing_is_kept_where_results_are_disabled(memory_app, desk):
    memory_app.conf.result_backend = "disabled://"

    @memory_app.task
    def one():
        return 1

    result = one.delay()
    desk(memory_app).work_off()

    with pytest.raises(NotImplementedError, match="switched off"):
        result.get(timeout=1)


# ── trees of results ────────────────────────────────────────────────────────────────────


def test_everything_that_a_task_led_to_can_be_collected(app, desk):
    @app.task
    def leaf(x):
        return x * x

    @app.task
    def root(width):
        for x in range(width):
            leaf.delay(x)

    result = root.delay(3)
    desk(app).work_off()

    values = [value for child, value in result.collect() if not child.children]
    assert values == [0, 1, 4]
    assert result.get_leaf() == 4
    with pytest.raises(exceptions.IncompleteStream):
        list(app.AsyncResult("pending").iterdeps())


def test_a_tree_of_results_can_be_drawn(app, desk):
    @app.task
    def leaf():
        pass

    @app.task
    def root():
        return [leaf.delay().id, leaf.delay().id]

    result = root.delay()
    desk(app).work_off()

    assert [node.id for node in result.graph[result]] == result.get(timeout=5)
    assert len(result.graph) == 3


def test_a_returned_result_comes_back_as_plain_values(app, desk):
    @app.task
    def leaf():
        return 1

    @app.task
    def root():
        return leaf.delay()

    result = root.delay()
    desk(app).work_off()

    again = result_from_tuple(result.get(timeout=5), app=app)
    assert again.get(timeout=5) == 1


def test_results_become_plain_values_and_results_again(app):
    parent = app.AsyncResult("parent")
    child = app.AsyncResult("child", parent=parent)
    group = app.GroupResult("group", [child, app.AsyncResult("other")])

    assert child.as_tuple() == (("child", (("parent", None), None)), None)
    assert child.as_list() == ["child", "parent"]
    assert result_from_tuple(child.as_tuple(), app=app).parent == parent
    back = result_from_tuple(group.as_tuple(), app=app)
    assert isinstance(back, GroupResult)
    assert back == group
    assert result_from_tuple(["just-an-id", None], app=app).id == "just-an-id"


def test_a_result_is_known_by_its_id(app):
    result = app.AsyncResult("the-id")

    assert result == app.AsyncResult("the-id")
    assert result == "the-id"
    assert result != app.AsyncResult("other")
    assert result != object()
    assert (str(result), hash(result), repr(result)) == (
        "the-id",
        hash("the-id"),
        "<AsyncResult: the-id>",
    )
    assert copy.copy(result) == result
    assert result.task_id == "the-id"
    with pytest.raises(ValueError, match="needs the id"):
        app.AsyncResult(None)


def test_a_result_can_be_pickled(memory_app):
    memory_app.set_current()
    result = memory_app.AsyncResult("the-id")

    assert pickle.loads(pickle.dumps(result)) == result


# ── sets ────────────────────────────────────────────────────────────────────────────────


def test_a_set_of_results_is_waited_for_together(app, add, desk):
    results = ResultSet([add.delay(x, x) for x in range(5)], app=app)
    assert (results.ready(), results.waiting(), results.completed_count()) == (
        False,
        True,
        0,
    )
    desk(app).work_off()

    assert results.get(timeout=5) == [0, 2, 4, 6, 8]
    assert results.join(timeout=5) == [0, 2, 4, 6, 8]
    assert results.successful()
    assert results.ready()
    assert results.completed_count() == len(results) == 5
    assert [result.id for result in results] == [result.id for result in results.results]
    assert dict(results.iter_native())[results[1].id]["result"] == 2


def test_many_results_are_read_in_one_question(postgres_app, desk, monkeypatch):
    @postgres_app.task
    def one(x):
        return x

    results = one.delay_many([(x,) for x in range(1000)])
    desk(postgres_app).work_off()
    database, asked = postgres_app.database, []
    run = type(database).run

    def count(self, query, **options):
        asked.append(query)
        return run(self, query, **options)

    monkeypatch.setattr(type(database), "run", count)
    assert results.get(timeout=10) == list(range(1000))
    assert len(asked) == 1
    assert results.successful()
    assert [result.state for result in results] == ["SUCCESS"] * 1000
    assert len(asked) == 1


def test_a_set_wakes_with_its_last_member(postgres_app, desk):
    @postgres_app.task
    def one(x):
        return x

    results = one.delay_many([(1,), (2,)])
    thread = work_later(postgres_app, desk, *(result.id for result in results))

    assert results.get(timeout=50, interval=60) == [1, 2]
    thread.join(20)


def test_a_failed_member_fails_the_set(app, add, fail, desk):
    results = ResultSet([add.delay(1, 1), fail.delay()], app=app)
    desk(app).work_off()

    assert results.failed()
    assert not results.successful()
    assert results.completed_count() == 1
    with pytest.raises(KeyError):
        results.get(timeout=5)
    with pytest.raises(KeyError):
        results.maybe_throw()
    first, second = results.get(timeout=5, propagate=False)
    assert (first, repr(second)) == (2, "KeyError('no')")
    got = []
    results.get(timeout=5, propagate=False, callback=lambda id, value: got.append(id))
    assert sorted(got) == sorted(result.id for result in results)


def test_a_set_times_out_as_a_whole(app, add, desk):
    results = ResultSet([add.delay(1, 1), add.delay(2, 2)], app=app)

    with pytest.raises(exceptions.TimeoutError):
        results.get(timeout=0.01)
    with pytest.raises(exceptions.TimeoutError):
        results.join(timeout=0)


def test_sets_may_be_nested(app, add, desk):
    inner = app.GroupResult("inner", [add.delay(2, 2), add.delay(3, 3)])
    outer = app.GroupResult("outer", [add.delay(1, 1), inner])
    desk(app).work_off()

    assert outer.get(timeout=5) == [2, [4, 6]]


def test_members_come_and_go(app):
    first, second = app.AsyncResult("1"), app.AsyncResult("2")
    results = app.ResultSet([first])
    results.add(second)
    results.add(second)
    assert results.results == [first, second]
    results.remove("1")
    results.discard("1")
    with pytest.raises(KeyError):
        results.remove(first)
    results.update([first, second])
    assert results.results == [second, first]
    results.clear()
    assert len(results) == 0
    assert results.supports_native_join is None


def test_a_saved_group_can_be_restored(memory_app):
    group = memory_app.GroupResult("the-group", [memory_app.AsyncResult("1")])
    group.save()

    assert memory_app.GroupResult.restore("the-group") == group
    group.delete()
    assert memory_app.GroupResult.restore("the-group") is None


def test_a_promise_of_a_set_is_kept_when_all_are_seen(app, add, desk):
    results = app.ResultSet([add.delay(1, 1), add.delay(2, 2)])
    barrier = results._on_full
    desk(app).work_off()
    assert not barrier.ready
    for result in results:
        result.get(timeout=5)

    barrier.finalize()
    assert barrier.ready


def test_states_that_are_final_are_the_backends_too(app):
    assert app.backend.READY_STATES == states.READY_STATES
