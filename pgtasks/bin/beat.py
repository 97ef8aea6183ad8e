"""The command ``beat``, under the path that it has in Celery: ``celery.bin.beat``."""

from __future__ import annotations

from pgtasks.cli.beat import beat

__all__ = ["beat"]
