"""Threads that do what is given to them: begun when they are needed, and kept."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

__all__ = ["Hands"]

logger = logging.getLogger("celery.pool")


class Hands:
    """Does things in threads, as many at a time as are given.

    Unlike those of ``concurrent.futures`` its threads do not keep a process from ending: a
    worker that stops cold does not wait for what cannot be interrupted.

    Args:
        name: What the threads are called, with a number behind it.
        on_death: Told of an exception that came out of what was done: there must be none.
    """

    def __init__(self, name: str, on_death: Callable[[BaseException], None]) -> None:
        self._name = name
        self._on_death = on_death
        self._given: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0
        self._threads: list[threading.Thread] = []

    def do(self, what: Callable[[], None]) -> None:
        """Have ``what`` called by a thread that is free; there is always one."""
        with self._lock:
            if self._idle:
                self._idle -= 1
            else:
                thread = threading.Thread(
                    target=self._serve,
                    name=f"{self._name}-{len(self._threads)}",
                    daemon=True,
                )
                self._threads.append(thread)
                thread.start()
        self._given.put(what)

    def stop(self, timeout: float) -> None:
        """Let the threads end; those that are busy have ``timeout`` seconds together."""
        with self._lock:
            threads = list(self._threads)
        for _ in threads:
            self._given.put(None)
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(timeout / max(1, len(threads)))

    @property
    def count(self) -> int:
        """How many threads there are."""
        return len(self._threads)

    def _serve(self) -> None:
        while (what := self._given.get()) is not None:
            try:
                what()
            except BaseException as error:
                logger.critical("A thread of the pool died: %r", error, exc_info=True)
                self._on_death(error)
                return
            with self._lock:
                self._idle += 1
