"""Did you mean …? For names that may be new, and may be misspelt."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from difflib import get_close_matches
from typing import Any

from pgtasks.cli.output import clean

__all__ = ["hint", "queue_hints", "task_hints"]


def hint(kind: str, name: str, known: Collection[str]) -> str | None:
    """A remark about a name that nobody knows, if one that is known looks like it.

    Args:
        kind: What it is a name of.
        name: The name.
        known: Those that there are.
    """
    if name in known:
        return None
    near = get_close_matches(name, list(known), 1, 0.7)
    if not near:
        return None
    return f"No {kind} {clean(name)!r} is known here. Did you mean {clean(near[0])!r}?"


def queue_hints(app: Any, names: Iterable[str]) -> list[str]:
    """Remarks about names of queues; known are those that are declared, or that there are."""
    from pgtasks.app.control import known_queues

    # What is said about a queue does not make it one: it may be what was misspelt.
    there = [each.name for each in app.queues.list() if each.states or each.workers]
    known = {*known_queues(app), *there}
    return [found for name in names if (found := hint("queue", name, known)) is not None]


def task_hints(app: Any, names: Iterable[str]) -> list[str]:
    """Remarks about names of tasks; known are those that the application has."""
    app.loader.import_default_modules()
    app.finalize()
    found = (hint("task", name, app.tasks) for name in names if not set("*?") & set(name))
    return [each for each in found if each is not None]
