"""Members of groups and headers: what one may be given, and what is made of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import GeneratorType
from typing import Any

from pgtasks import canvas as package
from pgtasks.canvas.signature import Signature, as_signature
from pgtasks.utils.abstract import CallableSignature
from pgtasks.utils.functional import regen

__all__ = ["_maybe_group", "flattened", "member_of"]


def flattened(tasks: Iterable[Any], app: Any, bind: bool = True) -> Iterator[Any]:
    """Copies of the tasks, with those of groups among them in their place.

    Empty chains have no result and are left out.

    Args:
        tasks: The members of a group.
        app: App of those that are dicts.
        bind: Make it the app of the others too.
    """
    pending = [iter(tasks)]
    while pending:
        for task in pending[-1]:
            task = member_of(task, app)
            if isinstance(task, package.group):
                pending.append(iter(task.tasks))
                break
            if isinstance(task, package._chain) and not task.tasks:
                continue
            task = task.clone()
            if bind and app is not None:
                task._app = app
            yield task
        else:
            pending.pop()


def member_of(task: Any, app: Any) -> Any:
    """A member of a work-flow as a signature; it may be a dict."""
    if not hasattr(task, "clone"):
        if not isinstance(task, Mapping):
            name = getattr(task, "__name__", "task")
            raise TypeError(
                f"{task!r} is no signature, and a work-flow is made of those: write "
                f"{name}.s(…), with the arguments that it shall be called with."
            )
        return as_signature(task, app)
    return task


def _maybe_group(tasks: Any, app: Any) -> Any:
    """The header of a chord: the members of a group or chain, or one task, or many.

    They stay lazy if they come from a generator.
    """
    if isinstance(tasks, Mapping):
        tasks = package.signature(tasks, app=app)
    if isinstance(tasks, (package.group, package._chain)):
        return tasks.tasks
    if isinstance(tasks, (Signature, CallableSignature)):
        return [tasks]
    if isinstance(tasks, GeneratorType):
        return regen(package.signature(task, app=app) for task in tasks)
    return [package.signature(task, app=app) for task in tasks]
