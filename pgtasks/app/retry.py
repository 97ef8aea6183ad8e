"""Running a job again: ``task.retry()``, ``max_attempts``, and a `Retry` that is raised."""

from __future__ import annotations

import inspect
import sys
from typing import Any, NoReturn

from pgtasks.app import outcome
from pgtasks.app.autoretry import seconds_until_retry
from pgtasks.app.context import Context
from pgtasks.exceptions import PayloadTooLarge, Reject, Retry

__all__ = ["ensure_retried", "next_attempt", "retry"]

_POSITIONAL = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
)


def retry(
    task: Any,
    args: Any,
    kwargs: Any,
    exc: Any,
    throw: bool,
    eta: Any,
    countdown: float | None,
    max_retries: int | None,
    options: dict[str, Any],
) -> Retry:
    """Do what `Task.retry` says."""
    request = task.request
    retries = request.retries + 1
    if max_retries is not None:
        # For autoretry_for, which comes later in the same run.
        task.override_max_retries = max_retries
    limit = task.max_retries if max_retries is None else max_retries
    if request.called_directly:
        # There is nobody to run it again: the caller gets the error itself.
        _raise(exc or Retry("Task can be retried", None))
    if not eta and countdown is None:
        countdown = task.default_retry_delay
    args, kwargs = _arguments(task, request, args, kwargs)
    sig = task.signature_from_request(
        request, args, kwargs, countdown=countdown, eta=eta, retries=retries, **options
    )
    if _exhausted(request, retries, limit, explicit=max_retries is not None):
        if exc:
            _raise(exc)
        # What the caller wants to have shown, if there are secrets in them.
        shown = request.get("argsrepr") or sig.args, request.get("kwargsrepr") or sig.kwargs
        raise task.MaxRetriesExceededError(
            f"Can't retry {task.name}[{request.id}] args:{shown[0]} kwargs:{shown[1]}",
            task_args=sig.args,
            task_kwargs=sig.kwargs,
        )
    again = Retry(exc=exc, when=eta or countdown, is_eager=request.is_eager, sig=sig)
    if not request.is_eager:
        try:
            # Within a worker this inserts no job: the one that runs is marked to run
            # again when its end is written. It goes this way all the same, so that an
            # apply_async() of the user's own and publishing signals have their say.
            sig.apply_async()
        except Exception as error:
            # Else the job would end as retried, and never run again.
            raise Reject(error, requeue=False)
    if throw:
        raise again
    return again


def _exhausted(
    request: Context, retries: int, limit: int | None, *, explicit: bool
) -> bool:
    if request.max_attempts is not None and not explicit:
        # max_attempts counts all runs, whatever ended them, and replaces max_retries.
        return (request.attempt or retries) >= request.max_attempts
    return limit is not None and retries > limit


def _arguments(task: Any, request: Context, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """Lay new arguments over the request's without naming one twice (celery #6494).

    New positional arguments replace keywords that stand for the same parameters, and the
    other way round.
    """
    only_args = args is not None and kwargs is None and request.kwargs
    only_kwargs = kwargs is not None and args is None and request.args
    if not only_args and not only_kwargs:
        return args, kwargs
    try:
        signature = inspect.signature(task.run)
        parameters = signature.parameters
        if only_args:
            kwargs = dict(request.kwargs)
            positional = [each for each in parameters.values() if each.kind in _POSITIONAL]
            for parameter in positional[: len(args)]:
                if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
                    kwargs.pop(parameter.name, None)
            return args, kwargs
        bound = signature.bind_partial(*request.args)
    except (TypeError, ValueError):
        return args, kwargs  # The check of the next call says what is wrong.
    kwargs = dict(kwargs)
    for name in list(kwargs):
        if (
            name in bound.arguments
            and parameters[name].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        ):
            bound.arguments[name] = kwargs.pop(name)
    return bound.args, {**bound.kwargs, **kwargs}


def _raise(error: BaseException | type[BaseException]) -> NoReturn:
    """Raise ``error`` as the consequence of the exception that is being handled, if any."""
    current = sys.exc_info()[1]
    if current is error:
        raise error
    raise error from current


def next_attempt(task: Any, request: Context, exc: Exception) -> Retry | None:
    """The `Retry` that ``max_attempts`` makes of a failure while attempts are left."""
    most, attempt = request.max_attempts, request.attempt
    if most is None or attempt is None or attempt >= most:
        return None
    ending = outcome.current()
    if ending is not None and ending.again:
        return None
    if isinstance(exc, (task.MaxRetriesExceededError, PayloadTooLarge)):
        return None
    seconds = seconds_until_retry(task.backoff, attempt, most, exc)
    again = Retry(exc=exc, when=round(seconds, 3), is_eager=request.is_eager)
    if ending is not None:
        ending.run_again_in(seconds)
    elif request.is_eager:
        again.sig = task.signature_from_request(request, retries=request.retries + 1)
    else:
        return None
    # What is kept and shown is the failure itself.
    again.exc = exc
    return again


def ensure_retried(task: Any, exc: Retry) -> None:
    """Give a `Retry` that was raised without ``task.retry()`` the run that it asks for."""
    ending = outcome.current()
    if ending is None or ending.again:
        return
    if exc.when is None or isinstance(exc.when, (int, float)):
        ending.run_again_in(task.default_retry_delay if exc.when is None else exc.when)
    else:
        ending.run_again_in(0.0)
        ending.outcome.delay, ending.outcome.eta = None, exc.when.isoformat()
