"""A task fails in a process that keeps results elsewhere than in rows: who is told, and what
is stored of what was to come."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from pgtasks import Task, states
from pgtasks.app.context import Context
from pgtasks.app.memory import queue_of
from pgtasks.backends.base import (
    BaseBackend,
    DisabledBackend,
    Unsupported,
    _create_chord_error_with_cause,
    _create_fake_task_request,
)
from pgtasks.exceptions import ChordError


@pytest.fixture
def called() -> list[Any]:
    return []


@pytest.fixture
def tasks(memory_app, called) -> Any:
    """Errbacks of every kind, each of which notes what it is called with."""

    class Errbacks:
        @memory_app.task
        def one(task_id):
            called.append(("one", task_id))

        @memory_app.task
        def new(request, exc, traceback):
            called.append(("new", request.id, exc, traceback))

        @memory_app.task(bind=True)
        def bound(self, task_id):
            called.append(("bound", task_id))

        @memory_app.task
        def labelled(request, exc, traceback, label):
            called.append(("labelled", request.id, label))

        @memory_app.task
        def bad(request, exc, traceback):
            raise RuntimeError("the errback failed")

        @memory_app.task
        def two(task_id, label):
            called.append(("two", task_id, label))

    return Errbacks


@pytest.fixture
def fail(memory_app):
    """Fails a task with these errbacks, by hand."""

    def fail(*errbacks: Any, **fields: Any) -> Context:
        request = Context(id="failed", errbacks=list(errbacks), delivery_info={}, **fields)
        memory_app.backend.mark_as_failure("failed", KeyError("x"), "text", request=request)
        return request

    return fail


def sent(app: Any) -> list[tuple[str, str]]:
    return [(job.task.rpartition(".")[2], job.args) for job in queue_of(app).waiting()]


# ── which errback is called how ─────────────────────────────────────────────────────────


def test_one_that_takes_the_exception_is_called_here_and_now(
    memory_app, tasks, called, fail
):
    fail(tasks.new.s())

    ((name, task_id, exc, traceback),) = called
    assert (name, task_id, traceback) == ("new", "failed", "text")
    assert isinstance(exc, KeyError)
    assert sent(memory_app) == []


def test_arguments_that_are_stored_come_after_those_of_the_failure(tasks, called, fail):
    fail(tasks.labelled.s("label"))

    assert called == [("labelled", "failed", "label")]


def test_one_that_takes_an_id_is_sent_as_a_task(memory_app, tasks, called, fail):
    fail(tasks.two.s("label"), root_id="root")

    assert called == []
    assert sent(memory_app) == [("two", '["failed", "label"]')]
    (job,) = queue_of(memory_app).waiting()
    assert (job.root_id, job.parent_id) == ("root", "failed")


def test_an_immutable_one_that_takes_an_id_is_sent_with_its_own_arguments(
    memory_app, tasks, fail
):
    fail(tasks.one.si("other"))

    assert sent(memory_app) == [("one", '["other"]')]


def test_a_bound_one_is_sent_since_it_may_retry(memory_app, tasks, called, fail):
    fail(tasks.bound.s())

    assert called == []
    assert sent(memory_app) == [("bound", '["failed"]')]


def test_one_that_nobody_knows_here_is_sent_for_another_worker(memory_app, fail):
    fail(memory_app.signature("elsewhere.errback"))

    assert sent(memory_app) == [("errback", '["failed"]')]


def test_a_task_that_is_a_class_is_sent(memory_app, fail):
    class ByClass(Task):
        name = "by_class"

        def run(self, task_id):
            raise AssertionError("called here")

    fail(memory_app.register_task(ByClass()).s())

    assert sent(memory_app) == [("by_class", '["failed"]')]


def test_one_bad_errback_does_not_stop_the_others(memory_app, tasks, called, fail, caplog):
    with caplog.at_level(logging.ERROR, "celery.backends.base"):
        fail(tasks.bad.s(), tasks.new.s(), tasks.two.s(1))

    assert [each[0] for each in called] == ["new"]
    assert sent(memory_app) == [("two", '["failed", 1]')]
    assert "raised an exception" in caplog.text


def test_of_an_eager_task_they_are_run_at_once(tasks, called, fail, memory_app):
    memory_app.conf.task_always_eager = True
    fail(tasks.two.s("label"))

    assert called == [("two", "failed", "label")]


# ── what was to come ────────────────────────────────────────────────────────────────────


def signature(app: Any, name: str, **options: Any) -> Any:
    options.setdefault("task_id", f"{name}-id")
    return app.signature(name, options=options)


def test_whoever_waits_for_the_end_of_the_chain_hears_of_the_failure(memory_app, fail):
    fail(chain=[dict(signature(memory_app, "last")), dict(signature(memory_app, "next"))])

    for task_id in ("next-id", "last-id"):
        with pytest.raises(KeyError):
            memory_app.AsyncResult(task_id).get(timeout=1)


def test_the_body_of_a_chord_in_the_chain_fails_and_so_do_its_members(memory_app, fail):
    chord = {
        "task": "celery.chord",
        "args": [],
        "kwargs": {
            "header": [dict(signature(memory_app, "member"))],
            "body": dict(signature(memory_app, "body")),
        },
        "options": {"task_id": "header-id"},
        "subtask_type": "chord",
        "immutable": False,
    }
    fail(chain=[chord])

    assert memory_app.AsyncResult("body-id").state == states.FAILURE
    assert memory_app.AsyncResult("member-id").state == states.FAILURE


class Told(BaseBackend):
    """A store of somebody else's, which notes what it is told."""

    def __init__(self, app: Any) -> None:
        super().__init__(app)
        self.told: list[Any] = []

    def _store_result(self, task_id, result, state, traceback=None, request=None, **kwargs):
        self.told.append((task_id, state))

    def _get_task_meta_for(self, task_id):
        known = dict(each for each in self.told if len(each) == 2)
        return {"status": known.get(task_id, states.PENDING), "result": None}

    def on_chord_part_return(self, request, state, result, **kwargs):
        self.told.append(("part", request.id, state))


