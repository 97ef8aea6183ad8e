"""What a statement does, in the words of telemetry."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import Any

from pgtasks.storage.query import Query
from pgtasks.telemetry.events import ENGINE
from pgtasks.telemetry.registry import span

__all__ = ["told"]


def told(query: Query[Any], address: str) -> AbstractContextManager[dict[str, Any]]:
    """Tell of a statement as of an event of the engine, if it is one of those.

    Args:
        query: What is run meanwhile.
        address: Where.
    """
    operation = _operations().get(query.statement)
    if operation is None:
        return _Silence()
    known = {"operation": operation, "database": address}
    return span(f"pgtasks.engine.{operation}", known)


@cache
def _operations() -> dict[str, str]:
    from pgtasks.storage import admin, jobs, pruning, workers

    return {
        text: ENGINE[name]
        for statements in (admin.SQL, jobs.SQL, pruning.SQL, workers.SQL)
        for name, text in statements.items()
        if name in ENGINE
    }


class _Silence(AbstractContextManager[dict[str, Any]]):
    def __enter__(self) -> dict[str, Any]:
        return {}

    def __exit__(self, *exc_info: object) -> None:
        """Nothing to tell."""
