"""Models for django-celery-beat's tables in a project that has the package no longer."""

from __future__ import annotations

from typing import Any

from django.db import models

__all__ = [
    "ClockedSchedule",
    "CrontabSchedule",
    "IntervalSchedule",
    "PeriodicTask",
    "PeriodicTasks",
    "SolarSchedule",
]


class _Table:
    """What the tables have in common: their columns are another's to change."""

    managed = False
    app_label = "django_celery_beat"


class IntervalSchedule(models.Model):  # type: ignore[misc]
    """Every so many days, hours, minutes, seconds or microseconds."""

    every = models.IntegerField()
    period = models.CharField(max_length=24)

    class Meta(_Table):
        """Where it is."""

        db_table = "django_celery_beat_intervalschedule"


class CrontabSchedule(models.Model):  # type: ignore[misc]
    """A line of a crontab, in a time zone."""

    minute = models.CharField(max_length=240, default="*")
    hour = models.CharField(max_length=96, default="*")
    day_of_week = models.CharField(max_length=64, default="*")
    day_of_month = models.CharField(max_length=124, default="*")
    month_of_year = models.CharField(max_length=64, default="*")
    timezone = models.CharField(max_length=63, default="UTC")

    class Meta(_Table):
        """Where it is."""

        db_table = "django_celery_beat_crontabschedule"


class SolarSchedule(models.Model):  # type: ignore[misc]
    """An event of the sun at a place."""

    event = models.CharField(max_length=24)
    latitude = models.DecimalField(max_digits=9, decimal_places=6)
    longitude = models.DecimalField(max_digits=9, decimal_places=6)

    class Meta(_Table):
        """Where it is."""

        db_table = "django_celery_beat_solarschedule"


class ClockedSchedule(models.Model):  # type: ignore[misc]
    """A moment."""

    clocked_time = models.DateTimeField()

    class Meta(_Table):
        """Where it is."""

        db_table = "django_celery_beat_clockedschedule"


class PeriodicTasks(models.Model):  # type: ignore[misc]
    """One row that tells when the schedule was last changed."""

    ident = models.SmallIntegerField(default=1, primary_key=True, unique=True)
    last_update = models.DateTimeField()

    class Meta(_Table):
        """Where it is."""

        db_table = "django_celery_beat_periodictasks"


def _schedule(model: type[models.Model]) -> Any:
    # What stands in for it when it is deleted, the constraint in the database says.
    return models.ForeignKey(model, models.DO_NOTHING, null=True, blank=True)


class PeriodicTask(models.Model):  # type: ignore[misc]
    """A task, when it is sent, and with what."""

    name = models.CharField(max_length=200, unique=True)
    task = models.CharField(max_length=200)
    interval = _schedule(IntervalSchedule)
    crontab = _schedule(CrontabSchedule)
    solar = _schedule(SolarSchedule)
    clocked = _schedule(ClockedSchedule)
    args = models.TextField(default="[]")
    kwargs = models.TextField(default="{}")
    queue = models.CharField(max_length=200, null=True)
    exchange = models.CharField(max_length=200, null=True)
    routing_key = models.CharField(max_length=200, null=True)
    headers = models.TextField(default="{}")
    priority = models.PositiveIntegerField(null=True)
    expires = models.DateTimeField(null=True)
    expire_seconds = models.PositiveIntegerField(null=True)
    one_off = models.BooleanField(default=False)
    start_time = models.DateTimeField(null=True)
    enabled = models.BooleanField(default=True)
    last_run_at = models.DateTimeField(null=True)
    total_run_count = models.PositiveIntegerField(default=0)
    date_changed = models.DateTimeField(auto_now=True)
    description = models.TextField(default="")

    class Meta(_Table):
        """Where it is."""

        db_table = "django_celery_beat_periodictask"
