"""Loaders: where an application's configuration and its tasks' modules come from."""

from __future__ import annotations

from typing import Any

from pgtasks.utils.imports import import_from_cwd, symbol_by_name

__all__ = ["get_loader_cls"]

LOADER_ALIASES = {
    "app": "pgtasks.loaders.app:AppLoader",
    "default": "pgtasks.loaders.default:Loader",
}


def get_loader_cls(loader: Any) -> Any:
    """Answer a loader's class, given by itself, by an alias or by its name."""
    return symbol_by_name(loader, LOADER_ALIASES, imp=import_from_cwd)
