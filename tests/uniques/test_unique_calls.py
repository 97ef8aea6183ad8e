"""What ``unique=`` keeps out, on the task and on the call, in memory and on PostgreSQL."""

from __future__ import annotations

import warnings
from datetime import timedelta
from typing import Any

import pytest

from pgtasks import Celery
from pgtasks.exceptions import UniqueStatesWarning


def test_a_second_call_is_answered_with_the_job_of_the_first(each_app: Celery) -> None:
    @each_app.task(unique=True)
    def report(year): ...

    first, again, other = report.delay(2024), report.delay(2024), report.delay(2025)

    assert (first.conflict, again.conflict, other.conflict) == (False, True, False)
    assert again.id == first.id != other.id


def test_the_result_of_a_conflict_is_that_of_the_job_that_was_there(
    each_app: Celery, desk: Any
) -> None:
    @each_app.task(unique=True)
    def report(year):
        return year + 1

    report.delay(2024)
    again = report.delay(2024)
    desk(each_app).work_off()

    assert again.get(timeout=5) == 2025


def test_the_key_is_free_when_the_job_is_over(each_app: Celery, desk: Any) -> None:
    @each_app.task(unique=True)
    def report(): ...

    first = report.delay()
    desk(each_app).work_off()
    second = report.delay()

    assert not second.conflict and second.id != first.id


def test_within_a_period_what_is_completed_keeps_others_out(
    each_app: Celery, desk: Any
) -> None:
    @each_app.task(unique={"period": 60})
    def report(): ...

    first = report.delay()
    desk(each_app).work_off()
    again = report.delay()

    assert again.conflict and again.id == first.id


def test_what_failed_keeps_nobody_out(each_app: Celery, desk: Any) -> None:
    @each_app.task(unique={"period": timedelta(hours=1)})
    def report():
        raise ValueError

    report.delay()
    desk(each_app).work_off()

    assert not report.delay().conflict


def test_unless_its_state_is_named(each_app: Celery, desk: Any) -> None:
    @each_app.task(unique={"period": "forever", "states": "all"})
    def report():
        raise ValueError

    report.delay()
    desk(each_app).work_off()

    assert report.delay().conflict


def test_what_is_held_or_waits_for_a_limit_waits_all_the_same(postgres_app: Celery) -> None:
    waiting = ["scheduled", "available", "executing", "retryable"]

    @postgres_app.task(unique={"states": waiting}, concurrency=1)
    def report(year): ...

    first, held = report.delay(2024), report.delay(2025)
    postgres_app.jobs.hold(held)
    again = [report.delay(year) for year in (2024, 2025)]
    many = report.delay_many([(2024,), (2025,)])

    assert [each.id for each in again] == [first.id, held.id]
    assert [each.id for each in many] == [first.id, held.id]


def test_a_period_ends(each_app: Celery) -> None:
    @each_app.task(unique={"period": 0.001})
    def report(): ...

    first = report.delay()
    second = report.delay()  # the round trip takes longer
    while second.conflict:
        second = report.delay()

    assert second.id != first.id


def test_a_period_may_count_from_the_due_date(each_app: Celery) -> None:
    @each_app.task(unique={"period": 0.001, "timestamp": "scheduled_at"})
    def report(): ...

    report.apply_async(countdown=60)

    assert all(report.apply_async(countdown=60).conflict for _ in range(20))


def test_the_call_says_it_for_tasks_that_do_not(each_app: Celery) -> None:
    @each_app.task
    def report(): ...

    first = report.apply_async(unique=True)

    assert report.apply_async(unique=True).id == first.id
    assert not report.delay().conflict


def test_false_switches_it_off_for_one_call(each_app: Celery) -> None:
    @each_app.task(unique=True)
    def report(): ...

    report.delay()

    assert not report.apply_async(unique=False).conflict


def test_what_the_call_says_takes_the_place_of_what_the_task_says(each_app: Celery) -> None:
    @each_app.task(unique={"fields": ["task"]})
    def report(year): ...

    report.delay(2024)
    wide, narrow = report.delay(2025), report.apply_async([2025], unique=True)

    assert (wide.conflict, narrow.conflict) == (True, False)


