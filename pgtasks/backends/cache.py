"""Celery's names of the results in memory; memcached is not among our stores."""

from __future__ import annotations

from pgtasks.backends.memory import MemoryBackend as CacheBackend
from pgtasks.backends.memory import MemoryClient as DummyClient

__all__ = ["CacheBackend", "DummyClient"]
