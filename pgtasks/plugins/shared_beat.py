"""Celery's scheduler for a fleet: however many beats and workers run it, each tick is one."""

from __future__ import annotations

import os
from typing import Any

import pgtasks.beat as beat
from pgtasks.beat.importing import last_runs
from pgtasks.beat.scheduler import Scheduler
from pgtasks.plugins.runner import Runner
from pgtasks.storage.errors import StorageError
from pgtasks.utils.nodenames import gethostname

__all__ = ["SharedScheduler"]


class SharedScheduler(Scheduler):
    """What `pgtasks beat` runs by default: it stands for election with the workers.

    What was sent when is kept in the database, and not in a file. It calls none of the
    methods by which Celery's schedulers are changed: whoever subclasses one of those names
    it in ``beat_scheduler``, and that one is run.

    Args:
        *args: As `Scheduler`'s.
        **kwargs: As `Scheduler`'s.
    """

    shared = True
    _failing = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._file = kwargs.get("schedule_filename")
        super().__init__(*args, **kwargs)
        self.max_interval = min(self.max_interval, 60.0)
        self._runner = Runner(
            self.app,
            node=f"celerybeat{os.getpid()}@{gethostname()}",
            longest=self.max_interval,
        )

    def setup_schedule(self) -> None:
        """Leave the entries to those who read them with our own fields, too."""

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Send what is due, if we lead; the answer is the seconds until the next tick."""
        try:
            # Before the first look, which would begin the entries that are new here.
            self._adopt()
            wait = self._runner.step()[0]
        except StorageError as error:
            # One line for an outage.
            if not self._failing:
                beat.warning("The schedule has to wait: %s", error)
            self._failing = True
            return 1.0
        self._failing = False
        # A leader that resigns is not heard of here: a look now and then is.
        return wait if self._runner.leads else min(wait, self._runner.lease / 2)

    def _adopt(self) -> None:
        """Take over, once, what a beat of Celery's has left in its file."""
        if self._file is None:
            return
        taken = self.app.crons.adopt(last_runs(self._file))
        if taken:
            beat.info(
                "beat: Took over the last runs of %d entries from the file %s",
                len(taken),
                self._file,
            )
        self._file = None

    def close(self) -> None:
        """Let another one lead at once."""
        try:
            self._runner.close()
        except StorageError as error:
            beat.warning("Could not hand over the schedule: %s", error)

    @property
    def info(self) -> str:
        """A line for the banner."""
        return f"    . db -> {self.app.database.endpoint.address}"
