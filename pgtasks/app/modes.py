"""Whether what is sent runs at once in the caller: eager apps, and the modes of tests.

What `pgtasks.testing.mode` opens is kept here, for it is asked by everything that sends.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from weakref import WeakKeyDictionary

from pgtasks.exceptions import ImproperlyConfigured

__all__ = [
    "INLINE",
    "MANUAL",
    "MODES",
    "app_itself",
    "check_that_jobs_run",
    "is_eager",
    "is_inline",
    "mode_of",
    "scope",
]

INLINE, MANUAL = "inline", "manual"
MODES = (INLINE, MANUAL)


class _Scope:
    """A mode of one app, and the scope around it."""

    __slots__ = ("app", "mode", "open", "outer")

    def __init__(self, app: Any, mode: str, outer: _Scope | None) -> None:
        self.app = app
        self.mode = mode
        self.outer = outer
        #: What was started inside may outlive the scope, and is then outside of it.
        self.open = True


_scope: ContextVar[_Scope | None] = ContextVar("pgtasks.testing", default=None)
# A thread begins with an empty context, whoever starts it.
_of_threads: WeakKeyDictionary[threading.Thread, _Scope] = WeakKeyDictionary()
#: A scope has been opened in this process, and threads are followed.
_in_use = False


def mode_of(app: Any) -> str | None:
    """The mode of ``app`` here: ``inline``, ``manual`` or None.

    Raises:
        ImproperlyConfigured: The setting ``task_testing`` is something else.
    """
    scope = _current()
    if scope is not None:
        app = app_itself(app)
    while scope is not None:
        if scope.open and scope.app is app:
            return scope.mode
        scope = scope.outer
    mode = app.conf.task_testing
    if mode in MODES:
        return str(mode)
    if mode and isinstance(mode, (str, bool)):
        raise ImproperlyConfigured(
            f"task_testing = {mode!r} is no mode: set it to 'inline' (what is sent runs at "
            f"once), 'manual' (it is stored and nothing runs it) or None (no test)."
        )
    return None


def app_itself(app: Any) -> Any:
    """The application that ``app`` is, or is a proxy of."""
    behind = getattr(app, "_get_current_object", None)
    return app if behind is None else behind()


def is_eager(app: Any, task_id: str | None = None) -> bool:
    """Whether what is sent now runs at once, in the caller.

    Args:
        app: The application.
        task_id: The id of what is sent, if it has one already.
    """
    conf = app.conf
    if (_in_use or conf.task_testing is not None) and mode_of(app) is not None:
        return is_inline(app, task_id)
    return bool(conf.task_always_eager)


def is_inline(app: Any, task_id: str | None = None) -> bool:
    """`is_eager` because of a test's mode, which has `send_task` run tasks, too."""
    if not _in_use and app.conf.task_testing is None:
        return False  # As in every program that is no test.
    return mode_of(app) == INLINE and not _belongs_to_an_end(task_id)


def _belongs_to_an_end(task_id: str | None) -> bool:
    """Whether it is a part of how the job that a worker's code runs here ends.

    That is so of its retry, and of what its end leads to.
    """
    from pgtasks.app import outcome

    ending = outcome.current()
    return ending is not None and (ending.gathering or ending.task_id == task_id)


def check_that_jobs_run(app: Any) -> None:
    """Refuse a worker where a test wants to see jobs that nobody runs.

    Raises:
        ImproperlyConfigured: The mode is ``manual``.
    """
    if mode_of(app) == MANUAL:
        raise ImproperlyConfigured(
            "No worker starts with task_testing = 'manual' (or in pgtasks.testing.mode(app, "
            "'manual')): jobs are stored and nothing runs them. Run them in the test with "
            "pgtasks.testing.drain_queue(), or take the setting away."
        )


@contextmanager
def scope(app: Any, mode: str) -> Iterator[None]:
    """Have ``app`` be in ``mode`` meanwhile, here and in what is started meanwhile.

    Args:
        app: The application itself, no proxy.
        mode: One of `MODES`.
    """
    _follow_threads()
    opened = _Scope(app, mode, _current())
    token = _scope.set(opened)
    try:
        yield
    finally:
        opened.open = False
        _scope.reset(token)


def _current() -> _Scope | None:
    scope = _scope.get()
    if scope is None and _in_use:
        return _of_threads.get(threading.current_thread())
    return scope


def _follow_threads() -> None:
    """From now on, a thread that is started in a scope is in that scope.

    For good: who else has wrapped the method meanwhile keeps what he has wrapped.
    """
    global _in_use
    if _in_use:
        return
    _in_use = True
    start: Callable[[threading.Thread], None] = threading.Thread.start

    def start_within(self: threading.Thread) -> None:
        scope = _current()
        if scope is not None:
            _of_threads[self] = scope
        start(self)

    threading.Thread.start = start_within  # type: ignore[method-assign]