def test_tasks_that_are_sent_by_name_are_unique_too(each_app: Celery) -> None:
    first = each_app.send_task("elsewhere", [1], unique=True)

    assert each_app.send_task("elsewhere", [1], unique=True).id == first.id
    assert not each_app.send_task("elsewhere", [2], unique=True).conflict


# ── what is compared ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("fields", "call", "same"),
    [
        (None, {"args": [1], "kwargs": {"b": 2}}, True),
        (None, {"args": [2], "kwargs": {"b": 2}}, False),
        (None, {"args": [1], "kwargs": {"b": 3}}, False),
        (None, {"args": [1], "kwargs": {"b": 2}, "queue": "other"}, False),
        (None, {"args": [1], "kwargs": {"b": 2}, "meta": {"a": 1}}, True),
        (["task"], {"args": [7], "kwargs": {"b": 7}, "queue": "other"}, True),
        (["worker"], {"args": [7], "kwargs": {"b": 7}, "queue": "other"}, True),
        (["args"], {"args": [1], "kwargs": {"b": 7}, "queue": "other"}, True),
        (["kwargs"], {"args": [7], "kwargs": {"b": 2}}, True),
        (["queue"], {"args": [7], "kwargs": {"b": 7}}, True),
        (["task", "meta"], {"args": [1], "kwargs": {"b": 2}, "meta": {"x": 1}}, False),
    ],
)
def test_the_fields_say_what_is_compared(
    each_app: Celery, fields: Any, call: dict[str, Any], same: bool
) -> None:
    unique = {"fields": fields} if fields else True

    @each_app.task(unique=unique)
    def report(a, b): ...

    report.apply_async([1], {"b": 2})

    assert report.apply_async(**call).conflict is same


def test_the_order_of_keyword_arguments_does_not_count(each_app: Celery) -> None:
    @each_app.task(unique=True)
    def report(a, b): ...

    report.delay(a={"x": 1, "y": 2}, b=2)

    assert report.delay(b=2, a={"y": 2, "x": 1}).conflict


def test_another_task_is_another_key(each_app: Celery) -> None:
    @each_app.task(unique=True)
    def one(a): ...

    @each_app.task(unique=True)
    def other(a): ...

    one.delay(1)

    assert not other.delay(1).conflict


@pytest.mark.parametrize(
    ("args", "kwargs", "same"),
    [
        ([1], {}, True),
        ([], {"order_id": 1, "note": "x"}, True),
        ([1, "y"], {}, True),
        ([2], {}, False),
        ([None], {}, False),
    ],
)
def test_keys_are_found_by_name_wherever_they_are_given(
    each_app: Celery, args: list[Any], kwargs: dict[str, Any], same: bool
) -> None:
    @each_app.task(bind=True, unique={"keys": ["order_id"]})
    def ship(self, order_id, note=None): ...

    ship.delay(1, note="first")

    assert ship.apply_async(args, kwargs).conflict is same


def test_keys_are_found_in_meta_if_it_is_a_field(each_app: Celery) -> None:
    @each_app.task(unique={"fields": ["task", "meta"], "keys": ["tenant"]})
    def ship(order_id): ...

    def send(order_id, **meta):
        return ship.apply_async([order_id], meta=meta).conflict

    assert [send(1, tenant="a", trace=1), send(2, tenant="a", trace=2)] == [False, True]
    assert [send(3, tenant="b"), send(4)] == [False, False]


def test_a_missing_key_is_not_null(each_app: Celery) -> None:
    @each_app.task(unique={"keys": ["tenant"]})
    def ship(**options): ...

    ship.delay(tenant=None)

    assert not ship.delay(order=1).conflict
    assert ship.delay(order=2).conflict


def test_a_key_among_the_positional_arguments_of_an_unknown_task_is_an_error(
    each_app: Celery,
) -> None:
    unique = {"keys": ["order_id"]}

    with pytest.raises(TypeError, match="Give it as a keyword argument"):
        each_app.send_task("elsewhere", [1], unique=unique)
    first = each_app.send_task("elsewhere", [1], {"order_id": 5}, unique=unique)
    assert each_app.send_task("elsewhere", [2], {"order_id": 5}, unique=unique) == first


def test_arguments_that_json_cannot_hold_are_refused_with_a_remedy(
    each_app: Celery,
) -> None:
    each_app.conf.accept_content = ["json", "pickle"]

    @each_app.task(unique=True, serializer="pickle")
    def ship(order): ...

    with pytest.raises(TypeError, match="with 'keys'"):
        ship.delay({1, object})


