"""Moments and wall clocks: sums that hold across daylight saving time.

A duration is elapsed time: thirty minutes across a transition are thirty minutes
on a stopwatch, whatever the clock on the wall says. So sums go through UTC, and
the wall clock matters only where a user speaks of it: crontabs and ``relative``
intervals.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterable, Iterator
from datetime import date, datetime, timedelta, tzinfo
from datetime import timezone as fixed_offset
from typing import Any
from zoneinfo import ZoneInfo

__all__ = [
    "add_seconds_to_datetime",
    "delta_resolution",
    "ffwd",
    "is_naive",
    "localize",
    "make_aware",
    "remaining",
]

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


# ── reading a wall clock ────────────────────────────────────────────────────


def is_naive(dt: datetime) -> bool:
    """True when the datetime has no offset, be it for want of a zone or of the zone's."""
    return dt.tzinfo is None or dt.utcoffset() is None


def make_aware(dt: datetime, tz: tzinfo) -> datetime:
    """Read the wall clock of ``dt`` in ``tz``.

    A time that occurs twice means its first occurrence; one that the clock
    skips moves forward by the length of the gap.
    """
    dt = dt.replace(tzinfo=tz)
    # Offsets that differ by fold mark both an overlap and a gap (PEP 495), and
    # most zones never get here: the costly test is asked twice a year.
    if _knows_folds(tz) and _offsets_differ(dt):
        dt = _after_gap(dt) if _is_imaginary(dt, tz) else dt.replace(fold=0)
    return dt


def localize(dt: datetime, tz: tzinfo) -> datetime:
    """The same moment in another timezone; a naive time is taken to be there already."""
    if is_naive(dt):
        dt = make_aware(dt, tz)
        if is_naive(dt):
            return dt
    return dt.astimezone(tz)


def _knows_folds(tz: tzinfo | None) -> bool:
    return isinstance(tz, ZoneInfo) or hasattr(tz, "is_ambiguous")


def _offsets_differ(dt: datetime) -> bool:
    return dt.replace(fold=0).utcoffset() != dt.replace(fold=1).utcoffset()


def _is_imaginary(dt: datetime, tz: tzinfo | None) -> bool:
    """True when the wall clock of ``tz`` never shows ``dt``, for it was set forward."""
    if not _knows_folds(tz):
        return False
    from dateutil.tz import datetime_exists  # type: ignore[import-untyped]

    try:
        return not datetime_exists(dt, tz)
    except ValueError:
        return False


def _after_gap(dt: datetime) -> datetime:
    """Move a skipped wall clock time forward by the length of the gap."""
    # Some zones report gaps where the clock was set back; a true gap is only
    # ever left forwards.
    from dateutil.tz import resolve_imaginary

    moved: datetime = resolve_imaginary(dt)
    return max(dt, moved)


# ── intervals ───────────────────────────────────────────────────────────────


def add_seconds_to_datetime(dt: datetime, seconds: float) -> datetime:
    """Add elapsed seconds, in the zone of ``dt``."""
    delta = timedelta(seconds=seconds)
    if is_naive(dt):
        return dt + delta
    return (dt.astimezone(fixed_offset.utc) + delta).astimezone(dt.tzinfo)


def delta_resolution(dt: datetime, delta: timedelta) -> datetime:
    """Round down to the unit of ``delta``: whole days, hours or minutes.

    Intervals under a minute leave the datetime as it is.
    """
    unit = _unit(delta)
    if unit is DAY:
        return dt.replace(hour=0, minute=0, second=0, microsecond=0)
    if unit is HOUR:
        return dt.replace(minute=0, second=0, microsecond=0)
    if unit is MINUTE:
        return dt.replace(second=0, microsecond=0)
    return dt


def _unit(delta: timedelta) -> timedelta | None:
    return next((unit for unit in (DAY, HOUR, MINUTE) if delta >= unit), None)


