"""What pools of one's own are made of, under ``celery.concurrency.base``'s names.

A pool here is given functions to call. The worker's own pools are given rows
(`pgtasks.worker.pools`), which is what keeps a job safe when its process dies.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pgtasks.exceptions import (
    ImproperlyConfigured,
    WorkerShutdown,
    WorkerTerminate,
    reraise,
)
from pgtasks.utils.einfo import ExceptionInfo
from pgtasks.utils.text import truncate
from pgtasks.utils.timer2 import Timer

__all__ = ["BasePool", "apply_target"]

logger = logging.getLogger("celery.pool")


def apply_target(
    target: Callable[..., Any],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    callback: Callable[..., Any] | None = None,
    accept_callback: Callable[[int, float], Any] | None = None,
    pid: int | None = None,
    getpid: Callable[[], int] = os.getpid,
    propagate: tuple[type[BaseException], ...] = (),
    monotonic: Callable[[], float] = time.monotonic,
    **_: Any,
) -> None:
    """Call a function here, and tell what came out.

    Args:
        target: The function.
        args: Its arguments.
        kwargs: Its keyword arguments.
        callback: Told the result, or an `ExceptionInfo` of what is no ordinary exception.
        accept_callback: Told the process and the moment, before.
        pid: The process; this one by default.
        getpid: Gives the process.
        propagate: Exceptions that are raised again.
        monotonic: Gives the moment.
        **_: What other pools are given.
    """
    if accept_callback is not None:
        accept_callback(pid or getpid(), monotonic())
    try:
        result = target(*args, **(kwargs or {}))
    except propagate:
        raise
    except (Exception, WorkerShutdown, WorkerTerminate):
        raise
    except BaseException as error:
        # Whatever ends a process must not look like the end of ours to who waits.
        from pgtasks.exceptions import WorkerLostError

        try:
            reraise(WorkerLostError, WorkerLostError(repr(error)), error.__traceback__)
        except WorkerLostError:
            if callback is not None:
                callback(ExceptionInfo())
    else:
        if callback is not None:
            callback(result)


class BasePool:
    """Calls functions; a subclass says where, in `on_apply`.

    Args:
        limit: How many at a time.
        putlocks: Celery's.
        forking_enable: Celery's.
        callbacks_propagate: Exceptions of callbacks that are raised again.
        app: The application.
        **options: For subclasses.
    """

    RUN = 0x1
    CLOSE = 0x2
    TERMINATE = 0x3

    #: What its subclasses may have called later.
    Timer = Timer

    #: Whether it runs greenlets.
    is_green = False
    #: Whether a signal handler may wait for it.
    signal_safe = True
    #: Whether a task in it must not wait for other tasks.
    task_join_will_block = True
    #: Whether messages that wait for it may be kept undecoded.
    body_can_be_buffer = False
    uses_semaphore = False

    _state: int | None = None
    _pool: Any = None

    def __init__(
        self,
        limit: int | None = None,
        putlocks: bool = True,
        forking_enable: bool = True,
        callbacks_propagate: tuple[type[BaseException], ...] = (),
        app: Any = None,
        **options: Any,
    ) -> None:
        self.limit = limit
        self.putlocks = putlocks
        self.forking_enable = forking_enable
        self.callbacks_propagate = callbacks_propagate
        self.app = app
        self.options = options

    # ── life ────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Begin to take calls."""
        self.on_start()
        self._state = self.RUN

    def close(self) -> None:
        """Take no more."""
        self._state = self.CLOSE
        self.on_close()

    def stop(self) -> None:
        """End when what runs has ended."""
        self.on_stop()
        self._state = self.TERMINATE

    def terminate(self) -> None:
        """End now."""
        self._state = self.TERMINATE
        self.on_terminate()

    def restart(self) -> None:
        """Begin anew.

        Raises:
            ImproperlyConfigured: This pool cannot.
        """
        raise ImproperlyConfigured(
            f"{type(self).__name__} cannot be restarted: start another."
        )

    @property
    def active(self) -> bool:
        """Whether it takes calls."""
        return self._state == self.RUN

    def did_start_ok(self) -> bool:
        """Whether it could begin."""
        return True

    def flush(self) -> None:
        """Forget what waits; nothing does here."""

    def maintain_pool(self, *args: Any, **kwargs: Any) -> None:
        """Look after its processes; there are none here."""

    def register_with_event_loop(self, loop: Any) -> None:
        """Be part of an event loop; there is none here."""

    # ── calls ───────────────────────────────────────────────────────────────────────────

    def apply_async(
        self,
        target: Callable[..., Any],
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        """Call a function; see `apply_target` for the options."""
        args, kwargs = args or [], kwargs or {}
        if logger.isEnabledFor(logging.DEBUG):
            shown = truncate(repr(args), 1024), truncate(repr(kwargs), 1024)
            logger.debug("TaskPool: Apply %s (args:%s kwargs:%s)", target, *shown)
        return self.on_apply(
            target,
            args,
            kwargs,
            waitforslot=self.putlocks,
            callbacks_propagate=self.callbacks_propagate,
            **options,
        )

    def terminate_job(self, pid: int, signal: int | None = None) -> None:
        """Signal the process that runs something.

        Raises:
            ImproperlyConfigured: This pool has no processes of its own.
        """
        raise ImproperlyConfigured(
            f"{type(self).__name__} runs functions in this process, and cannot signal "
            f"process {pid}. The pool 'prefork' can."
        )

    # ── for subclasses ──────────────────────────────────────────────────────────────────

    def on_start(self) -> None:
        """It is to begin."""

    def on_close(self) -> None:
        """It is to take no more."""

    def on_stop(self) -> None:
        """It is to end."""

    def on_terminate(self) -> None:
        """It is to end now."""

    def on_apply(self, *args: Any, **kwargs: Any) -> Any:
        """It is to call something."""

    def on_soft_timeout(self, job: Any) -> None:
        """A soft time limit was reached."""

    def on_hard_timeout(self, job: Any) -> None:
        """A hard time limit was reached."""

    # ── facts ───────────────────────────────────────────────────────────────────────────

    @property
    def num_processes(self) -> int | None:
        """How many at a time."""
        return self.limit

    @property
    def info(self) -> dict[str, Any]:
        """Facts for ``inspect stats``."""
        cls = type(self)
        return {
            "implementation": f"{cls.__module__}:{cls.__name__}",
            "max-concurrency": self.limit,
        }
