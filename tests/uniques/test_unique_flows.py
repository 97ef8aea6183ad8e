"""Unique tasks in work-flows, schedules and bulk calls."""

from __future__ import annotations

from typing import Any

import pytest

from pgtasks import Celery, chain, chord, group
from pgtasks.beat import ScheduleEntry, Scheduler


@pytest.fixture
def tasks(each_app: Celery) -> Any:
    class Tasks:
        @each_app.task(unique=True)
        def fetch(year):
            return year

        @each_app.task
        def total(numbers):
            return sum(numbers)

        @each_app.task(unique={"fields": ["task"]})
        def one(value=0):
            return value + 1

    return Tasks


def test_members_of_a_group_are_kept_out_like_any_other_call(
    each_app: Celery, desk: Any, tasks: Any
) -> None:
    before = tasks.fetch.delay(1)
    result = group(tasks.fetch.s(year) for year in (1, 2, 2)).apply_async()
    one, two, again = result.results

    assert [each.conflict for each in result.results] == [True, False, True]
    assert (one.id, again.id) == (before.id, two.id)
    desk(each_app).work_off()
    assert result.get(timeout=5) == [1, 2, 2]


def test_a_chord_whose_members_have_twins_is_called_with_all_results(
    each_app: Celery, desk: Any, tasks: Any
) -> None:
    outside = tasks.fetch.delay(1)
    result = chord(
        [tasks.fetch.s(year) for year in (1, 2, 2)], tasks.total.s()
    ).apply_async()
    outcomes = desk(each_app).work_off()

    assert result.get(timeout=5) == 5
    # The one from outside, three members and the body.
    assert len(outcomes) == 5
    assert outside.get(timeout=5) == 1


def test_a_member_keeps_those_out_that_come_after_it(
    each_app: Celery, desk: Any, tasks: Any
) -> None:
    flow = chord([tasks.fetch.s(1), tasks.fetch.s(2)], tasks.total.s()).apply_async()
    twin = tasks.fetch.delay(2)

    assert twin.conflict
    assert twin.id == flow.parent.results[1].id


def test_the_body_of_a_chord_goes_in_too(each_app: Celery, desk: Any, tasks: Any) -> None:
    tasks.one.delay()
    result = chord([tasks.fetch.s(1)], tasks.one.si(5)).apply_async()
    desk(each_app).work_off()

    assert result.get(timeout=5) == 6


def test_a_chain_goes_on_whoever_has_the_keys_of_its_links(
    each_app: Celery, desk: Any, tasks: Any
) -> None:
    tasks.one.delay()
    result = chain(tasks.one.s(1), tasks.one.s(), tasks.one.s()).apply_async()
    desk(each_app).work_off()

    assert result.get(timeout=5) == 4


def test_later_links_of_a_chain_keep_nobody_out(
    each_app: Celery, desk: Any, tasks: Any
) -> None:
    result = chain(tasks.total.s([1]), tasks.one.s()).apply_async()
    ours = desk(each_app)
    ours.work_one()
    beside = tasks.one.delay()
    ours.work_off()

    assert not beside.conflict
    assert result.get(timeout=5) == 2


def test_what_is_linked_to_a_call_that_is_kept_out_is_not_called(
    each_app: Celery, desk: Any, tasks: Any
) -> None:
    tasks.one.delay()
    kept_out = tasks.one.apply_async(link=tasks.one.s())

    assert kept_out.conflict
    assert len(desk(each_app).work_off()) == 1


def test_a_signature_carries_the_option(each_app: Celery, desk: Any, tasks: Any) -> None:
    signature = tasks.total.s([1, 2]).set(unique={"period": 60, "keys": ["numbers"]})
    first, again = signature.delay(), signature.delay()

    assert (again.id, again.conflict) == (first.id, True)


def test_a_retry_of_a_unique_task_is_the_same_job(each_app: Celery, desk: Any) -> None:
    runs = []

    @each_app.task(bind=True, unique=True, max_retries=5)
    def stubborn(self, value):
        runs.append(value)
        if len(runs) < 3:
            raise self.retry(countdown=0)
        return "done"

    result = stubborn.delay(7)
    ours = desk(each_app)
    ours.work_one()
    assert stubborn.delay(7).id == result.id
    ours.work_off()

    assert result.get(timeout=5) == "done"
    assert runs == [7, 7, 7]


def test_a_task_may_send_itself_when_the_key_is_free_at_the_start(
    each_app: Celery, desk: Any
) -> None:
    sent = []

    @each_app.task(unique="until_executing")
    def tick(left):
        if left:
            sent.append(tick.apply_async([left - 1]))
            sent.append(tick.apply_async([left - 1]))

    tick.delay(2)
    assert len(desk(each_app).work_off()) == 3
    assert [each.conflict for each in sent] == [False, True, False, True]


def test_many_are_sent_at_once_by_one_call(each_app: Celery, desk: Any, tasks: Any) -> None:
    results = tasks.fetch.delay_many([(n % 500,) for n in range(5000)]).results

    assert [each.conflict for each in results] == [False] * 500 + [True] * 4500
    assert len({each.id for each in results}) == 500
    assert len(desk(each_app).work_off()) == 500


def test_entries_of_a_schedule_may_be_unique(each_app: Celery, tasks: Any) -> None:
    scheduler = Scheduler(each_app, lazy=True)
    entry = ScheduleEntry(
        name="often",
        task=tasks.total.name,
        schedule=1.0,
        args=([1],),
        options={"unique": {"period": "forever"}},
        app=each_app,
    )
    first = scheduler.apply_async(entry, advance=False)
    again = scheduler.apply_async(entry, advance=False)

    assert (again.id, again.conflict) == (first.id, True)
