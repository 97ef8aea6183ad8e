"""The pool ``gevent``, under the path that it has in Celery: ``celery.concurrency.gevent``."""

from __future__ import annotations

from pgtasks.worker.pools.green import GeventPool

__all__ = ["GeventPool", "TaskPool"]

TaskPool = GeventPool
