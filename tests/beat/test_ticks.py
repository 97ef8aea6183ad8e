"""Which moments of a schedule have come, and what becomes of those that were missed."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from pgtasks import Celery
from pgtasks.beat import ticks
from pgtasks.beat.lines import Line
from pgtasks.schedules import BaseSchedule, crontab, schedstate, schedule, solar

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=timezone.utc)


@pytest.fixture(scope="module")
def app() -> Celery:
    return Celery("ticks", broker="memory://", set_as_current=False)


def line(made, now: datetime = NOON, **policies) -> Line:
    return Line("e", "t", made, **policies).clocked(lambda: now)


def due(made, last: datetime, now: datetime = NOON, setting=None, **policies) -> ticks.Due:
    return ticks.due(line(made, now, **policies), last, now, setting)


def ago(**given: float) -> datetime:
    return NOON - timedelta(**given)


def test_nothing_has_come_before_its_time(app):
    found = due(schedule(30, app=app), ago(seconds=29))

    assert found == ([], ago(seconds=29), NOON + timedelta(seconds=1))


def test_a_tick_is_the_moment_of_the_schedule_and_not_the_present(app):
    found = due(schedule(30, app=app), ago(seconds=30.2))

    assert found.ticks == [ago(seconds=0.2)]
    assert found.last == ago(seconds=0.2)
    assert found.next == NOON + timedelta(seconds=29.8)


@pytest.mark.parametrize(
    ("made", "last", "newest"),
    [
        (schedule(0.1), ago(days=30, seconds=0.04), ago(seconds=0.04)),
        (schedule(10), ago(seconds=3605), ago(seconds=5)),
        (crontab(), ago(days=300), NOON),
        (crontab(minute="0", hour="3"), ago(days=5), ago(hours=9)),
        (crontab("0", "0", day_of_month="1", month_of_year="2"), ago(days=900),
         datetime(2026, 2, 1, tzinfo=timezone.utc)),
    ],
)  # fmt: skip
def test_of_what_was_missed_the_newest_is_sent_by_default(app, made, last, newest):
    made.app = app
    found = due(made, last)

    assert found.ticks == [newest]
    assert found.last == newest
    assert found.next > NOON


def test_all_of_it_is_sent_in_order_if_wanted_and_a_bounded_number_at_a_time(app):
    found = due(schedule(1, app=app), ago(seconds=150), catch_up="all")
    rest = due(schedule(1, app=app), found.last, catch_up="all")

    assert found.ticks == [ago(seconds=150 - each) for each in range(1, 101)]
    assert found.next == NOON + timedelta(seconds=1)
    assert rest.ticks == [ago(seconds=50 - each) for each in range(1, 51)]
    assert rest.next == NOON + timedelta(seconds=1)


def test_what_was_missed_is_not_sent_if_it_is_to_be_passed_over(app):
    missed = due(crontab("0", "3", app=app), ago(days=2), catch_up="skip")
    late = due(schedule(1, app=app), ago(seconds=8), catch_up="skip")

    assert missed.ticks == [] and missed.next == datetime(
        2026, 3, 3, 3, tzinfo=timezone.utc
    )
    assert late.ticks == [NOON], "a change of leaders misses nothing, and makes no burst"


def test_a_crontab_that_is_later_than_the_deadline_is_not_sent(app):
    nightly = crontab("0", "3", app=app)

    assert due(nightly, ago(days=2), setting=3600).ticks == []
    assert due(nightly, ago(days=2), setting=10 * 3600).ticks == [ago(hours=9)]
    assert due(schedule(3600, app=app), ago(seconds=7000), setting=60).ticks
    own = {"catch_up": "all", "deadline": 90.0}
    assert due(crontab(app=app), ago(days=9), setting=1, **own).ticks == [
        ago(minutes=1), NOON,
    ]  # fmt: skip
    assert len(due(schedule(1, app=app), ago(days=9), **own).ticks) == 90


def test_a_clock_that_is_set_back_repeats_no_tick(app):
    ahead = NOON + timedelta(minutes=10)

    assert due(schedule(1, app=app), ahead).ticks == []
    assert due(crontab(app=app), ahead, catch_up="all").ticks == []


def test_hours_of_a_change_of_the_clock_are_those_of_crontab(app):
    berlin = Celery("zoned", broker="memory://", set_as_current=False)
    berlin.conf.timezone = "Europe/Berlin"
    made = crontab("30", "2")
    made.app = berlin
    # On 29 March 2026 there is no half past two.
    before = datetime(2026, 3, 28, 12, tzinfo=timezone.utc)
    now = datetime(2026, 3, 30, 12, tzinfo=timezone.utc)
    found = due(made, before, now, catch_up="all")

    assert found.ticks == [
        datetime(2026, 3, 29, 1, 30, tzinfo=timezone.utc),
        datetime(2026, 3, 30, 0, 30, tzinfo=timezone.utc),
    ]


def test_round_times_of_an_interval_are_those_of_the_zone():
    berlin = Celery("zoned", broker="memory://", set_as_current=False)
    berlin.conf.timezone = "Europe/Berlin"
    daily = schedule(timedelta(days=1), relative=True)
    daily.app = berlin

    assert due(daily, ago(days=1)).ticks == [NOON.replace(day=1, hour=23)]


class Full(BaseSchedule):
    """Whether it is full moon, say: only the moment tells."""

    answer = schedstate(False, 7.0)

    def is_due(self, last_run_at):
        self.asked = last_run_at
        return self.answer


def test_a_schedule_of_ones_own_is_asked_as_celery_does(app):
    made = Full(app=app)
    not_yet = due(made, ago(days=1))
    made.answer = schedstate(True, 20.0)
    now = due(made, ago(days=1), catch_up="all")

    assert not_yet == ([], ago(days=1), NOON + timedelta(seconds=7))
    assert now == ([NOON], NOON, NOON + timedelta(seconds=20))


class Estimating(BaseSchedule):
    """One that says how long it is until the next run."""

    def remaining_estimate(self, last_run_at):
        return last_run_at + timedelta(seconds=40) - self.now()


def test_a_schedule_of_ones_own_that_estimates_has_ticks(app):
    found = due(Estimating(app=app), ago(seconds=100), catch_up="all")

    assert found.ticks == [ago(seconds=60), ago(seconds=20)]
    assert found.next == NOON + timedelta(seconds=20)


def test_the_next_times_can_be_told(app):
    hourly = line(crontab("0", app=app))
    every = line(schedule(20, app=app))
    sun = line(solar("sunrise", 48.2, 16.4, app=app))

    assert list(ticks.upcoming(hourly, ago(days=3), NOON, 2)) == [
        NOON + timedelta(hours=1),
        NOON + timedelta(hours=2),
    ]
    assert list(ticks.upcoming(every, ago(seconds=50), NOON, 2)) == [
        NOON + timedelta(seconds=10),
        NOON + timedelta(seconds=30),
    ]
    rises = list(ticks.upcoming(sun, ago(days=1), NOON, 3))
    assert [each.day for each in rises] == [3, 4, 5]
    own = Full(app=app)
    assert list(ticks.upcoming(line(own), NOON, NOON, 3)) == [NOON + timedelta(seconds=7)]
