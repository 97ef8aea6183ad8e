"""Schedules: what a crontab means, when an interval ends, what clocks do to both."""

from __future__ import annotations

import copy
import pickle
import random
import sys
from datetime import datetime, timedelta, timezone
from fractions import Fraction
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest

from pgtasks.exceptions import ImproperlyConfigured
from pgtasks.schedules import (
    BaseSchedule,
    ParseException,
    crontab,
    crontab_parser,
    maybe_schedule,
    schedstate,
    schedule,
    solar,
)

UTC = timezone.utc
PARIS = ZoneInfo("Europe/Paris")
NEW_YORK = ZoneInfo("America/New_York")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")


def an_app(zone=UTC, **settings):
    settings = {"enable_utc": True, "beat_cron_starting_deadline": None, **settings}
    return SimpleNamespace(
        timezone=zone, conf=SimpleNamespace(**settings), now=lambda: datetime.now(UTC)
    )


def local(zone, text, fold=0):
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold)


def next_run(entry, last, zone):
    """The moment at which an entry that ran at ``last`` runs next."""
    entry.nowfun = lambda: last
    return (last.astimezone(UTC) + entry.remaining_estimate(last)).astimezone(zone)


def runs(entry, start, zone, count):
    """The next ``count`` moments, on the clock of the zone."""
    moments = []
    for _ in range(count):
        start = next_run(entry, start, zone)
        moments.append(start.strftime("%m-%d %H:%M%z"))
    return moments


def every_minute_that_matches(entry, start, days):
    """What a crontab means, spelled out: look at each minute of the wall clock."""
    minute = start.replace(second=0, microsecond=0) + timedelta(minutes=1)
    for _ in range(days * 24 * 60):
        if (
            minute.minute in entry.minute
            and minute.hour in entry.hour
            and minute.day in entry.day_of_month
            and minute.month in entry.month_of_year
            and minute.isoweekday() % 7 in entry.day_of_week
        ):
            yield minute
        minute += timedelta(minutes=1)


class TestFieldsOfACrontab:
    @pytest.mark.parametrize(
        ("field", "numbers"),
        [
            ("*", set(range(60))),
            ("*/15", {0, 15, 30, 45}),
            ("5", {5}),
            (" 5 , 7 ", {5, 7}),
            ("8-12", {8, 9, 10, 11, 12}),
            ("8-12/2", {8, 10, 12}),
            ("58-2", {58, 59, 0, 1, 2}),
            ("58-2/2", {58, 0, 2}),
            ("1,10-12,*/30", {0, 1, 10, 11, 12, 30}),
        ],
    )
    def test_a_pattern_stands_for_numbers(self, field, numbers):
        assert crontab_parser(60).parse(field) == numbers

    @pytest.mark.parametrize(
        ("name", "number"),
        [("sun", 0), ("Sunday", 0), ("mon", 1), ("thurs", 4), ("SAT", 6)],
    )
    def test_days_of_the_week_have_names_and_begin_with_sunday(self, name, number):
        assert crontab(day_of_week=name).day_of_week == {number}

    def test_months_have_names(self):
        assert crontab(month_of_year="jan,September-nov").month_of_year == {1, 9, 10, 11}

    def test_a_range_of_names_goes_round_the_end_of_the_week(self):
        assert crontab(day_of_week="fri-mon").day_of_week == {5, 6, 0, 1}

    @pytest.mark.parametrize(
        "field", [30, "30", [30], {30}, (30,), iter([30]), range(30, 31)]
    )
    def test_a_field_is_a_number_a_text_or_anything_with_numbers_in_it(self, field):
        assert crontab(minute=field).minute == {30}

    @pytest.mark.parametrize(
        "field", ["", "1,,2", "-5", "*/", "1-5-7", "mon#1", "*5", "1-5/"]
    )
    def test_a_field_that_cannot_be_read_is_refused(self, field):
        with pytest.raises(ParseException):
            crontab_parser(60).parse(field)

    @pytest.mark.parametrize("field", ["60", "0-60", "5/15", "*/0", "*/x", "L", "someday"])
    def test_a_field_that_makes_no_sense_is_refused(self, field):
        with pytest.raises(ValueError):
            crontab_parser(60).parse(field)

    def test_a_parse_error_is_a_value_error_so_that_one_clause_catches_both(self):
        with pytest.raises(ValueError, match="'mon#1'"):
            crontab(day_of_week="mon#1")

    def test_a_step_without_a_range_is_answered_with_the_range_to_write(self):
        with pytest.raises(ValueError, match="'5-59/15'"):
            crontab(minute="5/15")

    def test_sunday_is_0_and_not_7(self):
        with pytest.raises(ValueError, match="from 0 to 6"):
            crontab(day_of_week="7")

    def test_a_number_out_of_range_is_told_with_the_range(self):
        with pytest.raises(ValueError, match=r"Valid range is 0-59\. 60 was found"):
            crontab(minute=[15, 60])

    def test_what_has_no_numbers_is_a_type_error(self):
        with pytest.raises(TypeError, match="timedelta"):
            crontab(minute=timedelta(minutes=5))

    @pytest.mark.parametrize(
        ("day", "month"), [(31, 4), (30, "feb"), ("30,31", 2), ([], "*")]
    )
    def test_a_date_that_never_occurs_is_refused(self, day, month):
        with pytest.raises(ValueError, match="never occurs"):
            crontab(day_of_month=day, month_of_year=month)

    @pytest.mark.parametrize("field", ["minute", "hour", "day_of_week"])
    def test_an_empty_field_is_refused(self, field):
        with pytest.raises(ValueError, match="never occurs"):
            crontab(**{field: []})

    def test_29_february_does_occur(self):
        assert crontab(day_of_month=29, month_of_year=2).day_of_month == {29}

    def test_a_line_has_its_fields_in_crons_order(self):
        entry = crontab.from_string("5  4 3 2\t1")

        assert entry == crontab(5, 4, day_of_month=3, month_of_year=2, day_of_week=1)

    @pytest.mark.parametrize("line", ["", "* * * *", "* * * * * *", "@daily"])
    def test_a_line_without_five_fields_is_refused(self, line):
        with pytest.raises(ValueError, match="five fields"):
            crontab.from_string(line)


