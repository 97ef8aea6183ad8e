"""The command ``events``, under the path that it has in Celery: ``celery.bin.events``."""

from __future__ import annotations

from pgtasks.cli.events import events

__all__ = ["events"]
