"""Time: naive means UTC, a duration is elapsed time, and clocks may show a time twice."""

from __future__ import annotations

import subprocess
import sys
import time as system_time
from datetime import date, datetime, timedelta, timezone
from datetime import timezone as fixed
from zoneinfo import ZoneInfo

import pytest
from dateutil import tz as dateutil_tz

from pgtasks.utils import time as times
from pgtasks.utils.time import (
    LocalTimezone,
    add_seconds_to_datetime,
    delta_resolution,
    ffwd,
    get_exponential_backoff_interval,
    get_localzone,
    humanize_seconds,
    localize,
    make_aware,
    maybe_iso8601,
    maybe_make_aware,
    maybe_timedelta,
    rate,
    remaining,
    subtract_datetimes,
    to_utc,
    utcoffset,
    weekday,
    yearmonth,
)

UTC = timezone.utc
PARIS = ZoneInfo("Europe/Paris")
NEW_YORK = ZoneInfo("America/New_York")
ZONES = pytest.mark.parametrize(
    "zone", [NEW_YORK, dateutil_tz.gettz("America/New_York")], ids=["zoneinfo", "dateutil"]
)


@pytest.fixture
def system_zone(monkeypatch):
    """Sets the timezone of the process."""

    def set_zone(name):
        monkeypatch.setenv("TZ", name)
        system_time.tzset()

    yield set_zone
    monkeypatch.undo()
    system_time.tzset()


class TestReadingAWallClock:
    @ZONES
    def test_a_time_that_occurs_twice_means_the_first(self, zone):
        assert make_aware(datetime(2026, 11, 1, 1, 30), zone).utcoffset() == timedelta(
            hours=-4
        )

    @ZONES
    def test_a_time_that_is_skipped_moves_forward_by_the_gap(self, zone):
        moved = make_aware(datetime(2026, 3, 8, 2, 30), zone)

        assert moved.isoformat() == "2026-03-08T03:30:00-04:00"

    def test_a_zone_without_an_offset_is_as_good_as_none(self):
        class Nowhere(timezone.__base__):
            def utcoffset(self, dt):
                return None

        assert times.is_naive(datetime(2026, 1, 1, tzinfo=Nowhere()))
        assert localize(datetime(2026, 1, 1), Nowhere()).tzinfo.__class__ is Nowhere

    def test_naive_means_utc(self):
        naive = datetime(2026, 7, 1, 12)

        assert to_utc(naive) == naive.replace(tzinfo=UTC)
        assert maybe_make_aware(naive) == naive.replace(tzinfo=UTC)
        assert maybe_make_aware(naive, PARIS).isoformat() == "2026-07-01T14:00:00+02:00"
        assert maybe_make_aware(naive, "Europe/Paris") == maybe_make_aware(naive, PARIS)

    def test_naive_can_mean_the_wall_clock_of_the_zone(self):
        aware = maybe_make_aware(datetime(2026, 7, 1, 12), PARIS, naive_as_utc=False)

        assert aware.isoformat() == "2026-07-01T12:00:00+02:00"

    def test_aware_is_left_alone(self):
        aware = datetime(2026, 7, 1, 12, tzinfo=NEW_YORK)

        assert maybe_make_aware(aware, PARIS) is aware

    @pytest.mark.parametrize("utc", [UTC, ZoneInfo("UTC"), dateutil_tz.UTC])
    def test_the_same_moment_elsewhere(self, utc):
        there = localize(datetime(2026, 11, 1, 6, 55, tzinfo=utc), NEW_YORK)

        assert (there.isoformat(), there.fold) == ("2026-11-01T01:55:00-05:00", 1)


