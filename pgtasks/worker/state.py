"""What this process was told about its worker, as ``celery.worker.state``.

Setting one of these, from a test or from another thread, stops the worker of this
process within a fraction of a second.
"""

from __future__ import annotations

__all__ = ["should_stop", "should_terminate"]

should_stop: int | None = None
"""Exit code of a warm shutdown that was asked for; None when none was."""

should_terminate: int | None = None
"""Exit code of a cold one."""
