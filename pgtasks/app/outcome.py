"""What becomes of a job, gathered while it is traced, so that all of it can commit at once.

While a worker traces a job, the job's `Ending` stands in for the result backend: what
would be stored is noted in an `Outcome`, and the jobs that the end leads to become its
follow-ups. Outside of a worker there is no ending, and the task's own backend is used.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any

from pgtasks import states
from pgtasks.app.errors import dump_exception, error_of, storable
from pgtasks.backends.propagation import rest_of
from pgtasks.exceptions import PayloadTooLarge, TaskRevokedError
from pgtasks.job import Job, NewJob, Outcome
from pgtasks.result import traced_by_worker
from pgtasks.serialization import is_signed
from pgtasks.utils.log import get_logger

if TYPE_CHECKING:
    from pgtasks.app.context import Context

__all__ = ["Ending", "current", "error_of", "note_progress", "storable", "store_for"]

logger = get_logger("celery.app.trace")

_ending: ContextVar[Ending | None] = ContextVar("pgtasks.ending", default=None)


def current() -> Ending | None:
    """The ending of the job that a worker traces in this context, if there is one."""
    return _ending.get()


def store_for(task: Any) -> Any:
    """Where the end of a run of ``task`` is stored: its ending, else the task's backend."""
    ending = _ending.get()
    return task.backend if ending is None else ending


def note_progress(task_id: str | None, state: str | None, meta: Any) -> None:
    """Remember what ``update_state`` said, for a task that then asks to be ignored."""
    ending = _ending.get()
    if ending is not None and ending.task_id == task_id:
        ending.progress = (state, meta)


@contextmanager
def hidden() -> Iterator[None]:
    """Trace a task eagerly within another: its end is no part of the other's outcome."""
    token = _ending.set(None)
    try:
        yield
    finally:
        _ending.reset(token)


