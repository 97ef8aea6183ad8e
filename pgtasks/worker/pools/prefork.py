"""Runs jobs in child processes; this is the parent's side."""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pgtasks import signals
from pgtasks.job import Job
from pgtasks.storage.jobs import Settlement
from pgtasks.worker.identity import is_there
from pgtasks.worker.pools import parcel
from pgtasks.worker.pools.base import Pace, Pool, Reports
from pgtasks.worker.pools.member import Member
from pgtasks.worker.pools.nursery import Nursery

if TYPE_CHECKING:
    from pgtasks.worker.begun import BegunFile

__all__ = ["PreforkPool"]

logger = logging.getLogger("celery.pool")

TICK = 0.05
"""Seconds between looks at the clock: time limits, and jobs stuck behind a long one."""

PATIENCE = 0.2
"""Seconds that a job may wait here for a free child before it is handed back."""


class PreforkPool(Pool):
    """A parent that deals out jobs to children, and notices when one dies.

    Args:
        reports: The worker.
        concurrency: How many children.
        begun: Where children note the jobs that they begin.
        lease: Seconds that a heartbeat is good for.
        run_child: What a child does with its socket and its slot.
        alive_timeout: Seconds that a new child has to say that it is ready.
    """

    name = "prefork"
    in_process = False
    kills = True

    def __init__(
        self,
        reports: Reports,
        concurrency: int,
        begun: BegunFile,
        *,
        lease: float,
        run_child: Callable[[socket.socket, int], None],
        alive_timeout: float = 4.0,
    ) -> None:
        super().__init__(reports, concurrency, begun, lease=lease)
        self._nursery = Nursery(run_child, self._before_fork)
        self._alive_timeout = alive_timeout
        self._children = [Member(number, begun) for number in range(concurrency)]
        self._by_descriptor: dict[int, Member] = {}
        self._by_pid: dict[int, Member] = {}
        self._poll = select.poll()
        self._bell, self._ringer = os.pipe()
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._waiting: deque[tuple[float, Job]] = deque()
        self._pace = Pace()
        self._draining = False
        self._stopping = False
        self._buffer = bytearray(parcel.LARGEST + 1024)
        # Of those who hold the lock: our thread reads reports without it.
        self._unread = bytearray(parcel.LARGEST + 1024)
        self._folder = begun.path.parent
        self._thread = threading.Thread(target=self._run, name="pgtasks-pool", daemon=True)

    def start(self) -> None:
        """Start the children and the thread that listens to them."""
        self._poll.register(self._nursery.control, select.POLLIN)
        self._poll.register(self._bell, select.POLLIN)
        for child in self._children:
            self._spawn(child)
        self._thread.start()

    @property
    def demand(self) -> int:
        """Room in front of the children that have used up half of their share."""
        with self._lock:
            if self._draining or self._waiting:
                return 0
            ahead = self._pace.ahead
            room = 0
            for child in self._children:
                has = len(child.jobs)
                if child.open and has <= ahead // 2 and not child.alone:
                    room += ahead - has
            return room

    def submit(self, jobs: Sequence[Job]) -> None:
        """Deal out jobs; what finds no place waits a moment, then goes back."""
        now = time.monotonic()
        with self._lock:
            self._waiting.extend((now, job) for job in jobs)
            if self._draining:
                self._hand_back()
            else:
                self._deal()
            if self._waiting:
                os.write(self._ringer, b"!")

    def recall(self) -> None:
        """Take back what no child has read, and hand it on."""
        with self._lock:
            for child in self._children:
                self._take_back(child)
            self._hand_back()

    def drain(self) -> None:
        """Take back what no child has begun."""
        with self._lock:
            self._draining = True
            for child in self._children:
                self._take_back(child)
            self._hand_back()
            self._changed.notify_all()

    def wait(self, timeout: float | None) -> bool:
        """Wait until no child has a job."""
        with self._changed:
            return self._changed.wait_for(
                lambda: not any(child.jobs for child in self._children), timeout
            )

    def kill(self) -> None:
        """Kill the children; what they ran is reported lost."""
        with self._lock:
            self._draining = True
            for child in self._children:
                child.kill()

    def stop(self) -> None:
        """Let the children go, then the template."""
        with self._lock:
            self._draining = self._stopping = True
            for child in self._children:
                child.dismiss()
        with self._changed:
            gone = self._changed.wait_for(lambda: not self._by_pid, 5.0)
        if not gone:
            self.kill()
        os.write(self._ringer, b"!")
        self._thread.join(2.0)
        self._nursery.stop()

    # ── changing its size ───────────────────────────────────────────────────────────────

    def restart(self) -> None:
        """Have fresh children run the jobs; those that are there end with what they run.

        Fresh ones are copies of the same template: they have new memory and connections,
        and the code that the worker was started with.
        """
        with self._lock:
            for child in self._children:
                self._take_back(child)
                child.dismiss()
            os.write(self._ringer, b"!")

    def _resize(self, places: int) -> None:
        with self._lock:
            self.concurrency = places
            staying = [child for child in self._children if not child.leaving]
            # Those that have nothing to do go first, and those that run a job after it.
            idle_first = sorted(staying, key=lambda child: len(child.jobs))
            for child in idle_first[: max(0, len(staying) - places)]:
                self._let_go(child)
            missing = places - len(staying)
            for child in self._children:
                if child.leaving and missing > 0:
                    child.leaving = False
                    missing -= 1
            taken = {child.number for child in self._children}
            free = (number for number in range(self.begun.slots) if number not in taken)
            for _ in range(missing):
                self._children.append(Member(next(free), self.begun))
            # They are started by our thread, which is the one that talks to the template.
            os.write(self._ringer, b"!")

    def _let_go(self, child: Member) -> None:
        child.leaving = True
        if child.near is None:
            self._children.remove(child)
            return
        self._take_back(child)
        child.dismiss()

    def signal(self, job_id: int, number: int) -> bool:
        """Signal the child that runs this job now; False if none does."""
        with self._lock:
            for child in self._children:
                if job_id in child.jobs and child.slot.running == job_id:
                    os.kill(child.pid, number)
                    return True
        return False

    def running(self) -> dict[int, tuple[int, float]]:
        """The jobs that the children run now."""
        with self._lock:
            return {
                job: (child.pid, child.head_since)
                for child in self._children
                if (job := child.slot.running) in child.jobs
            }

    def describe(self) -> dict[str, object]:
        """Facts for ``inspect stats``, under Celery's names."""
        with self._lock:
            return {
                **super().describe(),
                "max-concurrency": self.concurrency,
                "processes": sorted(self._by_pid),
                "writes": {"total": sum(child.done for child in self._children)},
            }

    # ── the thread ──────────────────────────────────────────────────────────────────────

    def _run(self) -> None:
        try:
            while not (self._stopping and not self._by_pid):
                for descriptor, _ in self._poll.poll(TICK * 1000):
                    if descriptor == self._bell:
                        os.read(self._bell, 4096)
                    elif descriptor == self._nursery.control.fileno():
                        if not self._bury():
                            return
                    else:
                        self._hear(self._by_descriptor.get(descriptor))
                self._look_at_the_clock()
                # A child that died while another was being born: nobody else would say so,
                # and its job would be held here for ever.
                while self._nursery.has_kept_news:
                    if not self._bury():
                        return
        except BaseException as error:
            logger.critical("The pool's thread died: %r", error, exc_info=True)
            self.reports.died("pool", error)

    def _hear(self, child: Member | None) -> None:
        """Read what a child has to report."""
        while child is not None and child.near is not None:
            try:
                message = parcel.receive(child.near, self._buffer, wait=False)
            except (BlockingIOError, ConnectionResetError):
                return
            if message is None:
                return  # its end is news from the template
            if message[0] == "ready":
                child.ready = True
                self.reports.room()
                continue
            settlement = Settlement._make(message)
            with self._lock:
                job = child.jobs.pop(settlement.id, None)
                child.head_since = time.monotonic()
                child.soft_sent = False
                child.done += 1
                self._pace.note(settlement.runtime)
                hungry = len(child.jobs) <= self._pace.ahead // 2
                if self._waiting:
                    self._deal()
                if not child.jobs:
                    self._changed.notify_all()
            # Also without a job: made available by hand while it ran, it may have been
            # claimed once more, by us, and stand in our books but once.
            self.reports.settled(settlement, job)
            if hungry:
                self.reports.room()

    def _look_at_the_clock(self) -> None:
        now = time.monotonic()
        with self._lock:
            for child in self._children:
                if child.near is None:
                    if not self._draining and now >= child.born_at:
                        self._spawn(child)
                    continue
                if not child.ready and not child.dismissed:
                    if now - child.born_at > self._alive_timeout:
                        logger.error(
                            "Child %d was not ready within %.1f s (worker_proc_alive_timeout); "
                            "it is replaced.",
                            child.pid,
                            self._alive_timeout,
                        )
                        child.kill()
                        child.born_at = now
                    continue
                if child.jobs:
                    child.keep_limits(now, self.reports)
                    if len(child.jobs) > 1 and now - child.head_since > TICK:
                        self._take_back(child)
            if self._waiting:
                self._deal()
                patient = [each for each in self._waiting if now - each[0] <= PATIENCE]
                impatient = [job for since, job in self._waiting if now - since > PATIENCE]
                self._waiting = deque(patient)
                for job in impatient:
                    self.reports.unbegun(job)

    # ── dealing (under the lock) ────────────────────────────────────────────────────────

    def _deal(self) -> None:
        """Give waiting jobs to the children with the least to do."""
        ahead = self._pace.ahead
        ready = [child for child in self._children if child.open]
        stay: deque[tuple[float, Job]] = deque()
        while self._waiting:
            since, job = self._waiting.popleft()
            suspect = bool(job.lost or job.crashes)
            child = min(
                (
                    each
                    for each in ready
                    if len(each.jobs) < (1 if suspect else ahead) and not each.alone
                ),
                key=lambda each: len(each.jobs),
                default=None,
            )
            if child is None or not child.send(job):
                stay.append((since, job))
                if not suspect:
                    break
        stay.extend(self._waiting)
        self._waiting = stay

    def _take_back(self, child: Member) -> None:
        """What a child has not read was never begun, and may wait for another."""
        now = time.monotonic()
        self._waiting.extend((now, job) for job in child.take_back(self._unread))

    def _hand_back(self) -> None:
        while self._waiting:
            self.reports.unbegun(self._waiting.popleft()[1])

    def _before_fork(self) -> None:
        # Where it may still be of use: what must not be copied is closed in the process
        # that is copied, which for children is not the worker's own.
        signals.worker_before_create_process.send(sender=self)

    # ── birth and death (under the lock) ────────────────────────────────────────────────

    def _spawn(self, child: Member) -> None:
        near = child.begin(self._nursery)
        self._by_pid[child.pid] = child
        self._by_descriptor[near.fileno()] = child
        self._poll.register(near, select.POLLIN)

    def _bury(self) -> bool:
        """See to the children that ended; False if the template itself did."""
        ends = self._nursery.ended()
        if ends is None:
            if not self._stopping:
                self._lay_out_all()
                self.reports.died("pool", ChildProcessError("its template process ended"))
            return False
        for pid, status in ends:
            child = self._by_pid.get(pid)
            if child is not None:
                self._hear(child)
                with self._lock:
                    self._lay_out(child, status)
        return True

    def _lay_out_all(self) -> None:
        """The template was killed, and its children die with it: account for their jobs.

        Nobody else could: this process will claim no more, and what was never begun must
        not be taken for lost.
        """
        with self._lock:
            self._draining = True
            for child in list(self._by_pid.values()):
                child.kill()
                deadline = time.monotonic() + 2.0
                while is_there(child.pid) and time.monotonic() < deadline:
                    time.sleep(0.001)
                self._hear(child)
                self._lay_out(child, signal.SIGKILL)
            self._hand_back()

    def _lay_out(self, child: Member, status: int) -> None:
        del self._by_pid[child.pid]
        self._take_back(child)
        # What it neither reported nor left unread, it had received; and it had begun
        # it, unless it died between reading and noting.
        left, child.jobs = list(child.jobs.values()), {}
        begun = [job for job in left if child.slot.last == job.id]
        for job in left:
            if job not in begun:
                self._waiting.append((time.monotonic(), job))
            elif child.killed_for is not None:
                self.reports.timed_out(job, child.killed_for, soft=False)
            else:
                self.reports.lost(job, status)
        assert child.near is not None
        del self._by_descriptor[child.near.fileno()]
        self._poll.unregister(child.near)
        child.end()
        if status and not begun and not self._draining and child.killed_for is None:
            logger.error(
                "Child %d ended with wait status %d while idle.", child.pid, status
            )
        # One that dies as soon as it is born would be born a hundred times a second.
        short_lived = (
            time.monotonic() - child.born_at < 1.0 and not child.done and not begun
        )
        child.born_at = time.monotonic() + (1.0 if short_lived else 0.0)
        if child.leaving:
            self._children.remove(child)
        if self._draining:
            self._hand_back()
        elif not short_lived and not child.leaving:
            self._spawn(child)
        self._changed.notify_all()
