"""When a failed task runs again: Celery's ``autoretry_for``, Oban's back-off."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, TypeAlias

from pgtasks.exceptions import Cancel, Discard, Ignore, Retry, Snooze
from pgtasks.utils.time import get_exponential_backoff_interval

__all__ = ["Backoff", "add_autoretry_behaviour", "exponential", "seconds_until_retry"]

#: How long to wait after a failed attempt: seconds, or a function of the attempt's number.
Backoff: TypeAlias = "float | Callable[[int], float]"


def add_autoretry_behaviour(task: Any, **options: Any) -> None:
    """Have ``task.run`` retried when it raises what ``autoretry_for`` lists.

    Args:
        task: The task; its attributes hold where no option is given.
        **options: ``autoretry_for``, ``dont_autoretry_for``, ``retry_kwargs``,
            ``retry_backoff``, ``retry_backoff_max``, ``retry_jitter``.
    """

    def option(name: str, default: Any) -> Any:
        return options.get(name, getattr(task, name, default))

    autoretry_for = tuple(option("autoretry_for", ()))
    dont_autoretry_for = tuple(option("dont_autoretry_for", ()))
    retry_kwargs = option("retry_kwargs", {})
    backoff = float(option("retry_backoff", False))
    backoff_max = int(option("retry_backoff_max", 600))
    jitter = option("retry_jitter", True)

    if not autoretry_for or hasattr(task, "_orig_run"):
        return

    # Where the task has said itself what becomes of it.
    passed_on = (Ignore, Retry, Snooze, Discard, Cancel, *dont_autoretry_for)

    def retry(error: BaseException, options: dict[str, Any]) -> BaseException:
        if backoff:
            options["countdown"] = get_exponential_backoff_interval(
                factor=int(max(1.0, backoff)),
                retries=task.request.retries,
                maximum=backoff_max,
                full_jitter=jitter,
            )
        # What self.retry(max_retries=…) in the body said counts for this run.
        if hasattr(task, "override_max_retries"):
            options["max_retries"] = task.override_max_retries
        again: BaseException = task.retry(exc=error, **options)
        if hasattr(task, "override_max_retries"):
            del task.override_max_retries
        return again

    # A copy of retry_kwargs each time: tasks of one base class share the very same dict.
    if iscoroutinefunction(task.run):

        @wraps(task.run)
        async def run(*args: Any, **kwargs: Any) -> Any:
            try:
                return await task._orig_run(*args, **kwargs)
            except passed_on:
                raise
            except autoretry_for as error:
                raise retry(error, dict(retry_kwargs))

    else:

        @wraps(task.run)
        def run(*args: Any, **kwargs: Any) -> Any:
            try:
                return task._orig_run(*args, **kwargs)
            except passed_on:
                raise
            except autoretry_for as error:
                raise retry(error, dict(retry_kwargs))

    task._orig_run, task.run = task.run, run


def exponential(attempt: int, *, pad: float = 15, jitter: float = 0.1) -> float:
    """Oban's back-off: ``15 + 2 ** attempt`` seconds, and up to a tenth more.

    Twenty attempts take thirteen days. From the twentieth on the wait grows no longer.
    """
    wait = pad + 2.0 ** min(max(attempt, 0), 20)
    return wait * (1 + random.uniform(0, jitter))


def seconds_until_retry(backoff: Backoff | None, attempt: int) -> float:
    """How long a job waits after its failed ``attempt``; `exponential` unless told."""
    if backoff is None:
        return exponential(attempt)
    wait = backoff(attempt) if callable(backoff) else backoff
    # NaN fails every comparison: a broken function must not park the job for ever.
    return float(wait) if 0 <= wait < float("inf") else exponential(attempt)