class TestACrontabAsAValue:
    def test_fields_remain_readable_as_they_were_given(self):
        entry = crontab("*/15", hour=[1, 2], day_of_week="mon")

        assert entry._orig_minute == "*/15"
        assert entry._orig_hour == [1, 2]
        assert entry._orig_day_of_week == "mon"
        assert entry._orig_day_of_month == entry._orig_month_of_year == "*"
        assert repr(entry) == "<crontab: */15 [1, 2] * * mon (m/h/dM/MY/d)>"

    def test_crontabs_are_equal_if_they_mean_the_same(self):
        assert crontab(minute="*/30") == crontab(minute=[0, 30])
        assert crontab(minute="*/30") != crontab(minute="*/15")
        assert crontab() != schedule(60)
        assert crontab() != object()

    def test_crontabs_with_different_clocks_are_different(self):
        assert crontab(nowfun=datetime.now) != crontab()

    @pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda entry: entry])
    def test_a_pickled_crontab_keeps_its_clock_however_often(self, again):
        entry = crontab("1-5", hour={3}, nowfun=datetime.utcnow)
        for _ in range(3):
            entry = pickle.loads(pickle.dumps(again(entry)))

        assert entry == crontab("1-5", hour={3}, nowfun=datetime.utcnow)
        assert entry._orig_minute == "1-5"

    def test_it_is_pickled_under_the_name_that_users_import(self):
        assert b"pgtasks.schedules\n" in pickle.dumps(crontab(), protocol=0)


