"""django-celery-beat's tables: its own models where it is installed, else models like them.

A project that no longer has the package keeps its tables, with all that people have
entered in them; these models read and write the same columns, and migrate nothing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from django.apps import apps

__all__ = ["LABEL", "Tables", "tables"]

LABEL = "django_celery_beat"


class Tables(NamedTuple):
    """The models, under the names that django-celery-beat has for them."""

    PeriodicTask: Any
    PeriodicTasks: Any
    IntervalSchedule: Any
    CrontabSchedule: Any
    SolarSchedule: Any
    ClockedSchedule: Any


def tables() -> Tables:
    """The models of this project."""
    if LABEL not in apps.app_configs:
        # Of this label models can be defined once only, so not before it is known.
        from pgtasks.contrib.django import unmanaged

        return Tables(*(getattr(unmanaged, name) for name in Tables._fields))
    return Tables(*(apps.get_model(LABEL, name) for name in Tables._fields))
