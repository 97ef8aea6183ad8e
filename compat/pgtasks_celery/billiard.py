"""Billiard's exceptions and ``ExceptionInfo``, which programs import from there.

Celery's time limits are raised and its errors are handed out as billiard's classes, so
``except billiard.exceptions.SoftTimeLimitExceeded`` is common. Where billiard is installed
these names are made pgtasks' own: such a clause would else never catch anything.
"""

from __future__ import annotations

import importlib
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

__all__ = ["SHARED", "find", "give_back", "share"]

#: Modules of billiard's: ours that has the same, and the names of it.
SHARED = {
    "billiard.einfo": ("pgtasks.utils.einfo", ("ExceptionInfo",)),
    "billiard.exceptions": (
        "pgtasks.exceptions",
        ("SoftTimeLimitExceeded", "Terminated", "TimeLimitExceeded", "WorkerLostError"),
    ),
}

_own: dict[str, tuple[ModuleType, dict[str, Any]]] = {}  # what was there before


def find(name: str, path: Any) -> ModuleSpec | None:
    """The spec of one of these modules, which shares its names as soon as it is loaded."""
    spec = PathFinder.find_spec(name, path)
    if spec is not None and spec.loader is not None:
        spec.loader = SharingLoader(spec.loader)
    return spec


def share(module: ModuleType) -> None:
    """Put our classes in place of a module's own."""
    home, names = SHARED[module.__name__]
    ours = importlib.import_module(home)
    before = {name: getattr(module, name) for name in names if hasattr(module, name)}
    _own.setdefault(module.__name__, (module, before))
    vars(module).update({name: getattr(ours, name) for name in names})


def give_back() -> None:
    """Undo it, for modules that are loaded."""
    while _own:
        module, before = _own.popitem()[1]
        vars(module).update(before)


class SharingLoader(Loader):
    """Loads a module as another loader does, then shares its names."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """The other's answer."""
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Run the module's own code first."""
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        share(module)
