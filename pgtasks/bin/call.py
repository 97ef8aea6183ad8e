"""The command ``call``, under the path that it has in Celery: ``celery.bin.call``."""

from __future__ import annotations

from pgtasks.cli.call import call

__all__ = ["call"]
