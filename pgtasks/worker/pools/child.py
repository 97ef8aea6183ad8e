"""What a child process does: read a job, note it, run it, report it, again."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pgtasks.job import Job, Outcome
from pgtasks.storage.jobs import settle
from pgtasks.worker.pools import parcel
from pgtasks.worker.shutdown import install_debugger

if TYPE_CHECKING:
    from types import FrameType

    from pgtasks.worker.begun import BegunFile, Slot

__all__ = ["Child"]

logger = logging.getLogger("celery.pool")


class Child:
    """The life of one child, callable in a freshly forked process.

    Args:
        execute: Runs a job and says what became of it.
        begun: The worker's notes.
        lease: Seconds that a heartbeat is good for.
        max_jobs: Jobs after which it makes room for a fresh process.
        max_memory: Resident kilobytes above which it does so.
        on_start: Called before the first job (``worker_process_init``).
        on_stop: Called after the last, with the exit code (``worker_process_shutdown``).
    """

    def __init__(
        self,
        execute: Callable[[Job], Outcome],
        begun: BegunFile,
        *,
        lease: float,
        max_jobs: int | None = None,
        max_memory: int | None = None,
        on_start: Callable[[], None] = lambda: None,
        on_stop: Callable[[int], None] = lambda code: None,
    ) -> None:
        self._execute = execute
        self._begun = begun
        self._lease = lease
        self._max_jobs = max_jobs
        self._max_memory = max_memory
        self._on_start = on_start
        self._on_stop = on_stop

    def __call__(self, parent: socket.socket, number: int) -> None:
        """Serve until told to stop, or worn out."""
        slot = self._begun.slot(number)
        _set_signals(slot)
        # What `%(processName)s` shows in logs, as in Celery.
        process: Any = multiprocessing.current_process()
        process.name, process.index = f"ForkPoolWorker-{number + 1}", number
        self._on_start()
        folder = self._begun.path.parent
        buffer = bytearray(parcel.LARGEST + 1024)
        parcel.send(parent, ("ready",), folder, wait=True)
        done = 0
        while True:
            message = parcel.receive(parent, buffer, wait=True)
            if message is None or message[0] == "stop":
                break
            job = Job._make(message[1:])
            # Before anything of the job runs: from here on it may not be run again by
            # anyone who does not know that it may.
            slot.begin(job.id)
            if self._begun.may_begin(message[0], self._lease):
                outcome = self._execute(job)
            else:
                outcome = Outcome(job.id, job.claim_token, "available", give_back=True)
            report: tuple[Any, ...] = tuple(
                settle(outcome, job.task_id, shows=self._begun.watched)
            )
            slot.end()
            # Reported before the next one begins: a job that kills this process takes
            # no finished one with it.
            parcel.send(parent, report, folder, wait=True)
            done += 1
            if self._is_worn_out(done) or (outcome.error is not None and _has_run_dry()):
                break
        self._on_stop(0)

    def _is_worn_out(self, done: int) -> bool:
        if self._max_jobs and done >= self._max_jobs:
            return True
        if self._max_memory:
            used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            if sys.platform == "darwin":
                used //= 1024
            if used > self._max_memory:
                logger.info(
                    "Child %d used %d kB, more than --max-memory-per-child=%d; it is replaced.",
                    os.getpid(),
                    used,
                    self._max_memory,
                )
                return True
        return False


def _has_run_dry() -> bool:
    """Whether a job has used up this process's file descriptors, and keeps them.

    The next job could neither connect nor import anything, and would fail in its place.
    """
    try:
        os.close(os.dup(0))
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            logger.error(
                "Child %d is out of file descriptors; it is replaced.", os.getpid()
            )
            return True
    return False


def _set_signals(slot: Slot) -> None:
    # The terminal sends Ctrl-C to every process of the worker; only the parent decides
    # what it means.
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    install_debugger()

    def on_soft_limit(number: int, frame: FrameType | None) -> None:
        # Late by a hair it would hit the next job.
        if slot.running and slot.soft_limit_for == slot.running:
            slot.soft_limit_for = 0
            _raise_limit()

    signal.signal(signal.SIGUSR1, on_soft_limit)


def _raise_limit() -> None:
    """Raise the soft limit in the task that runs: in its coroutine, if that waits."""
    from pgtasks._state import _task_stack
    from pgtasks.app import coroutines
    from pgtasks.app.interruption import limit_reached

    error = limit_reached(_task_stack.top)
    if not coroutines.interrupt(error):
        raise error
