"""What sending a job does while a test runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pgtasks.app import modes

__all__ = ["mode"]


@contextmanager
def mode(app: Any, name: str) -> Iterator[None]:
    """Have what ``app`` is sent run at once, or wait, until the end of the block.

    It holds for this thread or coroutine and for the threads and asyncio tasks that are
    started inside; others go on as the settings say. The innermost mode counts, and goes
    before the settings ``task_testing`` and ``task_always_eager``.

    Args:
        app: The application.
        name: ``"inline"`` runs each job in the caller as it is sent, also one that is
            scheduled for later, with its retries and with what follows from it; nothing
            is stored. How it ended says its result; it is raised only where
            ``task_eager_propagates`` is set. ``"manual"`` stores jobs, and nothing
            runs them until `pgtasks.testing.drain_queue` does.

    Raises:
        ValueError: There is no such mode.
    """
    if name not in modes.MODES:
        raise ValueError(f"mode(app, {name!r}): it is 'inline' or 'manual'.")
    with modes.scope(modes.app_itself(app), name):
        yield
