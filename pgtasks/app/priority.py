"""Priorities as callers give them, and as rows have them, where 0 always runs first."""

from __future__ import annotations

import warnings

__all__ = ["shown", "stored"]

#: What a column of type smallint holds.
_SMALLINT = 32767


def stored(priority: int | None, *, high_first: bool) -> int:
    """The number for the row, where 0 always runs first.

    Raises:
        TypeError: It is not a whole number.
        ValueError: It is far out of range.
    """
    if priority is None:
        priority = 0
    elif not isinstance(priority, int):
        raise TypeError(
            f"priority={priority!r}: it must be a whole number from 0 to 9, not "
            f"{type(priority).__name__}."
        )
    if not -_SMALLINT <= priority <= _SMALLINT:
        raise ValueError(f"priority={priority!r} is out of range: use 0 to 9.")
    highest = 9 if high_first else 255
    bounded = min(max(priority, 0), highest)
    if bounded != priority:
        warnings.warn(
            f"priority={priority} is out of range and becomes {bounded}: use 0 to 9.",
            stacklevel=5,
        )
    return 9 - bounded if high_first else bounded


def shown(priority: int, *, high_first: bool) -> int:
    """The number as the caller gave it, of the one in the row."""
    return 9 - priority if high_first else priority
