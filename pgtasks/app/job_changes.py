"""What may be changed about a job that waits: checked, and as the statement takes it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from difflib import get_close_matches
from numbers import Real
from typing import Any

from pgtasks import serialization
from pgtasks.app import values
from pgtasks.app.connection import runs_high_priority_first
from pgtasks.app.priority import stored

__all__ = ["CHANGES", "changes_of"]

CHANGES = (
    "args", "kwargs", "max_attempts", "meta", "priority", "queue", "scheduled_at", "tags",
    "task", "expires",
)  # fmt: skip

READABLE = frozenset({"args", "kwargs", "task"})
"""What a signature covers, and what only JSON arguments can be exchanged for."""


def changes_of(app: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """The new values as the statement takes them.

    Args:
        app: The application.
        given: Some of `CHANGES` by name. ``scheduled_at`` and ``expires`` are dates,
            seconds from now, or timedeltas; ``expires=None`` has it expire never.

    Raises:
        TypeError: There is nothing of that name, or a value is of the wrong type.
        ValueError: A value cannot be; or nothing is given.
    """
    for name in given:
        if name not in CHANGES:
            near = get_close_matches(name, CHANGES, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise TypeError(
                f"{name!r} of a job cannot be changed.{hint} These can: {', '.join(CHANGES)}."
            )
    if not given:
        raise ValueError(f"What shall be changed? Give one of {', '.join(CHANGES)}.")
    zone = None if app.conf.enable_utc else app.timezone
    found: dict[str, Any] = {}
    for name, value in given.items():
        if name in ("scheduled_at", "expires"):
            found.update(_moment(name, value, zone))
        else:
            found[name] = _READERS[name](app, value)
    return found


def _moment(name: str, value: Any, zone: Any) -> dict[str, Any]:
    relative, absolute = {
        "scheduled_at": ("delay", "eta"),
        "expires": ("expires_in", "expires"),
    }[name]
    if value is None and name == "expires":
        return {"expires_never": True}
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, Real):
        # As an interval: the clock of the database is the only one that counts.
        return {relative: values.as_seconds(name, value)}
    return {absolute: values.as_moment(name, value, zone).isoformat()}


def _args(app: Any, value: Any) -> str:
    values.check_arguments(value, {})
    return serialization.dumps(list(value))


def _kwargs(app: Any, value: Any) -> str:
    values.check_arguments((), value)
    return serialization.dumps(dict(value))


def _meta(app: Any, value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise TypeError(f"meta={value!r}: it must be a dict.")
    # Written as jobs' are, and read as what it is.
    return serialization.loads(serialization.dumps(dict(value)))


def _priority(app: Any, value: Any) -> int:
    return stored(value, high_first=runs_high_priority_first(app))


def _queue(app: Any, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"queue={value!r}: give the name of a queue.")
    return values.as_queue(value)


def _task(app: Any, value: Any) -> str:
    values.check_name(value)
    return str(value)


_READERS = {
    "args": _args,
    "kwargs": _kwargs,
    "max_attempts": lambda app, value: values.as_count("max_attempts", value, least=1),
    "meta": _meta,
    "priority": _priority,
    "queue": _queue,
    "tags": lambda app, value: values.as_tags(value) or [],
    "task": _task,
}
