"""Schedulers by name: ours, Celery's, django-celery-beat's, and those of third parties."""

from __future__ import annotations

from typing import Any

from pgtasks.exceptions import ImproperlyConfigured
from pgtasks.utils.imports import load_extension_class_names, symbol_by_name

__all__ = ["NAMESPACE", "scheduler_class"]

#: The entry points that give names to schedulers, under Celery's name for the group.
NAMESPACE = "celery.beat_schedulers"

DJANGO = "pgtasks.contrib.django.schedulers:DatabaseScheduler"

#: Names that settings, unit files and command lines hold. They mean the classes that do
#: the same here, whether the packages that they are from are installed or not.
COUNTERPARTS = {
    "django": DJANGO,
    "django_celery_beat.schedulers:DatabaseScheduler": DJANGO,
    "celery.beat:PersistentScheduler": "pgtasks.beat:PersistentScheduler",
    "celery.beat:Scheduler": "pgtasks.beat:Scheduler",
}


def scheduler_class(name: Any, namespace: str = NAMESPACE) -> Any:
    """The class of that name; what is not a text is handed back.

    Args:
        name: ``module:Class`` or ``module.Class``, or the name of an entry point.
        namespace: The group of the entry points.

    Raises:
        ImproperlyConfigured: Its schedule is in Redis, or it is built on Celery's own beat.
        ImportError: There is no such module.
        AttributeError: The module has no such class.
    """
    found = _by_name(name, namespace) if isinstance(name, str) else name
    for base in getattr(found, "__mro__", ()):
        if base.__module__.partition(".")[0] == "celery":
            raise ImproperlyConfigured(
                f"The scheduler {name!r} is built on Celery's own {base.__module__}."
                f"{base.__qualname__}, which sends to Celery's broker. Start with 'pgtasks "
                f"--as-celery', so that its 'import celery' finds pgtasks, or derive it "
                f"from pgtasks.beat.Scheduler."
            )
    return found


def _by_name(name: str, namespace: str) -> Any:
    module, found, attribute = name.rpartition(":" if ":" in name else ".")
    if module.partition(".")[0] == "redbeat":
        raise ImproperlyConfigured(
            f"{name!r} keeps its schedule in Redis, which is not used here. Leave "
            f"beat_scheduler out: entries of beat_schedule are sent by pgtasks' own, and "
            f"those that a program makes can stand in django-celery-beat's tables."
        )
    known = dict(load_extension_class_names(namespace) or {}) | COUNTERPARTS
    spelled = f"{module}:{attribute}" if found else name
    return symbol_by_name(spelled if spelled in known else name, aliases=known)
