"""The kinds of schedules that django-celery-beat adds: crontabs with a zone, and one moment."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any

from pgtasks.schedules import BaseSchedule, crontab, schedstate
from pgtasks.utils.time import maybe_make_aware, subtract_datetimes

__all__ = ["NEVER", "ZonedCrontab", "clocked", "present"]

#: Seconds until an entry is asked again that is not expected to become due any more.
NEVER = 100_000_000


def present() -> datetime:
    """The present moment, in UTC whatever ``USE_TZ`` says."""
    return datetime.now(timezone.utc)


class ZonedCrontab(crontab):
    """A crontab that is read in a time zone of its own.

    Args:
        *fields: As of `crontab`.
        tz: The zone, or its name; the application's by default.
        **kwargs: As of `crontab`.
    """

    def __init__(self, *fields: Any, tz: str | tzinfo | None = None, **kwargs: Any) -> None:
        super().__init__(*fields, **kwargs)
        if tz is not None:
            self.tz = tz
        self._own_zone = tz

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, crontab):
            return NotImplemented
        return str(self.tz) == str(other.tz) and bool(super().__eq__(other))

    __hash__ = None

    def __reduce__(self) -> tuple[Any, ...]:
        _, fields, state = super().__reduce__()
        return _zoned, (fields, self._own_zone), state

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]} in {self.tz}>"


def _zoned(fields: tuple[Any, ...], tz: Any) -> ZonedCrontab:
    return ZonedCrontab(*fields, tz=tz)


class clocked(BaseSchedule):
    """A task that runs once, at a certain moment.

    Args:
        clocked_time: The moment; naive means UTC.
        **kwargs: ``nowfun`` and ``app``; see `BaseSchedule`.
    """

    def __init__(self, clocked_time: datetime, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.clocked_time = maybe_make_aware(clocked_time)

    def remaining_estimate(self, last_run_at: datetime | None = None) -> timedelta:
        """Time until the moment, whenever it ran before."""
        return subtract_datetimes(self.clocked_time, self.now())

    def is_due(self, last_run_at: datetime | None) -> schedstate:
        """Say whether the moment has come."""
        left = self.remaining_estimate(last_run_at).total_seconds()
        return schedstate(True, NEVER) if left <= 0 else schedstate(False, left)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, clocked):
            return NotImplemented
        return self.clocked_time == other.clocked_time

    __hash__ = None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.clocked_time,)

    def __repr__(self) -> str:
        return f"<clocked: {self.clocked_time}>"
