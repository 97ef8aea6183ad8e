"""Tasks that can be asked to stop, and look whether they have been.

A caller aborts, the task looks from time to time and ends as it sees fit:

    @app.task(bind=True, base=AbortableTask)
    def export(self, ids):
        for chunk in chunks(ids, 100):
            if self.is_aborted():
                return None
            write(chunk)

    result = export.delay(ids)
    result.abort()

Being asked is a state, ``ABORTED``, that the row shows in place of ``STARTED``. A task that
has not begun is told as well, and finds out when it does.
"""

from __future__ import annotations

from typing import Any, ParamSpec, TypeVar

from pgtasks.app.task import Task
from pgtasks.result import AsyncResult

__all__ = ["ABORTED", "AbortableAsyncResult", "AbortableTask"]

P = ParamSpec("P")
R = TypeVar("R")

#: The state of a task that has been asked to stop and still runs.
ABORTED = "ABORTED"


class AbortableAsyncResult(AsyncResult[R]):
    """The result of a task that can be asked to stop."""

    def is_aborted(self) -> bool:
        """Whether the task has been asked to stop, and still runs.

        When it has ended, the state is that of the end.
        """
        return bool(self.state == ABORTED)

    def abort(self) -> Any:
        """Ask the task to stop.

        It stops when it looks next, if it does: nothing makes it.
        """
        return self.backend.store_result(
            self.id, result=None, state=ABORTED, traceback=None
        )


class AbortableTask(Task[P, R]):
    """The base class of tasks that look whether they have been asked to stop."""

    abstract = True

    def AsyncResult(self, task_id: str, **kwargs: Any) -> Any:
        """Make the result of a call of this task."""
        return AbortableAsyncResult(
            task_id, **{"backend": self.backend, "app": self.app, **kwargs}
        )

    def is_aborted(self, **kwargs: Any) -> bool:
        """Whether somebody has asked this call to stop.

        It is a question to the database: ask often enough to stop in time, and not in
        every turn of a tight loop.

        Args:
            **kwargs: ``task_id``, to look at another call.
        """
        result = self.AsyncResult(kwargs.get("task_id", self.request.id))
        return isinstance(result, AbortableAsyncResult) and result.is_aborted()
