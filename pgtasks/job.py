"""The records of the data path: `NewJob` goes in, `Job` comes out, `Outcome` goes back."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, NamedTuple

__all__ = ["KEY", "Error", "Job", "NewJob", "Outcome", "is_keyed"]

KEY = "\x1f"
"""Stands between the name of a limit and the value of its key, in the name of a gate."""


@dataclass(slots=True)
class NewJob:
    """A job about to be inserted; a field left at its default is left to the table.

    Attributes:
        task: Name of the task.
        task_id: Celery's id, any string; unique among unfinished jobs.
        queue: Name of the queue.
        priority: 0 runs first; larger numbers wait.
        args: Positional arguments as JSON text, a list.
        kwargs: Keyword arguments as JSON text, an object.
        body: The arguments in another form (pickle, yaml, compressed …) as the
            serializer wrote them; ``args`` and ``kwargs`` are then unused.
        content_type: MIME type of ``args``/``kwargs``, or of ``body``.
        content_encoding: ``utf-8``, ``binary`` or a compression as kombu names it.
        delay: Seconds from the database's now until the job is due.
        eta: The absolute due time, ISO 8601 with offset; ``delay`` wins.
        expires_in: Seconds from the database's now after which it must not start.
        expires: The absolute form of ``expires_in``, ISO 8601 with offset.
        max_attempts: Runs before an exception discards the job; None leaves
            retries to ``self.retry`` and ``autoretry_for``, as in Celery.
        retries: Celery's ``request.retries`` of the first run.
        time_limit: Hard limit in seconds.
        soft_time_limit: Soft limit in seconds.
        ignore_result: Do not keep the result; None leaves it to the task.
        root_id: First task of the workflow.
        parent_id: The task that sent this one.
        group_id: The group this job is a member of.
        group_index: Its place in that group.
        origin: Who inserted it, ``pid@host``.
        headers: JSON text of the user's message headers and of Celery's rarer ones.
        embed: JSON text of ``callbacks``, ``errbacks``, ``chain`` and ``chord``.
        meta: JSON text of the user's own metadata, an object.
        tags: The user's own labels.
        unique_key: What makes it the same as another, see ``uniqueness``.
        chord: The chord in which the end of this job counts, or the end of what follows
            it in its chain; it is the group id of the members.
        awaits: The chord whose members must have ended before this job may run. Its
            ``delay`` and ``expires_in`` then count from its release.
        uniqueness: Which jobs with its ``unique_key`` keep it out: ``blocks``, the states
            in which they do; ``period``, seconds, and ``by_schedule``, from which date on;
            ``forced``, it goes in whoever has the key; ``replaces``, by state the fields
            of the other that it replaces. None: the key keeps nobody out.
        limits: The gates that it must go through, by name; see `pgtasks.storage.limits`.
    """

    task: str
    task_id: str
    queue: str = "celery"
    priority: int = 0
    args: str = "[]"
    kwargs: str = "{}"
    body: bytes | None = None
    content_type: str = "application/json"
    content_encoding: str = "utf-8"
    delay: float | None = None
    eta: str | None = None
    expires_in: float | None = None
    expires: str | None = None
    max_attempts: int | None = None
    retries: int = 0
    time_limit: float | None = None
    soft_time_limit: float | None = None
    ignore_result: bool | None = None
    root_id: str | None = None
    parent_id: str | None = None
    group_id: str | None = None
    group_index: int | None = None
    origin: str | None = None
    headers: str | None = None
    embed: str | None = None
    meta: str | None = None
    tags: list[str] | None = None
    unique_key: str | None = None
    chord: str | None = None
    awaits: str | None = None
    uniqueness: dict[str, Any] | None = None
    limits: list[str] | None = None

    def document(self) -> dict[str, Any]:
        """The fields that differ from the table's defaults, as a JSON object."""
        given = zip(_NAMES, _values(self), _DEFAULTS, strict=True)
        document = {name: value for name, value, default in given if value != default}
        if self.body is not None:
            document["body"] = "\\x" + self.body.hex()
        return document


_REQUIRED = object()
_NAMES = [each.name for each in fields(NewJob)]
_DEFAULTS = [
    _REQUIRED if each.name in ("task", "task_id") else each.default
    for each in fields(NewJob)
]
_values = attrgetter(*_NAMES)