class Ending:
    """Takes the place of the result backend while a worker traces ``job``.

    Args:
        app: The application.
        job: The claimed row.
        backend: The backend that it stands for.
    """

    __slots__ = (
        "_app", "_backend", "_collected", "_tokens", "again", "job", "outcome", "progress",
        "replacement", "settles", "task_id",
    )  # fmt: skip

    def __init__(self, app: Any, job: Job, backend: Any) -> None:
        self._app = app
        self._backend = backend
        self.job = job
        self.task_id = job.task_id
        self.outcome = Outcome(job.id, job.claim_token, "")
        #: The job asked to run again, with ``retry()``.
        self.again = False
        #: Where jobs sent now are collected that exist only if the outcome is accepted.
        self._collected: list[NewJob] | None = None
        #: The jobs that take the place of this one, whatever its body does afterwards.
        self.replacement: list[NewJob] | None = None
        self.progress: tuple[str | None, Any] | None = None
        #: Whether the row is there to be settled, by the job itself or by a worker.
        self.settles = True

    def begin(self) -> None:
        """From now on this context belongs to the job."""
        self._tokens: tuple[Token[Any], Token[Any]] = (
            _ending.set(self),
            traced_by_worker.set(True),
        )

    def end(self) -> None:
        """The job is over; undoes `begin`."""
        mine, blocking = self._tokens
        _ending.reset(mine)
        traced_by_worker.reset(blocking)

    # ── what is sent while the job runs ─────────────────────────────────────────────────

    def takes(self, new: NewJob) -> bool:
        """Whether ``new`` is no insert of its own, but a part of this job's end.

        It is if the end of the job sends it, or if it is the job itself, to run again.
        """
        if self._collected is not None and self._collected is self.replacement:
            self.replacement.append(new)
            return True
        if new.task_id == self.task_id and new.task == self.job.task:
            self._run_again(new)
            return True
        if self._collected is not None:
            self._collected.append(new)
            return True
        return False

    def _run_again(self, new: NewJob) -> None:
        job, outcome = self.job, self.outcome
        self.again = True
        outcome.retried = new.retries > job.retries
        outcome.delay, outcome.eta = new.delay, new.eta
        if new.delay is None and new.eta is None:
            outcome.delay = 0.0
        if new.body is not None:
            outcome.body = None if new.body == job.body else new.body
        else:
            outcome.args = None if new.args == job.args else new.args
            outcome.kwargs = None if new.kwargs == job.kwargs else new.kwargs
        if new.headers is not None and new.headers != job.headers:
            outcome.headers = _merged(job.headers, new.headers)
        if new.embed is not None and new.embed != job.embed:
            outcome.embed = new.embed
        elif job.awaits is not None or is_signed(new.content_type):
            # Its new arguments have the results of the header among them, or have been
            # signed together with it.
            outcome.embed = new.embed or "{}"
        if new.queue != job.queue:
            outcome.queue = new.queue
        if new.priority != job.priority:
            outcome.priority = new.priority

    def start_over(self) -> None:
        """Forget the end that was gathered: the transaction that was to write it failed."""
        self.outcome = Outcome(self.job.id, self.job.claim_token, "")
        self.again = False
        self.replacement = None

    def run_again_in(self, seconds: float) -> None:
        """Have the job run again because of ``max_attempts``."""
        self.again = True
        self.outcome.retried = True
        self.outcome.delay = seconds

    @property
    def gathering(self) -> bool:
        """Whether jobs sent now exist only if the outcome is accepted."""
        return self._collected is not None

    @contextmanager
    def gather(self) -> Iterator[None]:
        """Make what is sent meanwhile a part of the outcome."""
        with self._collecting(self.outcome.follow_ups):
            yield

    @contextmanager
    def replacing(self) -> Iterator[None]:
        """Have what is sent meanwhile take the place of the job, with its id or without.

        Whatever its body does afterwards: the promise has been given.
        """
        replacement: list[NewJob] = []
        self.replacement = replacement
        with self._collecting(replacement):
            yield

    @contextmanager
    def _collecting(self, jobs: list[NewJob]) -> Iterator[None]:
        self._collected, before = jobs, self._collected
        try:
            yield
        except BaseException:
            if jobs is self.replacement:
                self.replacement = None
            raise
        finally:
            self._collected = before

    # ── what a backend is told, by Celery's names ───────────────────────────────────────

    def mark_as_done(
        self,
        task_id: str,
        result: Any,
        request: Context | None = None,
        store_result: bool = True,
        state: str = states.SUCCESS,
    ) -> None:
        """The task returned ``result``; EncodeError if that cannot be stored."""
        outcome = self.outcome
        # The body of its chord is waiting for it, whatever the task says.
        if store_result or self.job.chord is not None:
            self._store(result, state)
        children = request._children if request is not None else None
        if children:
            outcome.children = json.dumps([child.as_tuple() for child in children])
        outcome.state = states.COMPLETED

    def mark_as_failure(
        self,
        task_id: str,
        exc: BaseException,
        traceback: str | None = None,
        request: Context | None = None,
        store_result: bool = True,
        call_errbacks: bool = True,
        state: str = states.FAILURE,
    ) -> None:
        """The task raised ``exc``; its errbacks are called, and what they send gathered."""
        outcome = self.outcome
        outcome.state = states.DISCARDED
        outcome.error = error_of(exc, traceback)
        # A success that could not be stored leads to nothing.
        outcome.follow_ups.clear()
        outcome.result = outcome.result_body = outcome.result_content_type = None
        if store_result or self.job.chord is not None:
            self._store_exception(exc, state)
            outcome.traceback = outcome.error.traceback
        self._fail_the_rest(request, exc, traceback)
        if call_errbacks and request is not None and request.errbacks and not self.again:
            if store_result and self.settles:
                self._show_failure(task_id, exc, traceback, request, state)
            with self.gather():
                self._backend._call_task_errbacks(request, exc, traceback)

    def _show_failure(
        self, task_id: str, exc: Any, traceback: str | None, request: Context, state: str
    ) -> None:
        """Let errbacks that are called here see how the task ended, before its row says it."""
        calls = getattr(self._backend, "calls_errbacks_here", None)
        if calls is None or not calls(request.errbacks):
            return
        try:
            self._backend.store_result(
                task_id, exc, state, traceback=traceback, request=request
            )
        except Exception as error:
            # They would see it pending; that they are called at all is worth more.
            logger.debug("Failure of %s not shown to its errbacks: %r", task_id, error)

    def _fail_the_rest(
        self, request: Context | None, exc: BaseException, traceback: str | None
    ) -> None:
        """Let nobody wait for what would have come next."""
        if request is None or not (request.links or request.callbacks):
            return
        result, body, content_type = dump_exception(self._backend, exc, states.FAILURE)
        for each in rest_of(request):
            row = {
                "task": each.task,
                "task_id": each.task_id,
                "group_id": each.group_id,
                "group_index": each.group_index,
                "chord": each.group_id if each.chord else None,
                "root_id": self.job.root_id or self.task_id,
                "parent_id": self.task_id,
                "result": result,
                "result_body": None if body is None else "\\x" + body.hex(),
                "result_content_type": content_type,
                "traceback": storable(traceback) if traceback else None,
            }
            self.outcome.stillborn.append(
                {key: value for key, value in row.items() if value is not None}
            )

    def mark_as_retry(
        self,
        task_id: str,
        exc: BaseException | None,
        traceback: str | None = None,
        request: Context | None = None,
        store_result: bool = True,
        state: str = states.RETRY,
    ) -> None:
        """The task is going to run again because of ``exc``."""
        outcome = self.outcome
        outcome.state = states.RETRYABLE
        if exc is not None:
            outcome.error = error_of(exc, traceback)
        if store_result:
            if exc is None:
                self._store(None, state)
            else:
                self._store_exception(exc, state)

    def mark_as_revoked(
        self,
        task_id: str,
        reason: Any = "",
        request: Context | None = None,
        store_result: bool = True,
        state: str = states.REVOKED,
    ) -> None:
        """The task has expired, or has cancelled itself."""
        outcome = self.outcome
        outcome.state = states.CANCELLED
        error = TaskRevokedError(reason)
        outcome.error = error_of(error, None)
        if store_result or self.job.chord is not None:
            self._store_exception(error, state)
        self._fail_the_rest(request, error, None)

    def mark_as_snoozed(self, seconds: float) -> None:
        """The task wants to run again later, at no cost."""
        outcome = self.outcome
        outcome.state = states.SCHEDULED
        outcome.delay = seconds
        outcome.give_back = True

    def mark_as_requeued(self) -> None:
        """The task gives the job back: it may run again at once."""
        self.outcome.state = states.AVAILABLE

    def mark_as_ignored(self, state: str) -> None:
        """The task wants its state left alone: the last one it gave itself stays."""
        outcome = self.outcome
        if outcome.written is not None:
            return  # It has settled itself, or is not ours to settle any more.
        outcome.state = states.COMPLETED
        outcome.status = state
        if self.progress is not None:
            status, meta = self.progress
            outcome.status = status
            outcome.state = _JOB_STATE_OF.get(status, states.COMPLETED)
            self._store(meta, status)

    def store_result(self, task_id: str, *args: Any, **kwargs: Any) -> Any:
        """A state on the way, such as STARTED, is shown at once."""
        return self._backend.store_result(task_id, *args, **kwargs)

    def process_cleanup(self) -> None:
        """See `Backend.process_cleanup`."""
        self._backend.process_cleanup()

    # ── the end ─────────────────────────────────────────────────────────────────────────

    def finish(self, runtime: float | None) -> Outcome:
        """The outcome, once everything has been said."""
        outcome = self.outcome
        outcome.runtime = runtime or 0.0
        if self.again and outcome.state in (states.COMPLETED, states.DISCARDED):
            # It called retry() and then went on to an end of its own (throw=False, or a
            # broad except). The retry had been promised, and what comes of it counts.
            if outcome.state == states.COMPLETED:
                outcome.result = outcome.result_body = outcome.result_content_type = None
            outcome.state = states.RETRYABLE
            outcome.status = None
            outcome.follow_ups.clear()
            outcome.stillborn.clear()
        if self.replacement:
            outcome.replaced = True
            outcome.state = states.COMPLETED
            outcome.follow_ups = self.replacement
            outcome.stillborn.clear()
        return outcome

    def _store(self, value: Any, state: str | None) -> None:
        backend, outcome = self._backend, self.outcome
        text, body, content_type = backend.dump(backend.encode_result(value, state))
        limit = self._app.conf.result_max_size
        size = len(body) if body is not None else len(text)
        if limit and size > limit:
            raise PayloadTooLarge(
                f"The result of task {self.job.task}[{self.task_id}] takes {size:,} bytes, "
                f"more than result_max_size = {limit:,}. Store it elsewhere and return "
                f"where it is, or set ignore_result=True."
            )
        outcome.result, outcome.result_body = text, body
        outcome.result_content_type = content_type

    def _store_exception(self, exc: BaseException, state: str) -> None:
        outcome = self.outcome
        outcome.result, outcome.result_body, outcome.result_content_type = dump_exception(
            self._backend, exc, state
        )


_JOB_STATE_OF: dict[str | None, str] = {
    states.FAILURE: states.DISCARDED,
    states.REVOKED: states.CANCELLED,
}


def _merged(old: str | None, new: str) -> str:
    return json.dumps({**json.loads(old), **json.loads(new)}) if old else new
