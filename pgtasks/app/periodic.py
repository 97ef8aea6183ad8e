"""Entries of ``beat_schedule`` that a program adds by calls."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

__all__ = ["add", "entry_of"]

logger = logging.getLogger("celery.app.periodic")

_POLICIES = ("catch_up", "overlap", "jitter", "deadline", "timezone")


def entry_of(
    app: Any,
    schedule: Any,
    sig: Any,
    args: Any,
    kwargs: Any,
    name: str | None,
    options: dict[str, Any],
) -> tuple[str, dict[str, Any]]:
    """Answer an entry and its name, by default what the call looks like."""
    from pgtasks.utils.abstract import CallableSignature

    if isinstance(sig, CallableSignature):
        sig = sig.clone(args, kwargs or {})
    else:
        sig = app.signature(sig.name, args, kwargs or {})
    options = dict(options)
    # What an entry says about its ticks is no option of apply_async.
    policies = {key: options.pop(key) for key in _POLICIES if key in options}
    return name or repr(sig), {
        **policies,
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
