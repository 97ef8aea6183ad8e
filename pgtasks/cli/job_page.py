"""One job on a page: what ``pgtasks jobs show`` prints."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pgtasks.cli.output import Output, clean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgtasks.app.job_info import JobInfo

__all__ = ["show_job"]


def show_job(out: Output, job: JobInfo) -> None:
    """Print everything about a job, a line each; what is empty is left out."""
    for name, shown in _lines(job):
        if shown not in (None, "", [], {}):
            out.say(f"{out.style(f'{name:<13}', fg='cyan')} {clean(shown, lines=True)}")
    for error in job.errors:
        out.say()
        words = f"attempt {error.get('attempt')} at {error.get('at')}"
        words += f" on {error['worker']}" if error.get("worker") else ""
        out.say(out.style(clean(words), bold=True))
        out.say(clean(f"{error.get('kind')}: {error.get('message')}", lines=True))
        if error.get("traceback"):
            out.say(clean(error["traceback"], lines=True).rstrip())


def _lines(job: JobInfo) -> Iterator[tuple[str, Any]]:
    yield "id", f"{job.task_id} (row {job.id})"
    yield "task", f"{job.task}{job.call}"
    state = f"{job.state} ({job.status})"
    yield "state", f"{state}, held: {job.held} when released" if job.held else state
    yield "queue", f"{job.queue}, priority {job.priority}"
    most = f" of {job.max_attempts}" if job.max_attempts else ""
    counts = {"retries": job.retries, "crashes": job.crashes, "lost": job.lost}
    rest = "".join(f", {name} {number}" for name, number in counts.items() if number)
    yield "attempt", f"{job.attempt}{most}{rest}"
    yield "inserted", _moment(job.inserted_at) + (f" by {job.origin}" if job.origin else "")
    yield "due", _moment(job.scheduled_at)
    yield "began", _moment(job.attempted_at) + (f" on {job.worker}" if job.worker else "")
    took = _took(job.attempted_at, job.finished_at)
    yield "ended", _moment(job.finished_at) + (f", after {took}" if took else "")
    yield "expires", _moment(job.expires_at)
    yield "limits", _limits(job)
    yield "tags", ", ".join(job.tags)
    yield "meta", _json(job.meta)
    yield "root", job.root_id if job.root_id != job.task_id else None
    yield "parent", job.parent_id
    place = "" if job.group_index is None else f", place {job.group_index}"
    yield "group", f"{job.group_id}{place}" if job.group_id else None
    yield "awaits", f"the members of {job.awaits}" if job.awaits else None
    yield "unique key", job.unique_key
    yield "then", ", ".join(job.next)
    yield "on error", ", ".join(job.on_error)
    yield "result", _json(job.result)


def _moment(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S.%f}"[:-3] + " UTC"


def _took(begin: datetime | None, end: datetime | None) -> str:
    return f"{(end - begin).total_seconds():.3f} s" if begin and end else ""


def _limits(job: JobInfo) -> str:
    limits = {"soft": job.soft_time_limit, "hard": job.time_limit}
    return ", ".join(f"{name} {limit:g} s" for name, limit in limits.items() if limit)


def _json(found: Any) -> str:
    return "" if found in (None, {}) else json.dumps(found, default=str)
