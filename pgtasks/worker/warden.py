"""Watches for verdicts over a worker: that it is dead, or that it is to stop."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pgtasks import signals
from pgtasks.storage.errors import StorageError
from pgtasks.worker import state
from pgtasks.worker.service import Service

if TYPE_CHECKING:
    from pgtasks.worker.worker import Worker

__all__ = ["Warden"]

logger = logging.getLogger("celery.worker")


class Warden(Service):
    """Carries out what the heartbeat and ``worker.state`` say about the worker.

    It also passes on that the worker has said that it lives: the heartbeat itself may be a
    process of its own, and must not wait for anybody's receivers.

    Args:
        worker: The one that is watched.
    """

    name = "warden"

    def __init__(self, worker: Worker) -> None:
        super().__init__()
        self._worker = worker

    def run(self) -> None:
        """Look five times a second."""
        renewed_at = 0.0
        warm = cold = False
        while not self.stopping:
            if not cold and _asked(state.should_terminate):
                cold = warm = True
                self._worker.stop_soon(cold=True, exitcode=int(state.should_terminate or 0))
            elif not warm and _asked(state.should_stop):
                warm = True
                self._worker.stop_soon(exitcode=int(state.should_stop or 0))
            if self._worker.begun.condemned:
                try:
                    self._worker.reincarnate()
                except StorageError as error:
                    logger.warning("Cannot register anew yet: %s", error)
            if self._worker.begun.renewed_at != renewed_at:
                renewed_at = self._worker.begun.renewed_at
                signals.heartbeat_sent.send(sender=self._worker.heart)
            self.wakeup.wait(0.2)


def _asked(exitcode: int | None) -> bool:
    # 0 is an exit code, and False is not.
    return exitcode is not None and exitcode is not False
