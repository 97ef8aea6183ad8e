"""What each signal of the operating system means to a worker.

=========  ==============================================================================
SIGTERM    warm: running jobs may end. Another one changes nothing.
           With ``REMAP_SIGTERM=SIGQUIT`` in the environment it is a SIGQUIT.
SIGINT     the first warm, the second cold, as SIGQUIT
SIGQUIT    cold, after ``worker_soft_shutdown_timeout`` seconds for what runs; the second
           does not wait for those, the third ends the process on the spot
SIGHUP     warm, then the same program anew, if it has no terminal
SIGUSR1    writes where each thread is to standard error
SIGUSR2    a debugger, where ``CELERY_RDBSIG`` is set
=========  ==============================================================================

The texts and exit codes are Celery's: others wait for them.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue
from types import FrameType
from typing import TYPE_CHECKING, Any

from pgtasks.app.doors import open_door
from pgtasks.platforms import IS_macOS, isatty
from pgtasks.worker import state
from pgtasks.worker.identity import NOT_OURS
from pgtasks.worker.stopping import EX_FAILURE, EX_OK, say

if TYPE_CHECKING:
    from pgtasks.worker.stopping import Stopping

__all__ = ["Attendant", "install_debugger", "install_signal_handlers", "restart"]

logger = logging.getLogger("celery.worker")

AGAIN = "worker: Hitting Ctrl+C again will terminate all running tasks!"
WILL_BE_COLD = (
    "worker: Hitting Ctrl+C again will initiate cold shutdown, "
    "terminating all running tasks!"
)
WARM = "worker: Warm shutdown (MainProcess)"
WAITING = "Waiting gracefully for cold shutdown to complete..."


def install_signal_handlers(worker: Stopping) -> None:
    """Have the signals that this process gets mean something to a worker.

    To be called in the main thread, by a process that is the worker's own: in the end it
    is left by force if a job does not let go of it.
    """
    Attendant(worker).install()


class Attendant:
    """Hears the signals for a worker, and carries out what they mean in a thread.

    Args:
        worker: Who is served.
    """

    def __init__(self, worker: Stopping) -> None:
        self._worker = worker
        self._interrupted = False
        self._quits = 0
        # Handlers run between any two instructions of the main thread, and may find any
        # lock taken by what they have interrupted. To put into this needs none.
        self._orders: SimpleQueue[Callable[[], object]] = SimpleQueue()

    def install(self) -> None:
        """Set the handlers, and begin to attend."""
        self._worker.leaves_by_force = True
        threading.Thread(target=self._attend, name="pgtasks-signals", daemon=True).start()
        remapped = os.environ.get("REMAP_SIGTERM") == "SIGQUIT"
        signal.signal(signal.SIGTERM, self._on_quit if remapped else self._on_term)
        signal.signal(signal.SIGINT, self._on_int)
        signal.signal(signal.SIGQUIT, self._on_quit)
        signal.signal(signal.SIGUSR1, self._on_cry)
        if not isatty(sys.stdout):
            # Else it says that the terminal is closed, and nobody wants a worker for that.
            signal.signal(signal.SIGHUP, self._on_hang_up)
        install_debugger()
        # At its exit Python gives signals their defaults back, and one that comes late would
        # have a worker that has stopped in order end as if it had been killed.
        atexit.register(_hear_no_more)

    # ── handlers: they say what they have to, and order the rest ────────────────────────

    def _on_term(self, number: int, frame: FrameType | None) -> None:
        say(WARM)
        self._order_warm(number, EX_OK)

    def _on_int(self, number: int, frame: FrameType | None) -> None:
        if self._interrupted:
            self._on_quit(number, frame)
            return
        self._interrupted = True
        say(WILL_BE_COLD)
        say(WARM)
        self._order_warm(number, EX_FAILURE)

    def _on_quit(self, number: int, frame: FrameType | None) -> None:
        self._interrupted = True
        self._quits += 1
        if self._quits > 2:
            os._exit(EX_FAILURE)
        say(AGAIN if self._quits == 1 else WAITING)
        soft, sig = self._quits == 1, signal.Signals(number).name
        self._orders.put(lambda: self._stop_cold(soft, sig))

    def _on_hang_up(self, number: int, frame: FrameType | None) -> None:
        self._orders.put(self._restart)

    def _on_cry(self, number: int, frame: FrameType | None) -> None:
        self._orders.put(_cry)

    def _order_warm(self, number: int, exitcode: int) -> None:
        sig = signal.Signals(number).name
        self._orders.put(lambda: self._stop_warm(exitcode, sig))

    # ── the thread ──────────────────────────────────────────────────────────────────────

    def _attend(self) -> None:
        while True:
            order = self._orders.get()
            try:
                order()
            except Exception:
                # Whatever it was, the next signal must be heard.
                logger.critical("A signal could not be heeded.", exc_info=True)

    def _stop_warm(self, exitcode: int, sig: str) -> None:
        self._worker.restarts = False
        self._worker.stop_soon(exitcode=exitcode, sig=sig)
        # For tasks that look at it, in the pools that share this process.
        if state.should_stop is None:
            state.should_stop = exitcode

    def _stop_cold(self, soft: bool, sig: str) -> None:
        self._worker.restarts = False
        self._worker.stop_soon(cold=True, soft=soft, sig=sig)

    def _restart(self) -> None:
        if IS_macOS:
            say(
                "SIGHUP not supported: Restarting with SIGHUP is unstable on this platform!"
            )
            return
        if self._worker.stopping:
            return
        say(f"Restarting pgtasks worker ({' '.join(sys.argv)})")
        self._worker.restarts = True
        self._worker.stop_soon(exitcode=EX_OK, sig="SIGHUP")


def _hear_no_more() -> None:
    for number in NOT_OURS:
        signal.signal(number, signal.SIG_IGN)


def _cry() -> None:
    # Late: it looks for psutil, which takes a moment to import.
    from pgtasks.utils.debug import cry

    say(cry(), sys.__stderr__)


def install_debugger() -> None:
    """Let SIGUSR2 open a debugger where this process is, if ``CELERY_RDBSIG`` is set.

    In a worker's children too, for there is what one wants to look at.
    """
    if not os.environ.get("CELERY_RDBSIG"):
        return
    set_trace: Any = open_door("debugger")
    signal.signal(signal.SIGUSR2, lambda number, frame: set_trace(frame))


def restart(folder: str | None = None) -> None:
    """Become the same program anew, in the same process: never returns.

    Args:
        folder: Where it was started, for what ``--workdir`` names from there.
    """
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    if folder is not None:
        os.chdir(folder)
    # Not sys.argv, which has forgotten -m and what stands before it.
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - no shell is wanted
