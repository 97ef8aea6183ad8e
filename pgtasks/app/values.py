"""Single values that a caller gives: checked, and brought into a row's terms."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from datetime import date, datetime, timedelta, timezone
from numbers import Real
from typing import Any

from pgtasks import serialization
from pgtasks.utils.functional import maybe_list
from pgtasks.utils.ids import time_ordered_uuid
from pgtasks.utils.time import maybe_iso8601

__all__ = [
    "RESERVED", "accepted", "as_count", "as_headers", "as_limit", "as_moment", "as_queue",
    "as_seconds", "as_tags", "as_task_id", "check_accepted", "check_arguments", "check_name",
    "check_text",
]  # fmt: skip

#: Keys of the headers of Celery's messages; a caller's headers cannot take their place.
RESERVED = frozenset(
    (
        "lang", "task", "id", "shadow", "eta", "expires", "group", "group_index", "retries",
        "timelimit", "root_id", "parent_id", "argsrepr", "kwargsrepr", "origin",
        "ignore_result", "replaced_task_nesting", "stamped_headers", "stamps",
    )
)  # fmt: skip

#: Years that every part of the house can read; PostgreSQL's own go far beyond.
_FIRST_YEAR, _LAST_YEAR = 1, 9998


def check_arguments(args: Any, kwargs: Any) -> None:
    """Refuse arguments that are no list and no mapping."""
    if not isinstance(args, (list, tuple)):
        raise TypeError(f"task args must be a list or tuple, not {type(args).__name__}")
    if type(kwargs) is not dict and not isinstance(kwargs, Mapping):
        raise TypeError(
            f"task keyword arguments must be a mapping, not {type(kwargs).__name__}"
        )
    for key in kwargs:
        if not isinstance(key, str):
            raise TypeError(f"task keyword arguments must have text as keys, not {key!r}")


def check_name(name: Any) -> None:
    """Refuse what cannot be the name of a task."""
    if not isinstance(name, str):
        raise TypeError(f"The name of a task is a text, not {name!r}.")
    if not name:
        raise ValueError("A task needs a name, and '' is none.")
    check_text("The name of a task", name, 255)


def as_task_id(task_id: Any) -> str:
    """The id that was given, as text, or a new one."""
    if not task_id:
        return time_ordered_uuid()
    text = task_id if isinstance(task_id, str) else str(task_id)
    check_text("A task_id", text, 255)
    return text


def as_queue(queue: str) -> str:
    """The name of a queue, if it can be one."""
    # Length in bytes: 128 of them fit into one notification with room to spare.
    if not queue.isascii() or len(queue) > 100 or not queue.isprintable():
        check_text("The name of a queue", queue, 128)
    if not queue.strip():
        raise ValueError(f"queue={queue!r}: the name of a queue must not be blank.")
    return queue


def check_text(what: str, text: str, most: int) -> None:
    """Refuse text that cannot be stored, or takes more than ``most`` bytes."""
    if "\x00" in text:
        raise ValueError(f"{what} cannot contain a NUL character: {text!r}")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise ValueError(f"{what} must be valid Unicode, and {text!r} is not.") from None
    if size > most:
        raise ValueError(
            f"{what} may take {most} bytes at most, and {text[:60]!r}… takes {size}."
        )


def as_seconds(what: str, value: Any) -> float:
    """A finite number of seconds that leads to a year that can be written."""
    if not isinstance(value, Real):
        raise TypeError(
            f"{what}={value!r}: give a number of seconds, not {type(value).__name__}."
        )
    seconds = float(value)
    if not math.isfinite(seconds):
        raise ValueError(f"{what}={value!r}: it must be a finite number of seconds.")
    if abs(seconds) > 250_000_000_000 or _year_in(seconds) > _LAST_YEAR:
        raise ValueError(
            f"{what}={value!r} is out of range: it leads to a year beyond {_LAST_YEAR}. "
            f"It is in seconds, not in milliseconds."
        )
    return seconds


def _year_in(seconds: float) -> float:
    return date.today().year + seconds / 31_556_952 if seconds > 0 else _FIRST_YEAR


def as_moment(what: str, given: Any, naive_zone: Any) -> datetime:
    """A date, or its ISO 8601 text, as a datetime with a zone."""
    value: datetime | str | None = given
    if isinstance(value, str):
        try:
            value = maybe_iso8601(value)
        except ValueError as error:
            raise ValueError(
                f"{what}={value!r} is no date: write it as ISO 8601, for instance "
                f"'2030-12-31T23:59:00+00:00'. ({error})"
            ) from error
    if not isinstance(value, datetime):
        raise TypeError(
            f"{what}={value!r}: give a datetime or its ISO 8601 text, not "
            f"{type(value).__name__}."
        )
    if value.tzinfo is None:
        value = value.replace(tzinfo=naive_zone or timezone.utc)
    if not _FIRST_YEAR < value.year <= _LAST_YEAR:
        raise ValueError(
            f"{what}={value} is out of range: years 2 to {_LAST_YEAR} can be used."
        )
    return value


def as_count(what: str, value: Any, *, least: int) -> int:
    """A whole number of at least ``least``."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{what}={value!r}: it must be a whole number.")
    if not least <= value < 2**31:
        raise ValueError(f"{what}={value!r} is out of range: it must be {least} or more.")
    return value


