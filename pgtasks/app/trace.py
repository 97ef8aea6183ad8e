"""Runs one job's function, and says what became of it.

`execute` is what a worker calls with a claimed row; the tracer that `build_tracer` makes
runs the function with its request, its handlers and its signals, in Celery's order, and is
used for eager runs as well. Errors are values from here on.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from contextvars import copy_context
from inspect import iscoroutine
from typing import Any, NamedTuple

from pgtasks import canvas, signals
from pgtasks._state import _task_stack, current_app
from pgtasks.app import ends, incoming, outcome, retry
from pgtasks.app.context import Context
from pgtasks.app.traceinfo import (
    EXCEPTION_STATES,
    FAILURE,
    IGNORE_STATES,
    IGNORED,
    LOG_FAILURE,
    LOG_IGNORED,
    LOG_INTERNAL_ERROR,
    LOG_RECEIVED,
    LOG_REJECTED,
    LOG_RETRY,
    LOG_SUCCESS,
    LONGEST_REPR,
    REJECTED,
    RETRY,
    REVOKED,
    SNOOZED,
    STARTED,
    SUCCESS,
    TraceInfo,
    get_actual_ignore_result,
    get_log_policy,
    get_task_name,
    info,
    log_policy_expected,
    log_policy_ignore,
    log_policy_internal,
    log_policy_reject,
    log_policy_t,
    log_policy_unexpected,
    logger,
    printable,
    task_has_custom,
    traceback_clear,
)
from pgtasks.exceptions import (
    Cancel,
    Discard,
    Ignore,
    InvalidTaskError,
    NotRegistered,
    PayloadTooLarge,
    Reject,
    Retry,
    Snooze,
    TaskRevokedError,
)
from pgtasks.job import Job, Outcome
from pgtasks.result import AsyncResult
from pgtasks.utils.einfo import ExceptionInfo
from pgtasks.utils.nodenames import gethostname
from pgtasks.utils.saferepr import saferepr
from pgtasks.utils.serialization import get_pickleable_etype, get_pickleable_exception

# Celery's names of this module, of which other people's code imports and replaces some.
__all__ = [
    "EXCEPTION_STATES", "FAILURE", "IGNORED", "IGNORE_STATES", "LOG_FAILURE", "LOG_IGNORED",
    "LOG_INTERNAL_ERROR", "LOG_RECEIVED", "LOG_REJECTED", "LOG_RETRY", "LOG_SUCCESS",
    "REJECTED", "RETRY", "STARTED", "SUCCESS", "AsyncResult", "TraceInfo", "build_tracer",
    "execute", "fast_trace_task", "get_actual_ignore_result", "get_log_policy",
    "get_task_name", "info", "log_policy_expected", "log_policy_ignore",
    "log_policy_internal", "log_policy_reject", "log_policy_t", "log_policy_unexpected",
    "logger", "report_internal_error", "reset_worker_optimizations",
    "setup_worker_optimizations", "task_has_custom", "trace_ok_t", "trace_task",
    "trace_task_ret", "traceback_clear",
]  # fmt: skip

#: What a task may raise or return to say how it ends.
_ENDS = (Snooze, Discard, Cancel)


class trace_ok_t(NamedTuple):
    """What a tracer returns.

    Attributes:
        retval: What the function returned, or an `ExceptionInfo`.
        info: A `TraceInfo` if it did not succeed.
        runtime: Seconds it took, if it succeeded.
        retstr: The bounded repr of what it returned.
    """

    retval: Any
    info: Any
    runtime: float | None
    retstr: str | None


# ── the tracer ──────────────────────────────────────────────────────────────────────────


def build_tracer(
    name: str,
    task: Any,
    loader: Any = None,
    hostname: str | None = None,
    store_errors: bool = True,
    Info: Any = TraceInfo,
    eager: bool = False,
    propagate: bool = False,
    app: Any = None,
    monotonic: Callable[[], float] = time.monotonic,
    trace_ok_t: Any = trace_ok_t,
    IGNORE_STATES: frozenset[str] = IGNORE_STATES,
) -> Callable[..., Any]:
    """Make the function that runs ``task`` and tells everybody.

    Args:
        name: Name to show in logs.
        task: The task.
        loader: Told of each run; the app's by default.
        hostname: Shown with STARTED.
        store_errors: Celery's, unused.
        Info: Class of the object that handles ends that are no success.
        eager: The run is in the caller's process: store nothing unless told to.
        propagate: Raise the task's exception.
        app: The application.
        monotonic: The clock.
        trace_ok_t: Class of the answer.
        IGNORE_STATES: Ends after which ``after_return`` is not called.

    Returns:
        A function of ``(uuid, args, kwargs, request=None)``.
    """
    # A __call__ that is Task's own would only push a second request.
    by_call = task_has_custom(task, "__call__")
    fun = task if by_call else task.run
    loader = loader or app.loader
    hostname = hostname or gethostname()
    inherit_priority = app.conf.task_inherit_parent_priority
    on_task_init, on_process_cleanup = loader.on_task_init, loader.on_process_cleanup
    before_start, on_success, after_return = (
        getattr(task, handler) if task_has_custom(task, handler) else None
        for handler in ("before_start", "on_success", "after_return")
    )
    push_request, pop_request = task.request_stack.push, task.request_stack.pop
    push_task, pop_task = _task_stack.push, _task_stack.pop
    prerun, postrun, succeeded = (
        signals.task_prerun,
        signals.task_postrun,
        signals.task_success,
    )
    pid = os.getpid()
    repr_size = task.resultrepr_maxsize
    signature = canvas.maybe_signature

    def on_error(
        request: Context,
        exc: BaseException,
        state: str = FAILURE,
        call_errbacks: bool = True,
    ) -> tuple[Any, Any, str, Any]:
        if propagate:
            raise exc
        how = Info(state, exc)
        told = how.handle_error_state(
            task, request, eager=eager, call_errbacks=call_errbacks
        )
        return how, told, how.state, how.retval

    def on_exception(request: Context, exc: Exception) -> tuple[Any, Any, str, Any]:
        again = None if propagate else retry.next_attempt(task, request, exc)
        if again is None:
            return on_error(request, exc)
        return on_error(request, again, RETRY, call_errbacks=False)

    def on_end(
        request: Context, end: Snooze | Discard | Cancel
    ) -> tuple[Any, Any, str, Any]:
        if isinstance(end, Discard):
            return on_error(request, end)
        words = {"id": request.id, "name": get_task_name(request, name), "description": end}
        if isinstance(end, Snooze):
            ending = outcome.current()
            if ending is not None:
                ending.mark_as_snoozed(end.seconds)
            info(LOG_IGNORED, words)
            return Info(SNOOZED, end), ExceptionInfo((type(end), end, None)), SNOOZED, end
        error = TaskRevokedError(end.reason if end.reason is not None else "cancelled")
        stored = not get_actual_ignore_result(task, request) and (
            not eager or bool(task.store_eager_result)
        )
        outcome.store_for(task).mark_as_revoked(
            request.id, error.args[0], request=request, store_result=stored
        )
        signals.task_revoked.send(
            sender=task, request=request, terminated=False, signum=None, expired=False
        )
        info(LOG_IGNORED, words)
        return (
            Info(REVOKED, error),
            ExceptionInfo((type(error), error, None)),
            REVOKED,
            error,
        )

    def send_callbacks(request: Context, value: Any, task_id: str) -> None:
        """Send what the success leads to: callbacks, then the next link of the chain."""
        options = {
            "parent_id": task_id,
            "root_id": request.root_id or task_id,
            "priority": (request.delivery_info or {}).get("priority")
            if inherit_priority
            else None,
        }
        ending = outcome.current()
        with nullcontext() if ending is None else ending.gather():
            for callback in request.callbacks or ():
                signature(callback, app=app).apply_async((value,), **options)
            if request.chain:
                *rest, following = request.chain
                signature(following, app=app).apply_async((value,), chain=rest, **options)

    def trace_task(uuid: str, args: Any, kwargs: Any, request: Any = None) -> Any:
        returned = how = runtime = text = None
        value: Any = None
        state: str | None = None
        context: Context | None = None
        started = monotonic()
        try:
            if not hasattr(kwargs, "items"):
                raise InvalidTaskError("Task keyword arguments is not a mapping")
            context = Context(
                request or {}, args=args, called_directly=False, kwargs=kwargs
            )
            ignored = get_actual_ignore_result(task, context)
            publish_result = not ignored and (not eager or bool(task.store_eager_result))
            push_task(task)
            push_request(context)
            try:
                if prerun.receivers:
                    prerun.send(
                        sender=task, task_id=uuid, task=task, args=args, kwargs=kwargs
                    )
                on_task_init(uuid, task)
                if task.track_started and not eager and not ignored:
                    _show_started(task, uuid, {"pid": pid, "hostname": hostname}, context)
                try:
                    if before_start is not None:
                        before_start(uuid, args, kwargs)
                    if by_call:
                        context._entered = False
                    value = fun(*args, **kwargs)
                    if iscoroutine(value):
                        value = _await(value)
                    returned, state = value, SUCCESS
                except Reject as exc:
                    how, returned = Info(REJECTED, exc), ExceptionInfo(internal=True)
                    state, value = REJECTED, exc
                    how.handle_reject(task, context)
                    traceback_clear(exc)
                except Ignore as exc:
                    how, returned = Info(IGNORED, exc), ExceptionInfo(internal=True)
                    state, value = IGNORED, exc
                    how.handle_ignore(task, context)
                    traceback_clear(exc)
                except Retry as exc:
                    retry.ensure_retried(task, exc)
                    how, returned, state, value = on_error(
                        context, exc, RETRY, call_errbacks=False
                    )
                    traceback_clear(exc)
                except _ENDS as exc:
                    how, returned, state, value = on_end(context, exc)
                    traceback_clear(exc)
                except Exception as exc:
                    how, returned, state, value = on_exception(context, exc)
                    traceback_clear(exc)
                else:
                    if isinstance(value, _ENDS):
                        how, returned, state, value = on_end(context, value)
                    else:
                        sent = False
                        try:
                            # Before the result is stored, so that its children are
                            # complete.
                            if context.callbacks or context.chain:
                                send_callbacks(context, value, uuid)
                            sent = True
                            outcome.store_for(task).mark_as_done(
                                uuid, value, context, publish_result
                            )
                        except Exception as exc:
                            if not _fails_the_task(exc, sent):
                                raise
                            how, returned, state, value = on_error(context, exc)
                            traceback_clear(exc)
                        else:
                            text = saferepr(returned, repr_size)
                            runtime = monotonic() - started
                            if on_success is not None:
                                _call_handler(
                                    "on_success", eager, context, name, uuid,
                                    on_success, value, uuid, args, kwargs,
                                )  # fmt: skip
                            if succeeded.receivers:
                                succeeded.send(sender=task, result=value, runtime=runtime)
                            if logger.isEnabledFor(logging.INFO):
                                _log_success(
                                    context, name, uuid, text, runtime, args, kwargs
                                )

                if (
                    after_return is not None
                    and state not in IGNORE_STATES
                    and state != SNOOZED
                ):
                    _call_handler(
                        "after_return", eager, context, name, uuid,
                        after_return, state, value, uuid, args, kwargs, None,
                    )  # fmt: skip
            finally:
                try:
                    if postrun.receivers:
                        postrun.send(
                            sender=task,
                            task_id=uuid,
                            task=task,
                            args=args,
                            kwargs=kwargs,
                            retval=value,
                            state=state,
                        )
                finally:
                    pop_task()
                    pop_request()
                    if not eager:
                        _clean_up(task, on_process_cleanup)
        except (MemoryError, Reject):
            raise
        except Exception as exc:
            _signal_internal_error(task, uuid, args, kwargs, request, exc)
            if eager:
                raise
            returned = report_internal_error(task, exc)
            if context is not None:
                how = on_error(context, exc)[0]
        return trace_ok_t(returned, how, runtime, text)

    if not eager:
        return trace_task

    def trace_eagerly(uuid: str, args: Any, kwargs: Any, request: Any = None) -> Any:
        with outcome.hidden():
            return trace_task(uuid, args, kwargs, request)

    return trace_eagerly


def _await(coroutine: Any) -> Any:
    """Run a coroutine function's body to its end."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    # Called eagerly by a coroutine, whose loop this thread cannot enter a second time.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(copy_context().run, asyncio.run, coroutine).result()


