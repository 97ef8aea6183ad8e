"""Entries of ``beat_schedule`` that a program adds by calls."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

from pgtasks.utils.abstract import CallableSignature
from pgtasks.utils.log import get_logger

if TYPE_CHECKING:
    from pgtasks.app.base import Celery

__all__ = ["add", "entry_of"]

logger = get_logger("celery.app.periodic")


def entry_of(
    app: Celery,
    schedule: Any,
    sig: Any,
    args: Any,
    kwargs: Any,
    name: str | None,
    options: dict[str, Any],
) -> tuple[str, dict[str, Any]]:
    """Answer an entry and its name, by default what the call looks like."""
    if isinstance(sig, CallableSignature):
        sig = sig.clone(args, kwargs or {})
    else:
        sig = app.signature(sig.name, args, kwargs or {})
    return name or repr(sig), {
        "schedule": schedule,
        "task": sig.name,
        "args": sig.args,
        "kwargs": sig.kwargs,
        "options": {**sig.options, **options},
    }


def add(
    schedule: MutableMapping[str, Any], key: str, entry: dict[str, Any], name: str | None
) -> None:
    """Put an entry into the schedule, and say so if it takes the place of another."""
    if name is None and key in schedule:
        logger.warning(
            "Periodic task key='%s' shadowed a previous unnamed periodic task. Pass a name "
            "kwarg to add_periodic_task to silence this warning.",
            key,
        )
    schedule[key] = entry
