"""The command ``logtool``, under the path that it has in Celery: ``celery.bin.logtool``."""

from __future__ import annotations

from pgtasks.cli.logtool import logtool

__all__ = ["logtool"]
