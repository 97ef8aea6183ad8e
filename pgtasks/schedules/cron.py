"""Crontabs: minutes, hours and days on the wall clock of a timezone."""

from __future__ import annotations

import numbers
import re
from calendar import monthrange
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from typing import Any, TypeAlias

from pgtasks.exceptions import PgtasksError
from pgtasks.schedules.base import BaseSchedule, schedstate
from pgtasks.utils.time import ffwd, remaining, timezone, weekday, yearmonth

__all__ = ["ParseException", "crontab", "crontab_parser"]

Cronspec: TypeAlias = "int | str | Iterable[int]"

#: Days of each month in a leap year.
_DAYS_IN_MONTH = dict(enumerate((31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31), start=1))

#: 29 February falls on a given weekday at least this often, in years.
_LONGEST_WAIT = 40


class ParseException(PgtasksError, ValueError):
    """A crontab field that cannot be read."""


class crontab(BaseSchedule):
    """Run a task at the times that a crontab line describes.

    ``crontab(minute=0, hour="8-17/3", day_of_week="mon-fri")`` means 8:00, 11:00,
    14:00 and 17:00 on working days. Each field takes a number, a list or set of
    numbers, or a pattern of numbers, names, ranges, ``*`` and steps:
    ``"*/15"``, ``"1,13,30-45"``, ``"22-2"``, ``"sun,wed"``. Steps count from the
    beginning of their range: ``"*/2"`` of the days of a month are the odd ones.

    **All fields must match**, days of the month and of the week as well: other
    crons run when either does. ``day_of_month="1-7", day_of_week="mon"`` is the
    first Monday of a month.

    Times are read in the app's timezone. A time that the clock skips in spring
    runs as much later, and one that it repeats in autumn runs the first time.

    Args:
        minute: 0 to 59.
        hour: 0 to 23.
        day_of_week: 0 (Sunday) to 6, or names.
        day_of_month: 1 to 31.
        month_of_year: 1 to 12, or names.
        **kwargs: ``nowfun`` and ``app``; see `BaseSchedule`.

    Raises:
        ValueError: A field is out of range, or the date never occurs.
        TypeError: A field is neither number, text nor iterable.
    """

    def __init__(
        self,
        minute: Cronspec = "*",
        hour: Cronspec = "*",
        day_of_week: Cronspec = "*",
        day_of_month: Cronspec = "*",
        month_of_year: Cronspec = "*",
        **kwargs: Any,
    ) -> None:
        # As they were given, for whoever shows or stores the schedule.
        self._orig_minute = minute
        self._orig_hour = hour
        self._orig_day_of_week = day_of_week
        self._orig_day_of_month = day_of_month
        self._orig_month_of_year = month_of_year
        self._orig_kwargs = kwargs
        self.hour = self._expand_cronspec(hour, 24)
        self.minute = self._expand_cronspec(minute, 60)
        self.day_of_week = self._expand_cronspec(day_of_week, 7)
        self.day_of_month = self._expand_cronspec(day_of_month, 31, 1)
        self.month_of_year = self._expand_cronspec(month_of_year, 12, 1)
        first_day = min(self.day_of_month, default=32)
        if not any(first_day <= _DAYS_IN_MONTH[month] for month in self.month_of_year):
            raise ValueError(
                f"Invalid crontab: day_of_month {day_of_month!r} never occurs in "
                f"month_of_year {month_of_year!r}. Name a day that one of these "
                f"months has."
            )
        if not (self.minute and self.hour and self.day_of_week):
            raise ValueError(
                f"Invalid crontab: an empty minute ({minute!r}), hour ({hour!r}) or "
                f"day_of_week ({day_of_week!r}) never occurs. Leave the field out, or "
                f"write '*', for all of them."
            )
        super().__init__(**kwargs)

    @classmethod
    def from_string(cls, crontab: str) -> crontab:
        """Read a crontab line: minute, hour, day of month, month, day of week.

        Raises:
            ValueError: The line does not have five fields.
        """
        fields = crontab.split()
        if len(fields) != 5:
            raise ValueError(
                f"A crontab line has five fields (minute, hour, day of month, month, "
                f"day of week), and {crontab!r} has {len(fields)}"
            )
        minute, hour, day_of_month, month_of_year, day_of_week = fields
        return cls(minute, hour, day_of_week, day_of_month, month_of_year)

    # ── the question ──

    def is_due(self, last_run_at: datetime) -> schedstate:
        """Say whether a time of the crontab has come since ``last_run_at``.

        A time that was missed, because no scheduler ran, counts as well, unless
        it is longer ago than ``beat_cron_starting_deadline`` seconds.
        """
        left = self._seconds_left(last_run_at)
        if left > 0:
            return schedstate(False, left)
        due = left == 0 or self._within_deadline()
        return schedstate(due, max(self._seconds_left(self.now()), 0))

    def remaining_estimate(
        self, last_run_at: datetime, ffwd: Callable[..., Any] = ffwd
    ) -> timedelta:
        """Time until the first match after ``last_run_at``."""
        return remaining(*self.remaining_delta(last_run_at, ffwd=ffwd))

    def remaining_delta(
        self,
        last_run_at: datetime,
        tz: str | tzinfo | None = None,
        ffwd: Callable[..., Any] = ffwd,
    ) -> tuple[datetime, Any, datetime]:
        """The first match after ``last_run_at``, as a jump from there.

        Args:
            last_run_at: Where to begin; the minute itself does not count.
            tz: Timezone of the fields, by default the schedule's.
            ffwd: Makes the jump; ``dateutil.relativedelta`` will do.

        Returns:
            ``last_run_at`` in that timezone, the jump, and the present.
        """
        zone = timezone.get_timezone(tz or self.tz)
        last = self.maybe_make_aware(last_run_at).astimezone(zone)
        now = self.maybe_make_aware(self.now()).astimezone(zone)
        match = self._next(last)
        if last.fold:
            # The clock shows this hour for the second time. What it shows next
            # has been already, until it gets further than it ever was.
            passed = last.astimezone(timezone.utc)
            while match.replace(tzinfo=zone).astimezone(timezone.utc) <= passed:
                match = self._next(match)
        jump = ffwd(
            year=match.year,
            month=match.month,
            day=match.day,
            hour=match.hour,
            minute=match.minute,
            second=0,
            microsecond=0,
        )
        return last, jump, now

    def _within_deadline(self) -> bool:
        deadline = self.app.conf.beat_cron_starting_deadline
        if deadline is None:
            return True
        # Was there a match since? The microsecond lets one right on the line count.
        since = timedelta(seconds=deadline, microseconds=1)
        now = self.maybe_make_aware(self.now())
        line = (now.astimezone(timezone.utc) - since).astimezone(now.tzinfo)
        return self._seconds_left(line) <= 0

    # ── the walk ──

    def _next(self, last: datetime) -> datetime:
        """The first match after ``last`` on the wall clock, regardless of timezones."""
        if (
            last.month in self.month_of_year
            and last.day in self.day_of_month
            and last.isoweekday() % 7 in self.day_of_week
        ):
            today = last.year, last.month, last.day
            if last.hour in self.hour:
                minutes = [minute for minute in self.minute if minute > last.minute]
                if minutes:
                    return datetime(*today, last.hour, min(minutes))
            hours = [hour for hour in self.hour if hour > last.hour]
            if hours:
                return datetime(*today, min(hours), min(self.minute))
        return datetime(*self._next_day(last), min(self.hour), min(self.minute))

    def _next_day(self, last: datetime) -> tuple[int, int, int]:
        """Year, month and day of the first date after that of ``last``."""
        months, days = sorted(self.month_of_year), sorted(self.day_of_month)
        this_month = last.year, last.month
        for year in range(last.year, last.year + _LONGEST_WAIT + 1):
            for month in months:
                if (year, month) < this_month:
                    continue
                passed = last.day if (year, month) == this_month else 0
                first_weekday, length = monthrange(year, month)
                for day in days:
                    if (
                        passed < day <= length
                        and (first_weekday + day) % 7 in self.day_of_week
                    ):
                        return year, month, day
        raise RuntimeError(
            f"{self!r} never matches: days {days} on weekdays "
            f"{sorted(self.day_of_week)} do not occur in months {months}"
        )

    # ── the rest ──

    @staticmethod
    def _expand_cronspec(cronspec: Cronspec, max_: int, min_: int = 0) -> set[Any]:
        """The numbers that a field stands for; there are ``max_`` from ``min_`` on."""
        found: set[Any]
        if isinstance(cronspec, numbers.Integral):  # numpy's too
            found = {cronspec}
        elif isinstance(cronspec, str):
            found = crontab_parser(max_, min_).parse(cronspec)
        elif isinstance(cronspec, set):
            found = cronspec
        elif isinstance(cronspec, Iterable):
            found = set(cronspec)
        else:
            raise TypeError(
                f"A crontab field is an int, a str or an iterable of int, not "
                f"{cronspec!r}, which is a {type(cronspec).__name__}"
            )
        for number in found:
            if not min_ <= number < min_ + max_:
                raise ValueError(
                    f"Invalid crontab pattern. Valid range is {min_}-{min_ + max_ - 1}. "
                    f"{number!r} was found."
                )
        return found

    def __repr__(self) -> str:
        return (
            f"<crontab: {self._orig_minute} {self._orig_hour} {self._orig_day_of_month} "
            f"{self._orig_month_of_year} {self._orig_day_of_week} (m/h/dM/MY/d)>"
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, crontab):
            return NotImplemented
        fields = "minute", "hour", "day_of_month", "month_of_year", "day_of_week"
        same = all(getattr(self, name) == getattr(other, name) for name in fields)
        return same and bool(super().__eq__(other))

    __hash__ = None

    def __reduce__(self) -> tuple[Any, ...]:
        fields = (
            self._orig_minute,
            self._orig_hour,
            self._orig_day_of_week,
            self._orig_day_of_month,
            self._orig_month_of_year,
        )
        return type(self), fields, self._orig_kwargs

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        BaseSchedule.__init__(self, **state)
        self._orig_kwargs = dict(state)


