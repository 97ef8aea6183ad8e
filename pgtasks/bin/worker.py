"""The command ``worker``, under the path that it has in Celery: ``celery.bin.worker``."""

from __future__ import annotations

from typing import Any

from pgtasks.cli.worker import _concurrency, worker

__all__ = ["worker"]


def _concurrency_value(ctx: Any, param: Any, value: str | None) -> int | str | None:
    """What ``-c`` says, else the setting."""
    return _concurrency(ctx, param, value) or ctx.obj.app.conf.worker_concurrency
