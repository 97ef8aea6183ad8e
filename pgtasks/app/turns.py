"""Jobs of which one runs at a time carry the key of their turn in their headers."""

from __future__ import annotations

import json

__all__ = ["key_of_turn"]


def key_of_turn(headers: str | None) -> str | None:
    """The key in the column ``headers`` of a job; None for nearly all of them."""
    if headers is None or '"alone"' not in headers:
        return None
    try:
        found = json.loads(headers)
    except (ValueError, RecursionError):
        return None  # Who reads the job says so.
    key = found.get("alone") if isinstance(found, dict) else None
    return key if isinstance(key, str) else None
