"""What a loader does, for those who write their own."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from functools import cached_property
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pgtasks import signals
from pgtasks.utils.collections import DictAttribute, force_mapping
from pgtasks.utils.functional import maybe_list
from pgtasks.utils.imports import (
    NotAPackage,
    find_module,
    import_from_cwd,
    symbol_by_name,
)

if TYPE_CHECKING:
    from pgtasks.app.base import Celery

__all__ = ["BaseLoader", "autodiscover_tasks", "find_related_module"]

#: Stands for a configuration that has not been read.
unconfigured: Any = object()

#: Autodiscovery is going on: a module that is being imported must not start another.
_RACE_PROTECTION = False


class BaseLoader:
    """Reads the configuration and imports the modules of tasks.

    The ``on_…`` methods are there to be overridden: they are called at the turns of a
    worker's life.

    Attributes:
        app: The application.
        task_modules: Names of the modules imported for their tasks.
        override_backends: Result backends by alias, from the configuration.
    """

    builtin_modules: Iterable[str] = frozenset()
    configured = False
    override_backends: Mapping[str, Any] = {}
    worker_initialized = False

    _conf: Any = unconfigured

    def __init__(self, app: Celery, **kwargs: Any) -> None:
        self.app = app
        self.task_modules: set[str] = set()

    def now(self, utc: bool = True) -> datetime:
        """Answer the time, in UTC or local and naive."""
        return datetime.now(timezone.utc) if utc else datetime.now()

    # ── turns of a worker's life ────────────────────────────────────────────────────────

    def on_task_init(self, task_id: str, task: Any) -> None:
        """Called before a task runs."""

    def on_process_cleanup(self) -> None:
        """Called after a task has run."""

    def on_worker_init(self) -> None:
        """Called when the worker starts, with all modules imported."""

    def on_worker_shutdown(self) -> None:
        """Called when the worker stops."""

    def on_worker_process_init(self) -> None:
        """Called in each new child of the worker."""

    def init_worker(self) -> None:
        """Import the modules, once, and call `on_worker_init`."""
        if not self.worker_initialized:
            self.worker_initialized = True
            self.import_default_modules()
            self.on_worker_init()

    def shutdown_worker(self) -> None:
        """Call `on_worker_shutdown`."""
        self.on_worker_shutdown()

    def init_worker_process(self) -> None:
        """Call `on_worker_process_init`."""
        self.on_worker_process_init()

    # ── modules ─────────────────────────────────────────────────────────────────────────

    def import_task_module(self, module: str) -> Any:
        """Import a module for its tasks."""
        self.task_modules.add(module)
        return self.import_from_cwd(module)

    def import_module(self, module: str, package: str | None = None) -> Any:
        """Import a module."""
        return importlib.import_module(module, package=package)

    def import_from_cwd(
        self, module: str, imp: Callable[..., Any] | None = None, package: str | None = None
    ) -> Any:
        """Import a module, also from the current directory."""
        return import_from_cwd(module, imp or self.import_module, package=package)

    def import_default_modules(self) -> list[Any]:
        """Import all modules that the configuration names; tell ``import_modules``."""
        # A receiver's exception is usually logged, but logging is not set up yet, and a
        # worker without its tasks is of no use.
        for _, response in signals.import_modules.send(sender=self.app):
            if isinstance(response, Exception):
                raise response
        return [self.import_task_module(module) for module in self.default_modules]

    @cached_property
    def default_modules(self) -> tuple[str, ...]:
        """Names of the modules that the configuration wants imported."""
        conf = self.app.conf
        return (
            *self.builtin_modules,
            *(maybe_list(conf.imports) or ()),
            *(maybe_list(conf.include) or ()),
        )

    def autodiscover_tasks(
        self, packages: Iterable[str] | None, related_name: str | None = "tasks"
    ) -> None:
        """Import the module ``related_name`` of each package that has one."""
        found = autodiscover_tasks(packages or (), related_name)
        self.task_modules.update(module.__name__ for module in found if module)

    def find_module(self, module: str) -> Any:
        """Import a module, and say so if its package is none."""
        return find_module(module)

    # ── configuration ───────────────────────────────────────────────────────────────────

    @property
    def conf(self) -> Any:
        """The configuration as a mapping, or None."""
        if self._conf is unconfigured:
            self._conf = self.read_configuration()
        return self._conf

    def read_configuration(self, env: str = "CELERY_CONFIG_MODULE") -> Any:
        """Read the module that the environment variable ``env`` names, if it does."""
        name = os.environ.get(env)
        return DictAttribute(self._import_config_module(name)) if name else None

    def config_from_object(self, obj: Any, silent: bool = False) -> bool:
        """Take the configuration from an object.

        Args:
            obj: A mapping, a module, an object with attributes, or a dotted name of any.
            silent: Answer False if the name leads nowhere, rather than raise.
        """
        if isinstance(obj, str):
            try:
                obj = self._smart_import(obj, imp=self.import_from_cwd)
            except (ImportError, AttributeError):
                if silent:
                    return False
                raise
        self._conf = force_mapping(obj)
        if self._conf.get("override_backends") is not None:
            self.override_backends = self._conf["override_backends"]
        return True

    def _smart_import(self, path: str, imp: Callable[..., Any] | None = None) -> Any:
        imp = imp or self.import_module
        if ":" not in path:
            # "a.b" may be a module, or an attribute of one.
            try:
                return imp(path)
            except ImportError:
                pass
        return symbol_by_name(path, imp=imp)

    def _import_config_module(self, name: str) -> Any:
        try:
            self.find_module(name)
        except NotAPackage as error:
            hint = f" Did you mean {name[:-3]!r}?" if name.endswith(".py") else ""
            raise NotAPackage(
                f"Module {name!r} doesn't exist, or it's not a valid Python module name."
                f"{hint} It is wanted as the configuration: see CELERY_CONFIG_MODULE."
            ) from error
        return self.import_from_cwd(name)

    def cmdline_config_parser(
        self,
        args: Iterable[str],
        namespace: str | None = "celery",
        re_type: re.Pattern[str] = re.compile(r"\((\w+)\)"),
        extra_types: Mapping[str, Callable[[str], Any]] | None = None,
        override_types: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Read settings given as ``worker.concurrency=10`` or ``.name=(type)value``.

        Args:
            args: The settings.
            namespace: What a leading dot stands for.
            re_type: How a type is written before a value.
            extra_types: Further types, and how they are read.
            override_types: Types that are read as others; collections are JSON.

        Raises:
            ValueError: A value is not of its setting's type.
        """
        from pgtasks.loaders.cmdline import parse

        return parse(
            args,
            namespace,
            re_type,
            extra_types=extra_types or {},
            override_types=override_types
            or dict.fromkeys(("tuple", "list", "dict"), "json"),
        )


def autodiscover_tasks(
    packages: Iterable[str], related_name: str | None = "tasks"
) -> Iterable[ModuleType | None]:
    """Import the module ``related_name`` of each package.

    Answers nothing when called while it is at work already, by a module that it imports.
    """
    global _RACE_PROTECTION
    if _RACE_PROTECTION:
        return ()
    _RACE_PROTECTION = True
    try:
        return [find_related_module(package, related_name) for package in packages]
    finally:
        _RACE_PROTECTION = False


def find_related_module(package: str, related_name: str | None) -> ModuleType | None:
    """Import a module of a package; None if the package has no such module.

    Args:
        package: The package, or a class in it, as Django's ``INSTALLED_APPS`` has.
        related_name: The module, or None for the package itself.
    """
    try:
        module = importlib.import_module(package)
        if not related_name and module:
            return module
    except ModuleNotFoundError:
        package = package.rpartition(".")[0]
        if not package:
            raise
    name = f"{package}.{related_name}"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # Not there is fine. There, but missing something itself, is not.
        if error.name == name:
            return None
        raise
