"""One child process as the parent sees it: what it was sent, and how to stop it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from typing import TYPE_CHECKING

from pgtasks.job import Job
from pgtasks.worker.identity import is_stopped
from pgtasks.worker.pools import parcel

if TYPE_CHECKING:
    from pgtasks.worker.begun import BegunFile
    from pgtasks.worker.pools.base import Reports
    from pgtasks.worker.pools.nursery import Nursery

__all__ = ["Member"]


class Member:
    """A place in the pool, and the process that has it: one after the other over time.

    The pool calls it under its lock.

    Args:
        number: Which place.
        begun: Where the process notes what it begins.
    """

    def __init__(self, number: int, begun: BegunFile) -> None:
        self.number = number
        self.slot = begun.slot(number)
        self._begun = begun
        self._folder = begun.path.parent
        self.pid = 0
        self.near: socket.socket | None = None
        self.far: socket.socket | None = None
        self.ready = False
        self.born_at = 0.0
        self.jobs: dict[int, Job] = {}
        """Those that were sent to it and not yet reported."""
        self.head_since = 0.0
        self.soft_sent = False
        self.done = 0
        self.leaving = False
        """Whether it has no successor."""
        self.dismissed = False
        """Whether its process was told to end when its job has ended."""
        self.killed_for: float | None = None
        """The hard time limit that it was killed for."""

    @property
    def open(self) -> bool:
        """Whether it can be given jobs."""
        return self.ready and not self.dismissed and not self.leaving

    @property
    def alone(self) -> bool:
        """Whether it runs a suspect, which nothing may share a process with (R20)."""
        return any(job.lost or job.crashes for job in self.jobs.values())

    # ── birth and death ─────────────────────────────────────────────────────────────────

    def begin(self, nursery: Nursery) -> socket.socket:
        """Start a process; the answer is our end of the line to it."""
        self.near, self.far = parcel.pair()
        self.ready = self.dismissed = False
        self.jobs = {}
        self.killed_for = None
        self.slot.end()
        self.born_at = time.monotonic()
        self.pid = 0
        self.pid = nursery.spawn(self.number, self.far)
        return self.near

    def kill(self) -> None:
        """Kill the process, if there is one."""
        if self.near is not None and self.pid:
            # The news of its end may still be on the way to us.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def dismiss(self) -> None:
        """Have the process end with the job that it runs, if there is one."""
        if self.near is None or self.dismissed:
            return
        self.dismissed = True
        try:
            parcel.send(self.near, ("stop",), self._folder, wait=False)
        except OSError:
            self.kill()

    def end(self) -> None:
        """Close the line: the process has ended and is accounted for."""
        for line in (self.near, self.far):
            if line is not None:
                line.close()
        self.near = self.far = None
        self.ready = False

    # ── jobs ────────────────────────────────────────────────────────────────────────────

    def send(self, job: Job) -> bool:
        """Send it a job; False if it cannot be had now."""
        if self.near is None:
            return False
        try:
            message = (self._begun.incarnation, *job)
            parcel.send(self.near, message, self._folder, wait=False)
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            return False
        if not self.jobs:
            self.head_since = time.monotonic()
            self.soft_sent = False
        self.jobs[job.id] = job
        return True

    def take_back(self, buffer: bytearray) -> list[Job]:
        """Read what the process has not read: those jobs were never begun."""
        taken: list[Job] = []
        while self.far is not None:
            try:
                message = parcel.receive(self.far, buffer, wait=False)
            except (BlockingIOError, ConnectionResetError):
                break
            if message is None:
                break
            if message[0] == "stop":
                continue
            job = Job._make(message[1:])
            self.jobs.pop(job.id, None)
            taken.append(job)
        return taken

    def keep_limits(self, now: float, reports: Reports) -> None:
        """Interrupt or kill the process if its job has run for too long."""
        job = next(iter(self.jobs.values()))
        soft, hard = reports.limits(job)
        ran = now - self.head_since
        if hard is not None and ran >= hard:
            # Stopped first, so that it cannot go on to the next job in between: the
            # signal must hit the job that it is meant for, and no innocent one.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGSTOP)
            deadline = time.monotonic() + 0.1
            while not is_stopped(self.pid) and time.monotonic() < deadline:
                time.sleep(0.0005)
            if self.slot.running == job.id:
                self.killed_for = hard
                self.kill()
            else:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGCONT)
            return
        due = soft is not None and ran >= soft and not self.soft_sent
        if due and soft is not None and self.slot.running == job.id:
            self.soft_sent = True
            self.slot.soft_limit_for = job.id
            reports.timed_out(job, soft, soft=True)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGUSR1)
