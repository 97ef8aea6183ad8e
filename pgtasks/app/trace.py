"""Runs one task's function, and says what became of it.

The tracer that `build_tracer` makes runs the function with its request, its handlers and
its signals, in Celery's order: for workers, which call it by `execute`, and for eager
runs. Errors are values from here on.
"""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from collections.abc import Callable
from inspect import iscoroutine
from typing import Any, NamedTuple

from pgtasks import signals
from pgtasks._state import _task_stack
from pgtasks.app import coroutines, followups, outcome, predicates, retry, transactional
from pgtasks.app.context import Context
from pgtasks.app.execute import execute
from pgtasks.app.predicates import PREDICATES
from pgtasks.app.tracefast import (
    _localized,
    fast_trace_task,
    reset_worker_optimizations,
    setup_worker_optimizations,
    trace_task_ret,
)
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
    REJECTED,
    RETRY,
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
    log_success,
    logger,
    printable,
    task_has_custom,
    traceback_clear,
)
from pgtasks.canvas import group
from pgtasks.exceptions import (
    Discard,
    Ignore,
    InvalidTaskError,
    PayloadTooLarge,
    Reject,
    Retry,
)
from pgtasks.result import AsyncResult
from pgtasks.utils.einfo import ExceptionInfo
from pgtasks.utils.nodenames import gethostname
from pgtasks.utils.objects import mro_lookup  # noqa: F401 # Celery has it here
from pgtasks.utils.saferepr import saferepr
from pgtasks.utils.serialization import get_pickleable_etype, get_pickleable_exception

# Celery's names of this module, of which other people's code imports and replaces some.
__all__ = [
    "EXCEPTION_STATES", "FAILURE", "IGNORED", "IGNORE_STATES", "LOG_FAILURE", "LOG_IGNORED",
    "LOG_INTERNAL_ERROR", "LOG_RECEIVED", "LOG_REJECTED", "LOG_RETRY", "LOG_SUCCESS",
    "REJECTED", "RETRY", "STARTED", "SUCCESS", "AsyncResult", "TraceInfo", "_localized",
    "build_tracer", "execute", "fast_trace_task", "get_actual_ignore_result",
    "get_log_policy", "get_task_name", "group", "info", "log_policy_expected",
    "log_policy_ignore",
    "log_policy_internal", "log_policy_reject", "log_policy_t", "log_policy_unexpected",
    "logger", "report_internal_error", "reset_worker_optimizations",
    "setup_worker_optimizations", "task_has_custom", "trace_ok_t", "trace_task",
    "trace_task_ret", "traceback_clear",
]  # fmt: skip


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
    enclosed = transactional.enclosing(app, task, fun)
    pid = os.getpid()
    repr_size = task.resultrepr_maxsize

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

    def on_end(request: Context, end: Any) -> tuple[Any, Any, str, Any]:
        if isinstance(end, Discard):
            return on_error(request, end)
        state, exc = predicates.settle(task, request, name, end, eager=eager)
        return Info(state, exc), ExceptionInfo((type(exc), exc, None)), state, exc

    def conclude(
        request: Context, uuid: str, value: Any, publish_result: bool
    ) -> tuple[Any, Any, Any, Any]:
        if isinstance(value, PREDICATES):
            return on_end(request, value)
        if request.callbacks or request.links:
            followups.send(app, request, value, uuid)
        outcome.store_for(task).mark_as_done(uuid, value, request, publish_result)
        return None, value, SUCCESS, value

    def steps(
        uuid: str, args: Any, kwargs: Any, request: Any = None
    ) -> coroutines.Steps[Any]:
        returned = how = runtime = text = concluded = None
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
                    try:
                        if enclosed is None:
                            value = fun(*args, **kwargs)
                            if iscoroutine(value):
                                value = yield value
                        else:
                            both: Any = enclosed(
                                args,
                                kwargs,
                                lambda value: conclude(
                                    context, uuid, value, publish_result
                                ),
                            )
                            value, concluded = (yield both) if iscoroutine(both) else both
                    except BaseException as exc:
                        if context._completion is None:
                            raise
                        known = context._completion.raised(exc)
                        if known is None:
                            raise
                        value, concluded = known
                    else:
                        if context._completion is not None:
                            value, concluded = context._completion.returned(value)
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
                except PREDICATES as exc:
                    how, returned, state, value = on_end(context, exc)
                    traceback_clear(exc)
                except Exception as exc:
                    how, returned, state, value = on_exception(context, exc)
                    traceback_clear(exc)
                else:
                    if isinstance(value, PREDICATES):
                        how, returned, state, value = concluded or on_end(context, value)
                    else:
                        # A job that has settled itself has sent and stored all this.
                        sent = concluded is not None
                        try:
                            # Before the result is stored, so that its children are
                            # complete.
                            if not sent and (context.callbacks or context.links):
                                followups.send(app, context, value, uuid)
                            sent = True
                            if concluded is None:
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
                                log_success(
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

    def trace_task(uuid: str, args: Any, kwargs: Any, request: Any = None) -> Any:
        return coroutines.drive(steps(uuid, args, kwargs, request))

    if not eager:
        # For workers whose event loop waits for many tasks at a time.
        coroutines.mark(trace_task, steps)
        return trace_task

    def trace_eagerly(uuid: str, args: Any, kwargs: Any, request: Any = None) -> Any:
        with outcome.hidden():
            return trace_task(uuid, args, kwargs, request)

    return trace_eagerly


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
