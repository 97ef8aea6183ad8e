"""The pools of a worker by name, under Celery's path ``celery.concurrency``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pgtasks.utils.imports import symbol_by_name

__all__ = [
    "get_available_pool_names",
    "get_implementation",
    "maybe_patch_concurrency",
]


def get_implementation(cls: Any) -> Any:
    """The pool class of a name (``prefork``, ``threads``, ``solo``), or of ``module:name``.

    Raises:
        ValueError: There is no pool of that name.
    """
    from pgtasks.worker.pools import by_name

    if isinstance(cls, str) and ":" not in cls and "." not in cls:
        return by_name(cls)
    return symbol_by_name(cls)


def get_available_pool_names() -> tuple[str, ...]:
    """The names that `get_implementation` knows."""
    from pgtasks.worker.pools import POOLS

    return tuple(POOLS)


def maybe_patch_concurrency(
    argv: Sequence[str] | None = None,
    short_opts: Sequence[str] | None = None,
    long_opts: Sequence[str] | None = None,
    patches: Mapping[str, Callable[[], Any]] | None = None,
) -> None:
    """Patch the standard library for a pool of green threads, if a command line asks for it.

    Programs that start workers call this before they import anything else.

    Args:
        argv: The words of the command line; those of this process by default.
        short_opts: Options that name the pool; ``-P`` by default.
        long_opts: The same in their long form; ``--pool`` by default.
        patches: By the pool's name what to call; gevent's ``monkey.patch_all`` by default.
    """
    from pgtasks.platforms import _find_option_with_arg

    words = list(sys.argv if argv is None else argv)
    try:
        pool = _find_option_with_arg(
            words, list(short_opts or ["-P"]), list(long_opts or ["--pool"])
        )
    except (KeyError, IndexError):
        return  # Of an option without a value whoever reads the line says so.
    patch = ({"gevent": _patch_gevent} if patches is None else patches).get(pool)
    if patch is not None:
        patch()
        get_implementation(pool)


def _patch_gevent() -> None:
    from gevent import monkey

    monkey.patch_all()
