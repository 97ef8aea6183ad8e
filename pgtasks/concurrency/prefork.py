"""The pool ``prefork``, under the path that it has in Celery: ``celery.concurrency.prefork``."""

from __future__ import annotations

from pgtasks.worker.pools.prefork import PreforkPool

__all__ = ["PreforkPool", "TaskPool"]

TaskPool = PreforkPool