def _show_started(task: Any, uuid: str, meta: dict[str, Any], request: Context) -> None:
    try:
        outcome.store_for(task).store_result(uuid, meta, STARTED, request=request)
    except Exception as exc:
        # The job is worth more than what is shown of it meanwhile.
        name = get_task_name(request, task.name)
        logger.warning("STARTED of %s[%s] was not stored: %r", name, printable(uuid), exc)


def _fails_the_task(exc: Exception, callbacks_sent: bool) -> bool:
    """Whether an error after the body is the task's: it cannot be stored or sent on."""
    if isinstance(exc, PayloadTooLarge):
        return True
    from pgtasks.exceptions import EncodeError, OperationalError

    if isinstance(exc, OperationalError):
        # With the callbacks gone, failing the task would call its errbacks too.
        return not callbacks_sent
    return isinstance(exc, EncodeError)


def _call_handler(
    what: str, eager: bool, request: Context, name: str, uuid: str, handler: Any, *args: Any
) -> None:
    try:
        handler(*args)
    except (Reject, MemoryError):
        raise
    except Exception as exc:
        # The end is decided: to record a failure now would tell two stories.
        if eager:
            raise
        logger.exception(
            "Task %s[%s] " + what + " handler raised: %r",
            get_task_name(request, name),
            uuid,
            exc,
        )
        traceback_clear(exc)


