"""What is shown at a moment: read from the tables, without any worker's help."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pgtasks import states
from pgtasks.storage import health, upkeep

if TYPE_CHECKING:
    from pgtasks.app.base import Celery
    from pgtasks.app.job_info import JobInfo
    from pgtasks.app.queues import Queue

__all__ = ["TABS", "Snapshot", "read", "words_of"]

TABS = ("running", "failing", "waiting")
"""The lists of jobs; only the one that is looked at is read."""

WINDOW = 10.0
"""Seconds of history that rates are counted over."""

RECENT = 3600.0
"""Seconds for which a failure is shown."""

MOST = 200
"""Rows of a list: more than fit on any screen."""

PATIENCE = 10.0
"""Seconds that one question may take."""

_FILTERS = ("queue", "task", "worker", "tag", "error")


@dataclass
class Snapshot:
    """How things stand.

    Attributes:
        queues: The queues, without what was said about all of them.
        paused: Whether all queues are paused.
        workers: The workers that live.
        jobs: The jobs of the list that is looked at.
        waiting: How many jobs may run now.
        running: How many run.
        later: How many are for later: scheduled, to be retried, held.
        ended: How many end a second, by state.
        ended_in: The same by queue, in whatever state.
        took: Seconds that reading it took.
        read_at: When that was, in seconds since the epoch.
    """

    queues: list[Queue]
    paused: bool
    workers: list[health.Worker]
    jobs: list[JobInfo]
    waiting: int = 0
    running: int = 0
    later: int = 0
    ended: dict[str, float] = field(default_factory=dict)
    ended_in: dict[str, float] = field(default_factory=dict)
    took: float = 0.0
    read_at: float = field(default_factory=time.time)

    @property
    def done(self) -> float:
        """How many end a second, in whatever state."""
        return sum(self.ended.values())

    @property
    def failing(self) -> float:
        """How many are discarded a second."""
        return self.ended.get(states.DISCARDED, 0.0)

    def as_dict(self) -> dict[str, Any]:
        """It as values of JSON."""
        return {
            "waiting": self.waiting,
            "running": self.running,
            "later": self.later,
            "ended_per_second": self.ended,
            "paused": self.paused,
            "queues": [
                {
                    **queue._asdict(),
                    "said": [said._asdict() for said in queue.said],
                    "ended_per_second": self.ended_in.get(queue.name, 0.0),
                }
                for queue in self.queues
            ],
            "workers": [worker._asdict() for worker in self.workers],
            "jobs": [job.as_dict() for job in self.jobs],
        }


def read(app: Celery, tab: str = TABS[0], wanted: str = "") -> Snapshot:
    """Look at the tables.

    Args:
        app: The application.
        tab: The list of jobs that is looked at, one of `TABS`.
        wanted: Words that jobs must match, see `words_of`.

    Raises:
        ValueError: ``wanted`` says something that jobs cannot be looked for by.
        StorageError: The database does not answer.
    """
    began = time.monotonic()
    queues = list(app.queues.list())
    workers = app.database.run(health.workers(), timeout=PATIENCE)
    snapshot = Snapshot(
        queues=[each for each in queues if each.name != "*"],
        paused=any(each.name == "*" and each.paused for each in queues),
        workers=[each for each in workers if not each.dead],
        jobs=_jobs(app, tab, words_of(wanted)),
    )
    counted = app.database.run(upkeep.counts(WINDOW), timeout=PATIENCE)
    for each in counted:
        if each.state in states.FINISHED_JOB_STATES:
            rate = each.jobs / WINDOW
            snapshot.ended[each.state] = snapshot.ended.get(each.state, 0.0) + rate
            in_queue = snapshot.ended_in.get(each.queue, 0.0)
            snapshot.ended_in[each.queue] = in_queue + rate
        elif each.state == states.AVAILABLE:
            snapshot.waiting += each.jobs
        elif each.state == states.EXECUTING:
            snapshot.running += each.jobs
        else:
            snapshot.later += each.jobs
    snapshot.took = time.monotonic() - began
    return snapshot


def _jobs(app: Celery, tab: str, filters: dict[str, Any]) -> list[JobInfo]:
    jobs = app.jobs
    if tab == "running":
        return jobs.list(state="executing", order="attempted", limit=MOST, **filters)
    if tab == "waiting":
        waiting = [states.AVAILABLE, states.SCHEDULED, states.SUSPENDED]
        return jobs.list(state=waiting, order="scheduled", limit=MOST, **filters)
    again = jobs.list(state="retryable", order="-attempted", limit=MOST, **filters)
    over = jobs.list(
        state="discarded", finished_after=RECENT, order="-finished", limit=MOST, **filters
    )
    # What has failed last stands first.
    both = sorted([*again, *over], key=_failed_at, reverse=True)
    return both[:MOST]


def _failed_at(job: JobInfo) -> float:
    moment = job.finished_at or job.attempted_at or job.inserted_at
    return moment.timestamp() if moment else 0.0


def words_of(wanted: str) -> dict[str, Any]:
    """What the words of a filter ask for: ``queue:mail worker:web* error:Timeout send``.

    A word without a colon is a part of the task's name.

    Raises:
        ValueError: There is no such kind of word.
    """
    found: dict[str, list[str]] = {}
    for word in wanted.split():
        kind, colon, text = word.partition(":")
        if not colon:
            kind, text = "task", f"*{word}*"
        elif kind not in _FILTERS:
            raise ValueError(
                f"{word!r}: jobs can be looked for by {', '.join(_FILTERS)}, as queue:mail."
            )
        elif not text:
            continue  # It is still being written.
        elif kind == "error":
            text = f"%{text}%"
        found.setdefault("tags" if kind == "tag" else kind, []).append(text)
    return dict(found)


def silent(worker: health.Worker) -> bool:
    """Whether its lease is over: nobody has heard of it for too long."""
    return worker.silence > worker.lease


def busy(queues: Sequence[Queue], node: str) -> int:
    """How many jobs a worker runs."""
    return sum(queue.running.get(node, 0) for queue in queues)
