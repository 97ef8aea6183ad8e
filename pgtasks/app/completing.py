"""``self.complete(connection)``: the job's end, in a transaction of the task's own.

What `transactional=True` does for a whole body this does for a part of one: the job is settled
where and when the task says, and is over once the task commits. If it rolls back, the job is
settled as any other, by what the body then returns or raises.
"""

from __future__ import annotations

import logging
from typing import Any

from pgtasks.app import followups, outcome, settling, transactional
from pgtasks.app.connection import keeps_jobs_in_memory
from pgtasks.app.outcome import Ending
from pgtasks.app.traceinfo import SUCCESS, get_actual_ignore_result, printable
from pgtasks.exceptions import CompletionError
from pgtasks.job import Outcome
from pgtasks.storage import borrowed
from pgtasks.storage import jobs as storage
from pgtasks.storage import settling as statements
from pgtasks.storage.jobs import Acked, Settlement

__all__ = ["Completion", "acomplete", "complete"]

logger = logging.getLogger("celery.worker")

#: What the tracer goes on with: no failure, the value, the state, the value again.
Concluded = tuple[None, Any, str, Any]


def complete(task: Any, connection: Any, result: Any) -> None:
    """Do what `Task.complete` says."""
    completion = _begin(task, connection, result)
    if completion.settlement is not None:
        schema = task.app.conf.database_schema
        query = statements.settle(completion.settlement)
        try:
            acked = borrowed.run(query, on=connection, schema=schema)
        except Exception as error:
            completion.explain(error)
            raise
        completion.accept(acked)
    task.request._completion = completion


async def acomplete(task: Any, connection: Any, result: Any) -> None:
    """`complete` for coroutines."""
    completion = _begin(task, connection, result)
    if completion.settlement is not None:
        schema = task.app.conf.database_schema
        query = statements.settle(completion.settlement)
        try:
            acked = await borrowed.arun(query, on=connection, schema=schema)
        except Exception as error:
            completion.explain(error)
            raise
        completion.accept(acked)
    task.request._completion = completion


class Completion:
    """What `complete` has written, until it is known whether it was committed.

    Args:
        app: The application.
        ending: Takes down what becomes of the job.
        holder: What has the transaction.
        result: The result that was given.
        made: The end that was gathered from it; None if there is no row to settle.
    """

    def __init__(
        self, app: Any, ending: Ending, holder: Any, result: Any, made: Outcome | None
    ) -> None:
        self._app = app
        self._ending = ending
        self._holder = holder
        self._result = result
        self._outcome = made
        self.settlement: Settlement | None = None
        if made is not None:
            self.settlement = storage.settle(made, ending.task_id)

    def explain(self, error: Exception) -> None:
        """Say of an error what there is to be said."""
        if settling.has_no_tables(error):
            raise CompletionError(
                settling.elsewhere(self._app, self._ending.job)
            ) from error

    def accept(self, acked: Acked) -> None:
        """The statement has been run; what it found.

        Raises:
            Superseded: The job is not ours any more: let the transaction be rolled back.
        """
        assert self.settlement is not None
        assert self._outcome is not None
        if self.settlement.id not in acked.ids:
            if settling.is_standing(self._app, self.settlement):
                raise CompletionError(settling.elsewhere(self._app, self._ending.job))
            raise settling.superseded(self._ending)
        self._outcome.written = sorted(acked.queues)

    def returned(self, value: Any) -> tuple[Any, Concluded | None]:
        """The body has returned ``value``; what counts as such, and what became of the job."""
        if self.settlement is None:
            return self._result, None
        return self._known() or (value, None)

    def raised(self, error: BaseException) -> tuple[Any, Concluded] | None:
        """The body has raised ``error``; None if that is how the job is to end."""
        known = None if self.settlement is None else self._known()
        if known is not None:
            logger.error(
                "Task %s[%s] has raised after it had completed its job, which stays "
                "completed: %r",
                printable(self._ending.job.task),
                printable(self._ending.task_id),
                error,
                exc_info=error,
            )
        return known

    def _known(self) -> tuple[Any, Concluded] | None:
        """The end, if it was committed; None if it was rolled back."""
        settlement = self.settlement
        assert settlement is not None
        if settling.is_standing(self._app, settlement, give_up_if=self._is_forgotten):
            if self._is_forgotten():
                borrowed.roll_back(self._holder)
                raise CompletionError(
                    f"The task has returned and left the transaction open in which it had "
                    f"called complete(). It was rolled back. End it in the body: with "
                    f"{type(self._holder).__name__} that is commit(), or the end of the "
                    f"block that began it."
                )
            return None
        if not settling.was_written(self._app, settlement):
            raise settling.superseded(self._ending)
        assert self._outcome is not None
        self._ending.outcome = self._outcome
        return self._result, (None, self._result, SUCCESS, self._result)

    def _is_forgotten(self) -> bool:
        try:
            return borrowed.is_open(self._holder)
        except Exception:
            return False  # A driver that cannot tell of a connection that is gone.


def _begin(task: Any, connection: Any, result: Any) -> Completion:
    """Check that the job can be settled here and now, and gather its end."""
    app, request = task.app, task.request
    ending = outcome.current()
    _check(task, ending)
    assert ending is not None
    holder = borrowed.holder(connection)
    if borrowed.commits_at_once(holder):
        raise CompletionError(
            f"complete() of {task.name} needs a connection in a transaction, and this one "
            f"commits each statement at once: the job would be over before its work is. "
            f"Begin one first."
        )
    if not ending.settles:
        return Completion(app, ending, holder, result, None)
    # The body goes on, and may yet come to another end, if this one is rolled back.
    kept = ending.outcome
    ending.outcome = Outcome(kept.id, kept.claim_token, "")
    try:
        if request.callbacks or request.links:
            followups.send(app, request, result, request.id)
        publish = not get_actual_ignore_result(task, request)
        ending.mark_as_done(request.id, result, request, publish)
        made = ending.finish(None)
    finally:
        ending.outcome = kept
    return Completion(app, ending, holder, result, made)


def _check(task: Any, ending: Ending | None) -> None:
    request = task.request
    name = f"complete() of {task.name}"
    if request.is_eager:
        raise CompletionError(
            f"{name} was called in an eager run, which has no job to complete. Check "
            f"self.request.is_eager, or test the task with pgtasks.testing.perform_job()."
        )
    if ending is None or request.called_directly or ending.task_id != request.id:
        raise CompletionError(
            f"{name} was called outside of a run of it: it is for the body of a task, in "
            f"the thread and for the job that a worker runs there."
        )
    if keeps_jobs_in_memory(task.app):
        raise CompletionError(
            f"{name} was called with broker_url 'memory://': a job that is no row cannot be "
            f"settled in a transaction."
        )
    if transactional.option_of(task.__class__):
        raise CompletionError(
            f"{name}, which is transactional: its own connection settles the job when the "
            f"body returns. Leave the call out, or the option."
        )
    if request._completion is not None:
        raise CompletionError(
            f"{name} was called a second time: a job has one end. After a rollback, raise "
            f"an error to have it run again."
        )
    if ending.again or ending.replacement is not None:
        raise CompletionError(
            f"{name} was called after retry() or replace(), which have promised another end."
        )
