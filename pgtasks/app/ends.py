"""Ends of jobs that no tracer decides: expired, rejected, unreadable, unknown, lost."""

from __future__ import annotations

from typing import Any

from pgtasks import serialization, signals
from pgtasks.app import incoming
from pgtasks.app.context import Context
from pgtasks.app.errors import error_of, storable
from pgtasks.app.outcome import Ending
from pgtasks.app.traceinfo import (
    FAILURE,
    IGNORED,
    LONGEST_REPR,
    REJECTED,
    RETRY,
    TraceInfo,
    get_actual_ignore_result,
    logger,
    printable,
)
from pgtasks.exceptions import (
    ChordError,
    MaxRetriesExceededError,
    NotRegistered,
    Reject,
    Retry,
    WorkerLostError,
)
from pgtasks.job import Job
from pgtasks.utils.einfo import ExceptionInfo
from pgtasks.utils.text import safe_repr

__all__ = [
    "expire",
    "fail_body",
    "give_up",
    "lose",
    "may_run_again",
    "refuse",
    "retry_lost",
    "returns_at_limit",
    "settle",
]


def settle(
    task: Any, traced: Any, request: dict[str, Any], args: Any, kwargs: Any, ending: Ending
) -> None:
    """Write the ends that Celery leaves to the worker: ignored and rejected."""
    state, exc = traced.info.state, traced.info.retval
    if state == IGNORED:
        ending.mark_as_ignored(IGNORED)
    elif state == REJECTED:
        _reject(task, request, args, kwargs, exc, traced.retval, ending)


def _reject(
    task: Any,
    request: dict[str, Any],
    args: Any,
    kwargs: Any,
    exc: Reject,
    einfo: ExceptionInfo,
    ending: Ending,
) -> None:
    if exc.requeue and task.acks_late:
        ending.mark_as_requeued()
        return
    context = Context(request, args=args, kwargs=kwargs, called_directly=False)
    ending.mark_as_failure(
        context.id,
        # A retry() that could not be sent says why: that is what failed.
        exc.reason if isinstance(exc.reason, Exception) else exc,
        einfo.traceback,
        request=context,
        store_result=not get_actual_ignore_result(task, context),
    )
    signals.task_failure.send(
        sender=task,
        task_id=context.id,
        exception=exc,
        args=args,
        kwargs=kwargs,
        traceback=einfo.tb,
        einfo=einfo,
    )


def expire(
    task: Any, request: dict[str, Any], args: Any, kwargs: Any, ending: Ending
) -> None:
    """Revoke a job that was claimed after it had expired."""
    context = Context(request, args=args, kwargs=kwargs, called_directly=False)
    logger.info("Discarding revoked task: %s[%s]", task.name, printable(context.id))
    ending.mark_as_revoked(
        context.id,
        "expired",
        request=context,
        store_result=not get_actual_ignore_result(task, context),
    )
    signals.task_revoked.send(
        sender=task, request=context, terminated=False, signum=None, expired=True
    )


def fail_body(
    task: Any,
    request: dict[str, Any],
    args: Any,
    kwargs: Any,
    exc: ChordError,
    ending: Ending,
) -> None:
    """Fail the body of a chord of whose members one has failed: it does not run."""
    context = Context(request, args=args, kwargs=kwargs, called_directly=False)
    logger.error(
        "Task %s[%s] does not run, for a task before it failed: %s",
        task.name,
        printable(context.id),
        storable(safe_repr(exc), LONGEST_REPR),
    )
    ending.mark_as_failure(
        context.id,
        exc,
        ExceptionInfo((type(exc), exc, exc.__traceback__)).traceback,
        request=context,
        store_result=not get_actual_ignore_result(task, context)
        or bool(task.store_errors_even_if_ignored),
    )


def give_up(task: Any, request: dict[str, Any], args: Any, kwargs: Any, job: Job) -> None:
    """Fail a job that has used up its attempts without an end: in crashes, or by hand."""
    context = Context(request, args=args, kwargs=kwargs, called_directly=False)
    exc = MaxRetriesExceededError(
        f"{job.task}[{job.task_id}] has used up its max_attempts={job.max_attempts}, and "
        f"was not started again.",
        task_args=args,
        task_kwargs=kwargs,
    )
    TraceInfo(FAILURE, exc).handle_error_state(task, context)


