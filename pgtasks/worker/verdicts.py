"""What becomes of a job that could not say so itself."""

from __future__ import annotations

import logging
import os
import signal
from typing import TYPE_CHECKING, Any

from pgtasks import signals
from pgtasks.app import incoming
from pgtasks.app.context import Context
from pgtasks.app.ends import may_run_again, retry_lost, returns_at_limit
from pgtasks.app.outcome import Ending, error_of
from pgtasks.app.retry import next_attempt
from pgtasks.app.traceinfo import TraceInfo, printable, task_has_custom
from pgtasks.exceptions import TimeLimitExceeded, WorkerLostError
from pgtasks.job import Outcome
from pgtasks.states import FAILURE, RETRY

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgtasks.app.base import Celery
    from pgtasks.job import Job

logger = logging.getLogger("celery.worker")

__all__ = ["child_died", "human_status", "revoked", "timed_out", "worker_vanished"]


def child_died(app: Celery, job: Job, status: int, *, planned: bool) -> Outcome:
    """The process that ran the job is gone.

    An early acknowledged job fails, as in Celery; so does a late acknowledged one
    unless its task says ``reject_on_worker_lost``. With that, or with attempts left,
    it runs again alone in a process, and is given up when it has killed
    ``worker_max_crashes`` of them (R19, R20): Celery would go on for ever. With
    ``retry_on_worker_lost`` it is retried, as if it had raised.

    Args:
        app: The application.
        job: What was running.
        status: Wait status of the process.
        planned: We killed it ourselves, in a cold shutdown: nobody is to blame.
    """
    task = app.tasks.get(job.task)
    late = bool(getattr(task, "acks_late", False))
    if planned and (late or _has_attempts(job)):
        return Outcome(job.id, job.claim_token, "available", give_back=True)
    error = WorkerLostError(f"Worker exited prematurely: {human_status(status)}.")

    def again(context: Context, ending: Ending) -> bool:
        return retry_lost(app, task, job, context, error, ending)

    if task is not None and (outcome := _again(app, task, job, again)) is not None:
        outcome.crashed = True
        return outcome
    if may_run_again(app, task, job):
        record = error_of(error, None)
        return Outcome(job.id, job.claim_token, "available", crashed=True, error=record)
    return _failed(app, job, error, crashed=True)


def timed_out(app: Celery, job: Job, limit: float) -> Outcome:
    """The process was killed at the job's hard time limit.

    A failure like any other: with ``max_attempts`` it runs again as long as there are any.
    With ``acks_late`` and ``acks_on_timeout=False`` it runs again at once, as in Celery;
    there for ever, here until it has cost ``worker_max_crashes`` processes (R20).
    """
    error = TimeLimitExceeded(limit)
    task: Any = app.tasks.get(job.task)

    def again(context: Context, ending: Ending) -> bool:
        if job.max_attempts is None:
            context.max_attempts = task.max_attempts
        retry = next_attempt(task, context, error)
        if retry is not None:
            TraceInfo(RETRY, retry).handle_error_state(task, context, call_errbacks=False)
        return retry is not None

    if task is not None and (outcome := _again(app, task, job, again)) is not None:
        return outcome
    if returns_at_limit(app, task, job):
        record = error_of(error, None)
        return Outcome(job.id, job.claim_token, "available", crashed=True, error=record)
    # Celery's workers call after_return here, which they do not for a lost process.
    return _failed(app, job, error, returned=True)


def worker_vanished(app: Celery, job: Job) -> Outcome:
    """The whole worker is gone, had begun this job, and nobody may run it again."""
    error = WorkerLostError(
        "The worker that ran this job vanished, and its task is not declared safe to run "
        "again (acks_late=True, or max_attempts above 1)."
    )
    return _failed(app, job, error, abandoned=True)


def revoked(
    app: Celery, job: Job, *, signum: int | None = None, reason: str | None = None
) -> Outcome:
    """It was revoked before it began, or by a signal that ended its process."""
    task = app.tasks.get(job.task)
    ending = Ending(app, job, app.backend if task is None else task.backend)
    ending.begin()
    try:
        context = _context(app, job)
        ending.mark_as_revoked(
            job.task_id,
            reason or ("revoked" if signum is None else "terminated"),
            request=context,
            store_result=not job.ignore_result,
        )
        signals.task_revoked.send(
            sender=task,
            request=context,
            terminated=signum is not None,
            signum=signum,
            expired=False,
        )
    finally:
        ending.end()
    return ending.finish(None)


def human_status(status: int) -> str:
    """A wait status in words: ``signal 9 (SIGKILL)`` or ``exitcode 1``."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            return f"signal {number} ({signal.Signals(number).name})"
        except ValueError:
            return f"signal {number}"
    return f"exitcode {os.WEXITSTATUS(status)}"


def _has_attempts(job: Job) -> bool:
    return job.max_attempts is not None and job.attempt < job.max_attempts


def _context(app: Celery, job: Job, *, readable: bool = False) -> Context:
    """The job as a task's request; of what cannot be read, its names and numbers."""
    read = incoming.reader(app)
    try:
        request = read.request(job, None)
        args, kwargs = read.arguments(job)
    except Exception:
        if readable:
            raise
        return Context(id=job.task_id, task=job.task, called_directly=False)
    return Context(request, args=args, kwargs=kwargs, called_directly=False)


def _again(
    app: Celery, task: Any, job: Job, decide: Callable[[Context, Ending], bool]
) -> Outcome | None:
    """Run the job again if ``decide`` does so."""
    ending = Ending(app, job, task.backend)
    ending.begin()
    try:
        context = _context(app, job)
        if not decide(context, ending):
            return None
    except Exception as caught:
        # A handler of the task's raised, as in any other retry.
        return _failed(app, job, caught)
    finally:
        ending.end()
    return ending.finish(None)


def _failed(
    app: Celery,
    job: Job,
    error: Exception,
    *,
    crashed: bool = False,
    abandoned: bool = False,
    returned: bool = False,
) -> Outcome:
    """Fail the job as if its task had raised ``error``: handlers, error callbacks, signals.

    Args:
        app: The application.
        job: The job.
        error: What is the matter.
        crashed: It has taken its process down.
        abandoned: Its worker is gone.
        returned: Call ``after_return``, too.
    """
    task = app.tasks.get(job.task)
    ending = Ending(app, job, app.backend if task is None else task.backend)
    ending.begin()
    try:
        if task is None:
            raise error
        context = _context(app, job, readable=True)
        einfo = TraceInfo(FAILURE, error).handle_error_state(task, context)
        if returned and task_has_custom(task, "after_return"):
            args, kwargs = context.args, context.kwargs
            task.after_return(FAILURE, error, job.task_id, args, kwargs, einfo)
    except Exception as caught:
        # Unknown here, unreadable, or a handler of the task's raised: that it failed,
        # and of what, is written all the same.
        if caught is not error:
            logger.error(
                "While failing %s[%s]: %r",
                printable(job.task),
                printable(job.task_id),
                caught,
            )
        ending.mark_as_failure(job.task_id, error, None, store_result=not job.ignore_result)
    finally:
        ending.end()
    outcome = ending.finish(None)
    outcome.crashed = crashed
    outcome.abandoned = abandoned
    return outcome
