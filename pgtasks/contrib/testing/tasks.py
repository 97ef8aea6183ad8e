"""Tasks that every worker in a test should have."""

from __future__ import annotations

from pgtasks import shared_task

__all__ = ["ping"]


@shared_task(name="celery.ping")
def ping() -> str:
    """Answer ``pong``: the worker is up."""
    return "pong"
