"""What a task says about its own end: `Snooze`, `Discard`, `Cancel`, raised or returned."""

from __future__ import annotations

from typing import Any

from pgtasks import signals
from pgtasks.app import outcome
from pgtasks.app.context import Context
from pgtasks.app.traceinfo import (
    LOG_IGNORED,
    REVOKED,
    SNOOZED,
    get_actual_ignore_result,
    get_task_name,
    info,
)
from pgtasks.exceptions import Cancel, Discard, Snooze, TaskRevokedError

__all__ = ["PREDICATES", "settle"]

PREDICATES = (Snooze, Discard, Cancel)


def settle(
    task: Any, request: Context, name: str, end: Snooze | Cancel, *, eager: bool
) -> tuple[str, Exception]:
    """Do what the task asked for; a `Discard` is a failure and not settled here.

    Args:
        task: The task.
        request: Its request.
        name: Its name in logs, where the request has no other.
        end: What it raised or returned.
        eager: The run is in the caller's process.

    Returns:
        The state, and the exception that stands for the result.
    """
    words = {"id": request.id, "name": get_task_name(request, name), "description": end}
    if isinstance(end, Snooze):
        ending = outcome.current()
        if ending is not None:
            ending.mark_as_snoozed(end.seconds)
        info(LOG_IGNORED, words)
        return SNOOZED, end
    error = TaskRevokedError(end.reason if end.reason is not None else "cancelled")
    stored = not get_actual_ignore_result(task, request) and (
        not eager or bool(task.store_eager_result)
    )
    outcome.store_for(task).mark_as_revoked(
        request.id, error.args[0], request=request, store_result=stored
    )
    signals.task_revoked.send(
        sender=task, request=request, terminated=False, signum=None, expired=False
    )
    info(LOG_IGNORED, words)
    return REVOKED, error
