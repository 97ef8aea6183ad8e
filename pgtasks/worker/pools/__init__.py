"""Who runs the jobs: processes, threads, coroutines, greenlets, or the worker itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pgtasks.utils.imports import symbol_by_name

if TYPE_CHECKING:
    from pgtasks.worker.pools.base import Pool

__all__ = ["POOLS", "by_name"]

POOLS = {
    "prefork": "pgtasks.worker.pools.prefork:PreforkPool",
    "processes": "pgtasks.worker.pools.prefork:PreforkPool",
    "threads": "pgtasks.worker.pools.threads:ThreadPool",
    "solo": "pgtasks.worker.pools.solo:SoloPool",
    "asyncio": "pgtasks.worker.pools.aio:AsyncioPool",
    "gevent": "pgtasks.worker.pools.green:GeventPool",
}


def by_name(name: str) -> type[Pool]:
    """The pool class of this name, or of ``module:name``.

    Raises:
        ValueError: There is none.
    """
    path = POOLS.get(name, name)
    if ":" not in path:
        raise ValueError(
            f"There is no pool named {name!r}; choose one of {', '.join(POOLS)} (option -P)."
        )
    from pgtasks.worker.pools.base import Pool

    found: Any = symbol_by_name(path)
    if not (isinstance(found, type) and issubclass(found, Pool)):
        raise ValueError(
            f"The pool {name!r} is no subclass of pgtasks.worker.pools.base.Pool: pools here "
            f"are given jobs, and not functions. Derive it from the one that is most like it."
        )
    return found
