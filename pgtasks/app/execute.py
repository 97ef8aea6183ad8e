"""The worker's door: runs a claimed row, and answers with everything its end must write."""

from __future__ import annotations

from inspect import iscoroutinefunction
from typing import Any

from pgtasks.app import coroutines, ends, header, incoming, outcome
from pgtasks.app.interruption import Interruption
from pgtasks.exceptions import NotRegistered, Retry
from pgtasks.job import Job, Outcome
from pgtasks.telemetry.registry import HANDLERS

__all__ = ["aexecute", "execute", "is_async"]


def execute(
    app: Any,
    job: Job,
    *,
    hostname: str | None = None,
    ending: outcome.Ending | None = None,
) -> Outcome:
    """Run a claimed job, and say everything that its end must write.

    Whatever the row holds and whatever the task does, there is an outcome: nothing is
    raised, but an `Interruption` by whoever has it end.

    Args:
        app: The application, finalized.
        job: The row.
        hostname: Name of the worker.
        ending: Takes down what becomes of the job; a test's may look at it.
    """
    return coroutines.drive(_told(app, job, hostname, ending))


async def aexecute(
    app: Any, job: Job, *, body: coroutines.Body, hostname: str | None = None
) -> Outcome:
    """`execute` on the loop that runs here; others go on while a coroutine waits.

    Args:
        app: The application, finalized.
        job: The row, of which `is_async` is true.
        body: By which its coroutine can be interrupted.
        hostname: Name of the worker.
    """
    return await coroutines.adrive(_told(app, job, hostname, None), body)


def is_async(app: Any, job: Job, *, hostname: str | None = None) -> bool:
    """Whether the task of a job is a coroutine, with which `aexecute` holds up nobody.

    Not where somebody has put a tracer of their own around ours: it expects an end.
    """
    task = app._tasks.get(job.task)
    if task is None or not iscoroutinefunction(task.run):
        return False
    try:
        tracer = task.__trace__ or _tracer(app, task, hostname)
    except Exception:
        return False  # which `execute` will tell of
    # That, too, may have put something around the body.
    return iscoroutinefunction(task.run) and coroutines.steps_of(tracer) is not None


def _told(
    app: Any, job: Job, hostname: str | None, ending: outcome.Ending | None
) -> coroutines.Steps[Outcome]:
    if HANDLERS:
        from pgtasks.app import telling

        return telling.execute(_execute, app, job, hostname, ending)
    return _execute(app, job, hostname, ending)


def _execute(
    app: Any, job: Job, hostname: str | None, ending: outcome.Ending | None
) -> coroutines.Steps[Outcome]:
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
            steps = coroutines.steps_of(tracer)
            call = (job.task_id, args, kwargs, request)
            traced = tracer(*call) if steps is None else (yield from steps(*call))
            runtime = traced.runtime
            ending.outcome.shown = _shown(traced)
            if traced.info is not None:
                ends.settle(task, traced, request, args, kwargs, ending)
    except Exception as exc:
        ends.refuse(app, task, job, exc, ending)
    except Interruption:
        raise
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
