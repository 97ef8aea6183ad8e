"""What is said about queues, and the gates of the fleet's limits, as one worker sees them."""

from __future__ import annotations

import heapq
import logging
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from pgtasks.storage import limits, queues, workers
from pgtasks.storage.errors import StorageError
from pgtasks.worker.service import Service

if TYPE_CHECKING:
    from pgtasks.storage.limits import Passed
    from pgtasks.worker.worker import Worker

__all__ = ["Gatekeeper", "serve"]

logger = logging.getLogger("celery.worker")

LOOK = 0.05
"""Seconds between two claims through gates while none of them brings anything: a claim that
minds gates costs twice what a plain one does."""

SWEEP = 2.0
"""Seconds between two looks for places that nobody gave back, and lines nobody looks at."""

REFRESH = 5.0
"""Seconds between two looks at what is said about queues. News come by notification; a pause
is obeyed by the claim itself."""


class Gatekeeper(Service):
    """Gives places back when jobs end, and tells the fetcher which gates have room.

    Nothing here decides who may run: the claim does that, with the gates locked. What is
    known here says when it pays to ask, and what is lost with a worker is found again by the
    sweeps of the others.

    Args:
        worker: Whose jobs hold the places.
        queue_limits: How many jobs of a queue may run here at a time, unless something else
            has been said about it since.
    """

    name = "gatekeeper"

    def __init__(self, worker: Worker, queue_limits: Mapping[str, int]) -> None:
        super().__init__()
        self._worker = worker
        self._queue_limits = dict(queue_limits)
        self._words = queues.Words({}, limits=False)
        self._served: dict[str, bool] = {}
        self._lock = threading.Lock()
        self._holding: set[int] = set()
        self._ended: deque[int] = deque()
        self._freed: dict[str, int] = {}
        self._later: list[tuple[float, str, int]] = []
        self._told = True
        self._news = False
        self._looked_at = self._refreshed_at = self._swept_at = 0.0
        self._line = ""
        self._turn = 0
        #: Others held gates that were needed: it pays to ask again in a moment.
        self.busy = False

    # ── for the fetcher ─────────────────────────────────────────────────────────────────

    @property
    def limited(self) -> bool:
        """Whether some queue may have so many jobs here and no more."""
        return bool(self._queue_limits or self._words.worker_limits)

    def own_limits(self) -> dict[str, int]:
        """How many jobs of a queue may run here at a time."""
        return {**self._queue_limits, **self._words.worker_limits}

    def rooms(self) -> dict[str, int]:
        """How many more jobs of these queues may be claimed."""
        if not self.limited:
            return {}
        held = Counter(job.queue for job in self._worker.held())
        return {
            queue: max(limit - held[queue], 0) for queue, limit in self.own_limits().items()
        }

    @property
    def freed(self) -> bool:
        """Whether there are gates to look at, be there places for jobs or not."""
        return bool(self._freed)

    def news(self) -> None:
        """Jobs have come, perhaps with limits."""
        self._news = True

    def wanted(self) -> bool:
        """Whether the next claim should go through the gates."""
        if not self._words.limits:
            return False
        return bool(
            self._freed
            or self._news
            or self.busy
            or time.monotonic() - self._looked_at >= LOOK
        )

    def take_freed(self) -> dict[str, int]:
        """The gates that have room again; whoever takes them looks at them."""
        with self._lock:
            freed, self._freed = self._freed, {}
        self._news = False
        return freed

    def free(self, gates: Mapping[str, int]) -> None:
        """These gates have room."""
        with self._lock:
            for gate, jobs in gates.items():
                self._freed[gate] = max(self._freed.get(gate, 0), jobs)

    def passed(self, passed: Passed) -> None:
        """A claim went through the gates."""
        self._holding |= passed.placed
        self.busy = passed.busy
        self._looked_at = time.monotonic()
        self.free(passed.again)
        if passed.later:
            now = time.monotonic()
            with self._lock:
                for gate, jobs, wait in passed.later:
                    heapq.heappush(self._later, (now + max(wait, 0.0), gate, jobs))
            self.wakeup.set()

    def hold(self, ids: Iterable[int]) -> None:
        """These jobs may hold places."""
        if self._words.limits:
            self._holding.update(ids)

    # ── for the books ───────────────────────────────────────────────────────────────────

    def ended(self, ids: Sequence[int]) -> None:
        """These jobs are no longer held here."""
        if self._holding:
            mine = self._holding.intersection(ids)
            if mine:
                self._holding -= mine
                self._ended.extend(mine)
                # Here and now: to wake a thread, and that one another, would cost each place
                # some milliseconds on a busy machine.
                try:
                    self._release()
                except StorageError:
                    self._told = True
                    self.wakeup.set()
        if self.limited:
            self._worker.fetcher.wakeup.set()

    # ── the thread ──────────────────────────────────────────────────────────────────────

    def tell(self, payload: str | None) -> None:
        """Something was said about queues or limits."""
        self._told = True
        self.wakeup.set()

    def prepare(self) -> None:
        """Obey what was said before this worker was there, before it claims anything."""
        declared = limits_of(self._worker)
        if declared:
            self._worker.app.database.run(limits.declare(declared), retry=True)
        self._refresh()

    def run(self) -> None:
        """Give back, look, and obey, each when there is reason to."""
        failing = False
        while not self.stopping:
            try:
                self._do()
                failing = False
            except StorageError as error:
                if not failing:
                    logger.warning("Cannot look after limits, will go on trying: %s", error)
                failing = True
                self._told = True
                threading.Event().wait(random.uniform(0.05, 0.5))
            self.wakeup.wait(self._pause())
            self.wakeup.clear()
        try:
            self._release()
        except StorageError:
            pass  # Others find what it has left.

    def _do(self) -> None:
        now = time.monotonic()
        listening = self._worker.app.notifier.listening
        if self._told or now - self._refreshed_at > (REFRESH if listening else 1.0):
            self._refresh()
        self._release()
        self._let_through()
        if self._words.limits and now - self._swept_at > SWEEP * random.uniform(0.8, 1.2):
            self._swept_at = now
            self._sweep()

    def _pause(self) -> float:
        if self._ended or self._told:
            return 0.0
        with self._lock:
            due = self._later[0][0] if self._later else None
        pause = SWEEP if self._words.limits else REFRESH
        if not self._worker.app.notifier.listening:
            pause = 1.0
        return pause if due is None else min(pause, max(due - time.monotonic(), 0.0))

    def _refresh(self) -> None:
        self._told = False
        before = self._words
        self._words = self._worker.app.database.run(queues.words(self._worker.hostname))
        self._refreshed_at = time.monotonic()
        served = self._words.served
        wanted = list(self._worker.queues)
        for queue, serves in served.items():
            # Said once and obeyed once: add_consumer may say otherwise later.
            if self._served.get(queue) is serves or (queue in wanted) is serves:
                continue
            wanted = [*wanted, queue] if serves else [q for q in wanted if q != queue]
        self._served = served
        if wanted != self._worker.queues:
            serve(self._worker, wanted, "as was said about them")
        if before != self._words:
            self._news = True
            self._worker.fetcher.wakeup.set()

    def _release(self) -> None:
        ended = []
        while self._ended:
            ended.append(self._ended.popleft())
        if not ended:
            return
        try:
            freed = self._worker.app.database.run(limits.release(ended))
        except StorageError:
            self._ended.extend(ended)
            raise
        self._offer(freed)

    def _let_through(self) -> None:
        now = time.monotonic()
        due: dict[str, int] = {}
        with self._lock:
            while self._later and self._later[0][0] <= now:
                _, gate, jobs = heapq.heappop(self._later)
                due[gate] = max(due.get(gate, 0), jobs)
        self._offer(due)

    def _sweep(self) -> None:
        """Find what died workers, deleted rows and races have left behind (R15)."""
        database = self._worker.app.database
        freed = database.run(limits.release(None))
        self._line, room = database.run(limits.lines(self._line))
        self._turn += 1
        if self._turn % 300 == 7:
            database.run(limits.tidy())
        self._offer({**freed, **room})

    def _offer(self, gates: Mapping[str, int]) -> None:
        if gates:
            self.free(gates)
            self._worker.fetcher.heed()


def limits_of(worker: Worker) -> list[limits.Limit]:
    """The rules of the tasks that the worker knows."""
    found = []
    for task in list(worker.app.tasks.values()):
        rules = getattr(task, "limits", None)
        if rules is not None:
            found += rules.declared()
    return found


def describe(worker: Worker, served: Sequence[str] | None = None) -> None:
    """Write where everybody looks what a worker serves, and how many jobs at a time."""
    worker.app.database.run(
        workers.describe(
            worker.begun.worker,
            queues=list(worker.queues if served is None else served),
            concurrency=worker.concurrency,
            info={},
        ),
        retry=True,
    )


def serve(worker: Worker, served: Sequence[str], why: str) -> None:
    """Serve these queues from now on."""
    # First where producers look whom to wake, or a job could come unheard in between.
    describe(worker, served)
    # In place: the fetcher reads this very list.
    worker.queues[:] = served
    worker.fetcher.wakeup.set()
    logger.info("Serving %s from now on (%s).", ", ".join(served) or "no queue", why)
