"""Finding tasks later: ``autodiscover_tasks``, when a worker imports the program."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from pgtasks import signals

if TYPE_CHECKING:
    from pgtasks.app.defining import Defining

__all__ = ["Packages", "discover_later"]

#: Packages to search, or a function that answers them when they are wanted.
Packages = Iterable[str] | Callable[[], Iterable[str]] | None


def discover_later(app: Defining, packages: Packages, related_name: str | None) -> None:
    """Search the packages when the application's modules are imported."""
    # vine's, which kombu brings along anyway: this is what Celery's users see there.
    from vine import starpromise

    signals.import_modules.connect(
        starpromise(app._autodiscover_tasks, packages, related_name),
        weak=False,
        sender=app,
    )
