"""The inside of a task: what its body may say while it runs, and what it is told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from pgtasks.app import outcome, replacing, transactional
from pgtasks.app import retry as retrying
from pgtasks.app.context import Context
from pgtasks.app.task_options import TaskOptions
from pgtasks.exceptions import Cancel, Discard, Retry, Snooze

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from pgtasks.canvas import Signature
    from pgtasks.utils.einfo import ExceptionInfo

__all__ = ["TaskRuns"]


def _completing() -> Any:
    # Not before somebody calls it: it knows the drivers.
    from pgtasks.app import completing

    return completing


class TaskRuns(TaskOptions):
    """What a task does while it runs, and the handlers that subclasses may write."""

    _default_request: Context | None = None
    _backend: Any = None

    # ── how it ends ─────────────────────────────────────────────────────────────────────

    def retry(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        exc: BaseException | type[BaseException] | None = None,
        throw: bool = True,
        eta: datetime | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> Retry:
        """End this run and have the same job run again later.

        Raises an exception to say so; written as ``raise self.retry(…)``, so that the
        reader sees it. The job keeps its id, its queue and whatever waits for it.

        Args:
            args: Other positional arguments for the next run.
            kwargs: Other keyword arguments for the next run.
            exc: What failed; raised once there is no retry left.
            throw: False returns the exception and lets the run go on to its own end.
            eta: When to run again.
            countdown: In how many seconds; ``default_retry_delay`` unless told.
            max_retries: How many retries this run allows, instead of the task's number.
            **options: Other options of `apply_async`.

        Raises:
            Retry: Always, unless ``throw`` is false or no retry is left.
            MaxRetriesExceededError: No retry is left, and there is no ``exc``.
        """
        return retrying.retry(
            self, args, kwargs, exc, throw, eta, countdown, max_retries, options
        )

    def snooze(self, delay: float | timedelta) -> NoReturn:
        """End this run and have the job run again in ``delay`` seconds.

        Neither a failure nor a retry: it costs no attempt and calls no handler.
        """
        raise Snooze(delay)

    def discard(self, reason: Any = None) -> NoReturn:
        """End this job as failed, and have it not retried whatever the task's settings."""
        raise Discard(reason)

    def cancel(self, reason: Any = None) -> NoReturn:
        """End this job as cancelled: not failed, not retried, shown as REVOKED."""
        raise Cancel(reason)

    def replace(self, sig: Signature[Any]) -> Any:
        """End this run and have ``sig`` run in the task's place.

        Written as ``return self.replace(…)``. The signature takes over the id, the
        callbacks, the place in a chord and the rest of the chain: whoever waits for the
        task gets the result of ``sig``.

        Args:
            sig: A task, a chain, a group (its results come as a list) or a chord.

        Raises:
            Ignore: Always, in a worker: the run ends here.
            ImproperlyConfigured: ``sig`` is part of a chord already, or an empty chain.
        """
        return replacing.replace(self, sig)

    def complete(self, connection: Any, result: Any = None) -> None:
        """Settle this job in a transaction of the task's own, as the last thing in it.

        Once that is committed the job is over, with ``result`` and with all that its end
        leads to, and what the body returns afterwards is ignored. If it is rolled back, the
        job is settled as usual, by what the body returns or raises.

        Args:
            connection: What `apply_async` takes as ``connection=``, in a transaction on the
                application's own database.
            result: The result of the task.

        Raises:
            CompletionError: It cannot be settled here; the message says why.
            Superseded: The job was taken over meanwhile: let the transaction be rolled back.
        """
        _completing().complete(self, connection, result)

    async def acomplete(self, connection: Any, result: Any = None) -> None:
        """`complete` for coroutines, also with connections that belong to a loop."""
        await _completing().acomplete(self, connection, result)

    #: The connection of a transactional task, while it runs; else AttributeError.
    connection: Any = transactional.Connection()

    # ── what it does meanwhile ──────────────────────────────────────────────────────────

    def add_to_chord(self, sig: Signature[Any], lazy: bool = False) -> Any:
        """Add ``sig`` to the header of the chord that this task is a member of.

        Args:
            sig: The new member.
            lazy: Do not send it; the caller is going to.

        Returns:
            The result of the member, or with ``lazy`` its signature.

        Raises:
            ValueError: The task is not a member of a chord.
        """
        return replacing.add_to_chord(self, sig, lazy)

    def update_state(
        self,
        task_id: str | None = None,
        state: str | None = None,
        meta: Any = None,
        **kwargs: Any,
    ) -> None:
        """Show a state of the task's own while it runs: ``PROGRESS`` and how far it is.

        Args:
            task_id: The task; the one that runs by default.
            state: Any word.
            meta: What ``AsyncResult.info`` shows.
            **kwargs: Passed on to the result backend.
        """
        if task_id is None:
            task_id = self.request.id
        outcome.note_progress(task_id, state, meta)
        self.backend.store_result(task_id, meta, state, request=self.request, **kwargs)

    def send_event(
        self,
        type_: str,
        retry: bool = True,
        retry_policy: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> Any:
        """Send an event to monitors, where there are any."""
        try:
            events = self.app.events
        except (AttributeError, ImportError):
            return None
        request = self.request
        if retry_policy is None:
            retry_policy = self.app.conf.task_publish_retry_policy
        with events.default_dispatcher(hostname=request.hostname) as dispatcher:
            return dispatcher.send(
                type_, uuid=request.id, retry=retry, retry_policy=retry_policy, **fields
            )

    # ── handlers, for subclasses ────────────────────────────────────────────────────────

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Called before the body; raising fails the task."""

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        """Called after the body has returned ``retval``."""

    def on_retry(
        self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: ExceptionInfo
    ) -> None:
        """Called when the task is going to run again because of ``exc``."""

    def on_failure(
        self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: ExceptionInfo
    ) -> None:
        """Called when the task has failed with ``exc``."""

    def after_return(
        self,
        status: str,
        retval: Any,
        task_id: str,
        args: Any,
        kwargs: Any,
        einfo: ExceptionInfo | None,
    ) -> None:
        """Called at the end of a run that succeeded or failed; not when it is retried."""

    def on_replace(self, sig: Signature[Any]) -> Any:
        """Called by `replace` to send ``sig``; overriding ones return what this returns."""
        return replacing.on_replace(self, sig)

    # ── the request ─────────────────────────────────────────────────────────────────────

    @property
    def request(self) -> Context:
        """What is known of the run that is under way here."""
        top = self.request_stack.top
        if top is not None:
            return top  # type: ignore[no-any-return]
        # Nothing runs, yet some look for a request all the same.
        if self._default_request is None:
            self._default_request = Context()
        return self._default_request

    def _get_request(self) -> Context:
        return self.request

    def push_request(self, *args: Any, **kwargs: Any) -> None:
        """Begin a request that inherits from the current one; `pop_request` must follow."""
        self.request_stack.push(Context(*args, **{**self.request.__dict__, **kwargs}))

    def pop_request(self) -> None:
        """End the request that `push_request` began."""
        self.request_stack.pop()

    def add_trail(self, result: Any) -> Any:
        """Remember ``result`` as one of a task that this one has sent."""
        if self.trail:
            self.request.children.append(result)
        return result

    # ── the results ─────────────────────────────────────────────────────────────────────

    @property
    def backend(self) -> Any:
        """Where results of this task are kept."""
        backend = self._backend
        return self.app.backend if backend is None else backend

    @backend.setter
    def backend(self, value: Any) -> None:
        self._backend = value
