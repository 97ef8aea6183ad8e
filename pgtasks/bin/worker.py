"""The command ``worker``, under the path that it has in Celery: ``celery.bin.worker``."""

from __future__ import annotations

from pgtasks.cli.worker import worker

__all__ = ["worker"]
