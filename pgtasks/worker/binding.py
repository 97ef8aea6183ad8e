"""Makes a request class for one task: the class knows what each request would be told."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pgtasks.utils.imports import symbol_by_name
from pgtasks.worker import state

if TYPE_CHECKING:
    from pgtasks.worker.request import Request

__all__ = ["create_request_cls"]


def create_request_cls(
    base: type[Request] | str,
    task: Any,
    pool: Any,
    hostname: str | None,
    eventer: Any,
    ref: Callable[[Any], Any] | None = None,
    revoked_tasks: Any = None,
    task_ready: Callable[[Any], Any] = lambda request: None,
    trace: Any = None,
    app: Any = None,
) -> type[Request]:
    """A request class that knows its task, its pool and its worker already.

    Args:
        base: The class to build on, or its name: ``task.Request``.
        task: The task.
        pool: The pool that `Request.execute_using_pool` uses by default.
        hostname: Name of the worker.
        eventer: Where events go.
        ref: Called with a request that was given to the pool.
        revoked_tasks: Ids that may not run; those of this process by default.
        task_ready: Called with a request that will not run.
        trace: Celery's; what runs a task here is found by the task itself.
        app: The application.
    """
    chosen: Any = symbol_by_name(base)
    refused = state.revoked if revoked_tasks is None else revoked_tasks

    class Known(chosen):  # type: ignore[misc]
        def __init__(self, message: Any, *args: Any, **kwargs: Any) -> None:
            known = {"hostname": hostname, "eventer": eventer, "app": app, "task": task}
            super().__init__(message, *args, **{**known, **kwargs})

        def revoked(self) -> bool:
            return self.id in refused or bool(super().revoked())

        def execute_using_pool(self, pool: Any = pool, **kwargs: Any) -> Any:
            if self.revoked():
                task_ready(self)
            given = super().execute_using_pool(pool, **kwargs)
            if ref is not None:
                ref(self)
            return given

    Known.__name__ = Known.__qualname__ = chosen.__name__
    return Known
