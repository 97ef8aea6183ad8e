"""Claims jobs and hands them to the pool."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from pgtasks.storage import jobs, limits, schema, workers
from pgtasks.storage.errors import (
    StorageBusy,
    StorageError,
    StorageFull,
    StorageMisconfigured,
    StorageUnavailable,
)
from pgtasks.storage.jobs import Claim
from pgtasks.worker.identity import boottime
from pgtasks.worker.service import Service

if TYPE_CHECKING:
    from pgtasks.job import Job
    from pgtasks.storage.database import Database
    from pgtasks.worker.begun import BegunFile
    from pgtasks.worker.gates import Gatekeeper

__all__ = ["Fetcher"]

logger = logging.getLogger("celery.worker")

REST = 0.005
"""Seconds between two claims of a busy worker. Slots come free one at a time: resting
lets one statement fill several (1,700 jobs/s without, 3,100 with, on 50 threads)."""

WARM = (0.001, 0.002, 0.003, 0.004)
"""Pauses after which an emptied queue is asked again before going to sleep. A worker
that keeps up with its producers finds the next job here and never asks them to
notify, which is what commits would queue up for."""

DENSE = 0.01
"""Seconds between two claims that found jobs, below which a worker wants no notifications.
Where jobs come more seldom it stays asleep, so to speak, and is told of each: that costs
less than going to sleep anew after every one, and starts it 2 ms sooner."""

NAP = 0.25
"""Seconds that a sleeping worker's thread waits before it sees whether it is time to look."""

NET = 60.0
"""Seconds between two claims of a sleeping worker for whom somebody else looks around."""

DRIFT = 3.0
"""Seconds during which a worker that fell asleep polls every 50 ms: a job whose transaction
was open at that moment is in nobody's notification. Not after each job that wakes it: one
in sixty would come just as it polls in vain, and wait for that, which is most of the 99th
percentile of an idle worker's start."""

MISFIT = 5.0
"""Seconds between two claims while the tables are not what they should be."""

SLOW_SCAN = 0.005
"""A claim that takes longer walks over dead rows: the next ones begin behind the last
job claimed, for twenty times as long as the claim took, at most a second (R7)."""


