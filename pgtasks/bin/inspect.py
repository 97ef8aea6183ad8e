"""The command ``inspect``, under the path that it has in Celery: ``celery.bin.inspect``."""

from __future__ import annotations

from pgtasks.cli.inspect import inspect

__all__ = ["inspect"]
