"""Running what waits in the caller: ``pgtasks.testing.drain_queue``."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from pgtasks import Cancel, Discard, Snooze, chain, chord
from pgtasks.exceptions import Reject
from pgtasks.testing import all_enqueued, assert_enqueued, drain_queue

NOTHING = {"completed": 0, "discarded": 0, "cancelled": 0, "retryable": 0, "snoozed": 0}


@pytest.fixture
def app(each_app):
    return each_app


@pytest.fixture
def seen():
    return []


@pytest.fixture
def note(app, seen):
    @app.task(name="tests.note")
    def note(value):
        seen.append(value)
        return value

    return note


def counts(**some):
    return {**NOTHING, **some}


def test_an_empty_queue_is_drained_at_once(app):
    assert drain_queue(app) == NOTHING


def test_what_waits_is_run_and_its_end_is_kept(app, note, seen):
    result = note.delay("a")

    assert drain_queue(app) == counts(completed=1)
    assert (seen, result.get(timeout=10)) == (["a"], "a")
    assert all_enqueued(app=app) == []


def test_every_end_is_counted(app):
    @app.task(max_attempts=2)
    def fail():
        raise KeyError

    @app.task
    def end(how):
        raise {"snooze": Snooze(60), "cancel": Cancel(), "discard": Discard()}[how]

    fail.delay()
    for how in ("snooze", "cancel", "discard"):
        end.delay(how)

    assert drain_queue(app) == counts(retryable=1, snoozed=1, cancelled=1, discarded=1)


def test_the_most_urgent_goes_first(app, note, seen):
    note.apply_async(("late",), priority=5)
    note.apply_async(("first",), priority=0)
    note.apply_async(("second",), priority=0)

    drain_queue(app)
    assert seen == ["first", "second", "late"]


@pytest.mark.parametrize(
    ("queue", "expected"),
    [("a", ["a"]), (["a", "b"], ["a", "b"]), (None, ["a", "b", "c"])],
)
def test_the_queue_can_be_chosen(app, note, seen, queue, expected):
    for name in ("a", "b", "c"):
        note.apply_async((name,), queue=name)

    drain_queue(app, queue)
    assert seen == expected


def test_a_limit_leaves_the_rest(app, note, seen):
    for number in range(5):
        note.delay(number)

    assert drain_queue(app, with_limit=2) == counts(completed=2)
    assert seen == [0, 1]
    assert drain_queue(app, with_limit=0) == NOTHING
    assert len(all_enqueued(note)) == 3


# ── what follows ────────────────────────────────────────────────────────────────────────


def test_what_follows_waits(app, note, seen):
    chain(note.s(1), note.si(2)).delay()

    assert drain_queue(app) == counts(completed=1)
    assert seen == [1]
    assert_enqueued(note, args=[2])


def test_what_follows_is_run_with_recursion(app, note, seen):
    @app.task
    def outer():
        note.delay("inner")

    chain(note.s(1), note.si(2), note.si(3)).delay()
    outer.delay()

    assert drain_queue(app, with_recursion=True) == counts(completed=5)
    assert sorted(map(str, seen)) == ["1", "2", "3", "inner"]


def test_a_chord_is_run_to_its_end(app, note, seen):
    @app.task(name="tests.total")
    def total(numbers):
        return note.delay(sum(numbers)).id

    chord([note.s(1), note.s(2)], total.s()).delay()

    assert drain_queue(app, with_recursion=True) == counts(completed=4)
    assert seen == [1, 2, 3]


def test_a_limit_counts_what_follows(app, note, seen):
    chain(note.si(1), note.si(2), note.si(3)).delay()

    assert drain_queue(app, with_recursion=True, with_limit=2) == counts(completed=2)


def test_each_job_is_run_once_without_recursion(app, seen):
    @app.task(bind=True, max_retries=None)
    def again(self):
        seen.append(self.request.retries)
        raise self.retry(countdown=0)

    again.delay()
    assert drain_queue(app) == counts(retryable=1)
    assert drain_queue(app, with_recursion=True, with_limit=3) == counts(retryable=3)
    assert seen == [0, 1, 2, 3]


# ── what is due later ───────────────────────────────────────────────────────────────────


def test_what_is_due_later_waits(app, note, seen):
    note.apply_async(("late",), countdown=60)

    assert drain_queue(app) == NOTHING


def test_what_is_due_later_is_run_if_that_is_wanted(app, note, seen):
    note.apply_async(("last",), countdown=7200)
    note.apply_async(("late",), countdown=60, priority=9)
    note.delay("now")

    assert drain_queue(app, with_scheduled=True) == counts(completed=3)
    assert seen == ["now", "late", "last"]


def test_what_is_due_until_a_date_is_run(app, note, seen):
    note.apply_async(("last",), countdown=7200)
    note.apply_async(("late",), countdown=60)
    hour = datetime.now(timezone.utc) + timedelta(hours=1)

    assert drain_queue(app, with_scheduled=hour) == counts(completed=1)
    assert seen == ["late"]


def test_attempts_are_used_up_with_recursion_and_what_is_scheduled(app, seen):
    @app.task(bind=True, max_attempts=3)
    def fail(self):
        seen.append(self.request.attempt)
        raise KeyError

    result = fail.delay()

    drained = drain_queue(app, with_recursion=True, with_scheduled=True)
    assert drained == counts(retryable=2, discarded=1)
    assert seen == [1, 2, 3]
    assert result.state == "FAILURE"


@pytest.mark.parametrize("end", [Snooze(60), Snooze(0), Reject(requeue=True)], ids=repr)
def test_what_gives_its_attempt_back_is_not_run_for_ever(app, seen, end):
    @app.task(acks_late=True)
    def later():
        seen.append(1)
        raise end

    later.delay()
    drain_queue(app, with_recursion=True, with_scheduled=True)
    assert seen == [1]
    drain_queue(app, with_recursion=True, with_scheduled=True)
    assert seen == [1, 1]


# ── errors ──────────────────────────────────────────────────────────────────────────────


def test_an_error_is_an_end(app, note):
    @app.task
    def fail():
        raise KeyError("no")

    fail.delay()
    note.delay(1)
    assert drain_queue(app) == counts(discarded=1, completed=1)


@pytest.mark.parametrize("attempts", [None, 2])
def test_an_error_is_raised_without_safety_when_its_end_is_written(app, note, attempts):
    @app.task(max_attempts=attempts)
    def fail():
        raise KeyError("no")

    result = fail.delay()
    note.delay(1)

    with pytest.raises(KeyError, match="no") as caught:
        drain_queue(app, with_safety=False)
    assert caught.traceback[-1].name == "fail"
    assert result.state == ("RETRY" if attempts else "FAILURE")
    assert_enqueued(note)


def test_ends_that_a_task_chooses_are_no_errors(app):
    @app.task(bind=True)
    def end(self, how):
        if how == "retry":
            raise self.retry(countdown=60)
        raise {"snooze": Snooze(60), "cancel": Cancel(), "discard": Discard()}[how]

    for how in ("snooze", "cancel", "discard", "retry"):
        end.delay(how)

    assert sum(drain_queue(app, with_safety=False).values()) == 4


def test_a_job_whose_task_is_unknown_is_discarded(app):
    app.send_task("tests.nowhere")

    assert drain_queue(app) == counts(discarded=1)


def test_an_expired_job_is_cancelled(app, note, seen):
    note.apply_async((1,), expires=datetime(2020, 1, 1, tzinfo=timezone.utc))

    assert drain_queue(app) == counts(cancelled=1)
    assert seen == []


def test_what_is_meant_for_the_test_passes_through(app):
    @app.task
    def fail():
        pytest.fail("the task saw it")

    fail.delay()
    with pytest.raises(pytest.fail.Exception, match="the task saw it"):
        drain_queue(app)
    assert drain_queue(app) == NOTHING
