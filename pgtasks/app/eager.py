"""Running a task in the caller's process, as a worker would: ``task.apply()``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pgtasks.app import trace
from pgtasks.app.options import OMITTED
from pgtasks.exceptions import NotRegistered, Retry
from pgtasks.result import EagerResult
from pgtasks.utils.einfo import ExceptionInfo
from pgtasks.utils.functional import maybe_list
from pgtasks.utils.ids import time_ordered_uuid as uuid
from pgtasks.utils.nodenames import gethostname

__all__ = ["apply", "send"]


def apply(
    task: Any,
    args: Any,
    kwargs: Any,
    task_id: str | None,
    retries: int | None,
    throw: bool | None,
    *,
    parent: Any,
    link: Any,
    link_error: Any,
    headers: Any,
    logfile: str | None,
    loglevel: int | None,
    options: Mapping[str, Any],
) -> EagerResult[Any]:
    """Do what `Task.apply` says; ``parent`` is the request that this runs within."""
    app = task.app
    task_id = task_id or uuid()
    retries = retries or 0
    if throw is None:
        throw = app.conf.task_eager_propagates
    limits = [task.time_limit, task.soft_time_limit]
    request = {
        "id": task_id,
        "task": task.name,
        "parent_id": parent.id if parent else None,
        "root_id": (parent.root_id if parent else None) or task_id,
        "retries": retries,
        "attempt": retries + 1,
        "max_attempts": task.max_attempts,
        "is_eager": True,
        "logfile": logfile,
        "loglevel": loglevel or 0,
        "hostname": gethostname(),
        "callbacks": maybe_list(link),
        "errbacks": maybe_list(link_error),
        "headers": headers,
        "timelimit": None if limits == [None, None] else limits,
        "ignore_result": options.get("ignore_result", task.ignore_result),
        "delivery_info": {
            "is_eager": True,
            "exchange": options.get("exchange"),
            "routing_key": options.get("routing_key"),
            "priority": options.get("priority"),
        },
    }
    for name in ("meta", "tags"):
        if options.get(name) is not None:
            request[name] = options[name]
    if "stamped_headers" in options:
        stamped = maybe_list(options["stamped_headers"])
        request["stamped_headers"] = stamped
        request["stamps"] = {key: maybe_list(options.get(key, [])) for key in stamped}

    # The instance, where this is called on a class.
    task = app._tasks[task.name]
    tracer = trace.build_tracer(task.name, task, eager=True, propagate=throw, app=app)
    traced = tracer(task_id, args or (), kwargs or {}, request)
    returned, text = traced.retval, None
    if isinstance(returned, ExceptionInfo):
        returned, text = returned.exception, returned.traceback
    if isinstance(returned, Retry) and returned.sig is not None:
        again: EagerResult[Any] = returned.sig.apply(retries=retries + 1)
        return again
    state = trace.SUCCESS if traced.info is None else traced.info.state
    return EagerResult(task_id, returned, state, traceback=text, name=task.name)


def send(app: Any, name: str, args: Any, kwargs: Any, given: Mapping[str, Any]) -> Any:
    """Run a task that is sent by its name while a test runs tasks inline.

    Raises:
        NotRegistered: There is no such task here, so that it cannot be run.
    """
    # Not the task's own, which may be what sends it by its name.
    from pgtasks.app.task_calls import TaskCalls

    task = app.tasks.get(name)
    if task is None:
        raise NotRegistered(name)
    options = {key: value for key, value in given.items() if value is not OMITTED}
    return TaskCalls.apply_async(task, args, kwargs, **options)