def _log_success(
    request: Context,
    name: str,
    uuid: str,
    text: str,
    runtime: float,
    args: Any,
    kwargs: Any,
) -> None:
    info(
        LOG_SUCCESS,
        {
            "id": printable(uuid),
            "name": get_task_name(request, name),
            "return_value": text,
            "runtime": runtime,
            "args": request.get("argsrepr") or saferepr(args, LONGEST_REPR),
            "kwargs": request.get("kwargsrepr") or saferepr(kwargs, LONGEST_REPR),
        },
    )


def _clean_up(task: Any, on_process_cleanup: Callable[[], Any]) -> None:
    try:
        outcome.store_for(task).process_cleanup()
        on_process_cleanup()
    except MemoryError:
        raise
    except Exception as exc:
        logger.error("Process cleanup failed: %r", exc, exc_info=True)


def trace_task(
    task: Any, uuid: str, args: Any, kwargs: Any, request: Any = None, **opts: Any
) -> Any:
    """Run ``task`` with its tracer, which is made when it is first needed."""
    request = request or {}
    try:
        if task.__trace__ is None:
            task.__trace__ = build_tracer(task.name, task, **opts)
        return task.__trace__(uuid, args, kwargs, request)
    except Reject:
        raise
    except Exception as exc:
        _signal_internal_error(task, uuid, args, kwargs, request, exc)
        failure = TraceInfo(FAILURE, exc)
        return trace_ok_t(report_internal_error(task, exc), failure, 0.0, None)


