"""The event ``task-sent``, of programs that set ``task_send_sent_event``."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from pgtasks.app.connection import keeps_jobs_in_memory
from pgtasks.events import bundles
from pgtasks.events.memory import hub_of
from pgtasks.utils.nodenames import anon_nodename
from pgtasks.utils.time import utcoffset

if TYPE_CHECKING:
    from pgtasks.job import NewJob
    from pgtasks.storage.query import Query

__all__ = ["FIELDS", "atell", "fields_of", "tell"]

logger = logging.getLogger("celery.events")

FIELDS = (
    "uuid", "root_id", "parent_id", "name", "args", "kwargs", "retries", "eta", "expires",
    "queue", "exchange", "routing_key",
)  # fmt: skip


def fields_of(document: Mapping[str, Any], now: float) -> dict[str, Any]:
    """What the event tells of a job.

    Args:
        document: The job, as `NewJob.document` has it.
        now: Seconds since the epoch.
    """
    task_id, queue = document["task_id"], document.get("queue", "celery")
    told = json.loads(document["headers"]) if document.get("headers") else {}
    args, kwargs = (
        told.get(f"{name}repr") or _shown(document, name, empty)
        for name, empty in (("args", "[]"), ("kwargs", "{}"))
    )
    return {
        "uuid": task_id,
        "root_id": document.get("root_id") or task_id,
        "parent_id": document.get("parent_id"),
        "name": document["task"],
        "args": args,
        "kwargs": kwargs,
        "retries": document.get("retries", 0),
        "eta": _moment(document.get("eta"), document.get("delay"), now),
        "expires": _moment(document.get("expires"), document.get("expires_in"), now),
        "queue": queue,
        "exchange": "",
        "routing_key": queue,
    }


def _shown(document: Mapping[str, Any], name: str, empty: str) -> str | None:
    if document.get("body") is not None:
        # In hexadecimal, behind two signs that say so.
        size = len(document["body"]) // 2 - 1
        return f"<{size} bytes of {document.get('content_type')}>"
    text = document.get(name, empty)
    if len(text) > bundles.LONGEST:
        return f"{text[: bundles.LONGEST - 1]}…"
    return bundles.show(text, name == "args")


def _moment(given: str | None, seconds: float | None, now: float) -> str | None:
    if seconds is None:
        return given
    try:
        return datetime.fromtimestamp(now + seconds, timezone.utc).isoformat()
    except (ValueError, OverflowError, OSError):
        return None


# ── clients ─────────────────────────────────────────────────────────────────────────────


def tell(app: Any, jobs: Sequence[NewJob], on: Any = None) -> None:
    """Tell that these have been sent.

    Nothing of that is the caller's problem: what goes wrong is logged.

    Args:
        app: The application.
        jobs: The jobs.
        on: The lent connection that they went by: they are sent when its transaction has
            committed, and so is this.
    """
    try:
        text = _bundle(app, jobs)
        if keeps_jobs_in_memory(app):
            hub_of(app).tell(text)
        elif on is None:
            app.database.run(_query(text))
        else:
            _lend(app, text, on)
    except Exception as error:
        _complain(error)


async def atell(app: Any, jobs: Sequence[NewJob], on: Any = None) -> None:
    """`tell` for coroutines."""
    try:
        text = _bundle(app, jobs)
        if keeps_jobs_in_memory(app):
            hub_of(app).tell(text)
        elif on is None:
            await app.async_database.run(_query(text))
        else:
            await _alend(app, text, on)
    except Exception as error:
        _complain(error)


def _bundle(app: Any, jobs: Sequence[NewJob]) -> str:
    now, clock = time.time(), app.clock.take(len(jobs))
    common = {"hostname": anon_nodename(), "pid": os.getpid(), "utcoffset": utcoffset()}
    rows = []
    for number, job in enumerate(jobs):
        fields = fields_of(job.document(), now)
        rows.append(["task-sent", clock + number, now, *(fields[name] for name in FIELDS)])
    return bundles.pack(common, {"task-sent": FIELDS}, rows)


def _query(text: str, *, rings: bool = True) -> Query[bool]:
    from pgtasks.storage import events

    return events.tell(text, rings=rings)


def _lend(app: Any, text: str, on: Any) -> None:
    from pgtasks.storage import borrowed, settling

    schema = app.conf.database_schema
    if borrowed.commits_at_once(borrowed.holder(on)):
        borrowed.run(_query(text), on=on, schema=schema)
        return
    # The jobs are in the same transaction, and must not go down with an event.
    borrowed.run(settling.mark(), on=on, schema=schema)
    try:
        borrowed.run(_query(text, rings=False), on=on, schema=schema)
    except Exception:
        borrowed.run(settling.undo(), on=on, schema=schema)
        raise
    borrowed.run(settling.keep(), on=on, schema=schema)


async def _alend(app: Any, text: str, on: Any) -> None:
    from pgtasks.storage import borrowed, settling

    schema = app.conf.database_schema
    if borrowed.commits_at_once(borrowed.holder(on)):
        await borrowed.arun(_query(text), on=on, schema=schema)
        return
    await borrowed.arun(settling.mark(), on=on, schema=schema)
    try:
        await borrowed.arun(_query(text, rings=False), on=on, schema=schema)
    except Exception:
        await borrowed.arun(settling.undo(), on=on, schema=schema)
        raise
    await borrowed.arun(settling.keep(), on=on, schema=schema)


def _complain(error: Exception) -> None:
    logger.warning("That tasks were sent could not be told: %s", error)