class Job(NamedTuple):
    """A job as it was claimed: what the worker's parent hands to whoever runs it.

    Times are seconds since the epoch, read as numbers: a row may hold a date
    that no datetime can (R4). Texts are undecoded: one unreadable row must not
    cost its neighbours.
    """

    id: int
    task_id: str
    task: str
    queue: str
    priority: int
    attempt: int
    retries: int
    max_attempts: int | None
    crashes: int
    lost: int
    args: str | None
    kwargs: str | None
    body: bytes | None
    content_type: str | None
    content_encoding: str | None
    size: int
    scheduled_at: float
    inserted_at: float
    expires_at: float | None
    expired: bool
    time_limit: float | None
    soft_time_limit: float | None
    ignore_result: bool | None
    root_id: str | None
    parent_id: str | None
    group_id: str | None
    group_index: int | None
    chord: str | None
    awaits: str | None
    origin: str | None
    headers: str | None
    embed: str | None
    meta: str | None = None
    tags: list[str] | None = None
    claim_token: str = ""
    revoked: str | None = None
    """Why it shall not run, or empty; None if it may."""


class Error(NamedTuple):
    """One failed attempt, as it is kept in the row's history.

    Texts are safe for PostgreSQL and bounded: no NUL, no lone surrogate, at
    most 64 kB (R11).
    """

    kind: str
    message: str
    traceback: str


@dataclass(slots=True)
class Outcome:
    """What became of a job: everything that its end must write, in one transaction.

    Attributes:
        id: The row.
        claim_token: Proof that the job was ours (R3).
        state: The job state to reach: ``completed``, ``discarded``, ``cancelled``,
            ``retryable``, ``scheduled`` (snoozed) or ``available`` (handed back).
        status: Celery's state where it is not the usual one for ``state``
            (``IGNORED``, ``REJECTED`` …).
        result: The serialized result, or the exception as Celery stores it.
        result_body: The result in a binary serializer's form.
        result_content_type: MIME type of either when it is not JSON.
        traceback: Traceback text shown by ``AsyncResult.traceback``.
        error: The failed attempt, kept in ``errors``.
        delay: Seconds until a retryable or scheduled job is due again.
        eta: The absolute form of ``delay``, ISO 8601 with offset.
        retried: Celery's ``retries`` goes up by one.
        give_back: The attempt is given back: snoozed, or never begun.
        crashed: The process that ran it died: ``crashes`` goes up by one.
        abandoned: A verdict on a job whose worker vanished; the truth may replace it.
        replaced: Another task goes on under its id, one of ``follow_ups`` or what they
            lead to: no end is written.
        args: New arguments for the next run.
        kwargs: New keyword arguments for the next run.
        body: New arguments in another serializer's form.
        headers: New headers for the next run.
        embed: New callbacks for the next run.
        queue: Another queue for the next run.
        priority: Another priority for the next run.
        children: JSON text: results of the tasks that this one sent.
        follow_ups: Jobs that exist if and only if this outcome is accepted.
        stillborn: Tasks that would have come next and never will, as rows of history.
        runtime: Seconds the function took; for logs, not for the table.
        written: The job has settled itself, and nothing is left to be written: the queues
            in which jobs may run because of it. None if it is to be written.
        shown: For events: what was returned, as text, or the exception.
    """

    id: int
    claim_token: str
    state: str
    status: str | None = None
    result: str | None = None
    result_body: bytes | None = None
    result_content_type: str | None = None
    traceback: str | None = None
    error: Error | None = None
    delay: float | None = None
    eta: str | None = None
    retried: bool = False
    give_back: bool = False
    crashed: bool = False
    abandoned: bool = False
    replaced: bool = False
    args: str | None = None
    kwargs: str | None = None
    body: bytes | None = None
    headers: str | None = None
    embed: str | None = None
    queue: str | None = None
    priority: int | None = None
    children: str | None = None
    follow_ups: list[NewJob] = field(default_factory=list)
    stillborn: list[dict[str, Any]] = field(default_factory=list)
    runtime: float = 0.0
    written: list[str] | None = None
    shown: Any = None


def is_keyed(limits: list[str] | None) -> bool:
    """Whether some of these gates depend on the job's arguments."""
    return limits is not None and any(KEY in gate for gate in limits)
