"""Grows the pool when jobs wait, and shrinks it when places stay empty: ``--autoscale``.

A class of one's own is named by the setting ``worker_autoscaler``. It derives from
`Autoscaler` and says how much there is to do (`Autoscaler.qty`), or what follows from that
(`Autoscaler.maybe_scale`).
"""

from __future__ import annotations

import logging
import os
import threading
from time import monotonic, sleep
from typing import Any

from pgtasks import bootsteps
from pgtasks.exceptions import ImproperlyConfigured
from pgtasks.utils.threads import bgThread
from pgtasks.worker import state
from pgtasks.worker.books import Books
from pgtasks.worker.components import Pool

__all__ = ["AUTOSCALE_KEEPALIVE", "Autoscaler", "WorkerComponent", "bounds"]

logger = logging.getLogger("celery.worker.autoscale")
debug, info, error = logger.debug, logger.info, logger.error

#: Seconds for which a pool that has grown stays as it is, however little there is to do.
AUTOSCALE_KEEPALIVE = float(os.environ.get("AUTOSCALE_KEEPALIVE", 30))

INTERVAL = 1.0
"""Seconds between two looks."""


def bounds(given: Any) -> tuple[int, int]:
    """The largest and the smallest number of places, of ``"10,3"`` or ``(10, 3)``.

    Raises:
        ValueError: It is neither, or the first is less than the second.
    """
    parts = given.split(",") if isinstance(given, str) else list(given)
    try:
        most, least = (*map(int, parts), 0)[:2]
    except ValueError:
        most, least = 0, 0
    if len(parts) > 2 or not 0 <= least <= most or not most:
        raise ValueError(
            f"--autoscale={given!r}: write the largest number of jobs at a time, a comma, "
            f"and the smallest one: --autoscale=10,3. The second may be left out and is 0."
        )
    return most, least


class WorkerComponent(bootsteps.StartStopStep):
    """The autoscaler, which is ``worker.autoscaler`` when steps are started."""

    requires = (Pool,)


class Autoscaler(bgThread):
    """Looks once a second how much there is to do, and gives the pool as many places.

    It grows at once. It shrinks when its places have not all been needed for ``keepalive``
    seconds, and a place that is taken away ends with the job that runs there.

    Args:
        pool: What grows: anything with ``grow``, ``shrink`` and ``num_processes``.
        max_concurrency: How many places at most.
        min_concurrency: How many at least.
        worker: Whose pool it is.
        keepalive: Seconds from the last need of all places to shrinking.
        mutex: Held while it looks.
    """

    def __init__(
        self,
        pool: Any,
        max_concurrency: int,
        min_concurrency: int = 0,
        worker: Any = None,
        keepalive: float = AUTOSCALE_KEEPALIVE,
        mutex: Any = None,
    ) -> None:
        super().__init__()
        if not keepalive:
            raise ImproperlyConfigured(
                "keepalive=0: a pool that shrinks at once would grow and shrink all the "
                "time. Say how many seconds it is to wait (AUTOSCALE_KEEPALIVE)."
            )
        self.pool = pool
        self.mutex = mutex or threading.Lock()
        self.max_concurrency = max_concurrency
        self.min_concurrency = min_concurrency
        self.keepalive = keepalive
        self.worker = worker
        self._last_scale_up: float | None = None
        self._last_full: float | None = None

    def body(self) -> None:
        """Look, and wait for the next time."""
        try:
            with self.mutex:
                self.maybe_scale()
        except Exception as exc:
            # An exception here would end the process, and its jobs with it.
            error("The autoscaler could not look: %r", exc, exc_info=True)
        for _ in range(10):
            if not self._asked_to_stop.is_set():
                sleep(INTERVAL / 10)

    def maybe_scale(self, req: Any = None) -> None:
        """Grow or shrink, if there is reason to; ``req`` is what has just come, if anything."""
        if self._maybe_scale(req):
            debug("The pool has %s places.", self.processes)

    def _maybe_scale(self, req: Any = None) -> bool | None:
        places, wanted = self.processes, self.qty
        if req is not None and wanted >= places:
            self._last_full = monotonic()
        most = min(wanted, self.max_concurrency)
        if most > places:
            self.scale_up(most - places)
            return True
        least = max(wanted, self.min_concurrency)
        if least < places:
            self.scale_down(places - least)
            return True
        return None

    def on_task_received(self, req: Any) -> None:
        """A task has come: note if all places are needed now. It does not wait for a look."""
        if len(state.reserved_requests) >= self.processes:
            self._last_full = monotonic()

    def update(self, max: int | None = None, min: int | None = None) -> tuple[int, int]:
        """Change the bounds; the pool follows at once.

        Returns:
            The largest and the smallest number of places.

        Raises:
            ValueError: The one would be less than the other.
        """
        with self.mutex:
            most = self.max_concurrency if max is None else max
            least = self.min_concurrency if min is None else min
            bounds((most, least))
            if most < self.processes:
                self._shrink(self.processes - most)
            if least > self.processes:
                self._grow(least - self.processes)
            self.max_concurrency, self.min_concurrency = most, least
            return most, least

    def scale_up(self, n: int) -> None:
        """Grow by ``n``."""
        self._last_scale_up = monotonic()
        self._grow(n)

    def scale_down(self, n: int) -> None:
        """Shrink by ``n``, if it has not grown lately, nor been full."""
        times = [
            each for each in (self._last_scale_up, self._last_full) if each is not None
        ]
        # One that has never grown is as small as it was made.
        if self._last_scale_up is not None and monotonic() - max(times) > self.keepalive:
            self._shrink(n)

    def _grow(self, n: int) -> None:
        info("Scaling up by %d.", n)
        try:
            self.pool.grow(n)
        except Exception as exc:
            error("The pool could not grow: %r", exc, exc_info=True)

    def _shrink(self, n: int) -> None:
        info("Scaling down by %d.", n)
        try:
            self.pool.shrink(n)
        except ValueError:
            debug("The pool does not shrink now: all of it is busy.")
        except Exception as exc:
            error("The pool could not shrink: %r", exc, exc_info=True)

    def info(self) -> dict[str, Any]:
        """Facts for ``inspect stats``."""
        return {
            "max": self.max_concurrency,
            "min": self.min_concurrency,
            "current": self.processes,
            "qty": self.qty,
        }

    @property
    def qty(self) -> int:
        """How much there is to do: jobs that are held, and those that wait for a place."""
        if isinstance(self.worker, Books):
            return self.worker.load(self.max_concurrency)
        return len(state.reserved_requests)

    @property
    def processes(self) -> int:
        """How many places there are."""
        return int(self.pool.num_processes)
