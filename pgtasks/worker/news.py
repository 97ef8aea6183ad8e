"""What a worker's events say: the fields of each type, out of rows and settlements."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from pgtasks.app import sent
from pgtasks.events.bundles import JSON_TEXT, LONGEST, WHOLE, show

if TYPE_CHECKING:
    from pgtasks.job import Job
    from pgtasks.storage.jobs import Settlement

__all__ = ["FIELDS", "Row", "ending", "make_whole", "received", "sent_by", "started"]

Row = list[Any]
"""Its type, its clock (to be set), its moment, and its fields in the order of `FIELDS`."""

_RECEIVED = (
    "uuid", "name", f"args{JSON_TEXT}", f"kwargs{JSON_TEXT}", "root_id", "parent_id",
    "retries", "eta", "expires",
)  # fmt: skip

FIELDS: Mapping[str, tuple[str, ...]] = {
    WHOLE: (*_RECEIVED, "ended", "result", "runtime"),
    "task-received": _RECEIVED,
    "task-started": ("uuid",),
    "task-succeeded": ("uuid", "result", "runtime"),
    "task-failed": ("uuid", "exception", "traceback"),
    "task-retried": ("uuid", "exception", "traceback"),
    "task-revoked": ("uuid", "terminated", "signum", "expired"),
    "task-rejected": ("uuid", "requeue"),
    "task-sent": sent.FIELDS,
}  # fmt: skip


def received(job: Job, now: float) -> Row:
    """It was taken from its queue."""
    name: str = job.task
    args: Any = _packed(job) if job.body is not None else _short(job.args)
    kwargs: Any = args if job.body is not None else _short(job.kwargs)
    if job.headers is not None:
        name, args, kwargs = _as_told(job.headers, name, args, kwargs)
    return [
        "task-received", 0, now, job.task_id, name, args, kwargs,
        job.root_id, job.parent_id, job.retries,
        _moment(job.scheduled_at) if job.scheduled_at > job.inserted_at else None,
        None if job.expires_at is None else _moment(job.expires_at),
    ]  # fmt: skip


def make_whole(arrival: Row, end: Row) -> None:
    """Make one row of the arrival of a job, its beginning and its success."""
    arrival[0] = WHOLE
    arrival += (end[2], *end[4:])


def started(task_id: str, now: float) -> Row:
    """A process or thread has begun it."""
    return ["task-started", 0, now, task_id]


def ending(settlement: Settlement, now: float, signum: int | None) -> Row | None:
    """What became of it; None where Celery tells nothing either.

    Args:
        settlement: Its end.
        now: When that was.
        signum: The signal that it was ended by because it was revoked.
    """
    how = _ENDINGS.get(settlement.state)
    return None if how is None else how(settlement, now, signum)


def sent_by(settlement: Settlement, now: float) -> list[Row]:
    """What its end has sent: callbacks, the next link of a chain."""
    rows = []
    for text in settlement.follow_ups:
        fields = sent.fields_of(json.loads(text), now)
        rows.append(["task-sent", 0, now, *(fields[name] for name in sent.FIELDS)])
    return rows


# ── ends ────────────────────────────────────────────────────────────────────────────────


def _completed(settlement: Settlement, now: float, signum: int | None) -> Row | None:
    text = settlement.document
    shown = settlement.shown
    if shown is None or '"status"' in text or '"replaced"' in text:
        document = json.loads(text) if text else {}
        if document.get("status") or document.get("replaced"):
            return None  # It was ignored, or another one goes on in its place.
        if shown is None:
            shown = _cut(show(document.get("result")))
    return [
        "task-succeeded",
        0,
        now,
        settlement.task_id,
        shown,
        round(settlement.runtime, 6),
    ]


def _discarded(settlement: Settlement, now: float, signum: int | None) -> Row:
    exception, traceback, kind = _failure(settlement)
    if kind == "Reject":
        return ["task-rejected", 0, now, settlement.task_id, False]
    return ["task-failed", 0, now, settlement.task_id, exception, traceback]


def _retried(settlement: Settlement, now: float, signum: int | None) -> Row:
    exception, traceback, _ = _failure(settlement)
    return ["task-retried", 0, now, settlement.task_id, exception, traceback]


def _revoked(settlement: Settlement, now: float, signum: int | None) -> Row:
    document = json.loads(settlement.document) if settlement.document else {}
    expired = signum is None and document.get("message") == "expired"
    return [
        "task-revoked", 0, now, settlement.task_id, signum is not None, signum, expired
    ]  # fmt: skip


def _handed_back(settlement: Settlement, now: float, signum: int | None) -> Row | None:
    if settlement.document and json.loads(settlement.document).get("give_back"):
        return None  # It was never begun.
    return ["task-rejected", 0, now, settlement.task_id, True]


_ENDINGS: dict[str, Callable[[Settlement, float, int | None], Row | None]] = {
    "completed": _completed,
    "discarded": _discarded,
    "retryable": _retried,
    "cancelled": _revoked,
    "available": _handed_back,
}


def _failure(settlement: Settlement) -> tuple[str | None, str | None, str | None]:
    """The exception as text, its traceback, and the name of its class."""
    document = json.loads(settlement.document) if settlement.document else {}
    kind, message = document.get("kind"), document.get("message")
    shown = settlement.shown
    if shown is None and kind is not None:
        shown = _cut(f"{kind}({message!r})" if message else f"{kind}()")
    return shown, document.get("error_traceback") or document.get("traceback"), kind


# ── values ──────────────────────────────────────────────────────────────────────────────


def _short(text: str | None) -> Any:
    if text is None:
        return ["<too large to be loaded>"]
    # What is cut is JSON no more.
    return text if len(text) <= LONGEST else [_cut(text)]


def _cut(text: str | None) -> str | None:
    return text if text is None or len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _packed(job: Job) -> list[str]:
    size = len(job.body or b"")
    return [f"<{size} bytes of {job.content_type}>"]


def _as_told(headers: str, name: str, args: Any, kwargs: Any) -> tuple[str, Any, Any]:
    """What the caller wants to have shown in place of these."""
    if 'repr"' in headers or '"shadow"' in headers:
        try:
            told = json.loads(headers)
            name = told.get("shadow") or name
            args = [told["argsrepr"]] if told.get("argsrepr") is not None else args
            kwargs = [told["kwargsrepr"]] if told.get("kwargsrepr") is not None else kwargs
        except (ValueError, RecursionError, AttributeError, TypeError):
            pass  # The job fails of that, if anybody does.
    return name, args, kwargs


def _moment(epoch: float) -> str | None:
    try:
        return datetime.fromtimestamp(epoch, timezone.utc).isoformat()
    except (ValueError, OverflowError, OSError):
        return None  # A row may hold a date that no datetime can (R4).
