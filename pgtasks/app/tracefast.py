"""Celery's entrances to the tracer: a task that is given as the parts of a message.

Our workers do not use them: they have a row, and `execute` it.
"""

from __future__ import annotations

from typing import Any

from pgtasks._state import current_app
from pgtasks.utils.nodenames import gethostname

__all__ = [
    "fast_trace_task",
    "reset_worker_optimizations",
    "setup_worker_optimizations",
    "trace_task_ret",
]

#: Tasks, accepted content and host name, once `setup_worker_optimizations` has run.
_localized: list[Any] = []


def trace_task_ret(
    name: str,
    uuid: str,
    request: dict[str, Any],
    body: Any,
    content_type: str | None,
    content_encoding: str | None,
    loads: Any = None,
    app: Any = None,
    **extra_request: Any,
) -> tuple[int, Any, float | None]:
    """Run a task given by a message's parts."""
    from pgtasks.app import trace

    app = app or current_app._get_current_object()
    args, kwargs, embed = _unpack(
        body, content_type, content_encoding, loads, app.conf.accept_content
    )
    request.update(
        {"args": args, "kwargs": kwargs, "hostname": gethostname(), "is_eager": False},
        **embed or {},
    )
    traced = trace.trace_task(app.tasks[name], uuid, args, kwargs, request, app=app)
    return (
        (1, traced.retval, traced.runtime)
        if traced.info
        else (0, traced.retstr, traced.runtime)
    )


def fast_trace_task(
    task: str,
    uuid: str,
    request: dict[str, Any],
    body: Any,
    content_type: str | None,
    content_encoding: str | None,
    loads: Any = None,
    _loc: list[Any] | None = None,
    hostname: str | None = None,
    **_: Any,
) -> tuple[int, Any, float | None]:
    """`trace_task_ret` in a process that `setup_worker_optimizations` has prepared."""
    try:
        tasks, accept, hostname = _loc or _localized
    except ValueError:
        raise RuntimeError(
            "fast_trace_task: worker task registry is empty, for "
            "setup_worker_optimizations() has not run in this process. Call it with the "
            "app first, or use trace_task_ret()."
        ) from None
    args, kwargs, embed = _unpack(body, content_type, content_encoding, loads, accept)
    request.update(
        {"args": args, "kwargs": kwargs, "hostname": hostname, "is_eager": False},
        **embed or {},
    )
    traced = tasks[task].__trace__(uuid, args, kwargs, request)
    return (
        (1, traced.retval, traced.runtime)
        if traced.info
        else (0, traced.retstr, traced.runtime)
    )


def _unpack(body: Any, content_type: Any, encoding: Any, loads: Any, accept: Any) -> Any:
    if not content_type:
        return body
    from kombu import serialization

    accept = serialization.prepare_accept_content(accept)
    return (loads or serialization.loads)(body, content_type, encoding, accept=accept)


def setup_worker_optimizations(app: Any, hostname: str | None = None) -> None:
    """Make this process one that runs the tasks of ``app`` and of no other."""
    from kombu.serialization import prepare_accept_content

    # Threads begin without a current app and would fall back on a default one.
    app.set_current()
    app.set_default()
    app.finalize()
    _localized[:] = [
        app._tasks,
        prepare_accept_content(app.conf.accept_content),
        hostname or gethostname(),
    ]
    app.use_fast_trace_task = True


def reset_worker_optimizations(app: Any = current_app) -> None:
    """Undo `setup_worker_optimizations`."""
    _localized[:] = []
    app.use_fast_trace_task = False