class TestTheNextRunOfACrontab:
    @pytest.mark.parametrize(
        ("fields", "last", "expected"),
        [
            ({}, "2010-09-11 14:30:15", "2010-09-11 14:31"),
            ({}, "2010-12-31 23:59:59", "2011-01-01 00:00"),
            ({"minute": [5, 42]}, "2010-09-11 14:30:15", "2010-09-11 14:42"),
            ({"minute": [5, 42]}, "2010-09-11 14:42:00", "2010-09-11 15:05"),
            ({"minute": 5, "hour": [12, 17]}, "2010-09-11 14:30", "2010-09-11 17:05"),
            ({"minute": 5, "hour": 12}, "2010-09-11 14:30", "2010-09-12 12:05"),
            (
                {"minute": 0, "hour": 9, "day_of_week": "mon"},
                "2010-09-11 14:30",
                "2010-09-13 09:00",
            ),
            (
                {"minute": 0, "hour": 0, "day_of_month": 31},
                "2010-02-01 00:00",
                "2010-03-31 00:00",
            ),
            (
                {"minute": 0, "hour": 0, "day_of_month": 29, "month_of_year": 2},
                "2012-02-29 00:00",
                "2016-02-29 00:00",
            ),
        ],
    )
    def test_it_is_the_first_match_after_the_last_run(self, fields, last, expected):
        entry = crontab(**fields, app=an_app())

        assert next_run(entry, local(UTC, last), UTC) == local(UTC, expected)

    def test_days_of_the_month_and_of_the_week_must_both_match(self):
        friday_13th = crontab(0, 12, day_of_week="fri", day_of_month=13, app=an_app())

        found = runs(friday_13th, local(UTC, "2026-01-01 00:00"), UTC, 3)

        assert found == ["02-13 12:00+0000", "03-13 12:00+0000", "11-13 12:00+0000"]

    def test_29_february_on_a_sunday_may_take_forty_years(self):
        entry = crontab(0, 0, day_of_week=0, day_of_month=29, month_of_year=2, app=an_app())

        assert next_run(entry, local(UTC, "2088-03-01 00:00"), UTC).year == 2128

    def test_a_date_that_no_longer_occurs_is_an_error_and_not_a_hang(self):
        entry = crontab(day_of_month=30, month_of_year=4, app=an_app())
        entry.day_of_month = {31}

        with pytest.raises(RuntimeError, match="never matches"):
            next_run(entry, local(UTC, "2010-01-28 14:30"), UTC)

    def test_fields_are_read_in_the_apps_timezone_whatever_the_last_run_is_in(self):
        entry = crontab(minute=40, hour=8, app=an_app(PARIS))
        last = local(ZoneInfo("Asia/Tokyo"), "2025-05-20 15:25")  # 08:25 in Paris

        assert next_run(entry, last, PARIS) == local(PARIS, "2025-05-20 08:40")

    def test_a_naive_last_run_means_utc(self):
        entry = crontab(minute=40, hour=8, app=an_app(PARIS))
        entry.nowfun = lambda: datetime(2025, 5, 20, 6, 25)  # 08:25 in Paris

        assert entry.remaining_estimate(datetime(2025, 5, 20, 6, 25)) == timedelta(
            minutes=15
        )

    def test_the_jump_can_be_made_with_dateutils_relativedelta(self):
        from dateutil.relativedelta import relativedelta

        entry = crontab(minute=40, hour=8, day_of_week="wed", app=an_app())
        entry.nowfun = lambda: last
        last = local(UTC, "2025-05-20 15:25")

        start, jump, _ = entry.remaining_delta(last, ffwd=relativedelta)

        assert start + jump == local(UTC, "2025-05-21 08:40")

    @pytest.mark.parametrize("seed", range(20))
    def test_it_agrees_with_looking_at_every_minute(self, seed):
        choose = random.Random(seed)
        entry = crontab(
            minute=choose.choice(["*", "*/7", "13", "50-10", "0,30"]),
            hour=choose.choice(["*", "*/5", "22-3", "4"]),
            day_of_week=choose.choice(["*", "1-5", "sat-mon", "3"]),
            day_of_month=choose.choice(["*", "*/2", "28-2", "15"]),
            app=an_app(),
        )
        last = datetime(2027, 1, 1) + timedelta(seconds=choose.randrange(365 * 86400))
        expected = every_minute_that_matches(entry, last, days=120)

        for match in [moment for moment, _ in zip(expected, range(8), strict=False)]:
            found = next_run(entry, last.replace(tzinfo=UTC), UTC)
            assert found.replace(tzinfo=None) == match
            last = match


