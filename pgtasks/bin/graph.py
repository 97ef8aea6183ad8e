"""The command ``graph``, under the path that it has in Celery: ``celery.bin.graph``."""

from __future__ import annotations

from pgtasks.cli.graph import graph

__all__ = ["graph"]
