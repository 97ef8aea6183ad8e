"""When a failed task runs again: Celery's ``autoretry_for``, Oban's back-off."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from inspect import iscoroutinefunction, signature
from typing import Any, TypeAlias

from pgtasks.exceptions import Cancel, Discard, Ignore, Retry, Snooze
from pgtasks.utils.time import get_exponential_backoff_interval

__all__ = ["Backoff", "add_autoretry_behaviour", "exponential", "seconds_until_retry"]

logger = logging.getLogger("celery.app.trace")

#: How long to wait after a failed attempt: seconds, a timedelta, or a function of the
#: attempt's number, or of that and the exception, which answers with one of them.
Backoff: TypeAlias = (
    "float | timedelta | Callable[[int], float | timedelta] "
    "| Callable[[int, BaseException], float | timedelta]"
)


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

    def retry_later(error: BaseException) -> None:
        """For errors behind the body: those of the commit of a transactional task."""
        if isinstance(error, autoretry_for) and not isinstance(error, passed_on):
            raise retry(error, dict(retry_kwargs))

    task._retry_later = retry_later

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


def exponential(
    attempt: int, most: int | None = None, *, pad: float = 15, jitter: float = 0.1
) -> float:
    """Oban's back-off: ``15 + 2 ** attempt`` seconds, and up to a tenth more.

    Twenty attempts take thirteen days. Where there are more, they are spread over as long.

    Args:
        attempt: The one that failed.
        most: How many there are.
        pad: What each wait is longer, in seconds.
        jitter: Up to which part of itself it is longer at random.
    """
    if most is not None and most > 20:
        attempt = round(attempt / most * 20)
    wait = pad + 2.0 ** min(max(attempt, 0), 20)
    return wait * (1 + random.uniform(0, jitter))


def seconds_until_retry(
    backoff: Backoff | None,
    attempt: int,
    most: int | None = None,
    error: BaseException | None = None,
) -> float:
    """How long a job waits after its failed ``attempt``; `exponential` unless told.

    A function that fails, or answers with what is no time, must neither park the job for
    ever nor end it: then, too, it is `exponential`.
    """
    if backoff is None:
        return exponential(attempt, most)
    try:
        wait: Any = _asked(backoff, attempt, error) if callable(backoff) else backoff
        seconds = wait.total_seconds() if isinstance(wait, timedelta) else float(wait)
        # NaN fails every comparison.
        if 0 <= seconds < float("inf"):
            return float(seconds)
        problem: object = f"it is {wait!r}"
    except Exception as caught:
        problem = repr(caught)
    logger.warning(
        "The backoff after attempt %d cannot be used, and Oban's is: %s", attempt, problem
    )
    return exponential(attempt, most)


def _asked(backoff: Callable[..., Any], attempt: int, error: BaseException | None) -> Any:
    try:
        signature(backoff).bind(attempt, error)
    except (TypeError, ValueError):
        return backoff(attempt)
    return backoff(attempt, error)
