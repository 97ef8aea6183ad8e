"""A task has failed: its state, what was to come after it, and who is told.

A backend that keeps results elsewhere than in the jobs' rows is told of each step by
Celery's names, which subclasses override. What a failure takes with it is found out in
`pgtasks.backends.propagation`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from pgtasks import states
from pgtasks.app import modes
from pgtasks.backends.propagation import Unborn, errbacks_of, rest_of_chain
from pgtasks.exceptions import ChordError, NotRegistered, TaskRevokedError
from pgtasks.utils.einfo import ExceptionInfo
from pgtasks.utils.functional import arity_greater, maybe_list
from pgtasks.utils.ids import time_ordered_uuid
from pgtasks.utils.log import get_logger

__all__ = ["FailureMixin", "create_chord_error"]

logger = get_logger("celery.backends.base")


class FailureMixin:
    """How a backend marks tasks that did not succeed."""

    app: Any

    if TYPE_CHECKING:
        store_result: Callable[..., Any]
        get_state: Callable[..., str]
        on_chord_part_return: Callable[..., Any]

    # ── a task ──────────────────────────────────────────────────────────────────────────

    def mark_as_failure(
        self,
        task_id: str,
        exc: BaseException,
        traceback: str | None = None,
        request: Any = None,
        store_result: bool = True,
        call_errbacks: bool = True,
        state: str = states.FAILURE,
    ) -> None:
        """Store the exception that the task raised; fail what was to follow; call errbacks.

        Args:
            task_id: The task.
            exc: What it raised.
            traceback: Text of the traceback.
            request: Its request, which knows the chain, the chord and the errbacks.
            store_result: Store the exception, for it and for what follows it.
            call_errbacks: Call the errbacks.
            state: The state to store.
        """
        if store_result:
            self.store_result(task_id, exc, state, traceback=traceback, request=request)
        if not request:
            return
        if request.chord:
            self.on_chord_part_return(request, state, exc)
        chain = getattr(request, "chain", None)
        self._fail_chain(chain, exc, traceback, store_result=store_result, state=state)
        if call_errbacks and request.errbacks:
            self._call_task_errbacks(request, exc, traceback)

    def mark_as_retry(
        self,
        task_id: str,
        exc: BaseException | None,
        traceback: str | None = None,
        request: Any = None,
        store_result: bool = True,
        state: str = states.RETRY,
    ) -> Any:
        """Store why the task is going to run again."""
        return self.store_result(task_id, exc, state, traceback=traceback, request=request)

    def mark_as_revoked(
        self,
        task_id: str,
        reason: Any = "",
        request: Any = None,
        store_result: bool = True,
        state: str = states.REVOKED,
    ) -> None:
        """Store that the task was revoked."""
        exc = TaskRevokedError(reason)
        if store_result:
            self.store_result(task_id, exc, state, traceback=None, request=request)
        if request and request.chord:
            self.on_chord_part_return(request, state, exc)

    def fail_from_current_stack(
        self, task_id: str, exc: BaseException | None = None
    ) -> ExceptionInfo:
        """`mark_as_failure` with the exception that is being handled, or with ``exc``."""
        kind, current, tb = sys.exc_info()
        error: Any = current if exc is None else exc
        info = ExceptionInfo((kind if exc is None else type(exc), error, tb))
        try:
            self.mark_as_failure(task_id, error, info.traceback)
            return info
        finally:
            # An exception that is kept must not keep alive what the task had in its hands.
            while tb is not None:
                try:
                    tb.tb_frame.clear()
                except RuntimeError:
                    pass  # It is still running.
                tb = tb.tb_next

    # ── what was to come after it ───────────────────────────────────────────────────────

    def _fail_chain(
        self,
        chain: Any,
        exc: BaseException,
        traceback: str | None = None,
        store_result: bool = True,
        state: str = states.FAILURE,
    ) -> None:
        """Fail the rest of a chain, so that nobody waits for it for ever.

        Args:
            chain: Signatures, the next one last; None is an empty chain.
            exc: Why none of them runs.
            traceback: Text of its traceback.
            store_result: Store the failure.
            state: The state to store.
        """
        for unborn in self._never_run(chain):
            told = _as_request(unborn)
            # A member that has failed before has been counted in its chord before.
            counted = (
                unborn.chord is not None
                and self.get_state(unborn.task_id) in states.PROPAGATE_STATES
            )
            if store_result and state in states.PROPAGATE_STATES:
                self.store_result(
                    unborn.task_id, exc, state, traceback=traceback, request=told
                )
            if unborn.chord is not None and not counted:
                self.on_chord_part_return(told, state, exc)

    def _never_run(self, chain: Any) -> Iterable[Unborn]:
        # What Celery tells a store of. Ours know of members and callbacks as well.
        return [unborn for unborn in rest_of_chain(chain) if unborn.role == "step"]

    # ── who is told ─────────────────────────────────────────────────────────────────────

    def calls_errbacks_here(self, errbacks: Iterable[Any]) -> bool:
        """Whether any of these is called in this process, and not sent as a task."""
        return any(self._calls_here(self._errback(each)) for each in errbacks)

    def _errback(self, errback: Any) -> Any:
        errback = self.app.signature(errback)
        if not errback._app:
            errback._app = self.app
        return errback

    def _calls_here(self, errback: Any) -> bool:
        try:
            return _is_called_here(errback)
        except NotRegistered:
            return False  # Another worker may know it.

    def _call_task_errbacks(
        self, request: Any, exc: BaseException, traceback: str | None
    ) -> None:
        """Call the errbacks of a task that failed.

        One that takes ``(request, exc, traceback)`` is called here and now. One that
        takes a single argument is sent as a task, with the id of the task that failed;
        so is one that is bound, and one that this process does not know.
        """
        from pgtasks.backends import base

        sent = []
        for errback in request.errbacks:
            errback = self._errback(errback)
            if not self._calls_here(errback):
                sent.append(errback)
                continue
            try:
                errback(request, exc, traceback)
            except Exception:
                logger.exception("Errback %r raised an exception", errback.name)
        if not sent:
            return
        errbacks = base.group(sent, app=self.app)
        eager = modes.is_eager(self.app) or (request.delivery_info or {}).get(
            "is_eager", False
        )
        send = errbacks.apply if eager else errbacks.apply_async
        send((request.id,), parent_id=request.id, root_id=request.root_id or request.id)

    # ── a chord whose header has failed ─────────────────────────────────────────────────

    def chord_error_from_stack(
        self, callback: Any, exc: BaseException | None = None
    ) -> Any:
        """Fail the body of a chord, and what was to follow it.

        Args:
            callback: The body.
            exc: Why; the exception that is being handled by default.
        """
        from pgtasks.backends import base

        error: Any = sys.exc_info()[1] if exc is None else exc
        task = self.app._tasks.get(callback.task)
        backend = self if task is None else task.backend
        if isinstance(callback, base.group):
            told = self._handle_group_chord_error(
                group_callback=callback, backend=backend, exc=error
            )
        else:
            body_id = callback.id
            if not body_id:
                body_id = callback.options["task_id"] = time_ordered_uuid()
            request = base._create_fake_task_request(
                task_id=callback.options.get("task_id"),
                errbacks=callback.options.get("link_error", []),
                **callback,
            )
            try:
                self._call_task_errbacks(request, error, None)
            except Exception as failed:
                error = failed
                told = backend.fail_from_current_stack(body_id, exc=error)
            else:
                told = backend.fail_from_current_stack(body_id, exc=error)
        if callback.get("subtask_type") == "chord":
            # Its own result is that of its body.
            backend._fail_chain([callback], error)
        backend._fail_chain(callback.options.get("chain"), error)
        return told

    def _handle_group_chord_error(
        self, group_callback: Any, backend: Any, exc: BaseException | None = None
    ) -> Any:
        """Fail each task of a group that is the body of a chord, and revoke them all."""
        from pgtasks.backends import base

        cause: Any = exc
        if isinstance(exc, ChordError) and exc.__cause__:
            cause = exc.__cause__
        try:
            frozen = group_callback.freeze()
            if not isinstance(frozen, base.GroupResult):
                return None
            group_errbacks = list(
                maybe_list(group_callback.options.get("link_error")) or ()
            )
            errbacks = dict(errbacks_of(task) for task in group_callback.tasks)
            for result in frozen.results:
                own = errbacks.get(result.id, [])
                rest = [errback for errback in group_errbacks if errback not in own]
                self._fail_group_member(result, own + rest, backend, cause)
            if frozen.id:
                backend.mark_as_failure(frozen.id, cause)
            # Now that each has failed: to revoke what has ended changes nothing.
            frozen.revoke()
            return None
        except Exception as error:
            logger.exception("The group %r could not be failed: %r", group_callback, error)
            return backend.fail_from_current_stack(group_callback.id, exc=exc)

    def _fail_group_member(
        self, result: Any, errbacks: list[Any], backend: Any, cause: BaseException
    ) -> None:
        from pgtasks.backends import base

        request = base._create_fake_task_request(
            task_id=result.id,
            errbacks=errbacks,
            task_name=getattr(result, "task", "unknown"),
        )
        try:
            try:
                backend._call_task_errbacks(request, cause, None)
            finally:
                backend.fail_from_current_stack(result.id, exc=cause)
        except Exception as error:
            logger.exception(
                "Failed to handle chord error for task %s: %r", result.id, error
            )


def create_chord_error(message: str, original_exc: Any = None) -> ChordError:
    """A `ChordError`, caused by ``original_exc`` if that is an exception."""
    error = ChordError(message)
    if isinstance(original_exc, Exception):
        error.__cause__ = original_exc
    return error


def _is_called_here(errback: Any) -> bool:
    """Whether an errback takes more than the id of the task that failed."""
    header = getattr(errback.type, "__header__", None)
    if header is None or isinstance(header, partial):
        # A bound task: called as a function it would have no request to retry with.
        return False
    if not errback.immutable and (errback.args or errback.kwargs):
        try:
            # What counts is the arguments that are still to come.
            return arity_greater(partial(header, *errback.args, **errback.kwargs), 1)
        except (TypeError, ValueError):
            pass
    return arity_greater(header, 1)


def _as_request(unborn: Unborn) -> Any:
    from pgtasks.app.context import Context

    context = Context(unborn.signature)
    context.update(unborn.options)
    context.id = unborn.task_id
    context.group = unborn.group_id
    return context
