"""The moments of a schedule: which have come since the last one, and when the next comes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from pgtasks.beat.lines import Line
from pgtasks.schedules import BaseSchedule, crontab, schedule, solar
from pgtasks.utils.time import timezone

__all__ = ["GRACE", "MOST", "Due", "due", "follows", "upcoming"]

MOST = 100
"""How many missed ticks of one entry are sent at a time under the policy ``all``."""

PAUSE = timedelta(seconds=1)
"""Time between two such pieces."""

GRACE = 15.0
"""Seconds after which a tick counts as missed under the policy ``skip``: longer than it
takes to elect another leader."""

#: How far to look back for the last tick, in seconds; each finds one in the one before or
#: walks over a few dozen.
_BACK = (60.0, 3600.0, 86400.0, 40 * 86400.0, 400 * 86400.0, 9 * 366 * 86400.0)

_STOCK = {BaseSchedule.is_due, schedule.is_due, crontab.is_due}
_DAY = timedelta(days=1)


class Due(NamedTuple):
    """What is to be sent of an entry now.

    Attributes:
        ticks: The moments, the oldest first; one job each.
        last: Where to go on from: later than the last of them where others are left out.
        next: When to look again.
    """

    ticks: list[datetime]
    last: datetime
    next: datetime


def due(line: Line, last: datetime, now: datetime, deadline: float | None = None) -> Due:
    """Which ticks have come, by the entry's policy.

    Args:
        line: The entry, `Line.clocked`.
        last: Its last tick.
        now: The present, which the entry's clock shows.
        deadline: Seconds that a tick of a crontab may be late, if the entry says nothing.

    Raises:
        Exception: Whatever a schedule of somebody's own raises.
    """
    made = line.schedule
    if not _tells_ticks(made):
        return _asked(made, last, now)
    first = follows(made, last, now)
    if first > now:
        return Due([], last, first)
    limit = line.deadline
    if limit is None and isinstance(made, crontab):
        limit = deadline
    oldest = None if limit is None else now - timedelta(seconds=limit)
    if line.catch_up == "all":
        found, following = _all(made, first, now, oldest)
        if len(found) == MOST:
            # What an hour of silence has left behind comes in pieces, and not all at once;
            # but faster than it grows.
            following = max(following, now + min(PAUSE, (found[-1] - found[0]) / 2))
        return Due(found, found[-1] if found else now, following)
    newest, following = _newest(made, last, first, now)
    if line.catch_up == "skip" and limit is None:
        oldest = now - timedelta(seconds=GRACE)
    wanted = oldest is None or newest >= oldest
    return Due([newest] if wanted else [], newest, following)


def upcoming(line: Line, last: datetime, now: datetime, count: int) -> Iterator[datetime]:
    """The next ``count`` moments after ``now``; fewer where the schedule does not tell.

    Args:
        line: The entry, `Line.clocked`.
        last: Its last tick.
        now: The present, which the entry's clock shows.
        count: How many.
    """
    made = line.schedule
    at = last
    if _is_interval(made) and last < now:
        at = _on_grid(made, last, now)
    elif _is_memoryless(made):
        at = max(last, now)
    for _ in range(count):
        if not _tells_ticks(made):
            wait = _asked(made, last, now)
            yield max(now, wait.next) if not wait.ticks else now
            return
        following = follows(made, at, now)
        if following - now > timedelta(days=36500):
            return  # as @reboot
        yield max(following, now)
        at = following


def follows(made: Any, last: datetime, now: datetime) -> datetime:
    """The first tick after ``last``.

    Args:
        made: The schedule.
        last: A moment.
        now: The present, as the schedule's clock shows it.
    """
    if _is_interval(made):
        return last + _every(made)
    left = made.remaining_estimate(_local(made, last))
    found: datetime = now + left
    if isinstance(made, crontab):
        # The way back from a difference to the present leaves microseconds.
        found = _whole(found)
    # A schedule that does not move would be asked for ever.
    return found if found > last else last + timedelta(milliseconds=1)


# ── kinds of schedules ──────────────────────────────────────────────────────────────────


def _tells_ticks(made: Any) -> bool:
    """Whether its moments can be counted; of others only whether one has come."""
    return isinstance(made, BaseSchedule) and type(made).is_due in _STOCK


def _is_interval(made: Any) -> bool:
    return type(made) is schedule and not made.relative and made.run_every > timedelta(0)


def _is_memoryless(made: Any) -> bool:
    """Whether the next tick is the same wherever one begins before it."""
    own = type(made).remaining_estimate
    return own in (crontab.remaining_estimate, solar.remaining_estimate)


def _local(made: Any, moment: datetime) -> datetime:
    """A moment as schedules are used to be given it: in the zone of their hours."""
    if not isinstance(made, BaseSchedule) or _is_memoryless(made):
        return moment
    return moment.astimezone(timezone.get_timezone(made.tz))


def _every(made: Any) -> timedelta:
    every: timedelta = made.run_every
    return every


def _whole(moment: datetime) -> datetime:
    rounded = moment + timedelta(milliseconds=500)
    return rounded.replace(microsecond=0)


# ── ticks that have come ────────────────────────────────────────────────────────────────


def _asked(made: Any, last: datetime, now: datetime) -> Due:
    """What a schedule answers that only says whether it is time."""
    is_due, wait = made.is_due(_local(made, last))
    wait = 60.0 if wait is None else float(wait)
    if not math.isfinite(wait):
        wait = 60.0
    again = now + min(timedelta(seconds=max(wait, 0.001)), _DAY)
    if not is_due:
        return Due([], last, again)
    # Never the tick before once more, should the clock have stood still.
    tick = max(now, last + timedelta(microseconds=1))
    return Due([tick], tick, again)


def _all(
    made: Any, first: datetime, now: datetime, oldest: datetime | None
) -> tuple[list[datetime], datetime]:
    """The ticks since the last one, in order, and the one after them."""
    if oldest is not None and first < oldest:
        if _is_interval(made):
            first = _on_grid(made, first - _every(made), oldest) + _every(made)
        elif _is_memoryless(made):
            first = follows(made, oldest - timedelta(microseconds=1), now)
        else:
            while first < oldest:
                first = follows(made, first, now)
    found: list[datetime] = []
    while first <= now and len(found) < MOST:
        found.append(first)
        first = follows(made, first, now)
    return found, first


def _newest(
    made: Any, last: datetime, first: datetime, now: datetime
) -> tuple[datetime, datetime]:
    """The newest tick that has come, and the one after it."""
    if _is_interval(made):
        newest = _on_grid(made, last, now)
        return newest, newest + _every(made)
    if _is_memoryless(made):
        for seconds in _BACK:
            begin = now - timedelta(seconds=seconds)
            if begin <= first:
                break
            found = follows(made, begin, now)
            if found <= now:
                first = found
                break
    newest = first
    for _ in range(100_000):
        following = follows(made, newest, now)
        if following > now:
            return newest, following
        newest = following
    return now, follows(made, now, now)


def _on_grid(made: Any, last: datetime, now: datetime) -> datetime:
    """The newest of ``last`` and what follows it by so many intervals, up to ``now``."""
    return last + _every(made) * max(0, (now - last) // _every(made))


#: The clock of an entry.
Clock = Callable[[], datetime]