def _signal_internal_error(
    task: Any, uuid: str, args: Any, kwargs: Any, request: Any, exc: BaseException
) -> None:
    kind, error, tb = sys.exc_info()
    if error is None:
        kind, error, tb = type(exc), exc, exc.__traceback__
    einfo = ExceptionInfo((kind, get_pickleable_exception(error), tb))
    einfo.type = get_pickleable_etype(type(error))
    signals.task_internal_error.send(
        sender=task,
        task_id=uuid,
        args=args,
        kwargs=kwargs,
        request=request,
        exception=exc,
        traceback=tb,
        einfo=einfo,
    )
    traceback_clear(einfo.exception)


def report_internal_error(task: Any, exc: BaseException) -> ExceptionInfo:
    """Warn of an error outside of the task's body."""
    kind, _, tb = sys.exc_info()
    einfo = ExceptionInfo((kind, get_pickleable_exception(exc), tb), internal=True)
    warnings.warn(
        RuntimeWarning(f"Exception raised outside body: {exc!r}:\n{einfo.traceback}"),
        stacklevel=2,
    )
    return einfo


# ── Celery's entrances ──────────────────────────────────────────────────────────────────

#: Tasks, accepted content and host name, once `setup_worker_optimizations` has run.
_localized: list[Any] = []


