"""How a run ended that did not succeed: what is stored, told and logged."""

from __future__ import annotations

import logging
import sys
from types import TracebackType
from typing import Any, NamedTuple

from pgtasks import signals, states
from pgtasks.app import outcome
from pgtasks.app.context import Context
from pgtasks.exceptions import Discard, Ignore, Reject, Retry
from pgtasks.utils.einfo import ExceptionInfo
from pgtasks.utils.log import get_logger
from pgtasks.utils.saferepr import saferepr
from pgtasks.utils.serialization import (
    create_exception_cls,
    get_pickleable_etype,
    get_pickleable_exception,
)
from pgtasks.utils.text import safe_repr

__all__ = ["TraceInfo", "get_actual_ignore_result", "get_log_policy", "traceback_clear"]

logger = get_logger("celery.app.trace")

#: Longest repr of an exception or of arguments in a log line, in characters.
LONGEST_REPR = 4096

LOG_RECEIVED = "Task %(name)s[%(id)s] received"
LOG_SUCCESS = "Task %(name)s[%(id)s] succeeded in %(runtime)ss: %(return_value)s"
LOG_FAILURE = "Task %(name)s[%(id)s] %(description)s: %(exc)s"
LOG_INTERNAL_ERROR = "Task %(name)s[%(id)s] %(description)s: %(exc)s"
LOG_IGNORED = "Task %(name)s[%(id)s] %(description)s"
LOG_REJECTED = "Task %(name)s[%(id)s] %(exc)s"
LOG_RETRY = "Task %(name)s[%(id)s] retry: %(exc)s"


class log_policy_t(NamedTuple):
    """How an end that is no success is logged."""

    format: str
    description: str
    severity: int
    traceback: int
    mail: int


log_policy_reject = log_policy_t(LOG_REJECTED, "rejected", logging.WARNING, 1, 1)
log_policy_ignore = log_policy_t(LOG_IGNORED, "ignored", logging.INFO, 0, 0)
log_policy_internal = log_policy_t(
    LOG_INTERNAL_ERROR, "INTERNAL ERROR", logging.CRITICAL, 1, 1
)
log_policy_expected = log_policy_t(LOG_FAILURE, "raised expected", logging.INFO, 0, 0)
log_policy_unexpected = log_policy_t(LOG_FAILURE, "raised unexpected", logging.ERROR, 1, 1)
log_policy_discard = log_policy_t(LOG_FAILURE, "gave up", logging.WARNING, 0, 0)

STARTED = states.STARTED
SUCCESS = states.SUCCESS
FAILURE = states.FAILURE
RETRY = states.RETRY
REVOKED = states.REVOKED
IGNORED = states.IGNORED
REJECTED = states.REJECTED
#: Only told to handlers and signals: a snoozed task is PENDING again.
SNOOZED = "SNOOZED"

EXCEPTION_STATES = states.EXCEPTION_STATES
IGNORE_STATES = frozenset({IGNORED, RETRY, REJECTED})


def info(fmt: str, context: dict[str, Any]) -> None:
    """Log a line about a task; handlers find the ``context`` in ``record.data``."""
    logger.info(fmt, context, extra={"data": context})


def log_success(
    request: Context,
    name: str,
    uuid: str,
    text: str,
    runtime: float,
    args: Any,
    kwargs: Any,
) -> None:
    """Log that a task returned what ``text`` shows, after ``runtime`` seconds."""
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


#: Where `Task` is written, and what classes that an app derives from it call their module.
_OURS = frozenset({"pgtasks.app.task", "pgtasks.app.task_calls", "pgtasks.app.task_runs"})


def task_has_custom(task: Any, attr: str) -> bool:
    """Whether ``attr`` of the task is not `Task`'s own: a subclass's, or patched in."""
    for node in task.__class__.__mro__:  # type() of a proxy is the proxy's
        if attr in node.__dict__:
            if node.__module__ in _OURS:
                origin = getattr(node.__dict__[attr], "__module__", None)
                return origin is not None and origin not in _OURS
            return True
    return False


def get_log_policy(task: Any, einfo: Any, exc: Any) -> log_policy_t:
    """How to log that ``task`` ended with ``exc``."""
    if isinstance(exc, Reject):
        return log_policy_reject
    if isinstance(exc, Ignore):
        return log_policy_ignore
    if einfo.internal:
        return log_policy_internal
    if isinstance(exc, Discard):
        return log_policy_discard
    if task.throws and isinstance(exc, task.throws):
        return log_policy_expected
    return log_policy_unexpected


def get_task_name(request: Any, default: str) -> str:
    """The name to show in logs: the request's ``shadow``, if it has one."""
    name: str = printable(getattr(request, "shadow", None) or default)
    return name


def printable(text: Any) -> Any:
    """``text`` without what would begin a line of its own in a log, or move a cursor."""
    if isinstance(text, str) and not text.isprintable():
        return text.encode("unicode_escape").decode()
    return text


def get_actual_ignore_result(task: Any, req: Any) -> Any:
    """Whether the result is ignored: what the caller said, else what the task says."""
    if isinstance(req, Context):
        # Of the instance: the class's default is not something that anybody said.
        actual = req.__dict__.get("ignore_result")
    else:
        actual = getattr(req, "ignore_result", None)
    return task.ignore_result if actual is None else actual


