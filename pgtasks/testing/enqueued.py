"""What is enqueued, and what a test says about it."""

from __future__ import annotations

import time
from typing import Any

from pgtasks import states
from pgtasks.testing.jobs import Enqueued, app_of, described
from pgtasks.testing.matching import Wanted, report
from pgtasks.testing.places import Place, place_of

__all__ = ["all_enqueued", "assert_enqueued", "refute_enqueued"]

#: Where a job is between `delay()` and its first run.
_ENQUEUED = frozenset((states.AVAILABLE, states.SCHEDULED, states.SUSPENDED))

#: Seconds between two looks.
_PAUSE = 0.01


def all_enqueued(
    task: Any = None, *, app: Any = None, connection: Any = None, **fields: Any
) -> list[Enqueued]:
    """The jobs that wait for their first run, newest first.

    Args:
        task: Of this task, or of the one with this name.
        app: The application; the task's by default, or the current one.
        connection: The connection whose transaction they are in; by default the one that jobs
            sent now belong to (see `pgtasks.using`), else the application's own.
        **fields: What they have besides, as for `assert_enqueued`.
    """
    app = app_of(task, app)
    wanted = _wanted(task, fields)
    found = _enqueued(app, place_of(app, connection))
    return [job for job in found if not wanted.differences(job)]


def assert_enqueued(
    task: Any = None,
    *,
    app: Any = None,
    connection: Any = None,
    timeout: float = 0.0,
    **fields: Any,
) -> Enqueued:
    """Fail unless a job like this waits for its first run; the answer is the newest.

    Args:
        task: Its task, or the name of that.
        app: The application; the task's by default, or the current one.
        connection: The connection whose transaction it is in; by default the one that jobs
            sent now belong to (see `pgtasks.using`), else the application's own.
        timeout: Seconds to wait for it.
        **fields: What else it has. ``args``: all its positional arguments. ``kwargs`` and
            ``meta``: some of its keyword arguments or metadata, compared as deep as they
            go. ``tags``: some of its labels. ``scheduled_at``: a date, or a timedelta from
            now, give or take a second; or a pair of that and the seconds to give or take.
            Equal must be ``queue``, ``priority``, ``state``, ``task_id``, ``attempt``,
            ``max_attempts``.

    Raises:
        AssertionError: There is none; the message lists the jobs that are enqueued.
        TypeError: There is no such field.
    """
    app = app_of(task, app)
    wanted = _wanted(task, fields)
    place = place_of(app, connection)
    deadline = time.monotonic() + timeout
    while True:
        jobs = _enqueued(app, place)
        for job in jobs:
            if not wanted.differences(job):
                return job
        if time.monotonic() >= deadline:
            within = f" within {timeout:g} s" if timeout else ""
            raise AssertionError(report(f"No such job is enqueued{within}:", wanted, jobs))
        time.sleep(_PAUSE)


def refute_enqueued(
    task: Any = None,
    *,
    app: Any = None,
    connection: Any = None,
    timeout: float = 0.0,
    **fields: Any,
) -> None:
    """Fail if a job like this waits for its first run.

    Args:
        task: Its task, or the name of that.
        app: The application; the task's by default, or the current one.
        connection: The connection whose transaction it is in; by default the one that jobs
            sent now belong to (see `pgtasks.using`), else the application's own.
        timeout: Seconds in which none must appear.
        **fields: What it has besides, as for `assert_enqueued`.

    Raises:
        AssertionError: There is one; the message lists the jobs that are enqueued.
        TypeError: There is no such field.
    """
    app = app_of(task, app)
    wanted = _wanted(task, fields)
    place = place_of(app, connection)
    deadline = time.monotonic() + timeout
    while True:
        jobs = _enqueued(app, place)
        if any(not wanted.differences(job) for job in jobs):
            raise AssertionError(report("Such a job is enqueued:", wanted, jobs))
        if time.monotonic() >= deadline:
            return
        time.sleep(_PAUSE)


def _wanted(task: Any, fields: dict[str, Any]) -> Wanted:
    name = task if isinstance(task, str) else getattr(task, "name", None)
    if task is not None and not isinstance(name, str):
        raise TypeError(f"{task!r} is no task: give a task, or the name of one.")
    unknown = fields.keys() - Wanted.__dataclass_fields__.keys()
    if unknown:
        known = ", ".join(sorted(Wanted.__dataclass_fields__))
        raise TypeError(f"{sorted(unknown)[0]!r} is nothing that a job has: {known}.")
    return Wanted(task=name, **fields)


def _enqueued(app: Any, place: Place) -> list[Enqueued]:
    return [
        described(app, job, state) for job, state in place.waiting() if state in _ENQUEUED
    ]
