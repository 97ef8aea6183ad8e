"""How a worker stops: warm lets running jobs end, soft for a while, cold kills them."""

from __future__ import annotations

import _thread
import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pgtasks import signals
from pgtasks.storage import workers
from pgtasks.storage.errors import StorageError
from pgtasks.worker import state, telling
from pgtasks.worker.heartbeat import Keeper

if TYPE_CHECKING:
    from pgtasks.job import Job
    from pgtasks.storage.database import Database
    from pgtasks.worker.acker import Acker
    from pgtasks.worker.begun import BegunFile
    from pgtasks.worker.consumer import Consumer
    from pgtasks.worker.fetcher import Fetcher
    from pgtasks.worker.heartbeat import Heartbeat
    from pgtasks.worker.pools.base import Pool
    from pgtasks.worker.service import Service
    from pgtasks.worker.stager import Stager

__all__ = ["EX_FAILURE", "EX_OK", "EX_SOFTWARE", "Stopping", "say"]

logger = logging.getLogger("celery.worker")

EX_OK = 0
EX_FAILURE = 1
EX_SOFTWARE = 70

TICK = 0.1
"""Seconds between two looks whether a stop has been made faster meanwhile."""

PATIENCE = 10.0
"""Seconds that a cold stop gives to what killed jobs leave to be written: longer would be
no cold stop, and what is not written is rescued like the jobs of a worker that dies."""

LEAVE = 2.0
"""Seconds that a job in the main thread has to let go of it, when it has been given up."""


def say(text: str, file: Any = None) -> None:
    """Write a line to the terminal, from wherever: no lock, no buffer, as in Celery.

    Args:
        text: The line.
        file: Where to, if not to the standard output that the process began with.
    """
    file = sys.__stdout__ if file is None else file
    # There may be none, or a closed one: nobody is to fail to stop for that.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.write(file.fileno(), f"\n{text}\n".encode(errors="backslashreplace"))


