"""The command ``status``, under the path that it has in Celery: ``celery.bin.status``."""

from __future__ import annotations

from pgtasks.cli.status import status

__all__ = ["status"]
