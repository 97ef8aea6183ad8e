"""Finding tasks: ``autodiscover_tasks``, when a worker imports the program."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from pgtasks import signals

if TYPE_CHECKING:
    from pgtasks.app.base import Celery

__all__ = ["Packages", "discover", "discover_later"]

#: Packages to search, or a function that answers them when they are wanted.
Packages = Iterable[str] | Callable[[], Iterable[str]] | None


def discover_later(app: Celery, packages: Packages, related_name: str | None) -> None:
    """Search the packages when the application's modules are imported."""
    # vine's, which kombu brings along anyway: this is what Celery's users see there.
    from vine import starpromise

    signals.import_modules.connect(
        starpromise(app._autodiscover_tasks, packages, related_name),
        weak=False,
        sender=app,
    )


def discover(app: Celery, packages: Packages, related_name: str | None) -> Any:
    """Search the packages now; with none given, those that the fixups know of.

    Django's fixup knows the installed applications.
    """
    if packages:
        return app._autodiscover_tasks_from_names(packages, related_name)
    found = [
        package
        for fixup in app._fixups
        if hasattr(fixup, "autodiscover_tasks")
        for package in fixup.autodiscover_tasks()
    ]
    return app._autodiscover_tasks_from_names(found, related_name=related_name)
