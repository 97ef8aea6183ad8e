"""A beat inside of a worker: ``pgtasks worker -B``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgtasks import beat
from pgtasks.worker.service import Service

if TYPE_CHECKING:
    from pgtasks.app.base import Celery

__all__ = ["EmbeddedBeat"]


class EmbeddedBeat(Service):
    """Sends the tasks of the schedule, in a thread of the worker.

    Celery makes it a process, which nobody is left to end when the worker is killed.

    Args:
        app: The application.
        schedule_filename: File for the moments of the last runs.
        scheduler: The scheduler, or its name; as of `pgtasks beat` by default.
    """

    name = "beat"

    def __init__(
        self, app: Celery, *, schedule_filename: str | None = None, scheduler: object = None
    ) -> None:
        super().__init__()
        self._app = app
        self._beat = beat.Service(
            app,
            schedule_filename=schedule_filename,
            scheduler_cls=scheduler or beat.service.scheduler_of(app),
            remote_control=False,
        )

    def run(self) -> None:
        """Tick until the worker stops."""
        self._app.set_current()
        self._beat.start(embedded_process=True)

    def stop(self) -> None:
        """Have it write down the last runs, and end."""
        super().stop()
        self._beat.stop()