def refuse(app: Any, task: Any, job: Job, exc: Exception, ending: Ending) -> None:
    """Fail a job that could not be started, or whose handlers raised out of turn."""
    known = task is not None
    ending.mark_as_failure(
        job.task_id,
        exc,
        ExceptionInfo((type(exc), exc, exc.__traceback__)).traceback,
        request=_what_it_leads_to(job),
        store_result=not job.ignore_result or (known and task.store_errors_even_if_ignored),
    )
    if isinstance(exc, NotRegistered):
        logger.error(
            "Received unregistered task of type %r: %s is discarded. Import the module "
            "that defines it in this worker (the 'imports' setting).",
            job.task,
            printable(job.task_id),
        )
        signals.task_unknown.send(
            sender=_sender(app), message=job, exc=exc, name=job.task, id=job.task_id
        )
        return
    logger.error(
        "Task %s[%s] could not be run: %s",
        printable(job.task),
        printable(job.task_id),
        storable(safe_repr(exc), LONGEST_REPR),
    )
    signals.task_rejected.send(sender=_sender(app), message=job, exc=exc)


def _sender(app: Any) -> Any:
    """What stands for Celery's consumer in a worker; the application elsewhere."""
    return getattr(app, "_consumer", None) or app


def _what_it_leads_to(job: Job) -> Context | None:
    """The request of a job that cannot be read, as far as others hang on its end."""
    if job.embed is None:
        return None
    try:
        embed = serialization.loads(job.embed)
        return Context(
            id=job.task_id,
            task=job.task,
            root_id=job.root_id,
            parent_id=job.parent_id,
            group=job.group_id,
            **{key: embed.get(key) for key in ("callbacks", "errbacks", "chain", "chord")},
        )
    except Exception:
        return None  # This may be the very part that cannot be read.


def may_run_again(app: Any, task: Any, job: Job) -> bool:
    """Whether a job may run again after it has taken its process down.

    If its task says ``reject_on_worker_lost`` with ``acks_late``, or if it has attempts
    left; and until it has taken down ``worker_max_crashes`` (R19, R20): Celery would go on
    for ever. With ``retry_on_worker_lost`` it is `retry_lost` that decides.
    """
    if job.crashes + 1 >= app.conf.worker_max_crashes:
        return False
    if job.max_attempts is not None:
        return job.attempt < job.max_attempts
    return (
        bool(getattr(task, "acks_late", False))
        and bool(getattr(task, "reject_on_worker_lost", False))
        and not _counts_as_retry(task, job)
    )


def returns_at_limit(app: Any, task: Any, job: Job) -> bool:
    """Whether a job that was killed at its hard time limit goes back to its queue."""
    return (
        job.max_attempts is None
        and bool(getattr(task, "acks_late", False))
        and not getattr(task, "acks_on_timeout", True)
        and job.crashes + 1 < app.conf.worker_max_crashes
    )


def retry_lost(
    app: Any, task: Any, job: Job, context: Context, lost: WorkerLostError, ending: Ending
) -> bool:
    """Retry a job that has taken its process down, if ``retry_on_worker_lost`` wants it.

    As in Celery it waits for ``default_retry_delay``, and acknowledged early or late makes
    no difference. ``max_retries`` is the limit; without one it is ``worker_max_crashes``.
    The answer is whether it runs again.
    """
    if not _counts_as_retry(task, job):
        return False
    limit = task.max_retries
    if limit is None and job.crashes + 1 >= app.conf.worker_max_crashes:
        return False
    if limit is not None and job.retries >= limit:
        return False
    delay = task.default_retry_delay
    # Not sent anew, as retry() would: nobody has changed anything about it.
    ending.run_again_in(delay)
    TraceInfo(RETRY, Retry(exc=lost, when=delay)).handle_error_state(task, context)
    return True


def _counts_as_retry(task: Any, job: Job) -> bool:
    # max_attempts counts all runs, whatever ended them, and replaces max_retries.
    return job.max_attempts is None and bool(getattr(task, "retry_on_worker_lost", False))


def lose(
    app: Any,
    task: Any,
    job: Job,
    request: dict[str, Any],
    exc: BaseException,
    ending: Ending,
) -> None:
    """Do with a job whose task wanted to end the process as if it had."""
    context = Context(request, called_directly=False)
    lost = WorkerLostError("Worker exited prematurely: exitcode 1.")
    lost.__cause__ = exc
    lost.__traceback__ = exc.__traceback__
    ending.again = False
    ending.outcome.crashed = True
    try:
        args, kwargs = incoming.reader(app).arguments(job)
        known = Context(request, args=args, kwargs=kwargs, called_directly=False)
        if retry_lost(app, task, job, known, lost, ending):
            return
    except Exception as error:
        # A handler of the task's raised, as in any other retry.
        ending.again = False
        refuse(app, task, job, error, ending)
        return
    if may_run_again(app, task, job):
        einfo = ExceptionInfo((type(lost), lost, lost.__traceback__))
        ending.mark_as_requeued()
        ending.outcome.error = error_of(lost, einfo.traceback)
        return
    try:
        TraceInfo(FAILURE, lost).handle_error_state(task, context)
    except Exception as error:
        refuse(app, task, job, error, ending)
