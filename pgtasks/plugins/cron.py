"""Sends the tasks of a schedule when they are due, from whichever worker is elected to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pgtasks.plugins.base import Plugin, as_age
from pgtasks.plugins.runner import LEASE, Runner

if TYPE_CHECKING:
    from pgtasks.storage.notifier import Notifier

__all__ = ["Cron"]


class Cron(Plugin):
    """The schedule of the application, in every worker; one of them sends it.

    It elects its own leader: the workers that have the same schedule, and beats, choose one
    among them, and a schedule is sent though other workers do not know it. Its lease is
    shorter than that of the other plugins, for nobody waits long for a tick.
    """

    name = "cron"
    interval = 1.0
    options = {"crontab": (), "timezone": None, "lease": LEASE, "interval": LEASE / 3}

    def validate(self) -> None:
        """Look at the options; what is wrong with a line is reported when it is read."""
        self._lease = as_age("plugins['cron']['lease']", self.options["lease"])
        if self._lease < 1.0:
            raise ValueError(
                f"plugins['cron']['lease'] is {self._lease:g} s: give a second at least, for "
                f"a leader has to renew it in time."
            )
        if not isinstance(self.options["crontab"], (list, tuple)):
            raise TypeError(
                f"plugins['cron']['crontab'] is {self.options['crontab']!r}: write a list of "
                f"lines such as ('0 3 * * *', 'proj.report')."
            )
        self._runner: Runner | None = None
        self._unsubscribe: list[Callable[[], None]] = []

    def run(self) -> Mapping[str, Any]:
        """Do what there is to do, and say when there is more."""
        runner = self._runner
        if runner is None:
            runner = self._runner = Runner(
                self.app, node=self.node, lease=self._lease, interval=self.interval
            )
            notifier: Notifier = self.app.notifier
            self._unsubscribe = [
                notifier.subscribe("pgtasks.leaders", self._on_resigned),
                notifier.subscribe("pgtasks.crons", self._on_changed),
            ]
        wait, count = runner.step()
        return {"inserted_count": count, "again_in": wait}

    def close(self) -> None:
        """Hand over, for the next tick to be sent in time."""
        for unsubscribe in self._unsubscribe:
            unsubscribe()
        if self._runner is not None:
            self._runner.close()

    def _on_resigned(self, office: str | None) -> None:
        # Also when listening has begun again: somebody may have resigned meanwhile (R26).
        runner = self._runner
        if runner is not None and not runner.leads and office in (None, runner.office):
            self.wake()

    def _on_changed(self, app: str | None) -> None:
        if self._runner is not None and app in (None, self._runner.scope):
            self._runner.wake()
            self.wake()
