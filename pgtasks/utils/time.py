"""Dates, intervals and timezones, behind ``eta``, ``expires`` and schedules.

A naive datetime means UTC everywhere, never local time. The sums are in
`pgtasks.utils.wallclock` and can be imported from here as well.
"""

from __future__ import annotations

import logging
import numbers
import os
import random
import time as _time
from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from datetime import timezone as fixed_offset
from functools import cached_property, reduce
from operator import truediv
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pgtasks.utils.text import pluralize
from pgtasks.utils.wallclock import _is_imaginary as _is_imaginary
from pgtasks.utils.wallclock import (
    add_seconds_to_datetime,
    delta_resolution,
    ffwd,
    is_naive,
    localize,
    make_aware,
    remaining,
)

__all__ = [
    "LocalTimezone",
    "add_seconds_to_datetime",
    "adjust_timestamp",
    "delta_resolution",
    "ffwd",
    "get_exponential_backoff_interval",
    "get_localzone",
    "humanize_seconds",
    "is_naive",
    "localize",
    "make_aware",
    "maybe_iso8601",
    "maybe_make_aware",
    "maybe_timedelta",
    "rate",
    "remaining",
    "subtract_datetimes",
    "timezone",
    "to_utc",
    "utcoffset",
    "weekday",
    "yearmonth",
]

logger = logging.getLogger("celery.utils.time")

DAYNAMES = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
MONTHNAMES = (
    *("jan", "feb", "mar", "apr", "may", "jun"),
    *("jul", "aug", "sep", "oct", "nov", "dec"),
)
WEEKDAYS = {name: number for number, name in enumerate(DAYNAMES)}
YEARMONTHS = {name: number for number, name in enumerate(MONTHNAMES, start=1)}

ZERO = timedelta(0)

#: An hour is divided in two steps, as Celery does: 10/60/60 is not 10/3600.
_DIVISORS = {"s": (), "m": (60,), "h": (60, 60)}
_UNITS = (("day", 86400.0), ("hour", 3600.0), ("minute", 60.0), ("second", 1.0))


# ── timezones ───────────────────────────────────────────────────────────────


class LocalTimezone(tzinfo):
    """The system's timezone as the C library tells it, without a name.

    The last resort of ``timezone.local``, for machines whose zone has no entry
    in the timezone database.
    """

    def __init__(self) -> None:
        self.STDOFFSET = timedelta(seconds=-_time.timezone)
        self.DSTOFFSET = (
            timedelta(seconds=-_time.altzone) if _time.daylight else self.STDOFFSET
        )
        self.DSTDIFF = self.DSTOFFSET - self.STDOFFSET

    def __repr__(self) -> str:
        return f"<LocalTimezone: UTC{int(self.DSTOFFSET.total_seconds() / 3600):+03d}>"

    def __reduce__(self) -> tuple[type[LocalTimezone], tuple[()]]:
        return type(self), ()

    def utcoffset(self, dt: datetime | None) -> timedelta:
        """Offset east of UTC at that local time."""
        return self.DSTOFFSET if self._isdst(dt) else self.STDOFFSET

    def dst(self, dt: datetime | None) -> timedelta:
        """The part of the offset that daylight saving adds."""
        return self.DSTDIFF if self._isdst(dt) else ZERO

    def tzname(self, dt: datetime | None) -> str:
        """Abbreviation such as ``CET``."""
        return str(_time.tzname[self._isdst(dt)])

    def fromutc(self, dt: datetime) -> datetime:
        """Local time at a fixed offset, so that a repeated hour stays readable."""
        # The moment's standard time tells on which side of a transition it is.
        standard = (dt.replace(tzinfo=None) + self.STDOFFSET).replace(fold=1)
        there = fixed_offset(self.utcoffset(standard))
        return dt.replace(tzinfo=fixed_offset.utc).astimezone(there)

    def _isdst(self, dt: datetime | None) -> bool:
        if dt is None or not _time.daylight:
            return False
        # Of a repeated hour the first is daylight saving time. Elsewhere the
        # flag shifts the question by an hour and the answer stays true.
        stamp = _time.mktime((*dt.timetuple()[:8], 0 if dt.fold else 1))
        return _time.localtime(stamp).tm_isdst > 0


