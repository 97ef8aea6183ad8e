"""A service: one duty, one thread, one stop."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

__all__ = ["Service"]

logger = logging.getLogger("celery.worker")


class Service:
    """One of the worker's duties, run by a thread of its own.

    `run` is the duty: it loops while not `stopping` and waits on `wakeup`. A thread
    that ends in any other way has lost its duty, and a worker that goes on without it
    would limp: ``on_death`` is told and takes the worker down.
    """

    name = "service"

    def __init__(self) -> None:
        self.wakeup = threading.Event()
        self.on_death: Callable[[str, BaseException | None], None] | None = None
        self._stopping = False
        self._thread: threading.Thread | None = None

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping

    def start(self) -> None:
        """Begin in a thread of its own."""
        self._thread = threading.Thread(
            target=self._run, name=f"pgtasks-{self.name}", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end; `join` waits until it has."""
        self._stopping = True
        self.wakeup.set()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the end of the thread; False if it is still at it."""
        if self._thread is None:
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def run(self) -> None:
        """The duty itself."""
        raise TypeError(f"{type(self).__name__} has no duty: override run().")

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            self.run()
        except BaseException as caught:
            error = caught
            logger.critical("The worker's %s died: %r", self.name, caught, exc_info=True)
        if (error is not None or not self._stopping) and self.on_death is not None:
            self.on_death(self.name, error)
