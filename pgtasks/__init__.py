"""Celery's API on PostgreSQL: background jobs as rows.

The names below are looked up when first used, so that importing the package costs
nothing to speak of.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pgtasks._state import current_app, current_task
    from pgtasks.app import bugreport, shared_task
    from pgtasks.app.base import App, Celery
    from pgtasks.app.task import Task
    from pgtasks.app.transactions import using
    from pgtasks.canvas import chain, chord, chunks, group, xmap, xstarmap
    from pgtasks.canvas.signature import Signature, maybe_signature, signature, subtask
    from pgtasks.exceptions import Cancel, Discard, Snooze
    from pgtasks.utils import uuid


class version_info_t(NamedTuple):
    """A version in its parts."""

    major: int
    minor: int
    micro: int
    releaselevel: str
    serial: str


__version__ = "0.1.0"
__author__ = "The pgtasks developers"
__contact__ = __author__
__homepage__ = "https://pypi.org/project/pgtasks/"
__docformat__ = "markdown"

VERSION = version_info = version_info_t(0, 1, 0, "", "")
VERSION_BANNER = __version__
SERIES = "collider"

_HOMES = {
    "_find_option_with_arg": "pgtasks.platforms",
    "App": "pgtasks.app.base",
    "Cancel": "pgtasks.exceptions",
    "Celery": "pgtasks.app.base",
    "Discard": "pgtasks.exceptions",
    "Signature": "pgtasks.canvas",
    "Snooze": "pgtasks.exceptions",
    "Task": "pgtasks.app.task",
    "bugreport": "pgtasks.app",
    "chain": "pgtasks.canvas",
    "chord": "pgtasks.canvas",
    "chunks": "pgtasks.canvas",
    "current_app": "pgtasks._state",
    "current_task": "pgtasks._state",
    "group": "pgtasks.canvas",
    "maybe_patch_concurrency": "pgtasks.concurrency",
    "maybe_signature": "pgtasks.canvas",
    "shared_task": "pgtasks.app",
    "signature": "pgtasks.canvas",
    "subtask": "pgtasks.canvas",
    "using": "pgtasks.app.transactions",
    "uuid": "pgtasks.utils",
    "xmap": "pgtasks.canvas",
    "xstarmap": "pgtasks.canvas",
}

#: Modules that need not be imported to be used.
_MODULES = {
    "registry": "pgtasks.app.registry",
    "telemetry": "pgtasks.telemetry",
    "testing": "pgtasks.testing",
}

__all__ = [
    "VERSION",
    "App",
    "Cancel",
    "Celery",
    "Discard",
    "Signature",
    "Snooze",
    "Task",
    "__version__",
    "bugreport",
    "chain",
    "chord",
    "chunks",
    "current_app",
    "current_task",
    "group",
    "maybe_signature",
    "shared_task",
    "signature",
    "subtask",
    "using",
    "uuid",
    "version_info",
    "xmap",
    "xstarmap",
]


# Not for type checkers, to which every name would then exist.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name in _MODULES:
            return import_module(_MODULES[name])
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(home), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