# ── bad input ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("unique", "error", "text"),
    [
        (5, TypeError, "give True, False"),
        ("until_done", ValueError, "until_executing"),
        ({"perido": 5}, ValueError, "'perido' is not among"),
        ({"period": 0}, ValueError, "more than 0"),
        ({"period": -1}, ValueError, "more than 0"),
        ({"period": float("nan")}, ValueError, "more than 0"),
        ({"period": "60"}, TypeError, "'forever'"),
        ({"period": False}, TypeError, "'forever'"),
        ({"fields": ["arg"]}, ValueError, "'arg' is not among"),
        ({"fields": []}, ValueError, "all jobs were the same"),
        ({"fields": "args"}, TypeError, "list of names"),
        ({"keys": "order_id"}, TypeError, "list of names"),
        ({"keys": [1]}, TypeError, "1 is no name"),
        ({"keys": ["a"], "fields": ["task"]}, ValueError, "none is in fields"),
        ({"states": "completed"}, ValueError, "none of the groups"),
        ({"states": ["avialable"]}, ValueError, "'avialable' is not among"),
        ({"states": ["executing"]}, ValueError, "while_executing"),
        ({"timestamp": "completed_at"}, ValueError, "inserted_at"),
        ({"replace": {"completed": ["args"]}}, ValueError, "is over stays"),
        ({"replace": {"available": ["errors"]}}, ValueError, "'errors' is not among"),
        ({"replace_args": "yes"}, TypeError, "True or False"),
        ({"states": "while_executing", "period": 5}, ValueError, "leave period away"),
    ],
)
def test_what_cannot_be_meant_is_refused_on_the_task_and_on_the_call(
    memory_app: Celery, unique: Any, error: type[Exception], text: str
) -> None:
    @memory_app.task
    def plain(): ...

    with pytest.raises(error, match=text):
        plain.apply_async(unique=unique)
    with pytest.raises(error, match=text):

        @memory_app.task(unique=unique)
        def report(): ...


def test_to_replace_without_unique_is_refused(memory_app: Celery) -> None:
    @memory_app.task
    def plain(): ...

    with pytest.raises(ValueError, match="without unique="):
        plain.apply_async(replace=["args"])
    with pytest.raises(ValueError, match="nothing to replace"):
        plain.apply_async(unique="while_executing", replace_args=True)


@pytest.mark.parametrize(
    ("states", "missing"),
    [
        (["scheduled", "available", "retryable"], "executing"),
        (["scheduled", "available", "executing"], "retryable"),
        (["available", "executing", "retryable"], "scheduled"),
        (["scheduled", "executing", "retryable"], "available"),
        (["scheduled", "available", "completed"], "executing"),
    ],
)
def test_a_gap_in_the_states_is_warned_of_once(
    memory_app: Celery, states: list[str], missing: str
) -> None:
    @memory_app.task(unique={"states": states})
    def report(): ...

    with pytest.warns(UniqueStatesWarning, match=f"Add {missing}") as warned:
        report.delay()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report.delay()

    assert len(warned) == 1


@pytest.mark.parametrize(
    "unique",
    [
        True,
        "until_executing",
        "while_executing",
        {"states": "all"},
        {"states": "scheduled"},
        {"states": ["scheduled", "available"]},
        {"period": 5},
    ],
)
def test_nothing_is_said_where_there_is_no_gap(memory_app: Celery, unique: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        @memory_app.task(unique=unique)
        def report(): ...

        report.delay()


# ── eager ───────────────────────────────────────────────────────────────────────────────


def test_eager_and_inline_runs_are_over_before_the_next_and_conflict_with_nothing(
    postgres_app: Celery,
) -> None:
    ran = []

    @postgres_app.task(unique={"period": 60}, replace=["args"])
    def report(year):
        ran.append(year)

    postgres_app.conf.task_always_eager = True
    report.delay(1)
    postgres_app.conf.task_always_eager = False
    postgres_app.conf.task_testing = "inline"
    results = [report.delay(1), report.apply_async([1], unique=True)]

    assert ran == [1, 1, 1]
    assert not any(getattr(each, "conflict", False) for each in results)
