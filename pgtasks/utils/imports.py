"""Modules and symbols by name, and the names of modules and symbols."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import import_module, reload
from types import ModuleType
from typing import Any

__all__ = [
    "NotAPackage",
    "cwd_in_path",
    "find_module",
    "gen_task_name",
    "import_from_cwd",
    "instantiate",
    "load_extension_class_names",
    "load_extension_classes",
    "module_file",
    "qualname",
    "reload_from_cwd",
    "symbol_by_name",
]

#: File of the program that started this process, set by launchers that import
#: it under another name than ``__main__``.
MP_MAIN_FILE = os.environ.get("MP_MAIN_FILE")


class NotAPackage(Exception):
    """A dotted name goes through a module that has no submodules."""


# ── symbols ─────────────────────────────────────────────────────────────────


def symbol_by_name(
    name: Any,
    aliases: Mapping[str, str] | None = None,
    imp: Callable[..., Any] | None = None,
    package: str | None = None,
    sep: str = ".",
    default: Any = None,
    **kwargs: Any,
) -> Any:
    """The object that a text names: ``"package.module:attribute"``.

    Args:
        name: The name; what is not a text is handed back. Without a colon the
            last dot separates module and attribute, and a name with neither
            is a module.
        aliases: Short names for others.
        imp: Imports a module, by default ``importlib.import_module``.
        package: Where relative names begin.
        sep: Separator for names without a colon.
        default: Answer if there is no such object, instead of the exception.
        **kwargs: Passed on to ``imp``.

    Raises:
        ImportError: The module does not exist or cannot be imported.
        AttributeError: The module has no such attribute.
        ValueError: The name is not well-formed.
    """
    if not isinstance(name, str):
        return name
    name = (aliases or {}).get(name) or name
    module_name, found, attribute = name.rpartition(":" if ":" in name else sep)
    if not module_name:
        # ".attribute" is looked up in the package, "module" is a module.
        module_name, attribute = (package or attribute), ("" if not found else attribute)
    try:
        module = _import(module_name, name, imp or import_module, package, **kwargs)
        return getattr(module, attribute) if attribute else module
    except (ImportError, AttributeError):
        if default is None:
            raise
        return default


def _import(
    module: str, name: str, imp: Callable[..., Any], package: str | None, **kwargs: Any
) -> Any:
    try:
        return imp(module, package=package, **kwargs)
    except ValueError as error:
        raise ValueError(f"Cannot import {name!r}: {error}") from error


def instantiate(name: Any, *args: Any, **kwargs: Any) -> Any:
    """Call the class of that name; see `symbol_by_name`."""
    return symbol_by_name(name)(*args, **kwargs)


def qualname(obj: Any) -> str:
    """Dotted name of a class or function, or of an instance's class."""
    if not hasattr(obj, "__name__"):
        obj = type(obj)
    name: str = obj.__qualname__
    return name if "." in name else f"{obj.__module__}.{name}"


# ── modules ─────────────────────────────────────────────────────────────────


@contextmanager
def cwd_in_path() -> Iterator[str | None]:
    """Make modules of the current directory importable inside the block."""
    try:
        cwd = os.getcwd()
    except FileNotFoundError:  # it was removed under us
        cwd = ""
    if not cwd or cwd in sys.path:
        yield None
        return
    sys.path.insert(0, cwd)
    try:
        yield cwd
    finally:
        if cwd in sys.path:
            sys.path.remove(cwd)


def find_module(
    module: str, path: Any = None, imp: Callable[[str], Any] | None = None
) -> Any:
    """Import a module, also from the current directory.

    Raises:
        NotAPackage: One of the packages in the dotted name is a plain module,
            which says more than the ImportError it takes the place of.
    """
    imp = imp or import_module
    with cwd_in_path():
        try:
            return imp(module)
        except ImportError as missing:
            parent = _last_importable_parent(module, imp)
            if parent is not None and not hasattr(parent[1], "__path__"):
                raise NotAPackage(parent[0]) from missing
            raise


def _last_importable_parent(
    module: str, imp: Callable[[str], Any]
) -> tuple[str, Any] | None:
    last = None
    names = module.split(".")[:-1]
    for count in range(1, len(names) + 1):
        name = ".".join(names[:count])
        try:
            last = name, imp(name)
        except ImportError:
            break
    return last


def import_from_cwd(
    module: str, imp: Callable[..., Any] | None = None, package: str | None = None
) -> Any:
    """Import a module; the current directory comes first."""
    with cwd_in_path():
        return (imp or import_module)(module, package=package)


def reload_from_cwd(
    module: ModuleType, reloader: Callable[[ModuleType], Any] | None = None
) -> Any:
    """Reload a module, also one of the current directory."""
    with cwd_in_path():
        return (reloader or reload)(module)


def module_file(module: ModuleType) -> str:
    """The source file of a module, also when it was loaded from byte code."""
    name = str(module.__file__)
    return name[:-1] if name.endswith(".pyc") else name


def gen_task_name(app: Any, name: str, module_name: str | None) -> str:
    """Default name of a task: module and function.

    Tasks of the program itself are named after ``app.main``: as ``__main__`` no
    worker could find them.
    """
    module_name = module_name or "__main__"
    module = sys.modules.get(module_name)
    if module is not None:
        module_name = module.__name__
        if MP_MAIN_FILE and getattr(module, "__file__", None) == MP_MAIN_FILE:
            module_name = "__main__"
    if module_name == "__main__" and app.main:
        module_name = app.main
    return f"{module_name}.{name}" if name else module_name


# ── entry points ────────────────────────────────────────────────────────────


def entry_points(**params: Any) -> Any:
    """`importlib.metadata.entry_points`, which is slow to import."""
    from importlib import metadata

    return metadata.entry_points(**params)


@cache
def load_extension_class_names(namespace: str) -> tuple[tuple[str, str], ...]:
    """Name and ``module:class`` of each entry point of that group.

    Reading the metadata of all installed packages is slow and the answer does
    not change while the process lives.
    """
    return tuple((each.name, each.value) for each in entry_points(group=namespace))


def load_extension_classes(namespace: str) -> Iterator[tuple[str, Any]]:
    """Name and class of each entry point of that group; broken ones only warn."""
    for name, class_name in load_extension_class_names(namespace):
        try:
            cls = symbol_by_name(class_name)
        except (ImportError, SyntaxError) as error:
            warnings.warn(
                f"Cannot load the extension {name!r} of {namespace} from "
                f"{class_name!r}: {error!r}. Reinstall or remove its package.",
                stacklevel=2,
            )
        else:
            yield name, cls
