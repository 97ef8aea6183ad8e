"""An ending of a job that keeps what a worker forgets: the value and the exception."""

from __future__ import annotations

import sys
from typing import Any

from pgtasks.app.outcome import Ending
from pgtasks.exceptions import Retry, TaskRevokedError
from pgtasks.job import Job
from pgtasks.utils.serialization import UnpickleableExceptionWrapper

__all__ = ["WatchedEnding"]


class WatchedEnding(Ending):
    """An ending that remembers what it was told.

    Attributes:
        value: What the function returned.
        error: What it raised, if it failed; the reason, if it is to run again.
        interrupt: What was not meant for the worker: Ctrl-C, or a ``pytest.fail()``.
    """

    __slots__ = ("error", "interrupt", "value")

    def __init__(self, app: Any, job: Job, backend: Any) -> None:
        super().__init__(app, job, backend)
        self.value: Any = None
        self.error: BaseException | None = None
        self.interrupt: BaseException | None = None

    def mark_as_done(self, task_id: str, result: Any, *args: Any, **kwargs: Any) -> None:
        """It returned ``result``."""
        super().mark_as_done(task_id, result, *args, **kwargs)
        self.value = result

    def mark_as_failure(
        self, task_id: str, exc: BaseException, *args: Any, **kwargs: Any
    ) -> None:
        """It failed with ``exc``."""
        self._note(exc)
        super().mark_as_failure(task_id, exc, *args, **kwargs)

    def mark_as_retry(
        self, task_id: str, exc: BaseException | None, *args: Any, **kwargs: Any
    ) -> None:
        """It is going to run again because of ``exc``."""
        self._note(exc)
        super().mark_as_retry(task_id, exc, *args, **kwargs)

    def mark_as_revoked(
        self, task_id: str, reason: Any = "", *args: Any, **kwargs: Any
    ) -> None:
        """It was cancelled."""
        super().mark_as_revoked(task_id, reason, *args, **kwargs)
        self.error = TaskRevokedError(reason)

    def mark_as_requeued(self) -> None:
        """It was given back."""
        super().mark_as_requeued()
        self._note(None)

    def _note(self, exc: BaseException | None) -> None:
        raised = sys.exc_info()[1]
        if isinstance(exc, UnpickleableExceptionWrapper) and raised is not None:
            exc = raised  # The wrapper is for workers, which must send it on.
        self.error = exc.exc if isinstance(exc, Retry) else exc
        if raised is not None and not isinstance(raised, (Exception, SystemExit)):
            self.interrupt = raised
