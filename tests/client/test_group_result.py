"""The results of a group: many are asked in one question, kept under an id, and revoked."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import pytest

from pgtasks.exceptions import Ignore, IncompleteStream, TimeoutError
from pgtasks.result import EagerResult, GroupResult, ResultSet, result_from_tuple


@pytest.fixture
def app(each_app):
    return each_app


@pytest.fixture
def add(app):
    @app.task
    def add(x, y):
        return x + y

    return add


@pytest.fixture
def fail(app):
    @app.task
    def fail():
        raise KeyError("x")

    return fail


@pytest.fixture
def asked(postgres_app, monkeypatch):
    """The questions that the database is asked."""
    database: Any = type(postgres_app.database)
    run, asked = database.run, []

    def note(self, query, **options):
        asked.append(query)
        return run(self, query, **options)

    monkeypatch.setattr(database, "run", note)
    return asked


@pytest.fixture
def half_done(postgres_app, desk):
    """A group of which one half has ended."""

    @postgres_app.task
    def one(x):
        return x

    done = one.delay_many([(x,) for x in range(10)])
    desk(postgres_app).work_off()
    waiting = one.delay_many([(x,) for x in range(10)])
    return postgres_app.GroupResult("g", [*done, *waiting])


# ── asking ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("ready", False),
        ("waiting", True),
        ("successful", False),
        ("failed", False),
        ("completed_count", 10),
        ("maybe_throw", None),
    ],
)
def test_the_members_are_asked_in_one_question(half_done, asked, question, answer):
    assert getattr(half_done, question)() == answer
    assert len(asked) == 1


def test_what_is_final_is_not_asked_again(half_done, asked):
    half_done.ready()
    assert len(asked[-1].params["task_ids"]) == 20
    half_done.ready()

    assert len(asked[-1].params["task_ids"]) == 10


def test_a_set_of_nothing_is_ready_and_successful(app):
    empty = ResultSet([], app=app)

    assert empty.ready() and empty.successful() and not empty.failed()
    assert empty.get(timeout=1) == []


def test_a_failure_among_many_is_raised(app, add, fail, desk):
    results = ResultSet([add.delay(1, 1), fail.delay(), add.delay(1, 2)], app=app)
    desk(app).work_off()

    with pytest.raises(KeyError):
        results.maybe_throw()
    assert results.completed_count() == 2
    told = []
    results.maybe_throw(callback=lambda *given: told.append(given), propagate=False)
    assert [value for _, value in told if not isinstance(value, KeyError)] == [2, 3]


def test_only_failures_travel_when_it_is_asked_whether_one_failed(
    postgres_app, half_done, desk, monkeypatch
):
    @postgres_app.task
    def fail():
        raise KeyError("x")

    @postgres_app.task(bind=True)
    def say_so(self):
        meta = {"exc_type": "OSError", "exc_message": "o", "exc_module": "builtins"}
        self.update_state(state="FAILURE", meta=meta)
        raise Ignore

    answers = []
    read = postgres_app.backend.read_failed
    monkeypatch.setattr(
        postgres_app.backend,
        "read_failed",
        lambda ids: answers.append(read(ids)) or answers[-1],
    )
    half_done.maybe_throw()
    assert answers == [{}]

    for failing, error in ((fail, KeyError), (say_so, OSError)):
        failed = failing.delay()
        desk(postgres_app).work_off()
        with pytest.raises(error):
            ResultSet([*half_done, failed], app=postgres_app).maybe_throw()
        assert list(answers[-1]) == [failed.id]


def test_members_of_members_are_asked_too(app, add, desk):
    inner = app.GroupResult("inner", [add.delay(1, 1), add.delay(2, 2)])
    outer = app.GroupResult("outer", [inner, add.delay(3, 3)])
    assert not outer.ready()
    desk(app).work_off()

    assert outer.ready()
    assert outer.completed_count() == 2
    assert outer.get(timeout=10) == [[2, 4], 6]


def test_results_of_eager_runs_may_be_members(app, add, desk):
    results = ResultSet([EagerResult("e", 1, "SUCCESS"), add.delay(1, 1)], app=app)
    assert results.completed_count() == 1
    desk(app).work_off()

    assert results.successful()


# ── waiting ─────────────────────────────────────────────────────────────────────────────


def test_coroutines_wait_for_all_members(app, add, desk):
    results = app.GroupResult("g", [add.delay(x, x) for x in range(3)])
    desk(app).work_off()

    assert asyncio.run(results.aget(timeout=10)) == [0, 2, 4]


def test_coroutines_give_up_in_time_and_hear_of_failures(app, add, fail, desk):
    failed = app.GroupResult("g", [fail.delay()])
    desk(app).work_off()
    unfinished = app.GroupResult("h", [add.delay(1, 1), add.delay(1, 1)])

    with pytest.raises(KeyError):
        asyncio.run(failed.aget(timeout=10))
    with pytest.raises(TimeoutError):
        asyncio.run(unfinished.aget(timeout=0.01))


def test_members_know_their_values_once_the_group_was_waited_for(
    postgres_app, half_done, desk, asked
):
    desk(postgres_app).work_off()
    half_done.get(timeout=10)
    asked.clear()

    assert [result.result for result in half_done] == [*range(10), *range(10)]
    assert asked == []


def test_a_failed_member_of_the_group_before_is_raised_by_what_follows(
    app, add, fail, desk
):
    header = app.GroupResult("g", [add.delay(1, 1), fail.delay()])
    body = app.AsyncResult("body", parent=header)
    desk(app).work_off()

    with pytest.raises(KeyError):
        body.get(timeout=10)
    with pytest.raises(TimeoutError):
        body.get(timeout=0, follow_parents=False)


# ── keeping ─────────────────────────────────────────────────────────────────────────────


def test_a_group_is_kept_under_its_id_until_it_is_deleted(app, add, desk):
    group = app.GroupResult("kept", [add.delay(1, 1), add.delay(2, 2)])
    group.save()
    desk(app).work_off()
    restored = GroupResult.restore("kept", app=app)

    assert restored == group
    assert restored.get(timeout=10) == [2, 4]
    restored.delete()
    assert GroupResult.restore("kept", app=app) is None


def test_what_was_never_kept_is_none(app):
    assert app.GroupResult.restore("unknown") is None


def test_groups_within_groups_and_what_came_before_are_kept(app):
    inner = app.GroupResult("inner", [app.AsyncResult("b")])
    group = app.GroupResult("outer", [app.AsyncResult("a"), inner])
    group.parent = app.AsyncResult("before")
    group.save()
    restored = app.GroupResult.restore("outer")

    assert restored == group
    assert restored.parent == app.AsyncResult("before")
    assert restored[1] == inner


def test_a_group_becomes_plain_values_and_a_group_again(app):
    group = app.GroupResult("g", [app.AsyncResult("a")], parent=app.AsyncResult("p"))

    assert group.as_tuple() == (("g", (("p", None), None)), [(("a", None), None)])
    assert result_from_tuple(group.as_tuple(), app) == group
    assert app.AsyncResult("end", parent=group).as_list() == ["end", "a", "p"]


def test_groups_are_equal_by_id_members_and_parent(app):
    def group(id="g", members=("a",), parent=None):
        return app.GroupResult(id, [app.AsyncResult(m) for m in members], parent=parent)

    assert group() == group()
    assert group() != group("h")
    assert group() != group(members=("b",))
    assert group() != group(parent=app.AsyncResult("p"))
    assert group() == "g"
    assert len({group(), group()}) == 1
    assert bool(group(None, ("a",))) and not group(None, ())


def test_a_group_can_be_pickled(memory_app):
    memory_app.set_current()
    group = memory_app.GroupResult("g", [memory_app.AsyncResult("a")])

    assert pickle.loads(pickle.dumps(group)) == group


# ── walking ─────────────────────────────────────────────────────────────────────────────


def test_a_group_among_what_a_task_sent_is_walked_through(app, add, desk):
    @app.task(bind=True)
    def start(self):
        members = [add.apply_async((x, x), add_to_parent=False) for x in range(2)]
        self.request.children.append(app.GroupResult("g", members))
        return "started"

    result = start.delay()
    with pytest.raises(IncompleteStream):
        list(result.iterdeps())
    desk(app).work_off()

    values = [value for _, value in result.collect(timeout=10)]
    assert values == ["started", [0, 2], 0, 2]
    assert result.get_leaf() == 2


# ── acting ──────────────────────────────────────────────────────────────────────────────


def test_to_revoke_a_group_is_to_revoke_all_its_tasks(app, monkeypatch):
    told = []
    monkeypatch.setattr(
        app.control, "revoke", lambda ids, **options: told.append((ids, options))
    )
    inner = app.GroupResult("inner", [app.AsyncResult("b"), app.AsyncResult("c")])
    app.GroupResult("g", [app.AsyncResult("a"), inner]).revoke(
        terminate=True, signal="KILL", wait=True, timeout=3
    )

    ((ids, options),) = told
    assert ids == ["a", "b", "c"]
    assert options == {
        "connection": None,
        "terminate": True,
        "signal": "KILL",
        "reply": True,
        "timeout": 3,
    }


def test_a_result_can_be_revoked_by_its_stamps(app, monkeypatch):
    told = []
    monkeypatch.setattr(
        app.control,
        "revoke_by_stamped_headers",
        lambda headers, **options: told.append((headers, options["terminate"])),
    )
    app.AsyncResult("a").revoke_by_stamped_headers({"customer": 1}, terminate=True)

    assert told == [({"customer": 1}, True)]


def test_to_forget_a_group_is_to_forget_its_members(app, add, desk):
    group = app.GroupResult("g", [add.delay(1, 1), add.delay(2, 2)])
    desk(app).work_off()
    assert group.get(timeout=10) == [2, 4]
    group.forget()

    assert [app.AsyncResult(result.id).result for result in group] == [None, None]


def test_to_forget_the_end_is_to_forget_what_came_before(app, add, desk):
    group = app.GroupResult("g", [add.delay(1, 1)])
    end = add.delay(2, 2)
    end.parent = group
    desk(app).work_off()
    end.forget()

    assert app.AsyncResult(group[0].id).result is None
