"""A job as people see it: `JobInfo`, what ``app.jobs`` answers with."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from pgtasks import serialization, states
from pgtasks.app.priority import shown

if TYPE_CHECKING:
    from pgtasks.storage.browse import JobRow

__all__ = ["JobInfo"]


@dataclass(frozen=True, slots=True)
class JobInfo:
    """One job, waiting, running or over, as it was when it was looked at.

    Attributes:
        id: The row; grows with each insert.
        task_id: The id that ``delay()`` returned.
        task: Name of the task.
        queue: Name of the queue.
        state: Oban's word: ``available``, ``executing``, ``discarded`` …
        status: Celery's word, as `AsyncResult.state` shows it.
        priority: As ``apply_async`` takes it.
        attempt: How often it was started; a snooze gives its attempt back.
        retries: How often it asked to be retried.
        max_attempts: How often it may be started, where that is limited.
        crashes: How often the process that ran it died.
        lost: How often its worker vanished.
        args: Positional arguments; None where they are no JSON or left out for their size.
        kwargs: Keyword arguments, likewise.
        argsrepr: What its caller wants to have shown in place of ``args``.
        kwargsrepr: The same for ``kwargs``.
        size: Bytes of the arguments.
        content_type: MIME type of the arguments.
        inserted_at: When it was inserted; all times are in UTC.
        scheduled_at: When it is or was due.
        attempted_at: When it was claimed last.
        finished_at: When it ended.
        expires_at: When it may not begin any more.
        worker: Name of the worker that holds or held it, or its id.
        worker_id: Id of that worker.
        errors: Failed attempts, the last one last: ``attempt``, ``at``, ``kind``,
            ``message``, ``traceback``, ``worker``.
        meta: The caller's metadata; ``snoozed`` counts snoozes.
        tags: The caller's labels.
        root_id: First task of its work-flow.
        parent_id: The task that sent it.
        group_id: The group or chord that it is a member of.
        group_index: Its place in that.
        chord: The chord in which its end counts.
        awaits: The chord for whose members it waits, or has waited.
        held: The state that it will have when it is released; None unless a person holds it.
        unique_key: At most one unfinished job has it.
        origin: Process that inserted it.
        time_limit: Hard limit of the call, in seconds.
        soft_time_limit: Soft limit of the call.
        next: Names of the tasks that its end leads to: the chain's, then the callbacks.
        on_error: Names of its error callbacks.
        result: The stored result, exception or progress as JSON has it; `AsyncResult` reads
            it back into what the task returned.
        traceback: Of the failure that ended it.
        cursor: Where it stands in a list: ``list(after=…)`` goes on behind it.
    """

    id: int
    task_id: str
    task: str
    queue: str
    state: str
    status: str
    priority: int
    attempt: int
    retries: int
    max_attempts: int | None
    crashes: int
    lost: int
    args: list[Any] | None
    kwargs: dict[str, Any] | None
    argsrepr: str | None
    kwargsrepr: str | None
    size: int
    content_type: str | None
    inserted_at: datetime | None
    scheduled_at: datetime | None
    attempted_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None
    worker: str | None
    worker_id: str | None
    errors: list[dict[str, Any]]
    meta: dict[str, Any]
    tags: list[str]
    root_id: str | None
    parent_id: str | None
    group_id: str | None
    group_index: int | None
    chord: str | None
    awaits: str | None
    held: str | None
    unique_key: str | None
    origin: str | None
    time_limit: float | None
    soft_time_limit: float | None
    next: list[str]
    on_error: list[str]
    result: Any
    traceback: str | None
    cursor: str

    @classmethod
    def of(cls, row: JobRow, *, high_first: bool) -> JobInfo:
        """Read a row, whatever stands in it."""
        headers, embed = _object(row.headers), _object(row.embed)
        plain = row.body is None
        args, kwargs = _loaded(row.args), _loaded(row.kwargs)
        return cls(
            id=row.id,
            task_id=row.task_id,
            task=row.task,
            queue=row.queue,
            state=row.state,
            status=states.status_of(row.state, row.status),
            priority=shown(row.priority, high_first=high_first),
            attempt=row.attempt,
            retries=row.retries,
            max_attempts=row.max_attempts,
            crashes=row.crashes,
            lost=row.lost,
            args=args if plain and isinstance(args, list) else None,
            kwargs=kwargs if plain and isinstance(kwargs, dict) else None,
            argsrepr=_text(headers.get("argsrepr")),
            kwargsrepr=_text(headers.get("kwargsrepr")),
            size=row.size,
            content_type=row.content_type,
            inserted_at=_moment(row.inserted_at),
            scheduled_at=_moment(row.scheduled_at),
            attempted_at=_moment(row.attempted_at),
            finished_at=_moment(row.finished_at),
            expires_at=_moment(row.expires_at),
            worker=row.worker_name or row.worker,
            worker_id=row.worker,
            errors=_errors(row.errors),
            meta=_object(row.meta),
            tags=list(row.tags),
            root_id=row.root_id,
            parent_id=row.parent_id,
            group_id=row.group_id,
            group_index=row.group_index,
            chord=row.chord,
            awaits=row.awaits,
            held=row.held,
            unique_key=row.unique_key,
            origin=row.origin,
            time_limit=row.time_limit,
            soft_time_limit=row.soft_time_limit,
            # The next link of a chain stands last.
            next=[*reversed(_names(embed.get("chain"))), *_names(embed.get("callbacks"))],
            on_error=_names(embed.get("errbacks")),
            result=_loaded(row.result),
            traceback=row.traceback,
            cursor=json.dumps([row.place, row.task_id]),
        )

    @property
    def finished(self) -> bool:
        """Whether it is over."""
        return self.state in states.FINISHED_JOB_STATES

    @property
    def error(self) -> dict[str, Any] | None:
        """The last failed attempt."""
        return self.errors[-1] if self.errors else None

    @property
    def call(self) -> str:
        """The arguments as they are shown to people, ``(7, x=1)``: secrets as their caller said."""
        args = self.argsrepr or _listed(self.args)
        kwargs = self.kwargsrepr or _listed(self.kwargs)
        if args is None or kwargs is None:
            return f"(<{self.size:,} bytes of {self.content_type}>)"
        return f"({', '.join(each for each in (args, kwargs) if each)})"

    def as_dict(self) -> dict[str, Any]:
        """It as values of JSON, dates as ISO 8601."""
        found = {each.name: getattr(self, each.name) for each in fields(self)}
        return {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in found.items()
        }


def _listed(given: Any) -> str | None:
    if isinstance(given, list):
        return ", ".join(map(repr, given))
    if isinstance(given, dict):
        return ", ".join(f"{name}={value!r}" for name, value in given.items())
    return None


def _moment(epoch: float | None) -> datetime | None:
    try:
        return None if epoch is None else datetime.fromtimestamp(epoch, timezone.utc)
    except (ValueError, OverflowError, OSError):
        return None  # Infinity, or a year that no datetime has.


def _loaded(text: str | None) -> Any:
    if text is None:
        return None
    try:
        return serialization.loads(text)
    except Exception:
        return None  # Written by hand, or by another serializer.


def _object(text: str | None) -> dict[str, Any]:
    found = _loaded(text)
    return found if isinstance(found, dict) else {}


def _errors(text: str | None) -> list[dict[str, Any]]:
    found = _loaded(text)
    if not isinstance(found, list):
        return []
    return [each for each in found if isinstance(each, dict)]


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _names(signatures: Any) -> list[str]:
    if isinstance(signatures, dict):
        signatures = [signatures]
    if not isinstance(signatures, list):
        return []
    return [
        str(each.get("task") if isinstance(each, dict) else each) for each in signatures
    ]