class TestTimezones:
    def test_utc_is_one_object(self):
        assert times.timezone.utc is ZoneInfo("UTC")

    def test_zones_go_by_name_or_as_themselves(self):
        assert times.timezone.get_timezone("Europe/Paris") is PARIS
        assert times.timezone.tz_or_local(PARIS) is PARIS
        assert times.timezone.tz_or_local() is times.timezone.local

    def test_times_go_to_the_local_zone(self, monkeypatch):
        monkeypatch.setattr(times.timezone, "_local", PARIS)
        noon = datetime(2026, 7, 1, 12)

        assert times.timezone.to_local(noon).isoformat() == "2026-07-01T14:00:00+02:00"
        assert times.timezone.to_local(noon, NEW_YORK).hour == 8
        assert (
            times.timezone.to_local_fallback(noon).isoformat()
            == "2026-07-01T12:00:00+02:00"
        )
        assert times.timezone.to_local_fallback(noon.replace(tzinfo=UTC)).hour == 14

    def test_the_local_zone_is_the_one_in_the_environment(self, monkeypatch):
        monkeypatch.setenv("TZ", ":Australia/Lord_Howe")

        assert get_localzone() is ZoneInfo("Australia/Lord_Howe")

    def test_the_local_zone_may_be_given_as_a_file(self, monkeypatch):
        monkeypatch.setenv("TZ", "/usr/share/zoneinfo/Asia/Tokyo")

        assert get_localzone() is ZoneInfo("Asia/Tokyo")

    def test_the_local_zone_is_looked_up_once_until_it_is_forgotten(self, monkeypatch):
        zones = times.Timezones()
        monkeypatch.setenv("TZ", "Asia/Tokyo")
        first = zones.local
        monkeypatch.setenv("TZ", "Europe/Paris")

        assert zones.local is first
        del zones.local
        del zones.local  # nothing to forget is no error
        assert zones.local is PARIS

    def test_a_zone_that_no_database_knows_is_taken_from_the_system(
        self, system_zone, caplog
    ):
        system_zone("XST-5XDT,M3.2.0,M11.1.0")

        zone = times.Timezones().local

        assert isinstance(zone, LocalTimezone)
        assert "Set the 'timezone' setting" in caplog.text

    @pytest.mark.parametrize(
        "moment",
        [
            "2026-01-15T12:00",
            "2026-07-15T12:00",
            "2026-03-08T06:59",
            "2026-03-08T07:00",
            "2026-11-01T05:30",  # 01:30, the first time
            "2026-11-01T06:30",  # 01:30, the second time
        ],
    )
    def test_the_systems_zone_agrees_with_the_database(self, system_zone, moment):
        system_zone("America/New_York")
        moment = datetime.fromisoformat(moment).replace(tzinfo=UTC)

        there = moment.astimezone(LocalTimezone())

        assert there.isoformat() == moment.astimezone(NEW_YORK).isoformat()

    @pytest.mark.parametrize("fold", [0, 1])
    def test_the_systems_zone_knows_both_readings_of_a_repeated_hour(
        self, system_zone, fold
    ):
        system_zone("America/New_York")
        reading = datetime(2026, 11, 1, 1, 30, fold=fold)

        assert LocalTimezone().utcoffset(reading) == NEW_YORK.utcoffset(reading)
        assert LocalTimezone().tzname(reading) == NEW_YORK.tzname(reading)
        assert LocalTimezone().dst(reading) == NEW_YORK.dst(reading)

    def test_a_machine_without_daylight_saving_time(self, system_zone):
        system_zone("Asia/Kolkata")

        assert LocalTimezone().utcoffset(datetime(2026, 7, 1)) == timedelta(hours=5.5)
        assert utcoffset() == -5.5


class TestElapsedTime:
    @ZONES
    def test_thirty_minutes_are_thirty_minutes_across_a_gap(self, zone):
        late = add_seconds_to_datetime(datetime(2026, 3, 8, 1, 45, tzinfo=zone), 1800)

        assert late.isoformat() == "2026-03-08T03:15:00-04:00"

    @ZONES
    def test_thirty_minutes_are_thirty_minutes_across_an_overlap(self, zone):
        late = add_seconds_to_datetime(datetime(2026, 11, 1, 1, 45, tzinfo=zone), 1800)

        assert late.isoformat() == "2026-11-01T01:15:00-05:00"

    def test_naive_times_stay_naive(self):
        assert add_seconds_to_datetime(datetime(2026, 3, 8, 1, 45), 1800).hour == 2

    @ZONES
    def test_differences_are_elapsed_time(self, zone):
        start = datetime(2026, 3, 8, 1, 30, tzinfo=zone)
        end = datetime(2026, 3, 8, 4, 0, tzinfo=zone)

        assert subtract_datetimes(end, start) == timedelta(minutes=90)
        assert subtract_datetimes(start, end) == -timedelta(minutes=90)

    def test_differences_take_naive_times_as_utc(self):
        end = datetime(2026, 3, 8, 12, tzinfo=NEW_YORK)

        assert subtract_datetimes(end, datetime(2026, 3, 8, 12)) == timedelta(hours=4)

    def test_numbers_are_seconds(self):
        assert maybe_timedelta(30) == timedelta(seconds=30)
        assert maybe_timedelta(0.5) == timedelta(milliseconds=500)
        assert maybe_timedelta(timedelta(days=1)) == timedelta(days=1)
        assert maybe_timedelta(None) is None


