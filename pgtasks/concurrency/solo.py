"""The pool ``solo``, under the path that it has in Celery: ``celery.concurrency.solo``."""

from __future__ import annotations

from pgtasks.worker.pools.solo import SoloPool

__all__ = ["SoloPool", "TaskPool"]

TaskPool = SoloPool
