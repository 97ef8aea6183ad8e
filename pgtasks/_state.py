"""What is current: the application of this thread, and the task that runs in this context.

The application is kept per thread with a default for the process, as in Celery. The task
is kept per context: a thread, a greenlet and an asyncio task each see their own.
"""

from __future__ import annotations

import os
import threading
import weakref
from contextvars import ContextVar
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pgtasks.utils.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgtasks.app.base import Celery
    from pgtasks.app.task import Task

T = TypeVar("T")

__all__ = [
    "app_or_default",
    "connect_on_app_finalize",
    "current_app",
    "current_task",
    "get_current_app",
    "get_current_task",
    "get_current_worker_task",
    "pop_current_task",
    "push_current_task",
    "set_default_app",
    "task_join_will_block",
]


class TaskStack:
    """The tasks that run in this context, outermost first.

    A task that calls another as a function, or runs it eagerly, puts it on top.
    """

    # A tuple that is replaced, not a list that is changed: a context that is copied (for
    # an asyncio task, or a thread that was given one) must not share what follows.
    def __init__(self, name: str) -> None:
        self._items: ContextVar[tuple[Any, ...]] = ContextVar(name, default=())

    def push(self, obj: Any) -> None:
        """Put ``obj`` on top."""
        self._items.set((*self._items.get(), obj))

    def pop(self) -> Any:
        """Take the topmost item off; None if there is none."""
        items = self._items.get()
        if not items:
            return None
        self._items.set(items[:-1])
        return items[-1]

    @property
    def top(self) -> Any:
        """The topmost item, or None."""
        items = self._items.get()
        return items[-1] if items else None

    @property
    def stack(self) -> list[Any]:
        """The items, outermost first."""
        return list(self._items.get())

    def __len__(self) -> int:
        return len(self._items.get())


# ── applications ────────────────────────────────────────────────────────────────────────


class _TLS(threading.local):
    current_app: Any = None


#: Replaced as a whole by test fixtures, hence never bound to another name.
_tls: Any = _TLS()

#: The application of threads that have none of their own.
default_app: Any = None

#: Every application that is alive and not closed.
_apps: weakref.WeakSet[Any] = weakref.WeakSet()

#: Called with each application when it is finalized: shared and built-in tasks.
_on_app_finalizers: set[Callable[[Any], Any]] = set()


def connect_on_app_finalize(callback: Callable[[Any], T]) -> Callable[[Any], T]:
    """Call ``callback`` with every application that is finalized from now on."""
    _on_app_finalizers.add(callback)
    return callback


def _announce_app_finalized(app: Any) -> None:
    # A copy: a callback may define further shared tasks.
    for callback in set(_on_app_finalizers):
        callback(app)


def set_default_app(app: Any) -> None:
    """Make ``app`` the application of all threads that have none of their own."""
    global default_app
    default_app = app


def _set_current_app(app: Any) -> None:
    _tls.current_app = app


def get_current_app() -> Any:
    """Answer the application of this thread, else the default one, made if need be."""
    if default_app is None:
        # By name: this module stands below the one that it needs here.
        Celery = import_module("pgtasks.app.base").Celery
        loader = os.environ.get("CELERY_LOADER") or "default"
        set_default_app(Celery("default", fixups=[], set_as_current=False, loader=loader))
    return _tls.current_app or default_app


if os.environ.get("C_STRICT_APP"):

    def get_current_app() -> Any:
        """Refuse: with ``C_STRICT_APP`` set, whoever needs an app must be given it."""
        raise RuntimeError(
            "C_STRICT_APP is set, and something used the current app. Pass the app "
            "explicitly to whatever stands above this line in the traceback."
        )


def _app_or_default(app: Any = None) -> Any:
    return get_current_app() if app is None else app


def _app_or_default_trace(app: Any = None) -> Any:
    if app is None:
        import traceback

        print("-- USES THE CURRENT APP --")
        traceback.print_stack()
    return _app_or_default(app)


#: Answers the application that it is given, else the current one.
app_or_default: Callable[..., Any] = _app_or_default


def enable_trace() -> None:
    """Print a stack whenever something falls back on the current app."""
    global app_or_default
    app_or_default = _app_or_default_trace


def disable_trace() -> None:
    """Undo `enable_trace`."""
    global app_or_default
    app_or_default = _app_or_default


if os.environ.get("CELERY_TRACE_APP"):
    enable_trace()


def _register_app(app: Any) -> None:
    _apps.add(app)


def _deregister_app(app: Any) -> None:
    _apps.discard(app)


def _get_active_apps() -> weakref.WeakSet[Any]:
    return _apps


# ── tasks ───────────────────────────────────────────────────────────────────────────────

_task_stack = TaskStack("pgtasks.tasks")

#: Say that a task starts to run; `pop_current_task` must follow.
push_current_task = _task_stack.push
#: Say that the task on top has ended.
pop_current_task = _task_stack.pop

_task_join_will_block: Any = False


def get_current_task() -> Any:
    """Answer the task that runs here, or None."""
    return _task_stack.top


def get_current_worker_task() -> Any:
    """Answer the task that a worker runs here, or None.

    Where that task has called others as functions, or run them eagerly, it is still the
    one that the worker started: what is sent from here is its child.
    """
    for task in reversed(_task_stack.stack):
        if not task.request.called_directly:
            return task
    return None


def _set_task_join_will_block(blocks: Any) -> None:
    global _task_join_will_block
    _task_join_will_block = blocks


def task_join_will_block() -> Any:
    """Whether waiting for a result here would hold up a worker."""
    return _task_join_will_block


#: The application of this thread.
current_app = cast("Celery", Proxy(get_current_app))
#: The task that runs here; false when there is none.
current_task = cast("Task[..., Any]", Proxy(get_current_task))
