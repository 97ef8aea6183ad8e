"""Schedules out of rows of django-celery-beat's tables, and into them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.utils import timezone as django_timezone

from pgtasks.contrib.django.kinds import ZonedCrontab, clocked, present
from pgtasks.contrib.django.tables import Tables
from pgtasks.schedules import maybe_schedule, schedule, solar

__all__ = ["KINDS", "moment_of", "row_for", "schedule_of", "stored"]

#: The columns of a periodic task of which one names its schedule.
KINDS = ("interval", "crontab", "solar", "clocked")

_FIELDS = ("minute", "hour", "day_of_week", "day_of_month", "month_of_year")


def schedule_of(task: Any) -> Any:
    """The schedule of a periodic task.

    Raises:
        ValueError: It has none, or one that cannot be read.
    """
    if task.interval is not None:
        interval = timedelta(**{task.interval.period: task.interval.every})
        return schedule(interval, nowfun=present)
    if task.crontab is not None:
        fields = [getattr(task.crontab, name) for name in _FIELDS]
        zone = ZoneInfo(str(task.crontab.timezone)) if knows_zones() else None
        return ZonedCrontab(*fields, tz=zone, nowfun=present)
    if task.solar is not None:
        place = float(task.solar.latitude), float(task.solar.longitude)
        return solar(task.solar.event, *place, nowfun=present)
    if task.clocked is not None:
        return clocked(moment_of(task.clocked.clocked_time), nowfun=present)
    raise ValueError("it has no schedule: set one of interval, crontab, solar and clocked")


def row_for(when: Any, tables: Tables, zone: str) -> tuple[str, Any]:
    """The row for a schedule, and the column that names it; made if there is none.

    Args:
        when: A schedule, a timedelta or a number of seconds.
        tables: The models.
        zone: Name of the application's time zone, which crontabs are read in.

    Raises:
        ValueError: There is no table for schedules of its class.
    """
    # By what it has, not by its class: a schedule of django-celery-beat's own, on a
    # Celery that is installed, is as good as ours.
    when = maybe_schedule(when)
    fields: dict[str, Any]
    if hasattr(when, "clocked_time"):
        kind, model = "clocked", tables.ClockedSchedule
        fields = {"clocked_time": stored(when.clocked_time)}
    elif hasattr(when, "_orig_minute"):
        kind, model = "crontab", tables.CrontabSchedule
        fields = {name: _as_text(getattr(when, f"_orig_{name}")) for name in _FIELDS}
        fields["timezone"] = getattr(when.tz, "key", None) or zone
    elif hasattr(when, "event"):
        kind, model = "solar", tables.SolarSchedule
        fields = {"event": when.event, "latitude": when.lat, "longitude": when.lon}
    elif hasattr(when, "run_every"):
        kind, model = "interval", tables.IntervalSchedule
        every, rest = divmod(max(when.run_every, timedelta(0)), timedelta(seconds=1))
        fields = {"every": every, "period": "seconds"}
        if rest:
            every = every * 1_000_000 + rest.microseconds
            fields = {"every": every, "period": "microseconds"}
    else:
        raise ValueError(
            f"there is no table for {type(when).__name__}; a schedule is an interval, a "
            f"crontab, an event of the sun or a moment"
        )
    # Nothing keeps two rows from being the same, and either will do.
    found = model._default_manager.filter(**fields).first()
    return kind, found or model._default_manager.create(**fields)


def _as_text(field: Any) -> str:
    """A field of a crontab as it can be read again: ``[0, 30]`` is ``"0,30"``."""
    if isinstance(field, (str, int)):
        return str(field)
    return ",".join(map(str, sorted(field)))


# ── moments ─────────────────────────────────────────────────────────────────────────────


def knows_zones() -> bool:
    """Whether the zones of crontabs count: ``DJANGO_CELERY_BEAT_TZ_AWARE``."""
    return bool(getattr(settings, "DJANGO_CELERY_BEAT_TZ_AWARE", True))


def moment_of(value: datetime) -> datetime:
    """A moment that the database holds. Without ``USE_TZ`` it is in Django's zone."""
    if django_timezone.is_aware(value):
        return value
    if not knows_zones():
        return value.replace(tzinfo=timezone.utc)  # as django-celery-beat writes it then
    zone = django_timezone.get_default_timezone()
    moment: datetime = django_timezone.make_aware(value, zone)
    return moment


def stored(moment: datetime) -> datetime:
    """A moment as the database is to hold it; the reverse of `moment_of`."""
    if getattr(settings, "USE_TZ", False):
        return moment
    zone = django_timezone.get_default_timezone() if knows_zones() else timezone.utc
    return moment.astimezone(zone).replace(tzinfo=None)
