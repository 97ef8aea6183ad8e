"""The command ``shell``, under the path that it has in Celery: ``celery.bin.shell``."""

from __future__ import annotations

from pgtasks.cli.shell import shell

__all__ = ["shell"]
