"""Tells those who are attached of the jobs that run here."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from pgtasks import serialization, states
from pgtasks.app import incoming
from pgtasks.app.coroutines import Steps
from pgtasks.app.outcome import Ending
from pgtasks.app.watching import WatchedEnding
from pgtasks.exceptions import Discard
from pgtasks.job import Job, Outcome
from pgtasks.telemetry import registry

__all__ = ["execute"]

Run = Callable[[Any, Job, "str | None", Ending], Steps[Outcome]]


def execute(
    run: Run, app: Any, job: Job, hostname: str | None, ending: Ending | None
) -> Steps[Outcome]:
    """Run a job, and tell of its beginning and its end.

    Args:
        run: What runs it.
        app: The application.
        job: The row.
        hostname: Name of the worker.
        ending: Takes down what becomes of it, if it is a test's.
    """
    if not isinstance(ending, WatchedEnding):
        task = app._tasks.get(job.task)
        ending = WatchedEnding(app, job, app.backend if task is None else task.backend)
    known = _known(app, job, hostname)
    began, now = time.monotonic(), time.time()
    registry.execute("pgtasks.job.start", {"system_time": now}, known)
    outcome = yield from run(app, job, hostname, ending)
    measured = {
        "duration": time.monotonic() - began,
        "queue_time": max(0.0, now - job.scheduled_at),
        "system_time": time.time(),
    }
    state, failed = _end(outcome, ending)
    known["state"] = state
    if failed:
        text = outcome.error.traceback if outcome.error is not None else None
        told = {**known, **registry.failure(ending.error, text)}
        registry.execute("pgtasks.job.exception", measured, told)
    else:
        told = {**known, "result": ending.value}
        registry.execute("pgtasks.job.stop", measured, told)
    return outcome


def _end(outcome: Outcome, ending: WatchedEnding) -> tuple[str, bool]:
    """Oban's word for an end, and whether it is a failure."""
    if outcome.state == states.COMPLETED:
        return "success", False
    if outcome.state == states.CANCELLED:
        return "cancelled", False
    if outcome.state == states.SCHEDULED:
        return "snoozed", False
    if outcome.state == states.DISCARDED:
        return "discard", not isinstance(ending.error, Discard)
    if outcome.state == states.RETRYABLE:
        # retry() without an exception is a wish, not a failure.
        return ("retry", False) if ending.error is None else ("failure", True)
    return ("failure", True) if outcome.crashed else ("released", False)


def _known(app: Any, job: Job, hostname: str | None) -> dict[str, Any]:
    known: dict[str, Any] = {
        "app": app,
        "job": job,
        "id": job.id,
        "task_id": job.task_id,
        "task": job.task,
        "queue": job.queue,
        "priority": job.priority,
        "attempt": job.attempt,
        "max_attempts": job.max_attempts,
        "args": None,
        "kwargs": None,
        "tags": list(job.tags or ()),
        "meta": {},
        "node": hostname,
    }
    # What cannot be read fails the job, and that is told then.
    try:
        known["args"], known["kwargs"] = incoming.reader(app).arguments(job)
        known["meta"] = serialization.loads(job.meta) if job.meta else {}
        headers = serialization.loads(job.headers) if job.headers else {}
    except Exception:
        return known
    for name in ("argsrepr", "kwargsrepr"):
        if headers.get(name) is not None:
            # Of a call with secrets: what its sender wants to have shown of them.
            known[name] = headers[name]
    return known