class TestACrontabWhenClocksChange:
    def test_a_time_that_is_skipped_in_spring_runs_as_much_later(self):
        entry = crontab(minute=30, hour=2, app=an_app(NEW_YORK))

        found = runs(entry, local(NEW_YORK, "2026-03-07 02:30"), NEW_YORK, 2)

        assert found == ["03-08 03:30-0400", "03-09 02:30-0400"]

    def test_a_time_that_is_repeated_in_autumn_runs_the_first_time_only(self):
        entry = crontab(minute=30, hour=1, app=an_app(NEW_YORK))

        found = runs(entry, local(NEW_YORK, "2026-10-31 01:30"), NEW_YORK, 2)

        assert found == ["11-01 01:30-0400", "11-02 01:30-0500"]

    def test_every_hour_leaves_out_the_repeated_one(self):
        entry = crontab(minute=0, app=an_app(NEW_YORK))

        found = runs(entry, local(NEW_YORK, "2026-11-01 00:00"), NEW_YORK, 3)

        assert found == ["11-01 01:00-0400", "11-01 02:00-0500", "11-01 03:00-0500"]

    def test_a_run_inside_the_repeated_hour_is_not_due_again_at_once(self):
        # The next time on the clock, 01:31, has been before: by that rule the
        # entry would be due over and over until two o'clock.
        entry = crontab(app=an_app(NEW_YORK))
        last = local(NEW_YORK, "2026-11-01 01:30", fold=1)

        assert next_run(entry, last, NEW_YORK) == local(NEW_YORK, "2026-11-01 02:00")

    def test_half_an_hour_can_be_skipped_too(self):
        entry = crontab(minute=15, hour=2, app=an_app(LORD_HOWE))

        found = runs(entry, local(LORD_HOWE, "2026-10-03 02:15"), LORD_HOWE, 2)

        assert found == ["10-04 02:45+1100", "10-05 02:15+1100"]


class TestWhetherACrontabIsDue:
    def at(self, now, **settings):
        entry = crontab(minute=0, hour=9, app=an_app(**settings))
        entry.nowfun = lambda: local(UTC, now)
        return entry

    def test_not_before_its_time(self):
        entry = self.at("2026-05-05 08:59:30")

        assert entry.is_due(local(UTC, "2026-05-04 09:00")) == schedstate(False, 30)

    def test_at_its_time_with_the_seconds_to_the_next(self):
        entry = self.at("2026-05-05 09:00:00")

        assert entry.is_due(local(UTC, "2026-05-04 09:00")) == schedstate(True, 86400)

    def test_once_for_all_that_were_missed(self):
        entry = self.at("2026-05-09 12:00")

        assert entry.is_due(local(UTC, "2026-05-01 09:00")) == schedstate(True, 21 * 3600)

    def test_not_if_it_was_missed_longer_ago_than_the_deadline(self):
        entry = self.at("2026-05-09 12:00", beat_cron_starting_deadline=2 * 3600)

        assert entry.is_due(local(UTC, "2026-05-01 09:00")) == schedstate(False, 21 * 3600)

    @pytest.mark.parametrize("seconds", [3 * 3600, 4 * 3600])
    def test_if_it_was_missed_within_the_deadline(self, seconds):
        entry = self.at("2026-05-09 12:00", beat_cron_starting_deadline=seconds)

        assert entry.is_due(local(UTC, "2026-05-01 09:00")).is_due


