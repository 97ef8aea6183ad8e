"""What a task says about itself: its options, and the settings behind them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar

from pgtasks._state import TaskStack
from pgtasks.app.autoretry import Backoff
from pgtasks.app.values import as_limit
from pgtasks.exceptions import MaxRetriesExceededError

if TYPE_CHECKING:
    from datetime import timedelta

__all__ = ["TaskOptions"]

GRACE = 5.0
"""Seconds from a task's ``timeout`` until it is killed, if it goes on all the same."""

_RATE = re.compile(r"\s*\d+(\.\d+)?\s*(/\s*[smh]\s*)?")


class _OperationalError:
    """``Task.OperationalError``: kombu's class, imported when somebody catches it."""

    def __get__(self, instance: Any, owner: Any) -> type[Exception]:
        from pgtasks.exceptions import OperationalError

        return OperationalError  # type: ignore[no-any-return]


class TaskOptions:
    """The attributes of a task that its author may set, in the class or the decorator.

    Those that `from_config` lists take their setting where they are None, once the task is
    bound to its app.
    """

    MaxRetriesExceededError: ClassVar[type[MaxRetriesExceededError]] = (
        MaxRetriesExceededError
    )
    OperationalError: ClassVar[Any] = _OperationalError()

    #: What stands for a run in a worker, and what would make one; for those who read them.
    Strategy: Any = "pgtasks.worker.strategy:default"
    Request: Any = "pgtasks.worker.request:Request"

    _app: Any = None
    app: Any

    #: Name, by which the worker finds it.
    name: Any = None
    #: Check the arguments when the task is sent; ``app.strict_typing`` by default.
    typing: bool | None = None
    #: How often `retry` may be called; None for ever.
    max_retries: int | None = 3
    #: Seconds that `retry` waits unless it is told.
    default_retry_delay: float = 3 * 60
    #: Runs before an exception ends the job; None leaves retries to `retry` and
    #: ``autoretry_for``, so that an exception ends it at once, as in Celery.
    max_attempts: int | None = None
    #: Seconds between those runs, or a function of the attempt's number, or of that and the
    #: exception; Oban's by default.
    backoff: Backoff | None = None
    #: Seconds that one run may take; then it fails with `TaskTimeout`, which is a failure
    #: like any other. A task that does not heed that is killed `GRACE` seconds later.
    timeout: float | timedelta | None = None
    #: ``"100/m"``, ``"2/s"``, a number per second, or None.
    rate_limit: Any = None
    #: How many may run at a time in the whole fleet; with a key, for each of its values.
    concurrency: int | None = None
    #: Name of an argument, or a function of the call's args and kwargs.
    concurrency_key: Any = None
    #: How many may start within a time in the whole fleet, ``"100/m"``; with a key, for
    #: each of its values.
    rate: Any = None
    #: As ``concurrency_key``.
    rate_key: Any = None
    #: What follows from these four, `pgtasks.app.limits.TaskLimits`; None without any.
    limits: Any = None
    #: Keep no result.
    ignore_result: Any = None
    #: Remember what the task sends, for ``result.children``.
    trail: bool = True
    #: Let monitors see events of this task.
    send_events: bool = True
    #: Keep the exception even where results are ignored.
    store_errors_even_if_ignored: Any = None
    #: Store results of eager runs.
    store_eager_result: Any = None
    #: Name of the serializer of the arguments.
    serializer: Any = None
    #: Hard limit in seconds: the process that runs the task is killed.
    time_limit: Any = None
    #: Soft limit in seconds: `SoftTimeLimitExceeded` is raised in the task.
    soft_time_limit: Any = None
    #: Show STARTED while it runs.
    track_started: Any = None
    #: The job may run again if its worker is lost.
    acks_late: Any = None
    acks_on_failure_or_timeout: Any = None
    acks_on_failure: Any = None
    acks_on_timeout: Any = None
    reject_on_worker_lost: Any = None
    retry_on_worker_lost: Any = None
    #: Run the body in a transaction that also settles the job: True, ``"psycopg"``,
    #: ``"django"``, ``"sqlalchemy"``, an engine, a sessionmaker, or a function that answers a
    #: context manager. Its effects and its end are one; it may run again after a crash.
    transactional: Any = None
    #: Exceptions that are expected: logged without a traceback.
    throws: tuple[type[BaseException], ...] = ()
    #: Seconds, or a date, after which it must not start.
    expires: Any = None
    #: Which other jobs keep a job of this task out: True, a name or a dict.
    unique: Any = None
    #: What of the job that keeps it out it replaces: the decorator's ``replace``.
    unique_replace: Any = None
    replace_args: bool | None = None
    #: 0 runs first, unless the settings turn it round.
    priority: Any = None
    #: Longest repr of the result in logs.
    resultrepr_maxsize: int = 1024

    #: Requests of the runs of this task in this context, the current one on top.
    request_stack: Any = TaskStack("pgtasks.requests")

    from_config: tuple[tuple[str, str], ...] = (
        ("serializer", "task_serializer"),
        ("rate_limit", "task_default_rate_limit"),
        ("priority", "task_default_priority"),
        ("time_limit", "task_time_limit"),
        ("soft_time_limit", "task_soft_time_limit"),
        ("track_started", "task_track_started"),
        ("acks_late", "task_acks_late"),
        ("acks_on_failure_or_timeout", "task_acks_on_failure_or_timeout"),
        ("acks_on_failure", "task_acks_on_failure"),
        ("acks_on_timeout", "task_acks_on_timeout"),
        ("reject_on_worker_lost", "task_reject_on_worker_lost"),
        ("retry_on_worker_lost", "task_retry_on_worker_lost"),
        ("ignore_result", "task_ignore_result"),
        ("store_eager_result", "task_store_eager_result"),
        ("store_errors_even_if_ignored", "task_store_errors_even_if_ignored"),
    )

    @classmethod
    def _take_settings(cls, conf: Any) -> None:
        """Fill in what the author left to the settings."""
        if cls.transactional:
            # What a crash interrupts was never done.
            for attribute in ("acks_late", "reject_on_worker_lost"):
                if getattr(cls, attribute, None) is None:
                    setattr(cls, attribute, True)
        for attribute, setting in cls.from_config:
            if getattr(cls, attribute, None) is None:
                setattr(cls, attribute, conf[setting])
        both = cls.acks_on_failure_or_timeout
        if cls.acks_on_failure is None:
            cls.acks_on_failure = True if both is None else both
        if cls.acks_on_timeout is None:
            cls.acks_on_timeout = True if both is None else both

    @classmethod
    def _take_timeout(cls) -> None:
        """Have ``timeout`` kept by the time limits, unless the author has set these."""
        # Only an option of the decorator. A class of Celery's times may well have an
        # attribute of this name for purposes of its own.
        given = cls.__dict__
        if given.get("timeout") is None or not given.get("_decorated"):
            return
        seconds = as_limit(f"timeout of task {cls.name!r}", cls.timeout)
        if seconds is None:
            return
        if given.get("soft_time_limit") is None:
            cls.soft_time_limit = seconds
        if given.get("time_limit") is None:
            cls.time_limit = cls.soft_time_limit + GRACE

    @classmethod
    def _check_options(cls) -> None:
        if cls.max_retries is not None and cls.max_retries < 0:
            raise ValueError(
                f"max_retries={cls.max_retries!r} of task {cls.name!r}: it must be 0 or "
                f"more; None retries for ever."
            )
        if cls.max_attempts is not None and cls.max_attempts < 1:
            raise ValueError(
                f"max_attempts={cls.max_attempts!r} of task {cls.name!r}: it counts the "
                f"first run too, so it must be 1 or more; None leaves it to max_retries."
            )
        if cls.unique or cls.unique_replace or cls.replace_args:
            from pgtasks.app.unique import check_task

            check_task(cls)
        limit = cls.rate_limit
        if isinstance(limit, str) and not _RATE.fullmatch(limit):
            raise ValueError(
                f"rate_limit={limit!r} of task {cls.name!r}: write a number and a unit, "
                f"for instance '10/s', '100/m' or '1000/h'."
            )
        given = (cls.concurrency, cls.concurrency_key, cls.rate, cls.rate_key)
        cls.limits = None
        if given != (None, None, None, None):
            # Fractions and digests are dear to import.
            from pgtasks.app.limits import TaskLimits

            cls.limits = TaskLimits(cls)
