"""Schedules as text: a line of cron, a nickname, or an interval, and back again.

A line is read and checked by croniter. The walk through time is that of `crontab`, where
both day fields must match and the hours of a change of the clock are kept as Celery does.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from pgtasks.schedules import BaseSchedule, crontab, maybe_schedule, schedule, solar
from pgtasks.utils.time import timezone

__all__ = ["NICKNAMES", "cron", "parse", "reboot", "twin", "written", "zoned"]

NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

#: A year of Fridays the thirteenth and the like: longer intervals are mistakes.
LONGEST = 100 * 365.25 * 86400

_EVERY = re.compile(r"@every\s+(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[smhd]?)", re.ASCII)
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SUN = re.compile(r"@solar\s+(\w+)\s+(-?\d+(?:\.\d+)?)\s+(-?\d+(?:\.\d+)?)", re.ASCII)
_RANGES = ((60, 0), (24, 0), (31, 1), (12, 1), (7, 0))


class cron(crontab):
    """A `crontab` that is written as one line, in a time zone of its own.

    Args:
        line: Five fields (minute, hour, day of month, month, day of week), or a nickname
            such as ``@daily``. Names, lists, ranges and steps are understood. Both day
            fields must match, as in `crontab`.
        timezone: Zone of its hours, by name or as a tzinfo; the application's by default.
        **kwargs: As of `crontab`.

    Raises:
        ValueError: The line cannot be read, or there is no such zone.
    """

    def __init__(self, line: str, timezone: Any = None, **kwargs: Any) -> None:
        self.line = " ".join(line.split())
        minute, hour, day, month, weekday = _fields(self.line)
        super().__init__(
            minute=minute,
            hour=hour,
            day_of_month=day,
            month_of_year=month,
            day_of_week=weekday,
            **kwargs,
        )
        self.zone = None if timezone is None else _zone(timezone)
        if self.zone is not None:
            self.tz = self.zone

    def __repr__(self) -> str:
        zone = "" if self.zone is None else f" {self.zone}"
        return f"<cron: {self.line}{zone}>"

    def __eq__(self, other: object) -> bool:
        same = super().__eq__(other)
        if same is NotImplemented or not same:
            return same
        return str(getattr(other, "zone", None)) == str(self.zone)

    __hash__ = None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.line, self.zone)


class reboot(BaseSchedule):
    """Once when a fleet begins, ``@reboot``: never due by itself."""

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        """A hundred years: the end of time."""
        return timedelta(seconds=LONGEST)

    def __repr__(self) -> str:
        return "<cron: @reboot>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, reboot)

    __hash__ = None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()


def parse(text: Any, timezone: Any = None, *, app: Any = None) -> Any:
    """Make a schedule.

    Args:
        text: A line of cron (``0 3 * * *``), a nickname (``@daily``, ``@reboot`` …),
            ``@every 30s`` (``m``, ``h``, ``d``), ``@solar sunrise 48.2 16.4``; or a number
            of seconds, a timedelta, or a schedule, which are taken as they are.
        timezone: Zone of its hours.
        app: The application.

    Raises:
        ValueError: It cannot be read.
        TypeError: It is none of these.
    """
    if not isinstance(text, str):
        return zoned(_as_schedule(text, app), timezone)
    text = text.strip()
    made: Any
    if text == "@reboot":
        made = reboot(app=app)
    elif (every := _EVERY.fullmatch(text)) is not None:
        made = _interval(float(every["number"]) * _UNITS[every["unit"]], app)
    elif (sun := _SUN.fullmatch(text)) is not None:
        made = solar(sun[1], float(sun[2]), float(sun[3]), app=app)
    else:
        return cron(text, timezone, app=app)
    return zoned(made, timezone)


def zoned(made: Any, timezone: Any) -> Any:
    """The schedule with hours of another zone."""
    if timezone is None:
        return made
    if not isinstance(made, BaseSchedule):
        raise TypeError(f"{made!r} has no hours that a timezone could change.")
    made = twin(made)
    made.tz = _zone(timezone)
    return made


def twin(made: BaseSchedule) -> BaseSchedule:
    """The same schedule once more. A copy would begin without its application."""
    other = object.__new__(type(made))
    vars(other).update(vars(made))
    return other


def written(made: Any) -> str:
    """A schedule as text that `parse` reads.

    Raises:
        TypeError: There is no text for it, as for a class of one's own.
    """
    if isinstance(made, str):
        parse(made)
        return " ".join(made.split())
    if isinstance(made, cron):
        return made.line
    if isinstance(made, reboot):
        return "@reboot"
    if isinstance(made, (int, float, timedelta)):
        made = _as_schedule(made, None)
    if type(made) is crontab:
        fields = (
            made.minute,
            made.hour,
            made.day_of_month,
            made.month_of_year,
            made.day_of_week,
        )
        return " ".join(map(_field, fields, _RANGES))
    if type(made) is schedule and not made.relative:
        return f"@every {made.run_every.total_seconds():.6f}".rstrip("0").rstrip(".") + "s"
    if type(made) is solar:
        return f"@solar {made.event} {made.lat} {made.lon}"
    raise TypeError(
        f"{made!r} cannot be kept in the table: write a line of cron ('0 3 * * *'), a "
        f"nickname ('@daily'), '@every 30s', a number of seconds, a timedelta, a crontab "
        f"or a solar. Schedules of your own belong into beat_schedule."
    )


def _as_schedule(given: Any, app: Any) -> Any:
    if isinstance(given, bool) or given is None:
        raise TypeError(f"{given!r} is no schedule: write '0 3 * * *' or 30.0, say.")
    if isinstance(given, timedelta):
        given = given.total_seconds()
    if isinstance(given, (int, float)):
        return _interval(float(given), app)
    if not callable(getattr(given, "is_due", None)):
        raise TypeError(
            f"{given!r} is no schedule: write a line of cron ('0 3 * * *'), seconds, a "
            f"timedelta, or an object with is_due() and remaining_estimate()."
        )
    return maybe_schedule(given, app=app)


def _interval(seconds: float, app: Any) -> schedule:
    if not (math.isfinite(seconds) and 1e-3 <= seconds <= LONGEST):
        raise ValueError(
            f"An interval of {seconds!r} s is none: give between 0.001 s and a century."
        )
    return schedule(seconds, app=app)


def _zone(zone: Any) -> Any:
    try:
        return timezone.get_timezone(zone)
    except Exception as error:
        raise ValueError(
            f"There is no time zone {zone!r}: write a name of the tz database, for "
            f"instance 'Europe/Berlin'."
        ) from error


def _fields(line: str) -> list[Any]:
    """The numbers of each field, ``*`` for all of them."""
    from croniter import croniter
    from croniter.croniter import CroniterError

    text = NICKNAMES.get(line.lower(), line)
    if text.startswith("@"):
        known = ", ".join([*NICKNAMES, "@reboot", "@every 30s"])
        raise ValueError(f"There is no nickname {line!r}: there are {known}.")
    parts = text.split()
    if len(parts) != 5:
        raise ValueError(
            f"A line of cron has five fields (minute, hour, day of month, month, day of "
            f"week), and {line!r} has {len(parts)}. For seconds write '@every 30s'."
        )
    try:
        expanded, nth = croniter.expand(text)[:2]
    except (CroniterError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{line!r} is no line of cron: {error}") from error
    if nth or any(
        not isinstance(each, int) and each != "*" for field in expanded for each in field
    ):
        raise ValueError(
            f"{line!r} has 'L' or '#', which are not understood: have the task look at "
            f"the day itself."
        )
    return ["*" if "*" in field else set(field) for field in expanded]


def _field(numbers: Iterable[int], range_: tuple[int, int]) -> str:
    found = sorted(numbers)
    return "*" if len(found) == range_[0] else ",".join(map(str, found))
