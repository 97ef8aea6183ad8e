"""Running in the caller's process what waits."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from pgtasks.testing.jobs import app_of
from pgtasks.testing.places import FOREVER, place_of
from pgtasks.testing.running import run
from pgtasks.utils.time import maybe_make_aware

__all__ = ["drain_queue"]


def drain_queue(
    app: Any = None,
    queue: str | Iterable[str] | None = None,
    *,
    with_limit: int | None = None,
    with_recursion: bool = False,
    with_scheduled: bool | datetime = False,
    with_safety: bool = True,
    connection: Any = None,
) -> dict[str, int]:
    """Run in the caller what waits, one job after the other, most urgent first.

    Args:
        app: The application; the current one by default.
        queue: The queue, or some; all of them by default. Paused ones are drained too.
        with_limit: At most so many runs.
        with_recursion: Also what is sent meanwhile, what follows from the jobs, and
            retries that are due; otherwise each job that waits now is run once.
        with_scheduled: True has jobs count as due that are scheduled for whenever; a date,
            those that are scheduled until then. Otherwise those that a worker would run
            now. A job that has snoozed is not run again in the same call.
        with_safety: False raises what a job has failed with, once its end is written.
        connection: The connection whose transaction they are in; by default the one that jobs
            sent now belong to (see `pgtasks.using`), else the application's own.

    Returns:
        How many runs ended ``completed``, ``discarded``, ``cancelled``, ``retryable`` and
        ``snoozed``.
    """
    app = app_of(None, app)
    place = place_of(app, connection)
    queues = [queue] if isinstance(queue, str) else queue
    queues = None if queues is None else list(queues)
    until = _until(with_scheduled)
    upto = None if with_recursion else place.newest()
    counts = dict.fromkeys(
        ("completed", "discarded", "cancelled", "retryable", "snoozed"), 0
    )
    passed: set[int] = set()
    left = with_limit
    while left is None or left > 0:
        job = place.take(queues, until, upto, passed)
        if job is None:
            break
        with place.within():
            ran = run(app, job)
        place.settle(job, ran.outcome)
        counts[ran.end] += 1
        left = None if left is None else left - 1
        if ran.interrupt is not None:
            raise ran.interrupt
        if not with_safety and ran.failure is not None:
            raise ran.failure
        if not with_recursion or ran.again_for_nothing:
            passed.add(job.id)
    return counts


def _until(with_scheduled: bool | datetime) -> datetime | None:
    if isinstance(with_scheduled, datetime):
        return maybe_make_aware(with_scheduled)
    return FOREVER if with_scheduled else None
