"""What a success leads to: callbacks, then the next link of the chain.

In a worker they become a part of the job's end, and exist if and when that is written.
"""

from __future__ import annotations

from contextlib import nullcontext
from contextvars import ContextVar
from typing import Any

from pgtasks import canvas
from pgtasks.app import outcome
from pgtasks.app.context import Context
from pgtasks.app.embed import Links

__all__ = ["send"]

#: Whether what is sent in this context follows from the success of a task; Celery's name.
_callback_publish_retry: ContextVar[bool] = ContextVar("pgtasks.follows", default=False)


def send(app: Any, request: Context, value: Any, task_id: str) -> None:
    """Send what the success of a task leads to.

    Args:
        app: The application.
        request: The request of the task.
        value: What the task returned.
        task_id: Its id, the parent of what is sent.
    """
    priority = None
    if app.conf.task_inherit_parent_priority:
        priority = (request.delivery_info or {}).get("priority")
    options = {
        "parent_id": task_id,
        "root_id": request.root_id or task_id,
        "priority": priority,
    }
    ending = outcome.current()
    token = _callback_publish_retry.set(True)
    try:
        with nullcontext() if ending is None else ending.gather():
            for callback in _grouped(app, request.callbacks or ()):
                callback.apply_async((value,), **options)
            if request.links:
                following, rest = _next(request)
                canvas.maybe_signature(following, app=app).apply_async(
                    (value,), chain=rest, **options
                )
    finally:
        _callback_publish_retry.reset(token)


def _next(request: Context) -> tuple[Any, Any]:
    """The next link of a chain, and those behind it."""
    links = request.links
    if isinstance(links, Links):
        following, left = links.next()
        if not following.get("subtask_type"):
            return following, left or []
        # Work-flows look at what follows them.
    *rest, following = request.chain
    return following, rest


def _grouped(app: Any, callbacks: Any) -> list[Any]:
    """The callbacks as signatures, several tasks as one group: so Celery sends them."""
    sigs = [canvas.maybe_signature(each, app=app) for each in callbacks]
    if len(sigs) < 2:
        return sigs
    groups = [sig for sig in sigs if isinstance(sig, canvas.group)]
    others = [sig for sig in sigs if not isinstance(sig, canvas.group)]
    return [*groups, canvas.group(others, app=app)] if len(others) > 1 else groups + others
