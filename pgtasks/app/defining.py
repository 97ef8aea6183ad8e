"""The tasks of an application: how they are made, registered, found, and when all are there."""

from __future__ import annotations

import importlib
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, cast

from pgtasks._state import _announce_app_finalized, connect_on_app_finalize
from pgtasks.app.configuring import Configured
from pgtasks.app.registry import TaskRegistry
from pgtasks.utils.imports import gen_task_name, symbol_by_name
from pgtasks.utils.proxy import maybe_evaluate

if TYPE_CHECKING:
    from pgtasks.app import discovery
    from pgtasks.app.base import Celery

__all__ = ["Defining"]

_NOT_FINALIZED = (
    "Contract breach: app not finalized. It was made with autofinalize=False, so call "
    "app.finalize() before using its tasks."
)


class Defining(Configured):
    """The floor of `Celery` that has the tasks.

    ``@app.task`` answers a promise, which is kept when somebody uses the task, or when the
    application is finalized: then the shared tasks of the program arrive as well.
    """

    registry_cls: Any = TaskRegistry
    on_after_finalize: Any = None

    autofinalize: bool
    _fixups: list[Any]

    def _begin_unfinalized(self, tasks: Any, autofinalize: bool, lock: Any) -> None:
        self.registry_cls = symbol_by_name(self.registry_cls)
        self.autofinalize = autofinalize
        self.finalized = False
        self._all_tasks_are_there = False
        self._finalize_mutex = lock
        self._naming = threading.RLock()
        self._pending: deque[Any] = deque()
        self._duplicate_task_names_warned: set[str] = set()
        self._tasks = (
            tasks if isinstance(tasks, TaskRegistry) else self.registry_cls(tasks or {})
        )

    def _renew_definition_locks(self) -> None:
        # Another thread of the parent may have held them at the fork.
        self._naming = threading.RLock()
        self._finalize_mutex = threading.RLock()
        self._conf.renew_locks(self._finalize_mutex)

    # ── making ──────────────────────────────────────────────────────────────────────────

    def type_checker(self, fun: Callable[..., Any], bound: bool = False) -> Any:
        """Answer something that raises TypeError for arguments not meant for ``fun``."""
        from pgtasks.utils.signatures import head_from_fun

        return staticmethod(head_from_fun(fun, bound=bound))

    def _task_from_fun(self, fun: Callable[..., Any], **options: Any) -> Any:
        if not self.finalized and not self.autofinalize:
            raise RuntimeError(_NOT_FINALIZED)
        # Here: a module that defines tasks need not pay for making them.
        from pgtasks.app import definition

        return definition.task_from_function(cast("Celery", self), fun, **options)

    def register_task(self, task: Any, **options: Any) -> Any:
        """Add a task that was written as a class.

        Args:
            task: The task, or its class.
            **options: As for ``autoretry_for`` and its kin.

        Returns:
            The task.
        """
        from pgtasks.app import definition

        return definition.register_task(cast("Celery", self), task, **options)

    def gen_task_name(self, name: str, module: str) -> str:
        """Make a task's name of those of its function and module; for subclasses."""
        return gen_task_name(self, name, module)

    # ── having them all ─────────────────────────────────────────────────────────────────

    def finalize(self, auto: bool = False) -> None:
        """Register the built-in and shared tasks, make those that wait, bind all.

        Args:
            auto: It happens by itself, which ``autofinalize=False`` forbids.
        """
        with self._finalize_mutex:
            if self.finalized:
                return
            if auto and not self.autofinalize:
                raise RuntimeError(_NOT_FINALIZED)
            self.finalized = True
            _connect_builtin_tasks()
            _announce_app_finalized(self)
            while self._pending:
                maybe_evaluate(self._pending.popleft())
            for task in list(self._tasks.values()):
                task.bind(self)
            self.on_after_finalize.send(sender=self)
            self._all_tasks_are_there = True

    @property
    def tasks(self) -> TaskRegistry:
        """The tasks by name; finalizes the application."""
        if not self._all_tasks_are_there:
            # Also while another thread is at it: half a registry is of no use.
            self.finalize(auto=True)
        return self._tasks

    # ── finding ─────────────────────────────────────────────────────────────────────────

    def autodiscover_tasks(
        self,
        packages: discovery.Packages = None,
        related_name: str | None = "tasks",
        force: bool = False,
    ) -> Any:
        """Import the module ``tasks`` of packages, when a worker imports the program.

        Args:
            packages: The packages, or a function that answers them; by default those that
                a fixup knows of: Django's installed applications.
            related_name: The module; None for the packages themselves.
            force: Import them now.
        """
        if force:
            return self._autodiscover_tasks(packages, related_name)
        from pgtasks.app import discovery

        return discovery.discover_later(self, packages, related_name)

    # Celery's names of the steps, which its users override.

    def _autodiscover_tasks(
        self, packages: discovery.Packages, related_name: str | None, **kwargs: Any
    ) -> Any:
        if packages:
            return self._autodiscover_tasks_from_names(packages, related_name)
        return self._autodiscover_tasks_from_fixups(related_name)

    def _autodiscover_tasks_from_names(
        self, packages: Any, related_name: str | None
    ) -> Any:
        names = packages() if callable(packages) else packages
        return self.loader.autodiscover_tasks(names, related_name)

    def _autodiscover_tasks_from_fixups(self, related_name: str | None) -> Any:
        # Django's fixup knows the installed applications.
        found: Iterable[str] = [
            package
            for fixup in self._fixups
            if hasattr(fixup, "autodiscover_tasks")
            for package in fixup.autodiscover_tasks()
        ]
        return self._autodiscover_tasks_from_names(found, related_name=related_name)


def _connect_builtin_tasks() -> None:
    # They need all of canvas, which programs that only define and send tasks do not. Each
    # time: who has taken shared tasks out, as tests do, has not meant these.
    builtins = importlib.import_module("pgtasks.app.builtins")
    for name in builtins.__all__:
        connect_on_app_finalize(getattr(builtins, name))
