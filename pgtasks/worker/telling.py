"""Tells those who are attached of a worker's life."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pgtasks.telemetry import registry as telemetry

if TYPE_CHECKING:
    from pgtasks.job import Job
    from pgtasks.worker.worker import Worker

__all__ = ["of_start", "of_stop"]


def of_start(worker: Worker) -> None:
    """It has been registered and is about to begin."""
    known = {
        "app": worker.app,
        "node": worker.hostname,
        "pid": os.getpid(),
        "queues": list(worker.queues),
        "concurrency": worker.concurrency,
    }
    telemetry.execute("pgtasks.supervisor.init", {"system_time": time.time()}, known)


def of_stop(worker: Worker, held: Sequence[Job], elapsed: float) -> None:
    """It has stopped.

    Args:
        worker: The worker.
        held: The jobs that it could not settle.
        elapsed: Seconds that stopping took.
    """
    for queue in worker.queues:
        orphaned = [job.id for job in held if job.queue == queue]
        telemetry.execute(
            "pgtasks.queue.shutdown",
            {"elapsed": elapsed, "system_time": time.time()},
            {"queue": queue, "node": worker.hostname, "orphaned": orphaned},
        )
