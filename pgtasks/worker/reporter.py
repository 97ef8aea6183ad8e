"""Tells those who listen what happens in this worker: Celery's events, in bundles."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pgtasks.events import bundles
from pgtasks.storage import events
from pgtasks.storage.errors import StorageError
from pgtasks.utils.time import utcoffset
from pgtasks.worker import news, state
from pgtasks.worker.service import Service

if TYPE_CHECKING:
    from pgtasks.job import Job
    from pgtasks.storage.jobs import Settlement
    from pgtasks.worker.worker import Worker

__all__ = ["Reporter"]

logger = logging.getLogger("celery.worker")

FREQUENCY = 2.0
"""Seconds between heartbeats."""

TICK = 0.1
"""Seconds that events gather before they are written: as many rows a second, at most."""

SOON = 0.02
"""The same for the first ones after a while."""

LOOK = 60.0
"""Seconds between looks whether anybody listens, while we would be told …"""

LOOK_DEAF = 2.0
"""… and while we would not."""

BUNDLE = 1000
"""Events in one row."""

MOST = 20_000
"""Beginnings and ends that may wait to be told; of more nothing is told."""

UNTOLD = 50
"""Bundles that are kept while the database takes none."""


SILENCE = 60.0
"""Seconds between two remarks about a fault of our own."""


class Reporter(Service):
    """Gathers what the worker's books say, and writes it down for those who listen.

    While nobody does, nothing is gathered. What gathers costs the books one entry a batch;
    all else is done in this thread, which nobody waits for: whatever goes wrong here is
    logged, and no job is late because of it.

    Args:
        worker: The worker.
        task_events: Tell of tasks, too.
        freq: Seconds between heartbeats; None has none sent.
    """

    name = "reporter"

    def __init__(self, worker: Worker, *, task_events: bool, freq: float | None) -> None:
        super().__init__()
        self._worker = worker
        self._app = app = worker.app
        self.freq = freq
        groups = () if task_events else ("worker",)
        self.dispatcher = app.events.Dispatcher(
            app.connection_for_write(),
            hostname=worker.hostname,
            enabled=task_events or freq is not None,
            groups=groups,
        )
        self.dispatcher.on_enabled.add(self.wakeup.set)
        self.dispatcher.on_disabled.add(self.wakeup.set)
        self._listened = False
        #: Somebody may have begun to listen.
        self._asked = True
        self._gathered: deque[tuple[str, float, Sequence[Any]]] = deque()
        self._count = self._lost = 0
        self._bundles: deque[str] = deque(maxlen=UNTOLD)
        #: Jobs that are known to have begun.
        self._begun: set[int] = set()
        self._signals: dict[int, int] = {}
        self._failing = False
        self._told_at = self._looked_at = self._beaten_at = self._silent_until = 0.0

    # ── for the books ───────────────────────────────────────────────────────────────────

    @property
    def awake(self) -> bool:
        """Whether anybody wants to hear of tasks."""
        return self._listened and self._tells_tasks

    @property
    def _tells_tasks(self) -> bool:
        dispatcher = self.dispatcher
        return dispatcher.enabled and (not dispatcher.groups or "task" in dispatcher.groups)

    def received(self, jobs: Sequence[Job]) -> None:
        """These were claimed, and are about to run."""
        self._gather("received", jobs)

    def settled(self, ends: Sequence[tuple[Settlement, Job | None]]) -> None:
        """These have ended, and that is written."""
        self._gather("settled", ends)

    def terminated(self, job: Job, signum: int) -> None:
        """This one was revoked, and ended by a signal."""
        self._signals[job.id] = signum

    def _gather(self, what: str, jobs: Sequence[Any]) -> None:
        if self._count > MOST:
            self._lost += len(jobs)
            return
        self._gathered.append((what, round(time.time(), 6), jobs))
        self._count += len(jobs)
        if not self.wakeup.is_set():
            self.wakeup.set()

    def heed(self, word: str | None) -> None:
        """Somebody has begun to listen; what they say is not believed, but looked at."""
        self._asked = True
        self.wakeup.set()

    def beat_soon(self) -> None:
        """Send a heartbeat now, if somebody listens."""
        self._beaten_at = 0.0
        self.wakeup.set()

    # ── the thread ──────────────────────────────────────────────────────────────────────

    def run(self) -> None:
        """Tell, until stopped; then tell that."""
        unsubscribe = self._app.notifier.subscribe("pgtasks.event_receivers", self.heed)
        try:
            self._guarded(self._begin)
            while not self.stopping:
                self.wakeup.wait(self._pause())
                self.wakeup.clear()
                if self._gathered and not self.stopping:
                    soon = self._told_at + TICK - time.monotonic()
                    time.sleep(max(SOON, min(TICK, soon)))
                self._guarded(self._turn)
            self._guarded(self._end)
        finally:
            unsubscribe()

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
            if self._failing:
                logger.info("Sending events again.")
            self._failing = False
        except StorageError as error:
            if not self._failing:
                logger.warning("Cannot send events, will go on trying: %s", error)
            self._failing = True
        except Exception:
            # News, not work: a worker does not limp for want of it.
            self._forget()
            if time.monotonic() >= self._silent_until:
                self._silent_until = time.monotonic() + SILENCE
                logger.exception("Events were lost.")

    def _pause(self) -> float:
        now = time.monotonic()
        if self._failing or (self.awake and self._worker.held()):
            # Which of them have begun is seen by looking.
            return TICK if not self._failing else 1.0
        if self._listened:
            return max(0.0, self._beaten_at + (self.freq or FREQUENCY) - now)
        if not self.dispatcher.enabled:
            return LOOK
        looks = LOOK if self._app.notifier.listening else LOOK_DEAF
        return max(0.0, self._looked_at + looks - now)

    def _begin(self) -> None:
        self._look()
        if self._listened:
            self._say("worker-online")

    def _turn(self) -> None:
        now = time.monotonic()
        if not self.dispatcher.enabled:
            self._rest()
            return
        asked = self._asked
        beats = now - self._beaten_at >= (self.freq or FREQUENCY)
        if asked or (beats if self._listened else now - self._looked_at >= LOOK_DEAF):
            self._look()
        if not self._listened:
            self._rest()
            return
        self._worker.begun.watched = self._tells_tasks
        if asked or (beats and self.freq is not None):
            self._say("worker-heartbeat")
        if asked or beats:
            self._beaten_at = now
        if not self._tells_tasks:
            self._forget()
        elif self._gathered or self._worker.held():
            self._bundle()
        self._write()

    def _end(self) -> None:
        if self._listened:
            if self._tells_tasks:
                self._bundle()
            self._write()
            self._say("worker-offline")

    def _look(self) -> None:
        self._looked_at = time.monotonic()
        self._asked = False
        try:
            self._listened = self._app.database.run(events.listened())
        except StorageError:
            self._asked = True
            raise

    def _rest(self) -> None:
        self._worker.begun.watched = False
        self._forget()

    def _forget(self) -> None:
        self._gathered.clear()
        self._count = self._lost = 0
        self._begun.clear()
        self._signals.clear()

    def _say(self, type: str) -> None:
        """Tell of the worker itself."""
        self.dispatcher.send(
            type,
            freq=self.freq or FREQUENCY,
            active=len(self._worker.pool.running()),
            processed=state.all_total_count[0],
            loadavg=[round(load, 2) for load in os.getloadavg()],
            **state.SOFTWARE_INFO,
        )

    # ── tasks ───────────────────────────────────────────────────────────────────────────

    def _bundle(self) -> None:
        """Make bundles of what has gathered."""
        if self._lost:
            lost, self._lost = self._lost, 0
            logger.warning(
                "%d events are lost: they come faster than they can be sent.", lost
            )
        rows: list[news.Row] = []
        arrivals: dict[int, news.Row] = {}
        sends = bool(self._app.conf.task_send_sent_event)
        while self._gathered:
            what, now, jobs = self._gathered.popleft()
            if what == "received":
                for job in jobs:
                    if self._wants(job):
                        row = arrivals[job.id] = news.received(job, now)
                        rows.append(row)
                continue
            for settlement, job in jobs:
                arrival = arrivals.pop(settlement.id, None)
                self._tell_end(rows, settlement, job, now, arrival)
                if sends and settlement.follow_ups:
                    rows += news.sent_by(settlement, now)
        self._count = 0
        self._tell_begun(rows)
        if not rows:
            return
        clock = self._app.clock.take(3 * len(rows))
        for row in rows:
            row[1] = clock
            clock += 3
        common = {
            "hostname": self._worker.hostname,
            "pid": os.getpid(),
            "utcoffset": utcoffset(),
        }
        for start in range(0, len(rows), BUNDLE):
            part = rows[start : start + BUNDLE]
            self._bundles.append(bundles.pack(common, news.FIELDS, part))

    def _tell_end(
        self,
        rows: list[news.Row],
        settlement: Settlement,
        job: Job | None,
        now: float,
        arrival: news.Row | None,
    ) -> None:
        begun = settlement.id in self._begun
        self._begun.discard(settlement.id)
        signum = self._signals.pop(settlement.id, None)
        if job is not None and not self._wants(job):
            return
        row = news.ending(settlement, now, signum)
        if row is None:
            return
        if arrival is not None and not begun and row[0] == "task-succeeded":
            news.make_whole(arrival, row)
            return
        if not begun and (settlement.runtime or row[0] in _BEGUN):
            # It was over before anybody looked.
            began = round(now - settlement.runtime, 6)
            rows.append(news.started(settlement.task_id, began))
        rows.append(row)

    def _tell_begun(self, rows: list[news.Row]) -> None:
        """Tell which jobs have begun, of those that are not over yet."""
        held = {job.id: job for job in self._worker.held()}
        now, moment = time.time(), time.monotonic()
        for id, (_, since) in self._worker.pool.running().items():
            job = held.get(id)
            if job is not None and id not in self._begun:
                self._begun.add(id)
                if self._wants(job):
                    rows.append(news.started(job.task_id, now - (moment - since)))

    def _wants(self, job: Job) -> bool:
        """Whether the task of a job has events."""
        return bool(getattr(self._app._tasks.get(job.task), "send_events", True))

    def _write(self) -> None:
        while self._bundles:
            text = self._bundles[0]
            self._listened = self._app.database.run(events.tell(text))
            self._bundles.popleft()
            self._told_at = time.monotonic()
            if not self._listened:
                self._bundles.clear()
                self._rest()


_BEGUN = frozenset({"task-succeeded", "task-failed", "task-retried"})
