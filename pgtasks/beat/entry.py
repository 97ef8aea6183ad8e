"""One line of a schedule: a task, what it is called with, when, and how often it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from pgtasks.schedules import maybe_schedule
from pgtasks.utils.functional import dictfilter
from pgtasks.utils.text import truncate

__all__ = ["BeatLazyFunc", "ScheduleEntry", "SchedulingError", "event_t"]


class SchedulingError(Exception):
    """A task that was due could not be sent."""


class BeatLazyFunc:
    """An argument that is computed when its task is sent, and not before.

    Args:
        func: Gives the value.
        *args: Its arguments.
        **kwargs: Its keyword arguments.
    """

    def __init__(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self._func = func
        self._func_params = {"args": args, "kwargs": kwargs}

    def __call__(self) -> Any:
        """Compute the value."""
        return self.delay()

    def delay(self) -> Any:
        """Compute the value, under the name that a task has for it."""
        return self._func(*self._func_params["args"], **self._func_params["kwargs"])  # type: ignore[arg-type]


class event_t(NamedTuple):
    """An entry on the heap."""

    time: float
    priority: int
    entry: ScheduleEntry


class ScheduleEntry:
    """A task to be sent again and again; running it gives another entry, one run older.

    Args:
        name: Name of the entry.
        task: Name of the task.
        last_run_at: When it was last sent; now by default.
        total_run_count: How often it was sent.
        schedule: When: a schedule, a timedelta or a number of seconds.
        args: Positional arguments of the task.
        kwargs: Its keyword arguments.
        options: What `apply_async` is given besides.
        relative: Intervals begin at round times: a day at midnight.
        app: The application.
        catch_up: What becomes of ticks that were missed; this and what follows is for those
            who send the schedule for the whole fleet.
        overlap: What becomes of a tick while the job before is not over.
        jitter: Seconds by which jobs are put off at random.
        deadline: Seconds that a tick may be late.
        timezone: Zone of the hours of the schedule.
    """

    name: str | None = None
    schedule: Any = None
    args: Sequence[Any] | None = None
    kwargs: Mapping[str, Any] | None = None
    options: dict[str, Any]
    last_run_at: datetime | None = None
    total_run_count = 0

    def __init__(
        self,
        name: str | None = None,
        task: str | None = None,
        last_run_at: datetime | None = None,
        total_run_count: int | None = None,
        schedule: Any = None,
        args: Sequence[Any] | None = (),
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        relative: bool = False,
        app: Any = None,
        *,
        catch_up: str | None = None,
        overlap: str | None = None,
        jitter: float | None = None,
        deadline: float | None = None,
        timezone: Any = None,
    ) -> None:
        self.app = app
        self.name = name
        self.task = task
        self.args = args
        self.kwargs = kwargs or {}
        self.options = dict(options or {})
        if isinstance(schedule, str) or timezone is not None:
            # Here, for it needs croniter.
            from pgtasks.beat.expressions import parse

            schedule = parse(schedule, timezone, app=app)
        self.schedule = maybe_schedule(schedule, relative, app=app)
        self.last_run_at = last_run_at or self.default_now()
        self.total_run_count = total_run_count or 0
        given = {
            "catch_up": catch_up, "overlap": overlap, "jitter": jitter,
            "deadline": deadline, "timezone": timezone,
        }  # fmt: skip
        # What is not said is no attribute: others compare, copy and store these.
        vars(self).update(dictfilter(given))

    def default_now(self) -> datetime:
        """The present moment, by the clock of the schedule."""
        now: datetime = self.schedule.now() if self.schedule else self.app.now()
        return now

    def is_due(self) -> Any:
        """Whether it is to be sent, and the seconds until it should be asked again."""
        return self.schedule.is_due(self.last_run_at)

    def next(self, last_run_at: datetime | None = None) -> ScheduleEntry:
        """The entry after this one was sent.

        Args:
            last_run_at: When; now by default.
        """
        fields = dict(self)
        fields["last_run_at"] = last_run_at or self.default_now()
        fields["total_run_count"] = self.total_run_count + 1
        return type(self)(**fields)

    __next__ = next

    def update(self, other: ScheduleEntry) -> None:
        """Take over what people edit from another entry, and keep what was counted."""
        for field in _EDITABLE:
            setattr(self, field, getattr(other, field))

    def editable_fields_equal(self, other: Any) -> bool:
        """Whether another entry does the same at the same times."""
        return all(getattr(self, field) == getattr(other, field) for field in _EDITABLE)

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return iter(vars(self).items())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ScheduleEntry) and self.editable_fields_equal(other)

    __hash__ = None  # type: ignore[assignment]

    def __lt__(self, other: object) -> bool:
        # Only so that two that are due at the same moment can lie on one heap.
        return id(self) < id(other) if isinstance(other, ScheduleEntry) else NotImplemented

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (
            self.name,
            self.task,
            self.last_run_at,
            self.total_run_count,
            self.schedule,
            self.args,
            self.kwargs,
            self.options,
        )

    def __repr__(self) -> str:
        args = [repr(each) for each in self.args or ()]
        args += [f"{key}={value!r}" for key, value in dictfilter(self.kwargs or {}).items()]
        call = truncate(", ".join(args), 200)
        return f"<{type(self).__name__}: {self.name} {self.task}({call}) {self.schedule}>"


_EDITABLE = ("task", "args", "kwargs", "options", "schedule")
