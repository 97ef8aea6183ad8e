"""Revokes jobs that have not begun: they end in the table, whether a worker runs or not.

What is not there yet, or runs, is remembered there, so that it does not begin later.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

from pgtasks import serialization, signals, states
from pgtasks.app.connection import keeps_jobs_in_memory
from pgtasks.app.context import Context
from pgtasks.app.errors import storable
from pgtasks.backends.propagation import rest_of
from pgtasks.exceptions import TaskRevokedError
from pgtasks.utils.functional import maybe_list

__all__ = ["cancel", "cancel_stamped", "forgive", "remember"]


def cancel(
    app: Any,
    task_ids: Iterable[str],
    reason: str = "revoked",
    *,
    note: str | None = None,
    filter: str = "{}",
) -> list[str]:
    """End these jobs as REVOKED, unless they run or are over.

    Members of a chord count as ended, and what would have come after a job of a chain ends
    with it, so that nobody waits for what never comes. ``task_revoked`` is sent here, for
    no worker will see these jobs.

    Args:
        app: The application.
        task_ids: Their ids.
        reason: What `TaskRevokedError` says.
        note: By whom and why, for the job's ``errors``.
        filter: What they must be still; see `pgtasks.app.job_filter`.

    Returns:
        The ids of those that were revoked.
    """
    if keeps_jobs_in_memory(app):
        from pgtasks.app.memory import queue_of

        return queue_of(app).cancel(task_ids, reason)
    from pgtasks.storage import admin

    wanted = [str(task_id) for task_id in task_ids]
    database = app.database
    text, body, content_type = _as_result(app, reason)
    document = {
        "result": text,
        "result_body": None if body is None else "\\x" + body.hex(),
        "result_content_type": content_type,
    }
    stillborn = [
        {**document, **row}
        for id, task_id, embed in database.run(admin.cancellable(wanted), retry=True)
        for row in _rest(id, task_id, embed)
    ]
    query = admin.cancel(
        wanted,
        result=text,
        result_body=body,
        result_content_type=content_type,
        stillborn=stillborn,
        note=None if note is None else storable(note),
        filter=filter,
    )
    cancelled: list[str] = database.run(query, retry=True)
    if signals.task_revoked.receivers:
        for task_id in cancelled:
            signals.task_revoked.send(
                sender=app,
                request=Context(id=task_id),
                terminated=False,
                signum=None,
                expired=False,
            )
    return cancelled


def remember(app: Any, task_ids: Iterable[str], reason: str | None = None) -> None:
    """Have tasks not begin that have not come yet, or that run and may come back.

    It holds for thirty days (``revocations`` of the plugin ``pruner``), whatever becomes of
    the workers, and for as many ids as there are. What is over is left alone.

    Args:
        app: The application.
        task_ids: Their ids.
        reason: By whom and why, for whoever waits for them.
    """
    wanted = [str(task_id) for task_id in task_ids]
    if not wanted or keeps_jobs_in_memory(app):
        return
    from pgtasks.storage import revocations

    text, body, content_type = _as_result(app, reason or "revoked")
    note = revocations.note(
        wanted,
        None if reason is None else storable(reason),
        result=text,
        result_body=body,
        result_content_type=content_type,
    )
    app.database.run(note, retry=True)


def forgive(app: Any, task_ids: Iterable[str]) -> None:
    """Forget that tasks were revoked: they are to run after all."""
    wanted = [str(task_id) for task_id in task_ids]
    if not wanted or keeps_jobs_in_memory(app):
        return
    from pgtasks.storage import revocations

    app.database.run(revocations.forget(wanted), retry=True)


def cancel_stamped(app: Any, stamps: Mapping[str, Any]) -> list[str]:
    """`cancel` the jobs that carry one of these stamps, and those that come later.

    Args:
        app: The application.
        stamps: Values by the name of the header; of a list of them each will do.
    """
    if keeps_jobs_in_memory(app):
        return []
    from pgtasks.storage import admin, revocations

    wanted = {name: list(maybe_list(value) or ()) for name, value in stamps.items()}
    pairs = [
        (name, serialization.dumps(value))
        for name, values in wanted.items()
        for value in values
    ]
    app.database.run(revocations.note_stamps(pairs), retry=True)
    query = admin.stamped(serialization.dumps(wanted))
    found: list[str] = app.database.run(query, retry=True)
    return cancel(app, found) if found else []


def _as_result(app: Any, reason: str) -> tuple[str | None, bytes | None, str | None]:
    """The exception that whoever waits for a revoked task gets, as results are kept."""
    error, backend = TaskRevokedError(reason), app.backend
    dumped: tuple[str | None, bytes | None, str | None] = backend.dump(
        backend.encode_result(error, states.REVOKED)
    )
    return dumped


def _rest(id: int, task_id: str, embed: str) -> Iterator[dict[str, Any]]:
    try:
        found = serialization.loads(embed)
        request = SimpleNamespace(
            chain=found.get("chain"), callbacks=found.get("callbacks")
        )
    except Exception:
        return  # Written by hand: it leads to nothing that could be read.
    for each in rest_of(request):
        yield {
            "follows": id,
            "task": each.task,
            "task_id": each.task_id,
            "group_id": each.group_id,
            "group_index": each.group_index,
            "chord": each.group_id if each.chord else None,
            "parent_id": task_id,
        }
