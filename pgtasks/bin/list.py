"""The command ``list``, under the path that it has in Celery: ``celery.bin.list``."""

from __future__ import annotations

from pgtasks.cli.list_bindings import list_

__all__ = ["list_"]