class TestIntervals:
    def at(self, now, *args, **kwargs):
        return schedule(*args, nowfun=lambda: now, app=an_app(), **kwargs)

    def test_an_interval_counts_from_the_last_run(self):
        last = local(UTC, "2026-01-01 10:00:00")

        assert self.at(last + timedelta(seconds=4), 10).is_due(last) == (False, 6)
        assert self.at(last + timedelta(seconds=10), 10).is_due(last) == (True, 10)
        assert self.at(last + timedelta(hours=10), 10).is_due(last) == (True, 10)

    @pytest.mark.parametrize("interval", [60, 60.0, timedelta(minutes=1)])
    def test_an_interval_is_seconds_or_a_timedelta(self, interval):
        assert schedule(interval).run_every == timedelta(seconds=60)
        assert schedule(interval).seconds == 60
        assert repr(schedule(interval)) == "<freq: 1.00 minute>"

    def test_elapsed_time_counts_across_a_change_of_clocks(self):
        last = local(PARIS, "2020-10-25 02:59:55")
        now = local(PARIS, "2020-10-25 02:00:05", fold=1)

        assert self.at(now, 10).is_due(last) == (True, 10)

    def test_a_relative_interval_ends_on_a_round_time_and_recovers_from_a_late_run(self):
        last = local(UTC, "2026-01-01 09:00:00")
        late = local(UTC, "2026-01-01 10:59:30")

        assert self.at(late, timedelta(hours=1), relative=True).is_due(last) == (True, 30)

    def test_a_relative_day_ends_at_midnight_also_if_the_day_has_23_hours(self):
        last = local(NEW_YORK, "2026-03-07 23:30")

        assert self.at(last, timedelta(days=1), relative=True).is_due(last) == (False, 1800)

    def test_intervals_are_equal_to_each_other_and_to_their_timedelta(self):
        assert schedule(10) == schedule(10.0) == timedelta(seconds=10)
        assert schedule(10) != schedule(12)

    def test_a_pickled_interval_keeps_everything(self):
        again = pickle.loads(pickle.dumps(schedule(10, relative=True, nowfun=datetime.now)))

        assert again == schedule(10)
        assert again.relative
        assert again.nowfun is not None

    @pytest.mark.parametrize("value", [30, 30.0, Fraction(30), timedelta(seconds=30)])
    def test_numbers_and_timedeltas_become_schedules(self, value):
        app = an_app()

        made = maybe_schedule(value, relative=True, app=app)

        assert made == schedule(30)
        assert made.relative
        assert made.app is app

    def test_schedules_get_the_app_and_nothing_stays_nothing(self):
        app, entry = an_app(), crontab()

        assert maybe_schedule(entry, app=app) is entry
        assert entry.app is app
        assert maybe_schedule(None) is None


class TestAScheduleOfOnesOwn:
    def test_says_when_and_the_rest_follows(self):
        class Soon(BaseSchedule):
            def remaining_estimate(self, last_run_at):
                return timedelta(seconds=5)

        assert Soon().is_due(datetime.now(UTC)) == (False, 5)

    def test_is_due_and_looks_again_after_the_next_interval(self):
        class Countdown(BaseSchedule):
            answers = iter([timedelta(seconds=-3), timedelta(seconds=7)])

            def remaining_estimate(self, last_run_at):
                return next(self.answers)

        assert Countdown(app=an_app()).is_due(datetime.now(UTC)) == (True, 7)

    def test_must_say_when(self):
        with pytest.raises(NotImplementedError, match="BaseSchedule does not say when"):
            BaseSchedule().remaining_estimate(datetime.now(UTC))

    def test_asks_the_current_app_if_it_was_given_none(self, monkeypatch):
        app = an_app(PARIS)
        monkeypatch.setattr("pgtasks._state.get_current_app", lambda: app)

        assert crontab().app is app
        assert crontab().tz is PARIS

    def test_may_set_its_timezone(self):
        entry = crontab(app=an_app(UTC))
        entry.tz = PARIS

        assert entry.maybe_make_aware(datetime(2026, 1, 1, 12)).hour == 13


class TestTheSun:
    def test_needs_ephem_and_says_how_to_get_it(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "ephem", None)

        with pytest.raises(ImproperlyConfigured, match="pip install ephem"):
            solar("sunrise", 60, 30)

    def test_rises_in_london_on_new_years_day(self):
        pytest.importorskip("ephem")
        entry = solar("sunrise", 51.5, -0.13, app=an_app(PARIS))

        found = next_run(entry, local(UTC, "2026-01-01 00:00"), UTC)

        assert found.strftime("%m-%d %H:%M") == "01-01 08:06"

    def test_does_not_rise_in_tromso_until_january_is_half_over(self):
        pytest.importorskip("ephem")
        entry = solar("sunrise", 69.65, 18.96, app=an_app())

        assert next_run(entry, local(UTC, "2026-12-01 00:00"), UTC).date().isoformat() == (
            "2027-01-15"
        )

    @pytest.mark.parametrize(
        ("event", "lat", "lon"),
        [("moonrise", 0, 0), ("sunset", 91, 0), ("sunset", 0, -181)],
    )
    def test_has_events_and_places_that_exist(self, event, lat, lon):
        pytest.importorskip("ephem")

        with pytest.raises(ValueError):
            solar(event, lat, lon)
