"""What stands in the tables, as text: for the screen, and for plain lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgtasks.cli.top.reading import busy, silent
from pgtasks.utils.text import short_span

if TYPE_CHECKING:
    from pgtasks.app.job_info import JobInfo
    from pgtasks.app.queues import Queue
    from pgtasks.cli.top.reading import Snapshot
    from pgtasks.storage.health import Worker

__all__ = ["error_of", "queue_cells", "queue_state", "span_of", "worker_cells"]


def queue_state(queue: Queue) -> str:
    """A word about a queue: whether it goes on."""
    if queue.paused:
        return "paused"
    if not queue.workers:
        return "no worker"
    limited = queue.concurrency is not None or queue.rate is not None
    return "limited" if limited else "active"


def queue_cells(queue: Queue, snapshot: Snapshot) -> tuple[str, ...]:
    """A queue: name, state, waiting, running, later, oldest, ended a second, workers."""
    counts = dict(queue.states)
    waiting, running = counts.pop("available", 0), counts.pop("executing", 0)
    return (
        queue.name,
        queue_state(queue),
        f"{waiting:,}",
        f"{running:,}",
        f"{sum(counts.values()):,}",
        "" if queue.age is None else short_span(queue.age),
        f"{snapshot.ended_in.get(queue.name, 0.0):.1f}",
        str(len(queue.workers)),
    )


def worker_cells(worker: Worker, snapshot: Snapshot) -> tuple[str, ...]:
    """A worker: name, state, busy, places, queues, pool, heard of."""
    return (
        worker.name,
        "silent" if silent(worker) else "online",
        str(busy(snapshot.queues, worker.name)),
        str(worker.concurrency),
        ", ".join(worker.queues),
        worker.pool,
        f"{short_span(worker.silence)} ago",
    )


def span_of(job: JobInfo, now: float) -> str:
    """How long a job has run, has waited, or will wait; or when it failed."""
    if job.state == "executing":
        moment, suffix = job.attempted_at, ""
    elif job.finished_at is not None:
        moment, suffix = job.finished_at, " ago"
    else:
        moment, suffix = job.scheduled_at, ""
    if moment is None:
        return ""
    seconds = now - moment.timestamp()
    if seconds < 0:
        return f"in {short_span(-seconds)}"
    return short_span(seconds) + suffix


def error_of(job: JobInfo) -> str:
    """Its last error on one line."""
    error = job.error
    if error is None:
        return ""
    return f"{error.get('kind')}: {error.get('message')}".partition("\n")[0]
