"""One job that runs inside of the worker, and what is to be said of its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pgtasks.storage.jobs import settle

if TYPE_CHECKING:
    from pgtasks.job import Job, Outcome
    from pgtasks.worker.begun import Slot
    from pgtasks.worker.pools.base import Reports

__all__ = ["Run"]


class Run:
    """A job between its beginning and its end.

    Args:
        job: The job.
        slot: Where its beginning is noted.

    Attributes:
        since: When it began (monotonic).
        body: By which it can be interrupted: of a coroutine, or a greenlet.
        limits: What will interrupt it at its time limits.
        verdict: Reports what becomes of it, once it has been ended by force.
    """

    __slots__ = ("body", "job", "limits", "since", "slot", "verdict")

    def __init__(self, job: Job, slot: Slot) -> None:
        self.job = job
        self.slot = slot
        self.since = time.monotonic()
        self.body: Any = None
        self.limits: list[Any] = []
        self.verdict: Callable[[], object] | None = None

    def decide(self, verdict: Callable[[], object]) -> None:
        """It has been told to end, whatever it does now; the first to say so is right."""
        if self.verdict is None:
            self.verdict = verdict

    def report(
        self, outcome: Outcome | None, reports: Reports, *, shows: bool = False
    ) -> None:
        """Tell of its end.

        Args:
            outcome: What its task has made of it; None if that was interrupted.
            reports: The worker.
            shows: Say what it returned or raised, too.
        """
        settlement = None
        if outcome is not None:
            settlement = settle(outcome, self.job.task_id, shows=shows)
        # What a transactional task has committed stands, whoever wanted to end it.
        stands = settlement is not None and settlement.written is not None
        if self.verdict is not None and not stands:
            self.verdict()
        elif settlement is not None:
            reports.settled(settlement, self.job)
        else:
            reports.lost(self.job, 0)
