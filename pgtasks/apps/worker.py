"""A worker as a program, under the path that it has in Celery: ``celery.apps.worker``.

Beside what our own program uses (`install_signal_handlers`) there are Celery's functions that
set one handler each, for programs that have signals of their own mean something to a worker.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from pgtasks import platforms, signals
from pgtasks.utils.log import current_process, in_sighandler
from pgtasks.worker import state
from pgtasks.worker.shutdown import install_signal_handlers
from pgtasks.worker.stopping import EX_FAILURE, EX_OK
from pgtasks.worker.worker import Worker

__all__ = [
    "Worker",
    "install_signal_handlers",
    "install_worker_int_handler",
    "install_worker_term_handler",
    "install_worker_term_hard_handler",
    "safe_say",
]

#: As it was before anything has put another in its place.
_original_os_write = os.write

_FLAGS = {"Warm": "should_stop", "Cold": "should_terminate"}


def safe_say(msg: object, f: Any = sys.__stderr__) -> None:
    """Write a line from wherever, a signal handler too; what cannot be written is left out.

    Args:
        msg: The line.
        f: A file that has a descriptor.
    """
    # A closed file has none, and a terminal may be gone.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        _original_os_write(f.fileno(), f"\n{msg}\n".encode(errors="backslashreplace"))


def _shutdown_handler(
    worker: Any,
    sig: str = "SIGTERM",
    how: str = "Warm",
    callback: Callable[[Any], object] | None = None,
    exitcode: int = EX_OK,
    verbose: bool = True,
) -> None:
    """Have a signal stop a worker, by the flags in `pgtasks.worker.state`.

    Args:
        worker: The worker, whose receivers of ``worker_shutting_down`` are told.
        sig: Name of the signal.
        how: ``Warm`` or ``Cold``.
        callback: Called with the worker before; the flag is set whatever it does.
        exitcode: The exit code of the worker.
        verbose: Say so on standard output.
    """

    def handle(*args: object) -> None:
        with in_sighandler():
            try:
                # Children have copied the handler, and are told by their worker.
                if current_process()._name == "MainProcess":
                    if callback is not None:
                        callback(worker)
                    if verbose:
                        safe_say(f"worker: {how} shutdown (MainProcess)", sys.__stdout__)
                    signals.worker_shutting_down.send(
                        sender=worker.hostname, sig=sig, how=how, exitcode=exitcode
                    )
            finally:
                setattr(state, _FLAGS[how], exitcode)

    handle.__name__ = f"worker_{how.lower()}"
    platforms.signals[sig] = handle


def _on_interrupt(worker: Any) -> None:
    safe_say(
        "worker: Hitting Ctrl+C again will initiate cold shutdown, "
        "terminating all running tasks!",
        sys.__stdout__,
    )
    install_worker_term_hard_handler(worker, sig="SIGINT", verbose=False)


install_worker_term_hard_handler = partial(
    _shutdown_handler, sig="SIGQUIT", how="Cold", exitcode=EX_FAILURE
)
install_worker_term_handler = (
    partial(install_worker_term_hard_handler, sig="SIGTERM")
    if os.environ.get("REMAP_SIGTERM") == "SIGQUIT"
    else partial(_shutdown_handler, sig="SIGTERM")
)
install_worker_int_handler = partial(
    _shutdown_handler, sig="SIGINT", callback=_on_interrupt, exitcode=EX_FAILURE
)