class Fetcher(Service):
    """Keeps the pool busy: claims as many jobs as it has room for, then waits.

    Four things wake it: a notification that jobs arrived, room in the pool, jobs that
    became due, and the poll, the net under notifications that never come (R26).

    Args:
        database: Where the jobs are.
        queues: Which queues to claim from; the list is read anew each time.
        demand: Says how many jobs can be taken now.
        submit: Takes them.
        begun: Says who we are, and how fresh the lease is.
        lease: Seconds that a heartbeat is good for.
        rerunnable: Gives the names of the tasks that may run again after a crash.
        poll_interval: Longest pause between two claims of an idle worker, in seconds, where
            notifications are not heard or nobody looks around.
        max_size: Arguments of more bytes are not loaded.
        backlog: How many outcomes wait to be written; over ``max_backlog`` no job is
            claimed (R11).
        listening: Whether notifications are heard at this moment; otherwise it polls as
            often as there were jobs lately.
        gates: Says which limits there are, of this worker and of the fleet.
        node: Name of the worker.
        watched: Whether somebody looks around and would wake us if jobs waited.
        on_awake: Called when inserts no longer notify.
    """

    name = "fetcher"

    def __init__(
        self,
        database: Database,
        queues: list[str],
        *,
        demand: Callable[[], int],
        submit: Callable[[list[Job]], None],
        begun: BegunFile,
        lease: float,
        rerunnable: Callable[[], Sequence[str]],
        poll_interval: float = 1.0,
        max_size: int = 2**30,
        backlog: Callable[[], int] = lambda: 0,
        max_backlog: int = 2000,
        listening: Callable[[], bool] = lambda: True,
        gates: Gatekeeper,
        node: str,
        watched: Callable[[], bool] = lambda: False,
        on_awake: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self.queues = queues
        self._database = database
        self._room = demand
        self._submit = submit
        self._begun = begun
        self._lease = lease
        self._rerunnable = rerunnable
        self._poll_interval = poll_interval
        self._max_size = max_size
        self._backlog = backlog
        self._max_backlog = max_backlog
        self._marks: dict[str, jobs.Mark] = {}
        self._bounded_until = 0.0
        self._doubtful: deque[tuple[str, str]] = deque()
        self._dry = False
        self._asleep = False
        self._asleep_at = 0.0
        self._last_job_at = 0.0
        self._looked_at = 0.0
        self._listening = listening
        self._gates = gates
        self._node = node
        self._watched = watched
        self._on_awake = on_awake
        self._failing = False
        # Seconds to wait before the next try, and whether news may cut them short.
        self._pause, self._hopeful = 0.0, True
        # Whoever claims holds it: our thread, but while it waits.
        self._turn = threading.Lock()
        self.last_fetch_at = time.time()

    @property
    def asleep(self) -> bool:
        """Whether it waits for notifications, which inserts send only then."""
        return self._asleep

    @property
    def dry(self) -> bool:
        """Whether the last claim took all there was: then jobs come with news, or by polling."""
        return self._dry

    def lend(self, count: int) -> Claim | None:
        """A claim for up to ``count`` jobs that come into being; None if they must queue up.

        They must where others wait that came before them, or where no place is free.
        """
        if not self._dry or self.stopping or self._demand() < count:
            return None
        worker, rerunnable = self._begun.worker, list(self._rerunnable())
        own_limits = self._gates.own_limits()
        queues = [queue for queue in self.queues if queue not in own_limits]
        return Claim(worker, str(uuid4()), queues, rerunnable, self._max_size, self._node)

    def take(self, claim: Claim, jobs: list[Job]) -> None:
        """Have the jobs of a claim that was lent run."""
        # Else we were declared dead meanwhile, and a sweep gives them back.
        if claim.worker == self._begun.worker:
            self._submit(jobs)

    def doubt(self, claim: Claim) -> None:
        """Ask for the jobs of a claim that was lent, and whose answer was lost."""
        self._doubtful.append((claim.worker, claim.token))
        self.wakeup.set()

    def heed(self) -> None:
        """Look for jobs, as there is news of some.

        Where our thread sleeps the one that brings the news claims in its place: to wake
        another thread takes 0.1 ms of the 3 that an idle worker needs to begin a job.
        """
        self._gates.news()
        if not self._asleep or not self._turn.acquire(blocking=False):
            self.wakeup.set()
            return
        try:
            demand = 0 if self.stopping or self._pause else self._demand()
            claimed = self._take_up(demand)
            # In vain, or as many as there was room for, or one after the other: then there
            # is more to it.
            if not 0 < claimed < demand or not self._asleep:
                self.wakeup.set()
        finally:
            self._turn.release()

    def run(self) -> None:
        """Claim while there is room and work; else wait for either."""
        with self._turn:
            self._fetch()

    def _fetch(self) -> None:
        fruitless = 0
        while not self.stopping:
            self._begun.turned_at = boottime()
            if self._pause:
                self._wait_out()
                continue
            demand = self._demand()
            # With no place free nobody knows what has come to wait meanwhile.
            self._dry = self._dry and demand > 0
            claimed = self._take_up(demand)
            if claimed:
                # Asleep, a worker is told of the next job; there is nothing to ask.
                fruitless = len(WARM) if self._asleep else 0
            if self._gates.busy:
                # Whoever holds a limit has it for the time of a commit.
                fruitless = 0
            if demand and claimed == demand:
                self._rest(REST)
            elif not demand:
                self._rest(self._poll_interval, at_least=REST)
            else:
                quiet = time.monotonic() - self._last_job_at
                fruitless = self._idle(fruitless, quiet)
        self._wake_up()

    def _take_up(self, demand: int) -> int:
        """Claim jobs and have them run; the answer is how many."""
        claimed = self._claim(demand) if demand or self._gates.freed else []
        if claimed:
            self._submit(claimed)
            before, self._last_job_at = self._last_job_at, time.monotonic()
            if self._last_job_at - before < DENSE:
                self._wake_up()
        return len(claimed)

    def _demand(self) -> int:
        if self._backlog() > self._max_backlog:
            return 0
        # The lease may have ended without our knowing: nothing may start that another
        # worker could be running already (R17).
        if boottime() - self._begun.renewed_at > 0.8 * self._lease or self._begun.condemned:
            return 0
        return self._room() if self.queues else 0

    def _claim(self, demand: int) -> list[Job]:
        worker, token = self._begun.worker, str(uuid4())
        incarnation = self._begun.incarnation
        bounded = time.monotonic() < self._bounded_until
        marks = {
            queue: self._marks.get(queue, jobs.LOWEST) if bounded else jobs.LOWEST
            for queue in self.queues
        }
        rooms = self._gates.rooms()
        if rooms:
            marks = {queue: mark for queue, mark in marks.items() if rooms.get(queue, 1)}
        freed: dict[str, int] = {}
        started = self._looked_at = time.monotonic()
        self._dry = asked = False
        try:
            if self._doubtful:
                lost_worker, lost_token = self._doubtful[0]
                claimed = self._database.run(
                    jobs.recover(
                        worker=lost_worker, token=lost_token, max_size=self._max_size
                    )
                )
                self._doubtful.popleft()
                if claimed.jobs:
                    self._gates.hold(job.id for job in claimed.jobs)
                    logger.info(
                        "Recovered %d jobs of a claim whose answer was lost.",
                        len(claimed.jobs),
                    )
                    return claimed.jobs
            if not marks and not self._gates.freed:
                return []
            asked = True
            terms: dict[str, Any] = {
                "demand": demand,
                "worker": worker,
                "token": token,
                "rerunnable": self._rerunnable(),
                "max_size": self._max_size,
                "node": self._node,
                "rooms": rooms,
            }
            if self._gates.wanted():
                freed = self._gates.take_freed()
                passed = self._database.run(limits.fetch(marks, freed=freed, **terms))
                self._gates.passed(passed)
                claimed = passed.claimed
            else:
                claimed = self._database.run(jobs.fetch(marks, **terms))
        except (StorageUnavailable, StorageBusy, StorageFull) as error:
            if isinstance(error, StorageUnavailable) and asked:
                self._doubtful.append((worker, token))
            self._gates.free(freed)
            self._trouble(error)
            return []
        except StorageMisconfigured as error:
            self._misfit(error)
            return []
        self._recovered()
        self.last_fetch_at = time.time()
        took = time.monotonic() - started
        if not bounded and took > SLOW_SCAN:
            self._bounded_until = time.monotonic() + min(1.0, 20 * took)
        elif bounded and len(claimed.jobs) < demand:
            # Behind the mark is nothing more: look at the whole queue again.
            self._bounded_until = 0.0
        self._marks.update(claimed.marks)
        if incarnation != self._begun.incarnation:
            # Declared dead while the answer was on its way: a sweep gives these back.
            return []
        self._dry = not (bounded or rooms) and len(claimed.jobs) < demand
        return claimed.jobs

    def _idle(self, fruitless: int, quiet: float) -> int:
        """Wait for news, ever more patiently; the answer counts the fruitless claims."""
        if fruitless < len(WARM):
            self._rest(WARM[fruitless])
            return fruitless + 1
        if not self._asleep:
            # Ask for notifications first and claim once more after that: a job may
            # have come in between.
            self._asleep = self._tell(asleep=True)
            self._asleep_at = time.monotonic()
            return fruitless
        # Woken in vain: the row may have been locked by somebody who waits for its
        # result, and is free in a moment.
        return 0 if self._doze(quiet) else fruitless

    def _doze(self, quiet: float) -> bool:
        """Wait for news until it is time to look; whether there were any."""
        if not self._listening():
            return self._rest(self._patience(quiet))
        if time.monotonic() - self._asleep_at < DRIFT:
            return self._rest(0.05)
        while not self.stopping and self._listening():
            # Two jobs may come together, and only the first of them be told of: after each
            # there are a few more looks, ever more seldom. Whoever brings the news claims
            # without us, so that we must see for ourselves when that was.
            now = time.monotonic()
            # We look up at each nap, so the loop turns, however long it is between claims.
            self._begun.turned_at = boottime()
            quiet = self._looked_at - max(self._last_job_at, self._asleep_at)
            most = NET if self._watched() else self._patience(now - self._asleep_at)
            left = self._looked_at + min(most, NAP + 4 * max(quiet, 0.0)) - now
            if left <= 0:
                return False
            if self._rest(min(NAP, left)):
                return True
        return False

    def _patience(self, quiet: float) -> float:
        return 0.05 if quiet < DRIFT else min(self._poll_interval, 0.05 + quiet / 20)

    def _rest(self, seconds: float, at_least: float = 0.0) -> bool:
        self._turn.release()
        if at_least:
            time.sleep(at_least)
        woken = self.wakeup.wait(seconds)
        self.wakeup.clear()
        self._turn.acquire()
        return woken

    def _wake_up(self) -> None:
        if self._asleep:
            self._asleep = not self._tell(asleep=False)
            self._on_awake()

    def _tell(self, *, asleep: bool) -> bool:
        try:
            self._database.run(workers.sleep(self._begun.worker, asleep))
        except StorageError as error:
            self._trouble(error)
            return False
        return True

    def _trouble(self, error: StorageError) -> None:
        if not self._failing:
            logger.warning("Cannot claim jobs, will go on trying: %s", error)
        self._failing = True
        # Jitter, so that a fleet does not come back to a restarted server in step.
        self._pause, self._hopeful = random.uniform(0.05, 0.5), True

    def _misfit(self, error: StorageMisconfigured) -> None:
        """The tables, or our rights, are not what we work with: a person must act.

        Then work goes on by itself, so the worker stays, and looks again now and then.
        """
        pause = min(MISFIT, self._lease / 2)
        if not self._failing:
            newest = max(each.version for each in schema.find())
            logger.error(
                "Cannot claim jobs: %s This worker needs version %d of the schema. It "
                "claims nothing until that is mended, and looks every %.1f s.",
                error,
                newest,
                pause,
            )
        self._failing = True
        # News of jobs are no news of the tables.
        self._pause, self._hopeful = pause, False

    def _wait_out(self) -> None:
        """Wait after a failure, before the next try."""
        until = time.monotonic() + self._pause
        while not self.stopping and (left := until - time.monotonic()) > 0:
            if self.wakeup.wait(left) and self._hopeful:
                break
            if not self.stopping:
                self.wakeup.clear()
        self._pause = 0.0

    def _recovered(self) -> None:
        if self._failing:
            logger.info("Claiming jobs again.")
        self._failing = False
