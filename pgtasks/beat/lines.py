"""What an entry of a schedule says, from wherever it comes: read, checked, and made known."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from pgtasks.beat.entry import ScheduleEntry
from pgtasks.beat.expressions import cron, parse, reboot, twin
from pgtasks.schedules import BaseSchedule, crontab, schedule, solar
from pgtasks.utils.time import timezone as zones

__all__ = [
    "CATCH_UP",
    "OVERLAP",
    "POLICIES",
    "Line",
    "check_policies",
    "fingerprint",
    "line_of_crontab",
    "line_of_entry",
    "line_of_fields",
]

CATCH_UP = ("skip", "last", "all")
OVERLAP = ("allow", "skip", "queue")
POLICIES = ("catch_up", "overlap", "jitter", "deadline", "timezone")
"""What an entry may say beside Celery's fields."""

_FIELDS = {
    "name", "task", "schedule", "args", "kwargs", "options", "relative", "app",
    "last_run_at", "total_run_count", *POLICIES,
}  # fmt: skip
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


class Line(NamedTuple):
    """An entry.

    Attributes:
        name: Its name.
        task: Name of the task.
        schedule: When: an object with ``is_due`` and ``remaining_estimate``.
        args: Positional arguments.
        kwargs: Keyword arguments.
        options: Of ``apply_async``.
        timezone: Zone of its hours; None for the application's.
        catch_up: What becomes of ticks that were missed.
        overlap: What becomes of a tick while the job before is not over.
        jitter: Seconds by which jobs are put off at random.
        deadline: Seconds that a tick may be late.
    """

    name: str
    task: str
    schedule: Any
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = {}
    options: Mapping[str, Any] = {}
    timezone: str | None = None
    catch_up: str = "last"
    overlap: str = "allow"
    jitter: float = 0.0
    deadline: float | None = None

    @property
    def by_hours(self) -> bool:
        """Whether the schedule tells hours, and not how long after the last run."""
        return not isinstance(self.schedule, schedule) or self.schedule.relative

    @property
    def identity(self) -> str:
        """What it does and when, as a text that is the same in every process."""
        said = (
            self.task,
            when(self.schedule),
            _plain(self.args),
            _plain(dict(self.kwargs)),
            _plain(dict(self.options)),
            self.timezone,
            *self[-4:],
        )
        return hashlib.sha256(repr(said).encode("utf-8", "replace")).hexdigest()[:32]

    def document(self) -> dict[str, Any]:
        """As its row in the table."""
        return {
            "name": self.name,
            "identity": self.identity,
            "task": self.task,
            "schedule": when(self.schedule),
            "timezone": self.timezone,
            "catch_up": self.catch_up,
            "overlap": self.overlap,
            "jitter": self.jitter,
            "deadline": self.deadline,
            "by_hours": self.by_hours,
        }

    def clocked(self, now: Callable[[], datetime]) -> Line:
        """With a schedule of its own, on this clock unless it has one already."""
        own = self.schedule
        if isinstance(own, BaseSchedule) and own.nowfun is None:
            own = twin(own)
            zone = zones.get_timezone(own.tz)
            # In the application's zone, as its own clock tells it: there midnight is.
            own.nowfun = lambda: now().astimezone(zone)
            return self._replace(schedule=own)
        return self


def line_of_entry(name: str, entry: Any, *, app: Any) -> Line:
    """Read an entry of ``beat_schedule``.

    Args:
        name: Its name.
        entry: A dict with Celery's fields and ours; a `ScheduleEntry`; or a tuple like
            ``("0 3 * * *", "proj.report", {"args": [1]})``.
        app: The application.

    Raises:
        ValueError: A value is not possible.
        TypeError: It is of the wrong type.
    """
    if isinstance(entry, (tuple, list)):
        return line_of_crontab(entry, app=app)._replace(name=name)
    if isinstance(entry, ScheduleEntry):
        entry = vars(entry)
    if not isinstance(entry, Mapping):
        raise TypeError(f"it is {entry!r}: write a dict with 'task' and 'schedule'.")
    unknown = set(entry) - _FIELDS
    if unknown:
        known = ", ".join(sorted(_FIELDS - {"app", "name"}))
        raise TypeError(f"it has {', '.join(map(repr, unknown))}: there are {known}.")
    given = {key: value for key, value in entry.items() if key in _FIELDS - {"app", "name"}}
    return line_of_fields(name, app=app, **given)


def line_of_crontab(entry: Any, *, timezone: Any = None, app: Any) -> Line:
    """Read a line as Oban's plugin has them: expression, task, options.

    Args:
        entry: ``(expression, task)`` or ``(expression, task, options)``. Of the options
            ``name``, ``args``, ``kwargs`` and `POLICIES` are about the entry, the others
            those of ``apply_async``.
        timezone: Zone of its hours, if it names none.
        app: The application.

    Raises:
        ValueError: A value is not possible.
        TypeError: It is of the wrong type.
    """
    if not isinstance(entry, (tuple, list)) or not 2 <= len(entry) <= 3:
        raise TypeError(f"{entry!r} is no entry: write ('0 3 * * *', 'task', {{…}}).")
    expression, task, *rest = entry
    given = dict(rest[0]) if rest else {}
    task = getattr(task, "name", task)
    name = given.pop("name", None) or f"{task} {expression}"
    own = {key: given.pop(key) for key in ("args", "kwargs", *POLICIES) if key in given}
    if timezone is not None:
        own.setdefault("timezone", timezone)
    return line_of_fields(
        name, task=task, schedule=expression, options=given, app=app, **own
    )


