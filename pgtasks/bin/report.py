"""The command ``report``, under the path that it has in Celery: ``celery.bin.report``."""

from __future__ import annotations

from pgtasks.cli.report import report

__all__ = ["report"]
