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
import socket
import sys
import threading
from collections.abc import Callable
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

    The kernel gives a signal to any thread, and Python calls its handlers in the main one,
    when that comes to its next instruction: in the pool solo a job may keep it from that for
    an hour. So what counts is the byte that is written for each signal as it comes. It finds
    no lock taken either, as a handler does by what it has interrupted.

    Args:
        worker: Who is served.
    """

    def __init__(self, worker: Stopping) -> None:
        self._worker = worker
        self._interrupted = False
        self._quits = 0
        self._mask = threading.local()
        self._bell, self._ringer = socket.socketpair()
        self._ringer.setblocking(False)
        remapped = os.environ.get("REMAP_SIGTERM") == "SIGQUIT"
        self._meanings: dict[int, Callable[[str], None]] = {
            signal.SIGTERM: self._quit if remapped else self._term,
            signal.SIGINT: self._interrupt,
            signal.SIGQUIT: self._quit,
            signal.SIGUSR1: _cry,
        }
        if not isatty(sys.stdout):
            # Else it says that the terminal is closed, and nobody wants a worker for that.
            self._meanings[signal.SIGHUP] = self._restart

    def install(self) -> None:
        """Set the handlers, and begin to attend."""
        self._worker.leaves_by_force = True
        threading.Thread(target=self._attend, name="pgtasks-signals", daemon=True).start()
        for number in self._meanings:
            signal.signal(number, self._on_signal)
        signal.set_wakeup_fd(self._ringer.fileno(), warn_on_full_buffer=False)
        os.register_at_fork(
            before=self._hold, after_in_parent=self._release, after_in_child=self._let_go
        )
        install_debugger()
        # At its exit Python gives signals their defaults back, and one that comes late would
        # have a worker that has stopped in order end as if it had been killed.
        atexit.register(_hear_no_more)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """Pass it on, if an event loop of a task's has the bytes sent to itself."""
        ours = self._ringer.fileno()
        theirs = signal.set_wakeup_fd(ours, warn_on_full_buffer=False)
        if theirs != ours:
            signal.set_wakeup_fd(theirs, warn_on_full_buffer=False)
            with contextlib.suppress(BlockingIOError):
                self._ringer.send(bytes([number]))

    # ── processes that tasks fork ───────────────────────────────────────────────────────

    def _hold(self) -> None:
        # What is sent to the new process must find it with handlers of its own.
        self._mask.before = signal.pthread_sigmask(signal.SIG_BLOCK, self._meanings)

    def _release(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask.before)

    def _let_go(self) -> None:
        # In that process, which is not the worker: else it would hear what is not for it.
        signal.set_wakeup_fd(-1)
        for number in self._meanings:
            python = number == signal.SIGINT
            signal.signal(number, signal.default_int_handler if python else signal.SIG_DFL)
        self._release()

    # ── the thread ──────────────────────────────────────────────────────────────────────

    def _attend(self) -> None:
        while True:
            for number in self._bell.recv(64):
                meaning = self._meanings.get(number)
                try:
                    if meaning is not None:
                        meaning(signal.Signals(number).name)
                except Exception:
                    # Whatever it was, the next signal must be heard.
                    logger.critical("A signal could not be heeded.", exc_info=True)

    def _term(self, sig: str) -> None:
        say(WARM)
        self._stop_warm(EX_OK, sig)

    def _interrupt(self, sig: str) -> None:
        if self._interrupted:
            self._quit(sig)
            return
        self._interrupted = True
        say(WILL_BE_COLD)
        say(WARM)
        self._stop_warm(EX_FAILURE, sig)

    def _quit(self, sig: str) -> None:
        self._interrupted = True
        self._quits += 1
        if self._quits > 2:
            os._exit(EX_FAILURE)
        soft = self._quits == 1
        say(AGAIN if soft else WAITING)
        self._worker.restarts = False
        self._worker.stop_soon(cold=True, soft=soft, sig=sig)

    def _stop_warm(self, exitcode: int, sig: str) -> None:
        self._worker.restarts = False
        self._worker.stop_soon(exitcode=exitcode, sig=sig)
        # For tasks that look at it, in the pools that share this process.
        if state.should_stop is None:
            state.should_stop = exitcode

    def _restart(self, sig: str) -> None:
        if IS_macOS:
            say(
                "SIGHUP not supported: Restarting with SIGHUP is unstable on this platform!"
            )
            return
        if self._worker.stopping:
            return
        say(f"Restarting pgtasks worker ({' '.join(sys.argv)})")
        self._worker.restarts = True
        self._worker.stop_soon(exitcode=EX_OK, sig=sig)


def _hear_no_more() -> None:
    for number in NOT_OURS:
        signal.signal(number, signal.SIG_IGN)


def _cry(sig: str) -> None:
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
