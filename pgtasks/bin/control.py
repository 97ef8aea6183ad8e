"""The command ``control``, under the path that it has in Celery: ``celery.bin.control``."""

from __future__ import annotations

from pgtasks.cli.inspect import control

__all__ = ["control"]
