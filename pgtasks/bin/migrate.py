"""The command ``migrate``, under the path that it has in Celery: ``celery.bin.migrate``."""

from __future__ import annotations

from pgtasks.cli.migrate import migrate

__all__ = ["migrate"]