def as_limit(what: str, value: Any) -> float | None:
    """A time limit in seconds; 0 is none."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if value is None or value == 0:
        return None
    seconds = as_seconds(what, value)
    if seconds < 0:
        raise ValueError(f"{what}={value!r}: it must be a positive number of seconds.")
    return seconds


def as_headers(headers: Any) -> dict[str, Any] | None:
    """A caller's headers, without those that are Celery's own."""
    if not headers:
        return None
    if not isinstance(headers, Mapping):
        raise TypeError(f"headers must be a mapping, not {type(headers).__name__}")
    return {
        str(key): value for key, value in headers.items() if key not in RESERVED
    } or None


def as_tags(tags: Any) -> list[str] | None:
    """A list of texts."""
    if tags is None:
        return None
    listed: list[str] = list(maybe_list(tags))
    for tag in listed:
        if not isinstance(tag, str):
            raise TypeError(f"tags={tags!r}: they must be texts.")
    return listed


# ── what may be sent ────────────────────────────────────────────────────────────────────


def accepted(content: Collection[str] | None) -> frozenset[str]:
    """The MIME types that the setting ``accept_content`` lists, by name or MIME type."""
    names = set(content or ())
    if names <= {"json", serialization.JSON}:
        return frozenset({serialization.JSON}) if names else frozenset()
    from kombu.serialization import prepare_accept_content

    return frozenset(prepare_accept_content(names))


def is_durable(mode: Any) -> bool:
    """Whether a ``delivery_mode`` asks for jobs that outlive a crash of the server.

    Raises:
        ValueError: It is none of those that kombu knows.
    """
    if mode not in DELIVERY_MODES:
        raise ValueError(
            f"delivery_mode is {mode!r}: give 2 or 'persistent' (the job is on disk when the "
            f"call returns), or 1 or 'transient' (it need not be)."
        )
    return DELIVERY_MODES[mode]


DELIVERY_MODES = {2: True, "persistent": True, 1: False, "transient": False}


def check_accepted(content_type: str, accept: frozenset[str], serializer: str) -> None:
    """Refuse to send what this application refuses to read.

    Raises:
        ContentDisallowed: The content type is not among ``accept``.
    """
    if content_type in accept:
        return
    from pgtasks.exceptions import ContentDisallowed

    raise ContentDisallowed(
        f"serializer={serializer!r} writes {content_type}, which accept_content does not "
        f"list, so that workers would refuse the job. Add {serializer!r} to it, or choose "
        f"another serializer."
    )