def get_localzone() -> tzinfo:
    """The system's timezone by name: ``TZ``, ``/etc/timezone``, ``/etc/localtime``, or UTC.

    Raises:
        ZoneInfoNotFoundError: The name is not in the timezone database.
    """
    name = os.environ.get("TZ", "").lstrip(":") or _zone_of_machine() or "UTC"
    if os.path.isabs(name):
        name = _below_zoneinfo(name) or name
    return ZoneInfo(name)


def _zone_of_machine() -> str | None:
    # Debian's file is a plain name; elsewhere the link's target ends in one.
    try:
        with open("/etc/timezone", encoding="utf-8") as file:
            name = file.readline().split("#")[0].strip()
    except (OSError, UnicodeDecodeError):
        name = ""
    return name or _below_zoneinfo(os.path.realpath("/etc/localtime"))


def _below_zoneinfo(path: str) -> str | None:
    _, found, name = path.rpartition("zoneinfo/")
    return name if found and not name.startswith("/") else None


class Timezones:
    """The timezones that an app speaks of, as ``timezone.utc`` and ``timezone.local``."""

    def __init__(self) -> None:
        self._local: tzinfo | None = None

    @cached_property
    def utc(self) -> tzinfo:
        """UTC as a ``ZoneInfo``: apps compare their zone with this object."""
        try:
            return ZoneInfo("UTC")
        except ZoneInfoNotFoundError:  # a container without any timezone data
            return fixed_offset.utc

    @property
    def local(self) -> tzinfo:
        """The system's timezone, looked up once; ``del timezone.local`` forgets it."""
        if self._local is None:
            self._local = self._find_local()
        return self._local

    @local.deleter
    def local(self) -> None:
        self._local = None

    def _find_local(self) -> tzinfo:
        try:
            return get_localzone()
        except Exception as error:
            logger.warning(
                "Cannot tell the local timezone (%s: %s); using the C library's. "
                "Set the 'timezone' setting or the TZ variable to a name such as "
                "Europe/Paris.",
                type(error).__name__,
                error,
            )
            return LocalTimezone()

    def get_timezone(self, zone: str | tzinfo) -> tzinfo:
        """The zone of that name; a ``tzinfo`` is handed back."""
        return ZoneInfo(zone) if isinstance(zone, str) else zone

    def tz_or_local(self, tzinfo: str | tzinfo | None = None) -> tzinfo:
        """The given zone, or the system's when there is none."""
        return self.local if tzinfo is None else self.get_timezone(tzinfo)

    def to_local(
        self,
        dt: datetime,
        local: str | tzinfo | None = None,
        orig: tzinfo | None = None,
    ) -> datetime:
        """Convert to ``local`` (or the system's zone); naive times are in ``orig``."""
        if is_naive(dt):
            dt = make_aware(dt, orig or self.utc)
        return localize(dt, self.tz_or_local(local))

    def to_system(self, dt: datetime) -> datetime:
        """Convert to the system's current offset."""
        return dt.astimezone()

    def to_local_fallback(self, dt: datetime) -> datetime:
        """Convert to the system's zone; a naive time is taken to be there already."""
        return make_aware(dt, self.local) if is_naive(dt) else localize(dt, self.local)


timezone = Timezones()


def to_utc(dt: datetime) -> datetime:
    """Label a datetime as UTC, which is what naive datetimes mean."""
    return dt.replace(tzinfo=timezone.utc)


def maybe_make_aware(
    dt: datetime, tz: str | tzinfo | None = None, naive_as_utc: bool = True
) -> datetime:
    """Give a naive datetime a zone and leave an aware one alone.

    Args:
        dt: The datetime.
        tz: Zone of the answer; UTC by default.
        naive_as_utc: Naive means UTC; False reads the wall clock in ``tz``.
    """
    if not is_naive(dt):
        return dt
    if naive_as_utc:
        dt = to_utc(dt)
    return localize(dt, timezone.utc if tz is None else timezone.tz_or_local(tz))


# ── numbers of seconds ──────────────────────────────────────────────────────