class TestRemaining:
    def test_counts_down_to_the_end_of_an_interval(self):
        start = datetime(2026, 1, 1, tzinfo=UTC)

        assert remaining(start, timedelta(60), start + timedelta(20)) == timedelta(40)
        assert remaining(start, timedelta(60), start + timedelta(70)) == -timedelta(10)

    def test_counts_from_now_by_default(self):
        left = remaining(datetime.now(UTC), timedelta(hours=1))

        assert timedelta(minutes=59) < left <= timedelta(hours=1)

    def test_start_and_now_may_be_in_different_zones(self):
        start = datetime(2026, 1, 1, 12, tzinfo=PARIS)
        now = datetime(2026, 1, 1, 6, 30, tzinfo=NEW_YORK)

        assert remaining(start, timedelta(hours=1), now) == timedelta(minutes=30)

    @pytest.mark.parametrize(
        ("interval", "end"),
        [
            (timedelta(days=2), "2026-01-03 00:00:00"),
            (timedelta(hours=36), "2026-01-02 00:00:00"),
            (timedelta(hours=2), "2026-01-01 12:00:00"),
            (timedelta(minutes=90), "2026-01-01 12:00:00"),
            (timedelta(minutes=2), "2026-01-01 10:47:00"),
            (timedelta(seconds=2), "2026-01-01 10:45:33"),
        ],
    )
    def test_a_relative_interval_ends_on_a_whole_unit(self, interval, end):
        start = datetime(2026, 1, 1, 10, 45, 31, 500000, tzinfo=UTC)

        left = remaining(start, interval, start, relative=True)

        assert start + left == datetime.fromisoformat(end).replace(tzinfo=UTC)

    @pytest.mark.parametrize(
        ("zone", "start", "fold", "interval", "end"),
        [
            # The hour from one to two is there twice, and each has its beginning.
            ("America/New_York", "2026-11-01 01:15", 0, 1, "2026-11-01 01:00-05:00"),
            # Two o'clock is skipped.
            ("America/New_York", "2026-03-08 01:30", 0, 1, "2026-03-08 03:00-04:00"),
            # Only half an hour is skipped: the round time of that hour is half past.
            ("Australia/Lord_Howe", "2026-10-04 01:15", 0, 1, "2026-10-04 02:30+11:00"),
            # Midnight is skipped, or there twice.
            ("America/Havana", "2026-03-07 23:30", 0, 24, "2026-03-08 01:00-04:00"),
            ("America/Havana", "2025-11-01 23:30", 0, 24, "2025-11-02 00:00-04:00"),
            ("America/Goose_Bay", "2000-10-28 23:30", 1, 24, "2000-10-29 00:00-04:00"),
            # A whole day is skipped.
            ("Pacific/Apia", "2011-12-29 23:30", 0, 24, "2011-12-31 00:00+14:00"),
        ],
    )
    def test_a_relative_interval_ends_on_what_the_clock_shows(
        self, zone, start, fold, interval, end
    ):
        for there in (ZoneInfo(zone), dateutil_tz.gettz(zone)):
            moment = datetime.fromisoformat(start).replace(tzinfo=there, fold=fold)

            left = remaining(moment, timedelta(hours=interval), moment, relative=True)

            assert moment.astimezone(UTC) + left == datetime.fromisoformat(end)

    def test_a_jump_ends_at_a_wall_clock_time(self):
        start = datetime(2026, 3, 7, 10, tzinfo=NEW_YORK)

        left = remaining(start, ffwd(day=8, hour=10), start)

        assert left == timedelta(hours=23)  # the night was short

    @pytest.mark.parametrize(
        ("delta", "rounded"),
        [
            (timedelta(days=3), datetime(2026, 5, 5)),
            (timedelta(hours=3), datetime(2026, 5, 5, 11)),
            (timedelta(minutes=3), datetime(2026, 5, 5, 11, 50)),
            (timedelta(seconds=3), datetime(2026, 5, 5, 11, 50, 58, 41)),
        ],
    )
    def test_rounding_goes_by_the_unit_of_the_interval(self, delta, rounded):
        assert delta_resolution(datetime(2026, 5, 5, 11, 50, 58, 41), delta) == rounded


