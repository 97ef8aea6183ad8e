"""The worker: threads with one duty each around a pool that runs the jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pgtasks.worker.worker import Worker

    WorkController = Worker

__all__ = ["WorkController", "Worker"]


def __getattr__(name: str) -> Any:
    # Late: a child of this package is imported by programs that run no worker.
    if name in __all__:
        from pgtasks.worker.worker import Worker

        return Worker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
