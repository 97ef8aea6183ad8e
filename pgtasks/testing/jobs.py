"""A job as a test sees it."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, NamedTuple

from pgtasks import serialization
from pgtasks._state import app_or_default
from pgtasks.app import incoming, modes
from pgtasks.app.priority import shown
from pgtasks.job import Job

__all__ = ["Enqueued", "app_of", "described"]


class Enqueued(NamedTuple):
    """A job that has not begun.

    Attributes:
        id: The row.
        task_id: Celery's id.
        task: Name of the task.
        args: The positional arguments, read back; None if they cannot be read.
        kwargs: The keyword arguments, read back; None if they cannot be read.
        queue: Name of the queue.
        priority: The priority, as ``apply_async`` takes it.
        state: ``available``, ``scheduled``, ``suspended`` (it waits for a chord's
            members) or ``retryable``.
        scheduled_at: When it is due, in UTC.
        tags: Its labels.
        meta: Its metadata.
        attempt: How often it has been run.
        max_attempts: How often it may be run, where there is a limit.
    """

    id: int
    task_id: str
    task: str
    args: list[Any] | None
    kwargs: dict[str, Any] | None
    queue: str
    priority: int
    state: str
    scheduled_at: datetime
    tags: list[str]
    meta: dict[str, Any]
    attempt: int
    max_attempts: int | None


def described(app: Any, job: Job, state: str) -> Enqueued:
    """The row of a job, for people."""
    read = incoming.reader(app)
    args: Any
    kwargs: Any
    try:
        args, kwargs = read.arguments(job)
        args = list(args)
    except Exception:
        args = kwargs = (
            None  # A worker would fail the job; a test shall see that it is there.
        )
    return Enqueued(
        job.id,
        job.task_id,
        job.task,
        args,
        kwargs,
        job.queue,
        shown(job.priority, high_first=read.high_first),
        state,
        datetime.fromtimestamp(job.scheduled_at, timezone.utc),
        list(job.tags or ()),
        serialization.loads(job.meta) if job.meta else {},
        job.attempt,
        job.max_attempts,
    )


def app_of(task: Any = None, app: Any = None) -> Any:
    """The application that a test means: its own, its task's, or the current one."""
    if app is None:
        app = getattr(task, "app", None)
    return modes.app_itself(app_or_default(app))