class TestJumps:
    def test_replaces_fields(self):
        there = datetime(2026, 1, 31, 10, 20, 30) + ffwd(month=2, minute=0, second=0)

        assert there == datetime(2026, 2, 28, 10, 0)

    def test_goes_to_a_weekday_and_weeks_further(self):
        assert date(2026, 1, 1) + ffwd(weekday=0, weeks=1) == date(2026, 1, 12)

    def test_is_for_dates_only(self):
        with pytest.raises(TypeError):
            1 + ffwd(hour=1)

    def test_shows_what_it_does(self):
        assert repr(ffwd(hour=9, minute=0)) == "ffwd(hour=9, minute=0)"


class TestReading:
    @pytest.mark.parametrize(
        ("text", "moment"),
        [
            ("2011-11-04T00:05:23", datetime(2011, 11, 4, 0, 5, 23)),
            ("2011-11-04 00:05:23.283", datetime(2011, 11, 4, 0, 5, 23, 283000)),
            ("2011-11-04T00:05:23Z", datetime(2011, 11, 4, 0, 5, 23, tzinfo=UTC)),
            ("2011-11-04T00:05Z", datetime(2011, 11, 4, 0, 5, tzinfo=UTC)),
            (
                "2011-11-04T00:05:23+04:00",
                datetime(2011, 11, 4, 0, 5, 23, tzinfo=fixed(timedelta(hours=4))),
            ),
            ("20111104", datetime(2011, 11, 4)),
            ("2011", datetime(2011, 1, 1)),
        ],
    )
    def test_iso_8601_in_all_its_forms(self, text, moment):
        assert maybe_iso8601(text) == moment

    def test_what_is_no_text_is_handed_back(self):
        now = datetime.now()

        assert maybe_iso8601(now) is now
        assert maybe_iso8601(None) is maybe_iso8601("") is None

    def test_what_is_no_date_is_refused(self):
        with pytest.raises(ValueError):
            maybe_iso8601("the day after tomorrow")

    @pytest.mark.parametrize(
        ("text", "per_second"),
        [
            ("10/s", 10),
            ("0.5/s", 0.5),
            ("90/m", 1.5),
            ("3600/h", 1),
            ("7", 7),
            (None, 0),
            (4, 4),
        ],
    )
    def test_rates_are_per_second(self, text, per_second):
        assert rate(text) == per_second

    def test_a_rate_of_an_unknown_unit_is_told_with_the_known(self):
        with pytest.raises(KeyError, match=r"'10/d'.*'100/m'"):
            rate("10/d")

    def test_names_of_days_and_months(self):
        assert [weekday(name) for name in ("sunday", "Mon", "SAT")] == [0, 1, 6]
        assert [yearmonth(name) for name in ("january", "Feb", "DEC")] == [1, 2, 12]
        for number_of in (weekday, yearmonth):
            with pytest.raises(KeyError, match="someday"):
                number_of("someday")

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (0, "now"),
            (0.4, "now"),
            (1, "1.00 second"),
            (90, "1.50 minutes"),
            (7200, "2.00 hours"),
            (86400, "1.00 day"),
        ],
    )
    def test_seconds_for_people(self, seconds, text):
        assert humanize_seconds(seconds) == text

    def test_seconds_for_people_in_a_sentence(self):
        assert humanize_seconds(4, prefix="in", sep=" ") == "in 4.00 seconds"
        assert humanize_seconds(0.25, microseconds=True) == "0.25 seconds"


class TestBackOff:
    def test_doubles_up_to_the_maximum(self):
        waits = [get_exponential_backoff_interval(3, retries, 50) for retries in range(6)]

        assert waits == [3, 6, 12, 24, 48, 50]

    def test_jitter_takes_anything_up_to_that(self):
        waits = {get_exponential_backoff_interval(1, 3, 600, True) for _ in range(500)}

        assert waits == set(range(9))

    def test_is_never_negative(self):
        assert get_exponential_backoff_interval(-3, 2, 50) == 0


def test_schedules_and_times_load_no_heavy_package():
    program = (
        "import sys, pgtasks.schedules, pgtasks.utils.time\n"
        "heavy = {'kombu', 'psycopg', 'click', 'croniter', 'dateutil', 'ephem'}\n"
        "print(heavy & set(sys.modules))"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert done.stdout.strip() == "set()", done.stderr
