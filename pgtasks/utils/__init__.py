"""Tools that know nothing of jobs; the names Celery has in ``celery.utils``.

Everything is looked up on first use: importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

__all__ = [
    "LOG_LEVELS",
    "cached_property",
    "chunks",
    "gen_task_name",
    "gen_unique_id",
    "get_cls_by_name",
    "get_full_cls_name",
    "import_from_cwd",
    "instantiate",
    "memoize",
    "nodename",
    "nodesplit",
    "noop",
    "uuid",
    "worker_direct",
]


def uuid(_uuid: Callable[[], UUID] | None = None) -> str:
    """A new id for a job or group, as text."""
    if _uuid is not None:
        return str(_uuid())
    from uuid import uuid4  # 3 ms that `import pgtasks` need not spend

    return str(uuid4())


gen_unique_id = uuid

_HOMES = {
    "LOG_LEVELS": "pgtasks.utils.log:LOG_LEVELS",
    "cached_property": "kombu.utils.objects:cached_property",
    "chunks": "pgtasks.utils.functional:chunks",
    "gen_task_name": "pgtasks.utils.imports:gen_task_name",
    "get_cls_by_name": "pgtasks.utils.imports:symbol_by_name",
    "get_full_cls_name": "pgtasks.utils.imports:qualname",
    "import_from_cwd": "pgtasks.utils.imports:import_from_cwd",
    "instantiate": "pgtasks.utils.imports:instantiate",
    "memoize": "pgtasks.utils.functional:memoize",
    "nodename": "pgtasks.utils.nodenames:nodename",
    "nodesplit": "pgtasks.utils.nodenames:nodesplit",
    "noop": "pgtasks.utils.functional:noop",
    "worker_direct": "pgtasks.utils.nodenames:worker_direct",
}


def __getattr__(name: str) -> Any:
    try:
        module, _, attribute = _HOMES[name].partition(":")
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    value = globals()[name] = getattr(import_module(module), attribute)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
