"""Who runs the jobs: processes, threads, or the worker itself."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pgtasks.worker.pools.base import Pool

__all__ = ["POOLS", "by_name"]

POOLS = {
    "prefork": "pgtasks.worker.pools.prefork:PreforkPool",
    "processes": "pgtasks.worker.pools.prefork:PreforkPool",
    "threads": "pgtasks.worker.pools.threads:ThreadPool",
    "solo": "pgtasks.worker.pools.solo:SoloPool",
}


def by_name(name: str) -> type[Pool]:
    """The pool class of this name.

    Raises:
        ValueError: There is none.
    """
    try:
        module, _, attribute = POOLS[name].partition(":")
    except KeyError:
        raise ValueError(
            f"There is no pool named {name!r}; choose one of {', '.join(POOLS)} (option -P)."
        ) from None
    found: type[Pool] = getattr(import_module(module), attribute)
    return found
