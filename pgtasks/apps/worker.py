"""A worker as a program, under the path that it has in Celery: ``celery.apps.worker``."""

from __future__ import annotations

from pgtasks.worker.shutdown import install_signal_handlers
from pgtasks.worker.worker import Worker

__all__ = ["Worker", "install_signal_handlers"]