def remaining(
    start: datetime,
    ends_in: timedelta | ffwd,
    now: datetime | None = None,
    relative: bool = False,
) -> timedelta:
    """Time left until ``ends_in`` after ``start``; negative once it has passed.

    Args:
        start: Where the interval begins.
        ends_in: Its length as elapsed time, or an `ffwd` to a wall clock time.
        now: The present, by default the system's.
        relative: End on a round local time instead: the last whole minute,
            hour or day (the unit of ``ends_in``) that lies within the interval.
    """
    if now is None:
        now = datetime.now(fixed_offset.utc)
    if relative and isinstance(ends_in, timedelta):
        end = _round_end(start, ends_in)
    elif isinstance(ends_in, timedelta):
        end = add_seconds_to_datetime(start, ends_in.total_seconds())
    else:
        end = start + ends_in
    return _utc(end) - _utc(now)


def _round_end(start: datetime, interval: timedelta) -> datetime:
    """The round local time on which a relative interval ends, in UTC."""
    unit = _unit(interval)
    if unit is DAY:
        # Days are counted on the calendar: 24 elapsed hours may well end on
        # the wrong date when one of the days is not 24 hours long.
        midnight = delta_resolution(start + interval, interval)
        return min(_after(start, _occurrences(midnight)), default=_utc(start + interval))
    end = _utc(start) + interval
    if unit is None:
        return end.replace(microsecond=0)
    # A clock shows a round time once an hour, except near a transition: then it
    # may show it twice, or skip to half past. So every reading around the end
    # is a candidate, from this side of a transition and from the other.
    there = end.astimezone(start.tzinfo)
    candidates: list[datetime] = []
    for reading in (there, there + unit, start + interval):
        candidates += _after(start, _occurrences(delta_resolution(reading, interval)))
    within = [moment for moment in candidates if moment <= end]
    return max(within) if within else min(candidates, default=end)


def _occurrences(reading: datetime) -> Iterator[datetime]:
    """Each moment, in UTC, at which the clock on the wall reads so."""
    if isinstance(reading.tzinfo, ZoneInfo) and not _offsets_differ(reading):
        yield _utc(reading)  # once, as nearly always
        return
    for each in (reading.replace(fold=0), reading.replace(fold=1)):
        yield _utc(_after_gap(each) if _is_imaginary(each, each.tzinfo) else each)


def _after(start: datetime, moments: Iterable[datetime]) -> list[datetime]:
    since = _utc(start)
    return [moment for moment in moments if moment > since]


def _utc(dt: datetime) -> datetime:
    return dt.astimezone(fixed_offset.utc)


class ffwd:
    """A jump to a wall clock time: ``datetime + ffwd(hour=9, minute=0)``.

    Fields that are given replace those of the datetime; ``weekday`` (Monday is
    0) then moves to the next such day and ``weeks`` that many weeks further.
    Takes the keywords of ``dateutil.relativedelta`` that schedules need.
    """

    def __init__(
        self,
        year: int | None = None,
        month: int | None = None,
        weeks: int = 0,
        weekday: int | None = None,
        day: int | None = None,
        hour: int | None = None,
        minute: int | None = None,
        second: int | None = None,
        microsecond: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.year = year
        self.month = month
        self.day = day
        self.hour = hour
        self.minute = minute
        self.second = second
        self.microsecond = microsecond
        self.weekday = weekday
        self.weeks = weeks
        self.days = weeks * 7

    def __repr__(self) -> str:
        fields = self._fields(weeks=self.weeks or None, weekday=self.weekday)
        return f"ffwd({', '.join(f'{name}={value}' for name, value in fields.items())})"

    def __radd__(self, other: Any) -> Any:
        if not isinstance(other, date):
            return NotImplemented
        year = self.year or other.year
        month = self.month or other.month
        # 31 January + ffwd(month=2) is the last day of February.
        day = min(self.day or other.day, monthrange(year, month)[1])
        there = other.replace(**self._fields(year=year, month=month, day=day))
        days = self.days
        if self.weekday is not None:
            days += (self.weekday - there.weekday()) % 7
        # The sum also forgets which occurrence of a repeated hour `other` was.
        return there + timedelta(days=days)

    def _fields(self, **extra: int | None) -> dict[str, int]:
        own = {name: getattr(self, name) for name in _FIELDS}
        return {k: v for k, v in {**own, **extra}.items() if v is not None}


_FIELDS = ("year", "month", "day", "hour", "minute", "second", "microsecond")