def line_of_fields(
    name: str,
    *,
    task: Any = None,
    schedule: Any = None,
    args: Any = (),
    kwargs: Any = None,
    options: Any = None,
    relative: bool = False,
    timezone: Any = None,
    catch_up: str | None = None,
    overlap: str | None = None,
    jitter: float | None = None,
    deadline: float | None = None,
    app: Any = None,
    **ignored: Any,
) -> Line:
    """Check the fields of an entry.

    Raises:
        ValueError: A value is not possible.
        TypeError: It is of the wrong type.
    """
    if not isinstance(name, str) or not name or "\0" in name:
        raise TypeError(f"its name is {name!r}: write a text.")
    task = getattr(task, "name", task)
    if not isinstance(task, str) or not task:
        raise TypeError(f"its task is {task!r}: write the name of a task.")
    if schedule is None:
        raise TypeError("it has no schedule: write '0 3 * * *', 30.0 or crontab(…), say.")
    if (relative and isinstance(schedule, (int, float))) or _is_delta(schedule):
        from pgtasks.schedules import maybe_schedule

        schedule = maybe_schedule(schedule, relative, app=app)
    options = dict(options or {})
    policies = check_policies(catch_up, overlap, jitter, deadline, options)
    zone = getattr(schedule, "zone", None) if timezone is None else timezone
    return Line(
        name,
        task,
        parse(schedule, timezone, app=app),
        tuple(args or ()),
        dict(kwargs or {}),
        options,
        None if zone is None else str(zone),
        *policies,
    )


def check_policies(
    catch_up: Any, overlap: Any, jitter: Any, deadline: Any, options: Mapping[str, Any]
) -> tuple[str, str, float, float | None]:
    """Check what an entry says beside what and when; None is the default.

    Raises:
        ValueError: A value is not possible.
        TypeError: It is of the wrong type.
    """
    catch_up = "last" if catch_up is None else catch_up
    if catch_up not in CATCH_UP:
        raise ValueError(f"catch_up is {catch_up!r}: there are {', '.join(CATCH_UP)}.")
    overlap = "allow" if overlap is None else overlap
    if overlap not in OVERLAP:
        raise ValueError(f"overlap is {overlap!r}: there are {', '.join(OVERLAP)}.")
    seconds = _seconds("jitter", jitter) or 0.0
    if seconds and options.get("eta") is not None:
        raise ValueError("jitter puts off what has no eta: leave one of them out.")
    late = _seconds("deadline", deadline)
    if late == 0:
        raise ValueError("deadline is 0: give the seconds that a tick may be late.")
    return catch_up, overlap, seconds, late


def fingerprint(lines: Iterable[Line]) -> str:
    """A schedule as a short text: the same for all processes that have the same."""
    said = sorted((line.name, line.identity) for line in lines)
    return hashlib.sha256(repr(said).encode("utf-8", "replace")).hexdigest()[:12]


def when(made: Any) -> str:
    """A schedule as text, for people, and to see whether it has changed."""
    if isinstance(made, cron):
        return made.line
    if isinstance(made, reboot):
        return "@reboot"
    if type(made) is crontab:
        fields = (
            made._orig_minute,
            made._orig_hour,
            made._orig_day_of_month,
            made._orig_month_of_year,
            made._orig_day_of_week,
        )
        return " ".join(
            ",".join(map(str, sorted(each))) if isinstance(each, (set, frozenset)) else
            ",".join(map(str, each)) if isinstance(each, (list, tuple, range)) else str(each)
            for each in fields
        )  # fmt: skip
    if type(made) is schedule:
        text = f"@every {made.run_every.total_seconds():g}s"
        return f"{text} (relative)" if made.relative else text
    if type(made) is solar:
        return f"@solar {made.event} {made.lat} {made.lon}"
    return _plain(made)


def _plain(value: Any) -> str:
    """A value as text without what differs from process to process."""
    try:
        return json.dumps(value, sort_keys=True)
    except (TypeError, ValueError, RecursionError):
        return _ADDRESS.sub("", repr(value))


def _seconds(what: str, value: Any) -> float | None:
    if value is None:
        return None
    if _is_delta(value):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{what} is {value!r}: give seconds, or a timedelta.")
    if not 0 <= value < 1e10:
        raise ValueError(f"{what} is {value!r}: give a number of seconds from 0 on.")
    return float(value)


def _is_delta(value: Any) -> bool:
    return hasattr(value, "total_seconds")
