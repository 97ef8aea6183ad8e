"""The command ``result``, under the path that it has in Celery: ``celery.bin.result``."""

from __future__ import annotations

from pgtasks.cli.result import result

__all__ = ["result"]
