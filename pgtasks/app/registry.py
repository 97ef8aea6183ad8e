"""The tasks of an application, by name."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from pgtasks._state import get_current_app
from pgtasks.exceptions import InvalidTaskError, NotRegistered

__all__ = ["TaskRegistry"]


class TaskRegistry(dict[str, Any]):
    """A dict from names to tasks whose missing keys are `NotRegistered`."""

    NotRegistered = NotRegistered

    def __missing__(self, key: str) -> Any:
        raise self.NotRegistered(key)

    def register(self, task: Any) -> None:
        """Add a task, or a task class, under its name.

        Raises:
            InvalidTaskError: It has no name.
        """
        # Here: `Celery` needs the registry, and this brings all of Python's introspection.
        from pgtasks.app.autoretry import add_autoretry_behaviour

        if task.name is None:
            kind = task if isinstance(task, type) else type(task)
            raise InvalidTaskError(
                f"Task class {kind.__name__!r} has no name: give it a `name` attribute, "
                f"or register it with app.register_task(), which makes one."
            )
        task = task() if isinstance(task, type) else task
        add_autoretry_behaviour(task)
        self[task.name] = task

    def unregister(self, name: Any) -> None:
        """Remove a task, given by itself or by its name.

        Raises:
            NotRegistered: It is not there.
        """
        try:
            self.pop(getattr(name, "name", name))
        except KeyError:
            raise self.NotRegistered(name) from None

    def regular(self) -> dict[str, Any]:
        """Answer the tasks that are of no special type."""
        return self.filter_types("regular")

    def periodic(self) -> dict[str, Any]:
        """Answer the tasks of Celery 3's periodic type."""
        return self.filter_types("periodic")

    def filter_types(self, type: str) -> dict[str, Any]:
        """Answer the tasks whose ``type`` is this."""
        return {
            name: task
            for name, task in self.items()
            if getattr(task, "type", "regular") == type
        }


# Tasks are pickled as the name of one of these with the name of the task.


def _unpickle_task(name: str) -> Any:
    return get_current_app().tasks[name]


def _unpickle_task_v2(name: str, module: str | None = None) -> Any:
    if module:
        import_module(module)
    return get_current_app().tasks[name]
