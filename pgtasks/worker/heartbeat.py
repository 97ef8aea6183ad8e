"""Renews the worker's lease, from where user code cannot stall it."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

from pgtasks.storage import workers
from pgtasks.storage.errors import StorageError
from pgtasks.worker.identity import (
    NOT_OURS,
    boottime,
    die_with_parent,
    is_alive,
    is_stopped,
    process_started,
)
from pgtasks.worker.service import Service

if TYPE_CHECKING:
    from pgtasks.storage.database import Database
    from pgtasks.worker.begun import BegunFile

__all__ = ["Heartbeat", "Keeper", "beat_once"]

logger = logging.getLogger("celery.worker")


def beat_once(database: Database, begun: BegunFile, lease: float) -> bool:
    """Renew the lease if the worker makes progress; False if it cannot be renewed now.

    A worker whose main loop hangs is not alive, whatever its heartbeat says (R12),
    unless a job of its own holds the interpreter.
    """
    now = boottime()
    if begun.condemned or not begun.renewed_at:
        return False
    if now - begun.turned_at > lease and not begun.busy():
        return False
    if database.run(workers.beat(begun.worker), timeout=max(1.0, lease / 4)):
        # What counts is when the renewal was asked for, not when it was answered (R22).
        begun.renewed_at = now
        return True
    begun.condemned = True
    return False


class Heartbeat(Service):
    """A thread, for pools whose jobs run in processes of their own."""

    name = "heartbeat"

    def __init__(
        self, database: Database, begun: BegunFile, *, lease: float, interval: float
    ) -> None:
        super().__init__()
        self._database = database
        self._begun = begun
        self._lease = lease
        self.interval = interval

    def run(self) -> None:
        """Beat at every interval; try sooner after a failure."""
        failing = False
        while not self.stopping:
            pause = self.interval
            try:
                beat_once(self._database, self._begun, self._lease)
                failing = False
            except StorageError as error:
                if not failing:
                    logger.warning("Missed a heartbeat: %s", error)
                failing = True
                pause = min(1.0, self.interval / 4)
            self.wakeup.wait(pause)
            self.wakeup.clear()


class Keeper:
    """A small process that beats for its parent, for pools that share its interpreter.

    A regular expression that holds the interpreter for a minute would stall a thread
    (7.2 s of 7.2 s measured); nobody must declare such a worker dead. The process is
    forked before the worker has threads or connections. It ends with its parent, and
    it does not beat while the parent is stopped.
    """

    def __init__(
        self, database: Database, begun: BegunFile, *, lease: float, interval: float
    ) -> None:
        self.interval = interval
        parent, started = os.getpid(), process_started(os.getpid())
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if not self.pid:
            try:
                _keep(database, begun, lease, interval, parent, started)
            finally:
                os._exit(0)

    def stop(self) -> None:
        """End the process."""
        try:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


def _keep(
    database: Database,
    begun: BegunFile,
    lease: float,
    interval: float,
    parent: int,
    started: float,
) -> None:
    die_with_parent()
    for number in NOT_OURS:
        signal.signal(number, signal.SIG_IGN)
    beaten_at = 0.0
    while os.getppid() == parent and is_alive(parent, started):
        if boottime() - beaten_at >= interval and not is_stopped(parent):
            try:
                if beat_once(database, begun, lease):
                    beaten_at = boottime()
            except StorageError:
                pass  # the parent meets the same outage and says so
        # Short pauses, not one long wait: an orphan should be gone within a second.
        threading.Event().wait(min(interval, 0.5))
