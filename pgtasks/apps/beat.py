"""A beat as a program, under the path that it has in Celery: ``celery.apps.beat``."""

from __future__ import annotations

from pgtasks.beat.program import Beat

__all__ = ["Beat"]
