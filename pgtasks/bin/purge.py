"""The command ``purge``, under the path that it has in Celery: ``celery.bin.purge``."""

from __future__ import annotations

from pgtasks.cli.purge import purge

__all__ = ["purge"]
