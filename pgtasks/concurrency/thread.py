"""The pool ``threads``, under the path that it has in Celery: ``celery.concurrency.thread``."""

from __future__ import annotations

from pgtasks.worker.pools.threads import ThreadPool

__all__ = ["TaskPool", "ThreadPool"]

TaskPool = ThreadPool
