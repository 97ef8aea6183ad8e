"""A forgiving reader of ISO 8601, kept for Celery's sake.

New code reads with ``datetime.fromisoformat`` or `pgtasks.utils.time.maybe_iso8601`.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

from pgtasks.utils.deprecated import warn

__all__ = ["parse_iso8601"]

DATE = re.compile(r"(\d{4})(?:-(\d{1,2}))?(?:-(\d{1,2}))?", re.ASCII)
TIME = re.compile(r".(\d\d):(\d\d)(?::(\d\d)(?:\.(\d+))?)?", re.ASCII)
OFFSET = re.compile(r"([+-])(\d\d):(\d\d)", re.ASCII)


def parse_iso8601(datestring: str) -> datetime:
    """Read as much of a date as the text holds; without an offset it is naive.

    Raises:
        ValueError: The text does not begin with a year, or a number is out of
            range.
        TypeError: The text stops short of the day.
    """
    warn(
        "parse_iso8601",
        deprecation="v5.3",
        removal="v6",
        alternative="Use datetime.datetime.fromisoformat or dateutil.parser.isoparse.",
    )
    day = DATE.match(datestring)
    if day is None:
        raise ValueError(
            f"unable to parse date string {datestring!r}: expected YYYY-MM-DD, and "
            f"then perhaps THH:MM:SS and Z or an offset such as +01:00"
        )
    if day[3] is None:
        raise TypeError(f"{datestring!r} names no day: write it as YYYY-MM-DD")
    date = int(day[1]), int(day[2]), int(day[3])
    clock = TIME.match(datestring, day.end())
    if clock is None:
        return datetime(*date)
    hour, minute, second, fraction = clock.groups(default="0")
    return datetime(
        *date,
        int(hour),
        int(minute),
        int(second),
        int(fraction[:6].ljust(6, "0")),
        tzinfo=_offset(datestring[clock.end() :]),
    )


def _offset(text: str) -> timezone | None:
    if text.startswith("Z"):
        return timezone.utc
    match = OFFSET.match(text)
    if match is None:
        return None
    offset = timedelta(hours=int(match[2]), minutes=int(match[3]))
    return timezone(-offset if match[1] == "-" else offset)