def test_a_store_is_told_of_a_member_of_a_chord_once(memory_app):
    backend = Told(memory_app)
    member = signature(memory_app, "m", chord={"task": "body"}, group_id="g")
    for _ in range(2):
        backend._fail_chain([member], KeyError("x"))

    assert backend.told.count(("part", "m-id", states.FAILURE)) == 1


def test_a_failure_that_is_not_kept_still_counts(memory_app):
    backend = Told(memory_app)
    request = Context(id="t", chord={"task": "body"}, errbacks=[])
    backend.mark_as_failure("t", KeyError("x"), request=request, store_result=False)

    assert backend.told == [("part", "t", states.FAILURE)]


def test_success_and_revocation_count_as_well(memory_app):
    backend = Told(memory_app)
    request = Context(id="t", chord={"task": "body"})
    backend.mark_as_done("t", 1, request=request)
    backend.mark_as_revoked("t", "because", request=request)

    assert backend.told == [
        ("t", states.SUCCESS),
        ("part", "t", states.SUCCESS),
        ("t", states.REVOKED),
        ("part", "t", states.REVOKED),
    ]


# ── the body of a chord whose header failed ─────────────────────────────────────────────


def test_a_body_fails_with_the_error_of_its_header(memory_app, tasks, called):
    callback = signature(memory_app, "body", link_error=[tasks.new.s()])
    callback.options["chain"] = [signature(memory_app, "after")]
    error = _create_chord_error_with_cause("Dependency a raised", KeyError("a"))
    memory_app.backend.chord_error_from_stack(callback, error)

    with pytest.raises(ChordError, match="Dependency a raised"):
        memory_app.AsyncResult("body-id").get(timeout=1)
    with pytest.raises(ChordError):
        memory_app.AsyncResult("after-id").get(timeout=1)
    ((_, task_id, exc, _),) = called
    assert (task_id, exc) == ("body-id", error)


def test_the_exception_at_hand_is_taken_where_none_is_given(memory_app):
    try:
        raise KeyError("at hand")
    except KeyError:
        memory_app.backend.chord_error_from_stack(signature(memory_app, "body"))

    with pytest.raises(KeyError, match="at hand"):
        memory_app.AsyncResult("body-id").get(timeout=1)


def test_a_body_without_an_id_is_given_one_to_fail_under(memory_app):
    callback = memory_app.signature("body")
    memory_app.backend.chord_error_from_stack(callback, KeyError("x"))

    assert memory_app.AsyncResult(callback.id).state == states.FAILURE


def test_the_error_of_an_errback_is_what_the_body_fails_with(memory_app, monkeypatch):
    def crash(*args):
        raise RuntimeError("crashed")

    monkeypatch.setattr(memory_app.backend, "_call_task_errbacks", crash)
    memory_app.backend.chord_error_from_stack(signature(memory_app, "body"), KeyError("x"))

    with pytest.raises(RuntimeError, match="crashed"):
        memory_app.AsyncResult("body-id").get(timeout=1)


def test_the_request_that_stands_for_a_body_has_what_errbacks_read():
    request = _create_fake_task_request("id", ["e"], "name", args=[1])

    assert (request.id, request.errbacks, request.task) == ("id", ["e"], "name")
    assert (request.args, request.delivery_info) == ([1], {})


def test_a_failure_that_is_kept_keeps_no_local_variables(memory_app):
    frames = []

    def fail():
        import sys

        large = object()
        frames.append(sys._getframe())
        raise KeyError(id(large))

    try:
        fail()
    except KeyError:
        info = memory_app.backend.fail_from_current_stack("t")

    assert "KeyError" in info.traceback
    assert frames[0].f_locals == {}


# ── a backend that says it cannot ───────────────────────────────────────────────────────


@pytest.mark.parametrize("hook", ["forget", "get_state", "restore_group", "delete_group"])
def test_a_hook_that_is_not_defined_is_named(memory_app, hook):
    with pytest.raises(Unsupported, match=r"BaseBackend does not define _\w+\(\)"):
        getattr(BaseBackend(memory_app), hook)("id")


def test_without_results_there_are_no_chords(memory_app):
    with pytest.raises(Unsupported, match="disabled://"):
        DisabledBackend(memory_app).apply_chord(("g", []), memory_app.signature("body"))
