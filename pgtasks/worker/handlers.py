"""What signals from outside mean to a worker: how it is told to stop."""

from __future__ import annotations

import logging
import os
import signal
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pgtasks.worker.worker import Worker

__all__ = ["install_signal_handlers"]

logger = logging.getLogger("celery.worker")


def install_signal_handlers(worker: Worker) -> None:
    """SIGTERM and SIGINT stop warm, the second one cold; SIGQUIT stops cold.

    ``REMAP_SIGTERM=SIGQUIT`` makes SIGTERM stop cold at once, as in Celery.
    """

    def stop(cold: bool, why: str) -> None:
        # A handler only starts a thread: it may have interrupted any statement.
        logger.warning("%s", why)
        worker.stop_soon(cold=cold)

    calls = Counter[str]()

    def on_stop(number: int, frame: object) -> None:
        calls["stop"] += 1
        if calls["stop"] == 1:
            stop(
                False,
                f"worker: {signal.Signals(number).name}: warm shutdown, "
                "running jobs may end (again: cold shutdown)",
            )
        elif calls["stop"] == 2:
            stop(True, "worker: cold shutdown")
        else:
            os._exit(1)

    def on_quit(number: int, frame: object) -> None:
        stop(True, "worker: SIGQUIT: cold shutdown")

    signal.signal(signal.SIGINT, on_stop)
    signal.signal(signal.SIGQUIT, on_quit)
    remapped = os.environ.get("REMAP_SIGTERM") == "SIGQUIT"
    signal.signal(signal.SIGTERM, on_quit if remapped else on_stop)
