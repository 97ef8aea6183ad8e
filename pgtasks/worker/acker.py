"""Writes back what became of the jobs, in batches."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from pgtasks.app.traceinfo import printable
from pgtasks.job import Error, Outcome
from pgtasks.storage import jobs
from pgtasks.storage.errors import BadData, StorageError, StorageMisconfigured
from pgtasks.worker.service import Service

if TYPE_CHECKING:
    from pgtasks.job import Job
    from pgtasks.storage.database import Database
    from pgtasks.storage.jobs import Claim, Settlement

__all__ = ["Acker"]

logger = logging.getLogger("celery.worker")

BATCH = 500
"""Settlements of one statement. While it runs the next batch gathers, so that there is
nothing to tune: an idle worker acks one at a time, a busy one hundreds."""


class Claims(Protocol):
    """What claims jobs, and says when an acknowledgement may do so in passing."""

    def lend(self, count: int) -> Claim | None:
        """A claim for up to ``count`` jobs that begin here at once; None if they must wait."""

    def take(self, claim: Claim, jobs: list[Job]) -> None:
        """These were claimed by it."""

    def doubt(self, claim: Claim) -> None:
        """Nobody knows whether it claimed anything: its answer was lost."""


SILENCE = 60.0
"""Seconds between two remarks about rows that were taken away from under their jobs."""


class Acker(Service):
    """Keeps every settlement until the database has taken it or refused it (R11).

    An outage makes the acks wait, not fail; the fetcher stops claiming meanwhile. A
    batch that the database refuses for its content is halved until the culprit stands
    alone; that one is written as a failure of its result, and no other is delayed.

    Args:
        database: Where the jobs are.
        on_settled: Told the ids that are off our hands, whoever settled them.
        on_runnable: Told the queues in which there are jobs now because of what ended:
            the next link of a chain starts at once, without a notification.
        claims: May let what follows from a job begin here with the job's end, when nothing
            else waits for the free place.
    """

    name = "acker"

    def __init__(
        self,
        database: Database,
        on_settled: Callable[[Sequence[Settlement]], None],
        on_runnable: Callable[[set[str]], None] = lambda queues: None,
        claims: Claims | None = None,
    ) -> None:
        super().__init__()
        self._database = database
        self._on_settled = on_settled
        self._on_runnable = on_runnable
        self._claims = claims
        self._waiting: deque[Settlement] = deque()
        self._in_flight = 0
        self._idle = threading.Condition()
        self._failing = False
        self.refused = 0
        self._told = 0
        self._silent_until = 0.0

    @property
    def backlog(self) -> int:
        """How many settlements are not yet written."""
        return len(self._waiting) + self._in_flight

    def put(self, settlement: Settlement) -> None:
        """Have ``settlement`` written; never blocks."""
        self._waiting.append(settlement)
        self.wakeup.set()

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything is written; False if it takes longer."""
        with self._idle:
            return self._idle.wait_for(lambda: not self.backlog, timeout)

    def run(self) -> None:
        """Write what waits; on stopping, to the last one."""
        while self._waiting or not self.stopping:
            if not self._waiting:
                self.wakeup.wait()
                self.wakeup.clear()
                continue
            batch: list[Settlement] = []
            while self._waiting and len(batch) < BATCH:
                # In flight first: the backlog is never seen as empty in between.
                self._in_flight += 1
                batch.append(self._waiting.popleft())
            # Those that have settled themselves are told of here all the same: who hears of it
            # may ask the database, for which no thread of a pool has time.
            themselves = [each for each in batch if each.written is not None]
            if themselves:
                self._on_settled(themselves)
                self._on_runnable(
                    {queue for each in themselves for queue in each.written or ()}
                )
                batch = [each for each in batch if each.written is None]
            if batch:
                self._write(batch)
            self._in_flight = 0
            with self._idle:
                self._idle.notify_all()

    def _write(self, batch: list[Settlement]) -> None:
        while True:
            claim = self._claim(batch)
            try:
                acked = self._database.run(jobs.ack(batch, claim))
                if claim is not None and self._claims is not None and acked.jobs:
                    self._claims.take(claim, list(acked.jobs))
                if len(acked.ids) < len(batch):
                    self._look_into([each for each in batch if each.id not in acked.ids])
                if acked.queues:
                    self._on_runnable(acked.queues)
                break
            except BadData as error:
                self._isolate(batch, error)
                return
            except StorageError as error:
                if claim is not None and self._claims is not None:
                    self._claims.doubt(claim)
                # Also what no retry seems to mend (a dropped table, a lost grant): a
                # person may mend it, and what the jobs did must not be forgotten.
                if not self._failing:
                    logger.warning(
                        "Cannot write %d finished jobs, will go on trying: %s",
                        self.backlog,
                        error,
                    )
                self._failing = True
                hopeless = isinstance(error, StorageMisconfigured)
                pause = random.uniform(0.5, 2.0) if hopeless else random.uniform(0.05, 0.5)
                threading.Event().wait(pause)
        if self._failing:
            logger.info("Writing finished jobs again.")
        self._failing = False
        self._on_settled(batch)

    def _claim(self, batch: list[Settlement]) -> Claim | None:
        following = sum(len(each.follow_ups) for each in batch)
        # While the database is in trouble everything goes the long way, which knows how.
        if not following or self._claims is None or self._failing:
            return None
        return self._claims.lend(following)

    def _isolate(self, batch: list[Settlement], error: BadData) -> None:
        if len(batch) > 1:
            middle = len(batch) // 2
            self._write(batch[:middle])
            self._write(batch[middle:])
            return
        [culprit] = batch
        logger.error(
            "The database refuses the result of job %s: %s. The job is discarded; its "
            "effects stand.",
            printable(culprit.task_id),
            error,
        )
        message = f"The result could not be stored: {error}".replace("\0", "\\x00")[:2000]
        outcome = Outcome(
            culprit.id,
            culprit.claim_token,
            "discarded",
            result=None,
            error=Error("EncodeError", message, ""),
            traceback=message,
        )
        self._write([jobs.settle(outcome, culprit.task_id)])

    def _look_into(self, refused: list[Settlement]) -> None:
        """Tell an answer that was lost (R9) from a job that is no longer ours."""
        written = self._database.run(jobs.settled(refused))
        for settlement in refused:
            if settlement.id in written:
                continue
            if settlement.abandoned:
                continue  # the worker that we gave up finished its job after all
            if settlement.state in jobs.FINAL_STATES and self._database.run(
                jobs.salvage(settlement)
            ):
                logger.info(
                    "Job %s had been given up, but finished after all.",
                    printable(settlement.task_id),
                )
                continue
            self.refused += 1
            self._tell_of_refusal(settlement)

    def _tell_of_refusal(self, settlement: Settlement) -> None:
        # A TRUNCATE takes away thousands at once.
        now = time.monotonic()
        if now < self._silent_until:
            return
        self._silent_until = now + SILENCE
        more = self.refused - self._told - 1
        self._told = self.refused
        logger.warning(
            "Job %s is no longer ours: its row was taken over, changed or deleted. "
            "What it returned here is dropped.%s",
            printable(settlement.task_id),
            f" So it was with {more:,} more since this was last said." if more else "",
        )