def maybe_timedelta(delta: Any) -> Any:
    """Read a number as seconds; hand anything else back."""
    return timedelta(seconds=float(delta)) if isinstance(delta, numbers.Real) else delta


def subtract_datetimes(end: datetime, start: datetime) -> timedelta:
    """Elapsed time from ``start`` to ``end``; naive means UTC."""
    # Aware datetimes of the same zone are subtracted by wall clock in Python,
    # so both go to UTC first.
    in_utc = (maybe_make_aware(each).astimezone(fixed_offset.utc) for each in (end, start))
    return next(in_utc) - next(in_utc)


# ── reading and showing ─────────────────────────────────────────────────────


def maybe_iso8601(dt: datetime | str | None) -> datetime | None:
    """Read an ISO 8601 text; datetimes are handed back, and nothing is None."""
    if not dt:
        return None
    if isinstance(dt, datetime):
        return dt
    try:
        # Python 3.10 knows no "Z".
        return datetime.fromisoformat(dt[:-1] + "+00:00" if dt[-1] in "Zz" else dt)
    except ValueError:
        # The rarer forms: ordinal and week dates, hour 24, bare years …
        from dateutil.parser import isoparse  # type: ignore[import-untyped]

        moment: datetime = isoparse(dt)
        return moment


def rate(r: str | float | None) -> float:
    """Tasks per second from ``"100/m"``, ``"2/h"``, ``"0.5/s"`` or a number."""
    if not r:
        return 0
    if not isinstance(r, str):
        return r
    amount, _, unit = r.partition("/")
    if (unit or "s") not in _DIVISORS:
        raise KeyError(
            f"{unit!r} in the rate {r!r} is no unit of time: write tasks per second, "
            f"minute or hour, such as '10/s', '100/m' or '2/h'."
        )
    return reduce(truediv, _DIVISORS[unit or "s"], float(amount))


def weekday(name: str) -> int:
    """Number of a weekday by its name or abbreviation; Sunday is 0."""
    try:
        return WEEKDAYS[name[:3].lower()]
    except KeyError:
        raise KeyError(name) from None


def yearmonth(name: str) -> int:
    """Number of a month by its name or abbreviation; January is 1."""
    try:
        return YEARMONTHS[name[:3].lower()]
    except KeyError:
        raise KeyError(name) from None


def humanize_seconds(
    secs: float,
    prefix: str = "",
    sep: str = "",
    now: str = "now",
    microseconds: bool = False,
) -> str:
    """Seconds for people: ``1.50 minutes``.

    Args:
        secs: The duration.
        prefix: Put before it, as in ``in 2.00 hours``.
        sep: Between ``prefix`` and the number.
        now: What to say of less than a second.
        microseconds: Show fractions of a second instead of ``now``.
    """
    secs = round(float(secs), 2)
    for unit, size in _UNITS:
        if secs >= size:
            amount = secs / size
            return f"{prefix}{sep}{amount:.2f} {pluralize(amount, unit)}"
    if microseconds and secs > 0:
        return f"{prefix}{sep}{secs:.2f} seconds"
    return now


# ── clocks of other machines, waits ─────────────────────────────────────────


def utcoffset(time: Any = _time, localtime: Callable[..., Any] = _time.localtime) -> float:
    """Hours that this machine's clock is *west* of UTC right now, fractions included."""
    seconds: float = time.altzone if localtime().tm_isdst else time.timezone
    return seconds / 3600


def adjust_timestamp(
    ts: float, offset: float, here: Callable[..., float] = utcoffset
) -> float:
    """A timestamp taken at ``offset``, as this machine would have taken it."""
    return ts - (offset - here()) * 3600


def get_exponential_backoff_interval(
    factor: int, retries: int, maximum: int, full_jitter: bool = False
) -> int:
    """Seconds until the next retry: ``factor * 2 ** retries``, at most ``maximum``.

    With ``full_jitter`` any number of seconds up to that, so that tasks which
    failed together do not come back together.
    """
    # Twenty thousand retries would make a number of six thousand digits.
    countdown: int = min(maximum, factor * 2 ** min(retries, 64))
    if full_jitter:
        countdown = random.randrange(countdown + 1)
    return max(0, countdown)
