"""The command ``upgrade``, under the path that it has in Celery: ``celery.bin.upgrade``."""

from __future__ import annotations

from pgtasks.cli.upgrade import upgrade

__all__ = ["upgrade"]
