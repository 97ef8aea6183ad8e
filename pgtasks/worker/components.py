"""Celery's names of a worker's parts, for boot steps that require them.

A worker has its services before it has steps, and they are there whoever requires them:
these stand for something that exists already.

    class Alive(bootsteps.StartStopStep):
        requires = {"pgtasks.worker.components:Timer"}

        def start(self, worker):
            self.entry = worker.timer.call_repeatedly(5.0, Path("/tmp/alive").touch)
"""

from __future__ import annotations

from typing import Any

from pgtasks import bootsteps

__all__ = ["Beat", "Consumer", "Hub", "Pool", "Queues", "StateDB", "Timer"]


class Timer(bootsteps.Step):
    """A thread that calls functions later, as ``worker.timer``; begins with the first."""

    def create(self, parent: Any) -> Any:
        """Show it to those who come after."""
        return parent.timer


class Hub(bootsteps.StartStopStep):
    """The event loop that a worker does without."""

    requires = (Timer,)


class Pool(bootsteps.StartStopStep):
    """The pool, which is ``worker.pool`` when steps are started."""

    requires = (Hub,)


class Queues(bootsteps.Step):
    """The queues, which are ``worker.queues``."""


class Beat(bootsteps.StartStopStep):
    """A beat inside of the worker."""


class StateDB(bootsteps.Step):
    """A file of revoked ids; they are in the database."""


class Consumer(bootsteps.StartStopStep):
    """What takes jobs, which is ``worker.consumer``."""