class Stopping:
    """The part of a worker that ends it, whoever asks for that, and how often.

    The first who asks has the worker stopped; those who come later can only make it
    faster. What was claimed and not begun is handed back at once in any case: it is
    available for others when the statement commits, and costs no attempt.

    Attributes:
        exitcode: The exit code of the process, by the first who asked; a cold stop is no
            failure of its own, as in Celery, though receivers of ``worker_shutting_down``
            are told 1.
        restarts: The program is to be started anew when the worker has stopped.
        left: Set by `start` when it leaves.
        leaves_by_force: The process is the worker's own, and ends even if a job cannot
            be made to.
    """

    if TYPE_CHECKING:
        app: Any
        hostname: str
        pool: Pool
        acker: Acker
        fetcher: Fetcher
        stager: Stager
        begun: BegunFile
        heart: Heartbeat | Keeper
        consumer: Consumer
        autoscaler: Any
        _services: list[Service]
        _unsubscribe: list[Callable[[], None]]
        _ack_database: Database
        _held: dict[int, Job]
        _cold: bool

        stop_steps: Callable[..., None]
        on_close: Callable[[], None]
        on_stopped: Callable[[], None]
        lost: Callable[[Job, int], None]

    exitcode: int
    restarts = False
    leaves_by_force = False

    def prepare_to_stop(self) -> None:
        """Be ready to be stopped: before anything of the worker has begun."""
        self.exitcode = EX_OK
        self._asking = threading.Lock()
        self._stop_begun = False
        self._cold_asked = False
        self._cooled_at = 0.0
        self._killed: set[int] = set()
        self._hurry = threading.Event()
        self._cooled = threading.Event()
        self._ended = threading.Event()
        self.left = threading.Event()

    @property
    def stopping(self) -> bool:
        """Whether somebody has had it stopped."""
        return self._stop_begun

    @property
    def ended(self) -> bool:
        """Whether it has stopped."""
        return self._ended.is_set()

    # ── asking ──────────────────────────────────────────────────────────────────────────

    def stop(
        self,
        in_sighandler: bool = False,
        exitcode: int | None = None,
        *,
        cold: bool = False,
        soft: bool = False,
        sig: str | None = None,
    ) -> None:
        """Stop: warm lets running jobs end, cold kills them.

        Whoever is first returns when the worker has stopped; a cold stop may overtake a
        warm one, and one without ``soft`` another with it.

        Args:
            in_sighandler: It is called by a signal handler, and must not wait.
            exitcode: The exit code of the process.
            cold: Kill what runs.
            soft: But give it ``worker_soft_shutdown_timeout`` seconds before that.
            sig: Name of the signal that asks for it, for ``worker_shutting_down``.
        """
        if in_sighandler:
            self.stop_soon(cold=cold, soft=soft, exitcode=exitcode, sig=sig)
            return
        with self._asking:
            first, self._stop_begun = not self._stop_begun, True
            colder = cold and not self._cold_asked
            self._cold_asked = self._cold_asked or cold
            # A worker that cannot go on is a failure, however it was being stopped.
            if exitcode is not None and (first or exitcode == EX_SOFTWARE):
                self.exitcode = exitcode
        if cold and not soft:
            self._hurry.set()
        if colder:
            # In a thread of its own: it must not depend on how far the other has come, nor
            # on what receivers do.
            threading.Thread(
                target=self._cool_down, args=(sig,), name="pgtasks-cold", daemon=True
            ).start()
        if first or colder:
            signals.worker_shutting_down.send(
                sender=self.hostname,
                sig=sig,
                how="Cold" if cold else "Warm",
                exitcode=EX_FAILURE if cold else self.exitcode,
            )
        if first:
            self._stop(cold)

    def terminate(self, in_sighandler: bool = False) -> None:
        """Stop cold."""
        self.stop(in_sighandler, cold=True)

    def died(self, what: str, error: BaseException | None) -> None:
        """A thread lost its duty: a worker that limps is worse than none."""
        logger.critical("The worker cannot go on without its %s and stops.", what)
        self.stop_soon(cold=True, exitcode=EX_SOFTWARE)

    def stop_soon(
        self,
        *,
        cold: bool = False,
        soft: bool = False,
        exitcode: int | None = None,
        sig: str | None = None,
    ) -> None:
        """`stop` in a thread of its own, for those whom it waits for."""

        def stop() -> None:
            try:
                self.stop(cold=cold, soft=soft, exitcode=exitcode, sig=sig)
            except BaseException:
                # A worker that cannot even stop would hang for ever: what it holds is
                # rescued like that of any other worker that dies.
                logger.critical("The worker could not stop in order.", exc_info=True)
                self.exitcode = EX_SOFTWARE
                self._ended.set()
            # The main thread may be in a job that a cold stop has given up (pool solo).
            # It must not go on beside the one who runs it again.
            given_up = self.leaves_by_force and self._ended.is_set() and self.pool.running()
            if given_up and not self.left.wait(LEAVE):
                os._exit(self.exitcode)

        # Not by Thread.start(), which waits for the thread: a signal's handler may run in
        # gevent's hub, where nothing may wait.
        _thread.start_new_thread(stop, ())

    # ── killing ─────────────────────────────────────────────────────────────────────────

    def wait_for_soft_shutdown(self) -> None:
        """Let what runs have ``worker_soft_shutdown_timeout`` seconds to end.

        It is not waited for longer than anything runs; with
        ``worker_enable_soft_shutdown_on_idle`` all of the time, as in Celery.
        """
        conf = self.app.conf
        seconds = conf.worker_soft_shutdown_timeout or 0
        on_idle = bool(conf.worker_enable_soft_shutdown_on_idle)
        if seconds <= 0 or self._hurry.is_set() or not (on_idle or not self.pool.wait(0)):
            return
        logger.warning("Initiating Soft Shutdown, terminating in %s seconds", seconds)
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and not self._hurry.is_set():
            if on_idle:
                self._hurry.wait(left)
            elif self.pool.wait(min(left, TICK)):
                break

    def _cool_down(self, sig: str | None) -> None:
        try:
            self.wait_for_soft_shutdown()
            if sig is not None:
                say("worker: Cold shutdown (MainProcess)")
                state.should_terminate = EX_FAILURE
        finally:
            self._cold = True
            try:
                # Drained first, so that nothing begins behind the back of this; and where
                # nothing runs, the processes of the pool end in order.
                self.pool.drain()
                if not self.pool.wait(0):
                    self._killed = set(self.pool.running())
                    self.pool.kill()
            finally:
                self._cooled_at = time.monotonic()
                self._cooled.set()

    # ── the stop itself ─────────────────────────────────────────────────────────────────

    def _stop(self, cold: bool) -> None:
        began = time.monotonic()
        self.on_close()
        for unsubscribe in self._unsubscribe:
            unsubscribe()
        if self.autoscaler is not None and self.autoscaler.is_alive():
            self.autoscaler.stop()
        self.fetcher.stop()
        self.stager.stop()
        self.stop_steps(cold=cold)
        self._until(self.fetcher.join)
        books: Any = self
        books.rates.stop()
        books.rates.join(5.0)
        books.let_go()
        self.pool.drain()
        # The lease is renewed until the last job has ended and is written (R12).
        self._until(self.pool.wait, lambda: self.pool.in_process)
        if self._cold_asked:
            self._cooled.wait()
        self.pool.stop()
        if self._cold and self.pool.in_process:
            self._give_up_running()
        self._until(self.acker.flush)
        for service in reversed(self._services):
            service.stop()
        for service in reversed(self._services):
            service.join(5.0)
        self._sign_off(began)

    def _until(
        self, done: Callable[[float], bool], cut_short: Callable[[], bool] = lambda: False
    ) -> None:
        """Wait until something is done; in a cold stop not for ever, or not at all."""
        while not done(TICK):
            if self._cooled.is_set():
                late = time.monotonic() - self._cooled_at > PATIENCE
                if late or cut_short():
                    return

    def _give_up_running(self) -> None:
        """Settle what threads run that nobody can stop; it ends with the process."""
        self.acker.flush(1.0)
        # Also what the pool could make end, and does not report as it was killed.
        running = self._killed.union(self.pool.running())
        for job in list(self._held.values()):
            if job.id in running:
                self.lost(job, 0)

    def _sign_off(self, began: float) -> None:
        if isinstance(self.heart, Keeper):
            self.heart.stop()
        try:
            self.app.database.run(workers.stop(self.begun.worker), timeout=5.0)
        except StorageError as error:
            logger.warning("Could not sign off: %s", error)
        self._ack_database.close()
        if not self._held and self.fetcher.join(0):
            # Else whoever takes over what could not be written, or whose claim is not
            # answered yet, needs to know what had begun.
            self.begun.remove()
        telling.of_stop(self, list(self._held.values()), time.monotonic() - began)  # type: ignore[arg-type]
        state.workers.discard(self)  # type: ignore[arg-type]
        vars(self.app).pop("_consumer", None)
        signals.worker_shutdown.send(sender=self)
        self.on_stopped()
        self._ended.set()