class TraceInfo:
    """How a run ended that did not succeed, and what is done about it."""

    __slots__ = ("retval", "state")

    def __init__(self, state: str, retval: Any = None) -> None:
        self.state = state
        self.retval = retval

    def handle_error_state(
        self, task: Any, req: Any, eager: bool = False, call_errbacks: bool = True
    ) -> Any:
        """Store, tell and log a retry or a failure."""
        if get_actual_ignore_result(task, req):
            store_errors = task.store_errors_even_if_ignored
        else:
            store_errors = bool(task.store_eager_result) or not eager
        handle = self.handle_retry if self.state == RETRY else self.handle_failure
        return handle(task, req, store_errors=store_errors, call_errbacks=call_errbacks)

    def handle_reject(self, task: Any, req: Any, **kwargs: Any) -> None:
        """Log that the task rejected its job."""
        self._log_error(task, req, ExceptionInfo())

    def handle_ignore(self, task: Any, req: Any, **kwargs: Any) -> None:
        """Log that the task asked to be ignored."""
        self._log_error(task, req, ExceptionInfo())

    def handle_retry(
        self, task: Any, req: Any, store_errors: Any = True, **kwargs: Any
    ) -> ExceptionInfo:
        """The task is going to run again: its exception is a `Retry`."""
        reason = self.retval
        kind, _, tb = sys.exc_info()
        einfo = ExceptionInfo((kind, reason, tb))
        store = outcome.store_for(task)
        if store_errors or isinstance(store, outcome.Ending):
            store.mark_as_retry(
                req.id, reason.exc, _text_of(reason, tb), request=req,
                **({} if store_errors else {"store_result": False}),
            )  # fmt: skip
        task.on_retry(reason.exc, req.id, req.args, req.kwargs, einfo)
        signals.task_retry.send(sender=task, request=req, reason=reason, einfo=einfo)
        info(
            LOG_RETRY,
            {
                "id": printable(req.id),
                "name": get_task_name(req, task.name),
                "exc": outcome.storable(str(reason), LONGEST_REPR),
            },
        )
        traceback_clear(einfo.exception)
        return einfo

    def handle_failure(
        self, task: Any, req: Any, store_errors: Any = True, call_errbacks: bool = True
    ) -> ExceptionInfo:
        """The task has failed for good."""
        original = self.retval
        exc = get_pickleable_exception(original)
        if exc.__traceback__ is None:
            exc.__traceback__ = original.__traceback__ or sys.exc_info()[2]
        einfo = ExceptionInfo(
            (get_pickleable_etype(type(original)), exc, exc.__traceback__)
        )
        outcome.store_for(task).mark_as_failure(
            req.id,
            exc,
            einfo.traceback,
            request=req,
            store_result=store_errors,
            call_errbacks=call_errbacks,
        )
        task.on_failure(exc, req.id, req.args, req.kwargs, einfo)
        signals.task_failure.send(
            sender=task,
            task_id=req.id,
            exception=exc,
            args=req.args,
            kwargs=req.kwargs,
            traceback=exc.__traceback__,
            einfo=einfo,
        )
        self._log_error(task, req, einfo)
        traceback_clear(exc)
        return einfo

    def _log_error(self, task: Any, req: Any, einfo: ExceptionInfo) -> None:
        # The exception itself, where einfo has a stand-in that can be pickled.
        exc = self.retval if isinstance(self.retval, BaseException) else einfo.exception
        policy = get_log_policy(task, einfo, exc)
        if not logger.isEnabledFor(policy.severity):
            return
        text = outcome.storable(einfo.traceback)
        context = {
            "hostname": req.hostname,
            "id": printable(req.id),
            "name": get_task_name(req, task.name),
            "exc": outcome.storable(safe_repr(exc), LONGEST_REPR),
            "traceback": text,
            "args": req.get("argsrepr") or saferepr(req.args, LONGEST_REPR),
            "kwargs": req.get("kwargsrepr") or saferepr(req.kwargs, LONGEST_REPR),
            "description": policy.description,
            "internal": einfo.internal,
        }
        exc_info = einfo.exc_info if policy.traceback else None
        if exc_info is not None and text != einfo.traceback:
            exc_info = _shown(exc, einfo.tb)
        logger.log(
            policy.severity,
            policy.format,
            context,
            exc_info=exc_info,
            extra={"data": context},
        )


def _shown(exc: Any, tb: TracebackType | None) -> Any:
    """Something to log in place of an exception whose text no log can take."""
    kind = create_exception_cls(type(exc).__name__, type(exc).__module__)
    return kind, kind(outcome.storable(safe_repr(exc), LONGEST_REPR)), tb


def _text_of(reason: Retry, tb: TracebackType | None) -> str:
    # Why the task runs again, not the Retry that says so.
    if reason.exc is not None:
        tb = reason.exc.__traceback__ or tb
        return ExceptionInfo((type(reason.exc), reason.exc, tb)).traceback
    return ExceptionInfo((type(reason), reason, tb)).traceback


def traceback_clear(exc: Any = None) -> None:
    """Drop the local variables of a traceback's frames (celery #8882).

    A stored exception would keep alive whatever the task had in its hands.
    """
    if exc is not None and hasattr(exc, "__traceback__"):
        tb = exc.__traceback__
    else:
        tb = sys.exc_info()[2]
    while tb is not None:
        try:
            tb.tb_frame.clear()
        except RuntimeError:
            pass  # It is still running.
        tb = tb.tb_next