class crontab_parser:
    """Reads one field of a crontab into a set of numbers.

    A field is a list of parts, separated by commas. A part is ``*``, a number or
    a range (``8-17``; ``22-2`` goes round), and with the first and the last of
    these a step (``*/5``, ``8-17/2``). Names of months and weekdays stand for
    their numbers.

    Args:
        max_: How many numbers there are.
        min_: The first of them.
    """

    ParseException = ParseException

    _part = re.compile(r"(?:\*|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:/(?P<step>\w*))?")

    def __init__(self, max_: int = 60, min_: int = 0) -> None:
        self.max_ = max_
        self.min_ = min_

    def parse(self, spec: str) -> set[int]:
        """The numbers of a field.

        Raises:
            ParseException: The field is not well-formed.
            ValueError: It holds an unknown name or a number out of range.
        """
        numbers: set[int] = set()
        for part in spec.split(","):
            numbers.update(self._parse_part(part.strip(), spec))
        return numbers

    def _parse_part(self, part: str, spec: str) -> Sequence[int]:
        match = self._part.fullmatch(part)
        if match is None:
            raise self.ParseException(
                f"Cannot read {part!r} in the crontab field {spec!r}. Write for example "
                f"'*/15', '1,13', '8-17/2' or 'mon-fri'; negative numbers, 'L' and '#' "
                f"are not supported."
            )
        first, last, step = match.group("first", "last", "step")
        if first is None:
            return self._stepped(self._every(), step)
        if last is not None:
            if step is None:
                return self._range(first, last)
            return self._range_steps((first, last, step))
        if step is not None:
            raise ValueError(
                f"{part!r} has a step but no range: write '{first}-"
                f"{self.min_ + self.max_ - 1}/{step}' or '*/{step}'"
            )
        return [self._number(first)]

    def _every(self) -> list[int]:
        return list(range(self.min_, self.min_ + self.max_))

    def _range(self, first: str, last: str) -> list[int]:
        start, stop = self._number(first), self._number(last)
        if start <= stop:
            return list(range(start, stop + 1))
        return [*range(start, self.min_ + self.max_), *range(self.min_, stop + 1)]

    def _range_steps(self, toks: Sequence[str]) -> list[int]:
        if len(toks) != 3:
            raise self.ParseException(f"A range with steps has three parts, not {toks!r}")
        first, last, step = toks
        return self._stepped(self._range(first, last), step)

    def _stepped(self, numbers: list[int], step: str | None) -> list[int]:
        if step is None:
            return numbers
        if not step:
            raise self.ParseException("A step is missing after '/': write '*/15', say")
        if not step.isdecimal() or int(step) == 0:
            raise ValueError(f"The step {step!r} must be a number from 1 on")
        return numbers[:: int(step)]

    def _number(self, text: str) -> int:
        number = int(text) if text.isdecimal() else self._named(text)
        last = self.min_ + self.max_ - 1
        if not self.min_ <= number <= last:
            raise ValueError(
                f"{text} is out of range: the field's numbers go from {self.min_} to {last}"
            )
        return number

    def _named(self, text: str) -> int:
        for number_of in (yearmonth, weekday):
            try:
                return number_of(text)
            except KeyError:
                continue
        raise ValueError(
            f"{text!r} is no number, and no name of a month or weekday such as "
            f"'jan', 'january', 'mon' or 'monday'"
        )
