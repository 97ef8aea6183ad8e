"""Every event that pgtasks tells of, with what it measures and what it knows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["ENGINE", "EVENTS", "Event", "prefixed"]


class Event(NamedTuple):
    """One event.

    Attributes:
        name: Its name, with dots.
        when: When it is told.
        measurements: Names of the numbers that come with it.
        metadata: Names of what else is known.
    """

    name: str
    when: str
    measurements: tuple[str, ...]
    metadata: tuple[str, ...]


_JOB = (
    "app", "job", "id", "task_id", "task", "queue", "priority", "attempt", "max_attempts",
    "args", "kwargs", "tags", "meta", "node",
)  # fmt: skip
_ERROR = ("kind", "error", "reason", "stacktrace")
_TIMES = ("duration", "system_time")

#: What the database is asked to do, by the statement that does it.
ENGINE = {
    "insert_one": "insert_job",
    "insert": "insert_all_jobs",
    "fetch": "fetch_jobs",
    "fetch_queue": "fetch_jobs",
    "ack": "settle_jobs",
    "ack_and_claim": "settle_jobs",
    "stage": "stage_jobs",
    "rescue": "rescue_jobs",
    "prune": "prune_jobs",
    "cancel": "cancel_jobs",
    "purge": "purge_jobs",
}

_DOES = {
    "insert_job": "One job is inserted.",
    "insert_all_jobs": "Jobs are inserted together, or one that has more than arguments.",
    "fetch_jobs": "A worker claims jobs.",
    "settle_jobs": "A worker writes what became of jobs, whatever that is.",
    "stage_jobs": "Scheduled and retryable jobs that are due become available.",
    "rescue_jobs": "Jobs of vanished workers are given back.",
    "prune_jobs": "Old finished jobs are deleted.",
    "cancel_jobs": "Jobs are cancelled before they have begun.",
    "purge_jobs": "The waiting jobs of queues are deleted.",
}


def _span(
    prefix: str, what: str, metadata: tuple[str, ...], more: tuple[str, ...] = ()
) -> Iterator[Event]:
    yield Event(f"{prefix}.start", f"Before: {what}", ("system_time",), metadata)
    yield Event(f"{prefix}.stop", f"After: {what}", _TIMES, (*metadata, *more))
    yield Event(f"{prefix}.exception", f"It failed: {what}", _TIMES, (*metadata, *_ERROR))


def _all() -> Iterator[Event]:
    yield Event("pgtasks.job.start", "A job begins to run.", ("system_time",), _JOB)
    times = ("duration", "queue_time", "system_time")
    yield Event(
        "pgtasks.job.stop",
        "A run has ended as the task wanted it: it succeeded, or it has cancelled, "
        "discarded, snoozed or retried itself, or given the job back.",
        times,
        (*_JOB, "state", "result"),
    )
    yield Event(
        "pgtasks.job.exception",
        "A run has failed; state says whether the job will run again (failure) or not "
        "(discard).",
        times,
        (*_JOB, "state", *_ERROR),
    )
    for operation in dict.fromkeys(ENGINE.values()):
        yield from _span(
            f"pgtasks.engine.{operation}",
            _DOES[operation],
            ("operation", "database"),
            ("result",),
        )
    yield from _span(
        "pgtasks.plugin",
        "A plugin of a worker does its round; what it has done stands beside its name.",
        ("plugin",),
    )
    yield from _span(
        "pgtasks.peer.election",
        "A process stands for an office, or renews its term; leader says whether it leads "
        "then, elected who does.",
        ("office", "node"),
        ("was_leader", "leader", "elected", "term"),
    )
    yield Event(
        "pgtasks.notifier.switch",
        "A process begins or ceases to hear notifications; status is listening or polling.",
        ("system_time",),
        ("status", "database"),
    )
    yield Event(
        "pgtasks.queue.shutdown",
        "A worker has stopped; orphaned are the jobs it could not settle.",
        ("elapsed", "system_time"),
        ("queue", "node", "orphaned"),
    )
    yield Event(
        "pgtasks.supervisor.init",
        "A worker has been registered and is about to begin.",
        ("system_time",),
        ("app", "node", "pid", "queues", "concurrency"),
    )


#: By name.
EVENTS: dict[str, Event] = {event.name: event for event in _all()}


def prefixed(prefix: str) -> list[str]:
    """The names of the events whose names begin with ``prefix``, a whole part of it."""
    return [
        name
        for name in EVENTS
        if not prefix or name == prefix or name.startswith(f"{prefix}.")
    ]
