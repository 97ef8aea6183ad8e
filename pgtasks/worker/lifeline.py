"""Finds workers that died, and gives back what they held."""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from pgtasks.storage import jobs, workers
from pgtasks.storage.errors import StorageError
from pgtasks.telemetry import registry as telemetry
from pgtasks.worker import identity
from pgtasks.worker.begun import begun_path, is_abandoned, read_begun
from pgtasks.worker.service import Service

if TYPE_CHECKING:
    from pgtasks.job import Job
    from pgtasks.storage.database import Database
    from pgtasks.storage.workers import Held, Look, Worker

__all__ = ["Lifeline"]

logger = logging.getLogger("celery.worker")

MOST = 4.0
"""Seconds between two looks around, unless the lease asks for more of them. A notification
that was lost is made up for within that time."""

AUDIT = 3
"""Looks between two audits of a worker that holds jobs."""

STEP = 1.0
"""Seconds between two looks at the processes of this machine, which ask the kernel only."""


class Lifeline(Service):
    """Looks around, sweeps for dead workers, and audits its own (R13-R15, R18).

    Every worker sweeps; the statements make it harmless that several do. A worker is
    dead when its process on this machine is gone, or when its lease has ended *and*
    its beat was seen to stand still for a whole lease on our own clock: a restarted
    server or a clock that jumped declares nobody dead (R14).

    One statement asks whether there is anything to do, for the other services of the
    worker as well: they need not poll while it is `fresh`.

    Args:
        database: Where the jobs are.
        worker: Gives the id of the present incarnation.
        held: Gives the claim tokens of the jobs that this worker knows it holds.
        on_abandoned: Takes jobs that must not run again and are now ours to settle.
        on_rescued: Called when jobs wait again.
        lease: Seconds that a heartbeat of ours is good for.
        max_lost: A job whose workers vanish this often is given up.
        interval: Seconds between two looks; None follows from the lease.
        sweeps: Whether it does anything for the jobs of others, or only looks.
        view: Gives what the others want looked for, as arguments of `workers.look`.
        on_look: Told what there was to be seen.
    """

    name = "lifeline"

    def __init__(
        self,
        database: Database,
        *,
        worker: Callable[[], str],
        held: Callable[[], Collection[int]],
        on_abandoned: Callable[[Job], None],
        on_rescued: Callable[[], None],
        lease: float,
        max_lost: int = 10,
        interval: float | None = None,
        sweeps: bool = True,
        view: Callable[[], dict[str, Any]] = lambda: {"name": "", "queues": []},
        on_look: Callable[[Look], None] = lambda look: None,
    ) -> None:
        super().__init__()
        self._database = database
        self._worker = worker
        self._held = held
        self._on_abandoned = on_abandoned
        self._on_rescued = on_rescued
        self._interval = max(0.1, min(interval or MOST, lease / 4))
        self._max_lost = max_lost
        self._sweeps = sweeps
        self._view = view
        self._on_look = on_look
        self._seen: dict[str, tuple[int, float]] = {}
        self._neighbours: list[Worker] = []
        self._suspects: set[tuple[int, str]] = set()
        self._machine = identity.machine()
        self._looked_at = -math.inf
        self._audited_at = time.monotonic()

    @property
    def fresh(self) -> bool:
        """Whether it has looked around lately, and will again."""
        return not self.stopping and time.monotonic() - self._looked_at < 2 * self._interval

    def run(self) -> None:
        """Sweep at every interval; audit more seldom."""
        failing = False
        while not self.stopping:
            try:
                with telemetry.span("pgtasks.plugin", {"plugin": self.name}) as known:
                    known.update(self.sweep())
                failing = False
            except StorageError as error:
                if not failing:
                    logger.warning("Cannot look after other workers: %s", error)
                failing = True
            self._watch(self._interval * random.uniform(0.8, 1.2))
            self.wakeup.clear()

    def _watch(self, seconds: float) -> None:
        """Wait, unless a process of this machine is gone before that."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self.wakeup.wait(min(left, STEP)):
                return
            if self._sweeps and any(self._is_gone(other) for other in self._neighbours):
                return

    def sweep(self) -> dict[str, int]:
        """Declare dead who is dead, and give back what the dead held.

        Returns:
            How many jobs wait again, and how many must not.
        """
        look = self._database.run(workers.look(self._worker(), **self._view()))
        self._looked_at = time.monotonic()
        self._on_look(look)
        if not self._sweeps:
            return {}
        buried = self._bury(look.workers)
        rescued = {"rescued_count": 0, "discarded_count": 0}
        if look.orphaned or buried:
            rescued = self._rescue()
        if look.uncounted:
            released = self._database.run(jobs.recount())
            if released:
                logger.warning(
                    "Released %d jobs that waited for chords whose members are gone.",
                    released,
                )
        if not look.held:
            self._suspects = set()
        elif time.monotonic() - self._audited_at > AUDIT * self._interval:
            self.audit()
        return rescued

    def _bury(self, living: list[Worker]) -> int:
        me = self._worker()
        buried = 0
        for other in living:
            if other.id == me or not self._is_dead(other):
                continue
            if self._database.run(workers.bury(other.id, beat=other.beat)):
                buried += 1
                logger.warning(
                    "Worker %s (pid %d on %s) is gone: its last sign was %.1f s ago.",
                    other.name,
                    other.pid,
                    other.hostname,
                    other.silence,
                )
        known = {other.id for other in living}
        self._seen = {id: seen for id, seen in self._seen.items() if id in known}
        self._neighbours = [
            other for other in living if other.machine == self._machine and other.id != me
        ]
        return buried

    def audit(self) -> None:
        """Give back what the table says we hold and we know nothing of (R13).

        Unknown in two audits running: a claim may be on its way to us.
        """
        self._audited_at = time.monotonic()
        mine = self._database.run(workers.audit(self._worker()))
        known = self._held()
        unknown = {
            (each.id, each.claim_token): each for each in mine if each.id not in known
        }
        lasting = [each for key, each in unknown.items() if key in self._suspects]
        self._suspects = set(unknown)
        if lasting:
            logger.warning(
                "Giving back %d jobs that got lost on the way here.", len(lasting)
            )
            self._database.run(jobs.ack([_given_back(each) for each in lasting]))

    def _is_dead(self, other: Worker) -> bool:
        if self._is_gone(other):
            # Its children end with it, but a moment later.
            return is_abandoned(other.id) is not False
        now = identity.boottime()
        beat, since = self._seen.get(other.id, (-1, now))
        if other.beat != beat:
            self._seen[other.id] = (other.beat, now)
            return False
        return other.lapsed and now - since >= other.lease

    def _is_gone(self, other: Worker) -> bool:
        return other.machine == self._machine and not identity.is_alive(
            other.pid, other.process_started
        )

    def _rescue(self) -> dict[str, int]:
        counts = {"rescued_count": 0, "discarded_count": 0}
        graves = self._database.run(workers.graves())
        notes = {
            grave.id: read_begun(grave.id)
            for grave in graves
            if grave.machine == self._machine
        }
        traced = {id: begun for id, begun in notes.items() if begun is not None}
        # Without a grave the sweep still goes on: a row may name a worker that never was.
        while True:
            rescued = self._database.run(
                workers.rescue(
                    worker=self._worker(),
                    traced=list(traced),
                    begun=[id for begun in traced.values() for id in begun],
                    max_lost=self._max_lost,
                )
            )
            counts["rescued_count"] += rescued.released
            counts["discarded_count"] += len(rescued.abandoned)
            for job in rescued.abandoned:
                self._on_abandoned(job)
            if rescued.released or rescued.abandoned:
                logger.warning(
                    "Rescued jobs of vanished workers: %d wait again, %d had begun and "
                    "must not run twice.",
                    rescued.released,
                    len(rescued.abandoned),
                )
                self._on_rescued()
            else:
                break
        for id in traced:
            # A worker that was only stopped goes on with its file as a new one.
            if is_abandoned(id):
                begun_path(id).unlink(missing_ok=True)
        return counts


def _given_back(held: Held) -> jobs.Settlement:
    from pgtasks.job import Outcome

    outcome = Outcome(held.id, held.claim_token, "available", give_back=True)
    return jobs.settle(outcome, held.task_id)
