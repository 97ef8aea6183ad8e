"""Running one job in the caller, as a worker would."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from difflib import get_close_matches
from typing import Any

from pgtasks import states
from pgtasks.app.memory import MemoryQueue
from pgtasks.app.publish import sender
from pgtasks.job import Job, NewJob, Outcome
from pgtasks.testing.jobs import Enqueued, app_of, described
from pgtasks.testing.running import Ran, run

__all__ = ["Performed", "perform_job"]


@dataclass(frozen=True)
class Performed:
    """What came of a job that a test has run.

    Attributes:
        state: ``completed``, ``discarded`` (failed for good), ``cancelled``, ``retryable``
            (it would run again) or ``snoozed``.
        status: What ``AsyncResult.state`` would be: ``SUCCESS``, ``FAILURE``, ``RETRY``,
            ``REVOKED``, ``IGNORED`` …; of a snoozed job ``PENDING``.
        result: What the function returned, serialized and read back, as ``get()`` would
            return it; where the result is ignored, as it was returned.
        error: The exception it failed with, or because of which it would run again;
            `TaskRevokedError` if it was cancelled.
        delay: Seconds until it would run again, of a retry or a snooze.
        traceback: The traceback as text, if there is one.
        follow_ups: The jobs that its end leads to: callbacks, the next of a chain. They
            were not sent. What the body has sent itself is not among them.
        runtime: Seconds that it took.
    """

    state: str
    status: str
    result: Any = None
    error: BaseException | None = None
    delay: float | None = None
    traceback: str | None = None
    follow_ups: list[Enqueued] = field(default_factory=list)
    runtime: float = 0.0


def perform_job(
    task: Any,
    args: Any = None,
    kwargs: Any = None,
    *,
    app: Any = None,
    attempt: int | None = None,
    **fields: Any,
) -> Performed:
    """Run one job in the caller, as a worker would, and say what came of it.

    The arguments go through the serializer and back, ``self.request`` is that of a worker,
    and retries, snoozes and errors are ends, not exceptions. The job itself is not stored,
    and neither is its end. Time limits do not hold here.

    Args:
        task: The task, or its name.
        args: Positional arguments.
        kwargs: Keyword arguments.
        app: The application; the task's by default, or the current one.
        attempt: Which run it is, from 1 on; by default the one behind ``retries``.
        **fields: What else the job is to have: options of ``apply_async`` such as
            ``queue``, ``priority``, ``tags``, ``meta``, ``headers``, ``task_id``,
            ``retries``, ``max_attempts``, ``link``.

    Raises:
        AssertionError: No such task is registered, or the arguments do not fit it.
        EncodeError: The serializer cannot write the arguments.
    """
    app = app_of(task, app)
    registered = _registered(app, task)
    job = _job(app, registered, args, kwargs, attempt, fields)
    ran = run(app, job)
    if ran.interrupt is not None:
        raise ran.interrupt
    return _performed(app, registered, ran)


def _registered(app: Any, task: Any) -> Any:
    name = task if isinstance(task, str) else getattr(task, "name", None)
    tasks = app.tasks
    if name in tasks:
        return tasks[name]
    if not isinstance(name, str):
        raise AssertionError(
            f"{task!r} is no task: decorate it with @app.task, or give a task's name."
        )
    near = get_close_matches(name, list(tasks), n=1)
    hint = f" Is it {near[0]!r}?" if near else ""
    raise AssertionError(
        f"No task named {name!r} is registered with {app!r}, so no worker could run it.{hint}"
        f" Import the module that defines it."
    )


def _job(
    app: Any, task: Any, args: Any, kwargs: Any, attempt: int | None, fields: dict[str, Any]
) -> Job:
    """The row as a worker would claim it; in a queue of its own, that nobody else sees."""
    try:
        args, kwargs, shadow, options = task._prepare(args, kwargs, None, fields)
    except TypeError as error:
        raise AssertionError(f"The arguments do not fit {task.name}: {error}") from error
    if shadow:
        options["shadow"] = shadow
    if attempt is not None:
        options.setdefault("retries", attempt - 1)
    options["task_type"] = task
    job = _claimed(app, sender(app).compose(task.name, args, kwargs, options).job)
    return job._replace(attempt=job.retries + 1 if attempt is None else attempt)


def _claimed(app: Any, new: NewJob) -> Job:
    queue = MemoryQueue(app)
    (inserted,) = queue.put([new])
    job = queue.start(inserted.id or 0)
    assert job is not None  # It is the only one, and was just inserted.
    return job


def _performed(app: Any, task: Any, ran: Ran) -> Performed:
    outcome = ran.outcome
    status = states.status_of(outcome.state, outcome.status)
    return Performed(
        state=ran.end,
        status=status,
        result=_read_back(task.backend, ran) if ran.end == "completed" else None,
        error=ran.error,
        delay=_delay(outcome) if ran.end in ("retryable", "snoozed") else None,
        traceback=outcome.error.traceback if outcome.error is not None else None,
        follow_ups=_described(app, outcome.follow_ups),
        runtime=outcome.runtime,
    )


def _read_back(backend: Any, ran: Ran) -> Any:
    outcome = ran.outcome
    if outcome.result is None and outcome.result_body is None:
        return ran.value
    return backend.load(outcome.result, outcome.result_body, outcome.result_content_type)


def _delay(outcome: Outcome) -> float:
    if outcome.delay is not None:
        return outcome.delay
    if outcome.eta is None:
        return 0.0
    due = datetime.fromisoformat(outcome.eta)
    return max(0.0, (due - datetime.now(timezone.utc)).total_seconds())


def _described(app: Any, new: list[NewJob]) -> list[Enqueued]:
    queue = MemoryQueue(app)
    queue.put(new)
    return [described(app, job, state) for job, state in queue.rows()]
