"""The rows of the screen's tables, with their colours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from pgtasks.cli.output import clean
from pgtasks.cli.top.cells import error_of, queue_cells, queue_state, span_of, worker_cells
from pgtasks.cli.top.reading import busy, silent

if TYPE_CHECKING:
    from pgtasks.app.job_info import JobInfo
    from pgtasks.cli.top.reading import Snapshot

__all__ = ["JOBS", "QUEUES", "WORKERS", "job_rows", "queue_rows", "worker_rows"]

QUEUES = ("queue", "state", "waiting", "", "run", "later", "oldest", "/s", "by")
WORKERS = ("worker", "state", "busy", "queues", "pool", "heard of")
JOBS = {
    "running": ("since", "task", "arguments", "queue", "worker", "try", "id"),
    "failing": ("when", "state", "task", "error", "try", "queue", "id"),
    "waiting": ("due", "state", "task", "arguments", "queue", "priority", "id"),
}
"""The columns of each list of jobs."""

SLOW = 60.0
"""Seconds after which a job that waits is worth a colour."""

_BAR = 8
_STATES = {
    "active": ("●", "green"),
    "limited": ("●", "cyan"),
    "paused": ("‖", "bold yellow"),
    "no worker": ("○", "red"),
    "online": ("●", "green"),
    "silent": ("○", "bold red"),
    "discarded": ("●", "red"),
    "retryable": ("●", "yellow"),
    "available": ("●", "green"),
    "scheduled": ("●", "blue"),
    "suspended": ("‖", "yellow"),
}

Row = tuple[str, tuple[Text, ...]]


def _plain(text: object, *, most: int = 60, style: str = "") -> Text:
    shown = clean(text)
    return Text(shown if len(shown) <= most else f"{shown[: most - 1]}…", style=style)


def _number(text: str) -> Text:
    return Text(text, style="dim" if text in ("0", "0.0") else "", justify="right")


def _state(word: str) -> Text:
    sign, style = _STATES.get(word, ("●", ""))
    return Text(f"{sign} {word}", style=style)


def _bar(part: float, style: str) -> Text:
    """A bar of so large a part of its length, in eighths of a character."""
    eighths = round(min(max(part, 0.0), 1.0) * _BAR * 8)
    if part > 0:
        eighths = max(eighths, 1)
    full, rest = divmod(eighths, 8)
    shown = "█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else "")
    return Text.assemble((shown, style), ("·" * (_BAR - len(shown)), "dim"))


def queue_rows(snapshot: Snapshot) -> list[Row]:
    """The queues, in the order of their names."""
    most = max((each.states.get("available", 0) for each in snapshot.queues), default=0)
    rows: list[Row] = []
    for queue in snapshot.queues:
        name, _, waiting, running, later, oldest, rate, workers = queue_cells(
            queue, snapshot
        )
        waits = queue.states.get("available", 0)
        slow = queue.age is not None and queue.age > SLOW
        look = "yellow" if slow or queue.paused else "green"
        rows.append(
            (
                queue.name,
                (
                    _plain(name, most=32, style="bold"),
                    _state(queue_state(queue)),
                    _number(waiting),
                    _bar(waits / most if most else 0.0, look if queue.workers else "red"),
                    _number(running),
                    _number(later),
                    _plain(oldest, style="yellow" if slow else ""),
                    _number(rate),
                    _number(workers) if workers != "0" else Text("0", style="red"),
                ),
            )
        )
    return rows


def worker_rows(snapshot: Snapshot) -> list[Row]:
    """The workers, in the order of their names."""
    rows: list[Row] = []
    for worker in snapshot.workers:
        name, state, runs, places, queues, pool, heard = worker_cells(worker, snapshot)
        part = busy(snapshot.queues, worker.name) / max(worker.concurrency, 1)
        bar = _bar(part, "red" if part >= 1 else "green")
        rows.append(
            (
                f"{worker.name} {worker.pid}",
                (
                    _plain(name, most=32, style="bold"),
                    _state(state),
                    Text.assemble(bar, f" {runs}/{places}"),
                    _plain(queues, most=32),
                    _plain(pool),
                    _plain(heard, style="red" if silent(worker) else "dim"),
                ),
            )
        )
    return rows


def job_rows(snapshot: Snapshot, tab: str) -> tuple[dict[str, JobInfo], list[Row]]:
    """The jobs of a list by their keys, and their rows."""
    jobs = {f"{job.task_id} {job.id}": job for job in snapshot.jobs}
    cells = {"running": _running, "failing": _failing, "waiting": _waiting}[tab]
    return jobs, [(key, cells(job, snapshot.read_at)) for key, job in jobs.items()]


def _tries(job: JobInfo) -> Text:
    most = f"/{job.max_attempts}" if job.max_attempts else ""
    return Text(f"{job.attempt}{most}", style="yellow" if job.attempt > 1 else "dim")


def _running(job: JobInfo, now: float) -> tuple[Text, ...]:
    return (
        _plain(span_of(job, now), style="green"),
        _plain(job.task, style="bold"),
        _plain(job.call, style="dim"),
        _plain(job.queue, most=24),
        _plain(job.worker or "", most=32),
        _tries(job),
        _plain(job.task_id, style="dim"),
    )


def _failing(job: JobInfo, now: float) -> tuple[Text, ...]:
    return (
        _plain(span_of(job, now)),
        _state(job.state),
        _plain(job.task, style="bold"),
        _plain(error_of(job), most=80, style="red"),
        _tries(job),
        _plain(job.queue, most=24),
        _plain(job.task_id, style="dim"),
    )


def _waiting(job: JobInfo, now: float) -> tuple[Text, ...]:
    return (
        _plain(span_of(job, now)),
        _state(job.state),
        _plain(job.task, style="bold"),
        _plain(job.call, style="dim"),
        _plain(job.queue, most=24),
        _number(str(job.priority)),
        _plain(job.task_id, style="dim"),
    )
