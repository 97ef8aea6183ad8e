"""Runs a plugin when it is due, whatever becomes of it."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from pgtasks.storage.errors import StorageError
from pgtasks.telemetry import registry as telemetry
from pgtasks.worker.service import Service

if TYPE_CHECKING:
    from pgtasks.plugins.base import Plugin
    from pgtasks.storage.leaders import Seat

__all__ = ["Timer"]

logger = logging.getLogger("celery.worker")

SOON = 5.0
"""A plugin runs for the first time within so many seconds, not all of them at once."""


class Timer(Service):
    """One plugin, in a thread of its own: one that hangs holds up nobody else.

    Args:
        plugin: What to run.
        seat: Gives what a leader carries; None while we are none.
        node: Name of the worker.
    """

    def __init__(
        self, plugin: Plugin, seat: Callable[[], Seat | None], node: str = ""
    ) -> None:
        super().__init__()
        self.name = f"plugin {plugin.name}"
        self.plugin = plugin
        self._seat = seat
        self._due_at = time.monotonic() + random.uniform(0, min(SOON, plugin.interval))
        self._failing = False
        self._woken = False
        plugin.bind(lambda: self.stopping, self._wake, node)

    def run(self) -> None:
        """Wait until it is due and ours to do; do it; begin anew."""
        plugin = self.plugin
        while not self.stopping:
            plugin.seat = self._seat() if plugin.leader_only else None
            left = self._due_at - time.monotonic()
            if plugin.leader_only and plugin.seat is None:
                # Whoever is elected is told.
                self.wakeup.wait()
            elif left > 0 and not self._woken:
                self.wakeup.wait(left)
            else:
                self._woken = False
                self._due_at = time.monotonic() + self._once()
                continue
            self.wakeup.clear()
        self._close()

    def _wake(self) -> None:
        self._woken = True
        self.wakeup.set()

    def _once(self) -> float:
        """Run it once; the seconds until it is to run again."""
        plugin = self.plugin
        pause = plugin.interval * random.uniform(0.95, 1.05)
        try:
            with telemetry.span("pgtasks.plugin", {"plugin": plugin.name}) as known:
                done = dict(plugin.run() or {})
                again, wait = done.pop("again", False), done.pop("again_in", None)
                known.update(done)
        except StorageError as error:
            # One line for an outage, which the others tell of as well.
            if not self._failing:
                logger.warning("The plugin %r has to wait: %s", plugin.name, error)
            self._failing = True
            return pause
        except BaseException:
            # Also SystemExit: a plugin does not decide about the worker.
            logger.exception(
                "The plugin %r failed; it runs again in %.0f s.",
                plugin.name,
                plugin.interval,
            )
            return pause
        self._failing = False
        if wait is not None:
            return float(wait)
        return 0.0 if again else pause

    def _close(self) -> None:
        try:
            self.plugin.close()
        except BaseException as error:
            logger.warning("The plugin %r could not end in order: %s", self.name, error)
