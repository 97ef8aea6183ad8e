"""The program itself, under the path that Celery's documentation gives: ``celery.bin.celery``."""

from __future__ import annotations

from pgtasks.cli.main import main
from pgtasks.cli.main import program as celery

__all__ = ["celery", "main"]
