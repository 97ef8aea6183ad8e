"""What the worker asks of a pool, and what a pool tells the worker."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from pgtasks.app.traceinfo import printable
from pgtasks.exceptions import ImproperlyConfigured
from pgtasks.worker.begun import Slots

if TYPE_CHECKING:
    from pgtasks.job import Job
    from pgtasks.storage.jobs import Settlement
    from pgtasks.worker.begun import BegunFile

__all__ = ["AHEAD", "MOST_AHEAD", "Pace", "Pool", "Reports"]

logger = logging.getLogger("celery.pool")

AHEAD = 0.01
"""Seconds of work that an executor may have waiting behind the job it runs: enough for
a claim to fetch the next, too little for another worker to miss it."""

MOST_AHEAD = 128
"""Jobs that may wait behind one executor, however short they are."""


class Reports(Protocol):
    """The worker, as a pool sees it. May be called from any thread."""

    def settled(self, settlement: Settlement, job: Job | None) -> None:
        """A job has ended or given up its turn."""

    def unbegun(self, job: Job) -> None:
        """A job will not be begun here: hand it back."""

    def lost(self, job: Job, status: int) -> None:
        """The process that ran this job died with this wait status."""

    def timed_out(self, job: Job, limit: float, *, soft: bool) -> None:
        """A time limit was reached; at the hard one the process has been killed."""

    def room(self) -> None:
        """The pool can take more jobs."""

    def limits(self, job: Job) -> tuple[float | None, float | None]:
        """The soft and the hard time limit of this job, in seconds."""

    def overdue(self, job: Job) -> Exception:
        """What is raised in the task of this job at its soft limit."""

    def resized(self, places: int) -> None:
        """The pool has this many places from now on."""

    def died(self, what: str, error: BaseException | None) -> None:
        """The pool itself is broken: the worker must end."""


class Pace:
    """How long jobs take here: quick to rise, slow to fall.

    One long job means that nothing should wait behind the next one; it takes some
    thirty short ones to believe in short jobs again.
    """

    __slots__ = ("seconds",)

    def __init__(self) -> None:
        self.seconds = AHEAD

    def note(self, runtime: float) -> None:
        """A job took ``runtime`` seconds."""
        if runtime > self.seconds:
            self.seconds = runtime
        else:
            self.seconds += (runtime - self.seconds) * 0.1

    @property
    def ahead(self) -> int:
        """How many jobs an executor should have, the running one included."""
        return max(1, min(MOST_AHEAD, int(AHEAD / max(self.seconds, 1e-6))))


class Pool(ABC):
    """Runs jobs. `demand` says how many it could take, `submit` gives them to it.

    Args:
        reports: The worker.
        concurrency: How many jobs run at a time.
        begun: Where executors note the jobs that they begin, one slot each.
        lease: Seconds that a heartbeat is good for.
    """

    name = "pool"
    in_process = True
    """Whether jobs run in the worker's own process."""
    kills = False
    """Whether a hard time limit can be kept."""

    def __init__(
        self, reports: Reports, concurrency: int, begun: BegunFile, *, lease: float
    ) -> None:
        self.reports = reports
        self.concurrency = concurrency
        self.begun = begun
        self.slots = Slots(begun)
        self.lease = lease

        self._told_of_limits = False

    @abstractmethod
    def start(self) -> None:
        """Be ready to run jobs."""

    @property
    @abstractmethod
    def demand(self) -> int:
        """How many more jobs it makes sense to claim now."""

    @abstractmethod
    def submit(self, jobs: Sequence[Job]) -> None:
        """Take these jobs; each is reported exactly once."""

    @abstractmethod
    def recall(self) -> None:
        """Report unbegun whatever waits: it was claimed by an earlier incarnation (R16)."""

    @abstractmethod
    def drain(self) -> None:
        """Begin no job any more; those that wait are reported unbegun."""

    @abstractmethod
    def wait(self, timeout: float | None) -> bool:
        """Wait until no job runs; False if it takes longer."""

    @abstractmethod
    def kill(self) -> None:
        """End running jobs by force where that is possible."""

    @abstractmethod
    def stop(self) -> None:
        """End the executors; nothing runs any more."""

    @abstractmethod
    def running(self) -> dict[int, tuple[int, float]]:
        """The jobs that run now, by id: in which process, and since when (monotonic)."""

    def signal(self, job_id: int, number: int) -> bool:
        """Signal the process that runs this job and no other; False if there is none."""
        return False

    def tell_of_limits(self, job: Job) -> None:
        """Say once that a time limit is not kept, where this job has one."""
        if not self._told_of_limits and any(self.reports.limits(job)):
            self._told_of_limits = True
            logger.warning(
                "Task %s has a time limit, and what it does in the pool %r cannot be "
                "interrupted: such limits are not kept there. They are in prefork.",
                printable(job.task),
                self.name,
            )

    # ── changing its size ───────────────────────────────────────────────────────────────

    @property
    def num_processes(self) -> int:
        """How many jobs run at a time, by Celery's name."""
        return self.concurrency

    def grow(self, n: int = 1) -> None:
        """Run ``n`` more jobs at a time from now on.

        Raises:
            ValueError: There is no room in the notes for so many.
        """
        places = self.concurrency + _more(n)
        if places > self.begun.slots:
            raise ValueError(
                f"The pool has {self.concurrency} places and can have {self.begun.slots}, but "
                f"not {places}: a worker makes room for twice as many as it starts with, and "
                f"32 more. Start it with a larger -c or --autoscale."
            )
        self._resize(places)
        self.reports.resized(places)

    def shrink(self, n: int = 1) -> None:
        """Run ``n`` fewer jobs at a time; those that run may end.

        Raises:
            ValueError: There are not so many places.
        """
        places = self.concurrency - _more(n)
        if places < 0:
            raise ValueError(
                f"The pool has {self.concurrency} places, and not {n} to lose."
            )
        self._resize(places)
        self.reports.resized(places)

    def restart(self) -> None:
        """Have fresh processes run the jobs; what runs may end.

        Raises:
            ImproperlyConfigured: This pool has no processes of its own.
        """
        raise ImproperlyConfigured(
            f"The pool {self.name!r} runs jobs inside of the worker, so that there are no "
            f"processes to replace. Restart the worker."
        )

    def _resize(self, places: int) -> None:
        raise ImproperlyConfigured(
            f"The pool {self.name!r} runs one job at a time, and no other number."
        )

    def describe(self) -> dict[str, object]:
        """Facts for ``inspect stats``."""
        return {"implementation": f"{type(self).__module__}:{type(self).__name__}"}


def _more(n: int) -> int:
    if n < 0:
        raise ValueError(f"n={n!r}: write how many places, 0 or more.")
    return int(n)