def trace_task_ret(
    name: str,
    uuid: str,
    request: dict[str, Any],
    body: Any,
    content_type: str | None,
    content_encoding: str | None,
    loads: Any = None,
    app: Any = None,
    **extra_request: Any,
) -> tuple[int, Any, float | None]:
    """Run a task given by a message's parts."""
    app = app or current_app._get_current_object()
    args, kwargs, embed = _unpack(
        body, content_type, content_encoding, loads, app.conf.accept_content
    )
    request.update(
        {"args": args, "kwargs": kwargs, "hostname": gethostname(), "is_eager": False},
        **embed or {},
    )
    traced = trace_task(app.tasks[name], uuid, args, kwargs, request, app=app)
    return (
        (1, traced.retval, traced.runtime)
        if traced.info
        else (0, traced.retstr, traced.runtime)
    )


def fast_trace_task(
    task: str,
    uuid: str,
    request: dict[str, Any],
    body: Any,
    content_type: str | None,
    content_encoding: str | None,
    loads: Any = None,
    _loc: list[Any] | None = None,
    hostname: str | None = None,
    **_: Any,
) -> tuple[int, Any, float | None]:
    """`trace_task_ret` in a process that `setup_worker_optimizations` has prepared."""
    try:
        tasks, accept, hostname = _loc or _localized
    except ValueError:
        raise RuntimeError(
            "fast_trace_task: worker task registry is empty, for "
            "setup_worker_optimizations() has not run in this process. Call it with the "
            "app first, or use trace_task_ret()."
        ) from None
    args, kwargs, embed = _unpack(body, content_type, content_encoding, loads, accept)
    request.update(
        {"args": args, "kwargs": kwargs, "hostname": hostname, "is_eager": False},
        **embed or {},
    )
    traced = tasks[task].__trace__(uuid, args, kwargs, request)
    return (
        (1, traced.retval, traced.runtime)
        if traced.info
        else (0, traced.retstr, traced.runtime)
    )


def _unpack(body: Any, content_type: Any, encoding: Any, loads: Any, accept: Any) -> Any:
    if not content_type:
        return body
    from kombu import serialization

    accept = serialization.prepare_accept_content(accept)
    return (loads or serialization.loads)(body, content_type, encoding, accept=accept)


def setup_worker_optimizations(app: Any, hostname: str | None = None) -> None:
    """Make this process one that runs the tasks of ``app`` and of no other."""
    from kombu.serialization import prepare_accept_content

    # Threads begin without a current app and would fall back on a default one.
    app.set_current()
    app.set_default()
    app.finalize()
    _localized[:] = [
        app._tasks,
        prepare_accept_content(app.conf.accept_content),
        hostname or gethostname(),
    ]
    app.use_fast_trace_task = True


def reset_worker_optimizations(app: Any = current_app) -> None:
    """Undo `setup_worker_optimizations`."""
    _localized[:] = []
    app.use_fast_trace_task = False


# ── what a worker calls ─────────────────────────────────────────────────────────────────


def execute(app: Any, job: Job, *, hostname: str | None = None) -> Outcome:
    """Run a claimed job, and say everything that its end must write.

    Whatever the row holds and whatever the task does, there is an outcome: nothing is
    raised.

    Args:
        app: The application, finalized.
        job: The row.
        hostname: Name of the worker.
    """
    task = app._tasks.get(job.task)
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
        if job.expired:
            ends.expire(task, request, args, kwargs, ending)
        elif job.max_attempts is not None and job.attempt > job.max_attempts:
            ends.give_up(task, request, args, kwargs, job)
        else:
            if task.__trace__ is None:
                task.__trace__ = build_tracer(task.name, task, app=app, hostname=hostname)
            traced = task.__trace__(job.task_id, args, kwargs, request)
            runtime = traced.runtime
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
