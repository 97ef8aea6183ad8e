"""The worker's door: runs a claimed row, and answers with everything its end must write."""

from __future__ import annotations

from typing import Any

from pgtasks.app import ends, header, incoming, outcome
from pgtasks.exceptions import NotRegistered, Retry
from pgtasks.job import Job, Outcome
from pgtasks.telemetry.registry import HANDLERS

__all__ = ["execute"]


def execute(
    app: Any,
    job: Job,
    *,
    hostname: str | None = None,
    ending: outcome.Ending | None = None,
) -> Outcome:
    """Run a claimed job, and say everything that its end must write.

    Whatever the row holds and whatever the task does, there is an outcome: nothing is
    raised.

    Args:
        app: The application, finalized.
        job: The row.
        hostname: Name of the worker.
        ending: Takes down what becomes of the job; a test's may look at it.
    """
    if HANDLERS:
        from pgtasks.app import telling

        return telling.execute(_execute, app, job, hostname, ending)
    return _execute(app, job, hostname, ending)


def _execute(
    app: Any, job: Job, hostname: str | None, ending: outcome.Ending | None
) -> Outcome:
    task = app._tasks.get(job.task)
    if ending is None:
        ending = outcome.Ending(app, job, app.backend if task is None else task.backend)
    ending.begin()
    runtime = None
    request: dict[str, Any] = {}
    try:
        if task is None:
            raise NotRegistered(job.task)
        read = incoming.reader(app)
        request = read.request(job, hostname)
        if job.max_attempts is None:
            request["max_attempts"] = task.max_attempts
        args, kwargs = read.arguments(job)
        dependency = None
        if job.awaits is not None:
            args, dependency = header.join(app, job, request, args)
        if dependency is not None:
            ends.fail_body(task, request, args, kwargs, dependency, ending)
        elif job.expired:
            ends.expire(task, request, args, kwargs, ending)
        elif job.max_attempts is not None and job.attempt > job.max_attempts:
            ends.give_up(task, request, args, kwargs, job)
        else:
            tracer = task.__trace__ or _tracer(app, task, hostname)
            traced = tracer(job.task_id, args, kwargs, request)
            runtime = traced.runtime
            ending.outcome.shown = _shown(traced)
            if traced.info is not None:
                ends.settle(task, traced, request, args, kwargs, ending)
    except Exception as exc:
        ends.refuse(app, task, job, exc, ending)
    except BaseException as exc:
        # sys.exit() in a task, or a signal's exception: the process may go on, but the
        # task is lost, as it is with Celery, where the process ends.
        ends.lose(app, task, job, request, exc, ending)
    finally:
        ending.end()
    return ending.finish(runtime)


def _shown(traced: Any) -> Any:
    """What it returned, as text, or the exception that it ended with."""
    if traced.info is None:
        return traced.retstr
    error = traced.info.retval
    return error.exc if isinstance(error, Retry) else error


def _tracer(app: Any, task: Any, hostname: str | None) -> Any:
    """Make the tracer of ``task``, once in a process, and keep it."""
    # Looked up on its module now: that is where Sentry, Datadog and others put a
    # build_tracer of their own.
    from pgtasks.app import trace

    task.__trace__ = trace.build_tracer(task.name, task, app=app, hostname=hostname)
    return task.__trace__
