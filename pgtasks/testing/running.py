"""Runs one job here, as a worker would, and keeps what a worker forgets: the exception."""

from __future__ import annotations

from typing import Any, NamedTuple

from pgtasks import states
from pgtasks.app.execute import execute
from pgtasks.app.watching import WatchedEnding
from pgtasks.exceptions import Discard
from pgtasks.job import Job, Outcome
from pgtasks.utils.nodenames import anon_nodename

__all__ = ["Ran", "run"]

#: What a test calls the ends of a run, by the state in which they leave the job.
_ENDS = {
    states.COMPLETED: "completed",
    states.DISCARDED: "discarded",
    states.CANCELLED: "cancelled",
    states.RETRYABLE: "retryable",
    states.SCHEDULED: "snoozed",
    # It asked to be run again at once, or has taken its worker down and may run again.
    states.AVAILABLE: "retryable",
}


class Ran(NamedTuple):
    """How a run ended.

    Attributes:
        end: ``completed``, ``discarded``, ``cancelled``, ``retryable`` or ``snoozed``.
        outcome: Everything that the end writes.
        value: What the function returned.
        error: What it raised, if it failed; the reason, if it is to run again.
        interrupt: What was meant for the test and not for the worker: Ctrl-C, or a
            ``pytest.fail()`` in the task.
    """

    end: str
    outcome: Outcome
    value: Any
    error: BaseException | None
    interrupt: BaseException | None

    @property
    def failure(self) -> BaseException | None:
        """What went wrong; None if the task has said itself how it wants to end."""
        failed = self.end in ("discarded", "retryable")
        return self.error if failed and not isinstance(self.error, Discard) else None

    @property
    def again_for_nothing(self) -> bool:
        """Whether it is to run again without having used up an attempt: for ever, maybe."""
        return self.outcome.state in (states.SCHEDULED, states.AVAILABLE)


def run(app: Any, job: Job) -> Ran:
    """Run a claimed job in this process; nothing is written."""
    task = app.tasks.get(job.task)
    ending = WatchedEnding(app, job, app.backend if task is None else task.backend)
    # Whoever has claimed it writes its end, if there is a row at all.
    ending.settles = False
    outcome = execute(app, job, hostname=anon_nodename(), ending=ending)
    return Ran(_ENDS[outcome.state], outcome, ending.value, ending.error, ending.interrupt)
