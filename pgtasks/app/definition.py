"""Tasks out of functions and classes, and what happens when two claim one name."""

from __future__ import annotations

import importlib
import inspect
import sys
import warnings
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any

from pgtasks.app.autoretry import add_autoretry_behaviour
from pgtasks.exceptions import DuplicateTaskNameWarning
from pgtasks.utils.imports import qualname
from pgtasks.utils.proxy import maybe_evaluate

if TYPE_CHECKING:
    from pgtasks.app.base import Celery

__all__ = ["register_task", "task_from_function"]


def task_from_function(
    app: Celery,
    fun: Callable[..., Any],
    name: str | None = None,
    base: Any = None,
    bind: bool = False,
    pydantic: bool = False,
    pydantic_strict: bool = False,
    pydantic_context: Any = None,
    pydantic_dump_kwargs: Any = None,
    **options: Any,
) -> Any:
    """Make a task of a function, or answer the one that has its name already.

    Args:
        app: The application that it belongs to.
        fun: The function.
        name: Its name; made of the function's by default.
        base: Its class; the application's by default.
        bind: The function gets the task first.
        pydantic: Validate arguments that are annotated with models.
        pydantic_strict: Validate strictly.
        pydantic_context: What validators find in their context.
        pydantic_dump_kwargs: Arguments of ``model_dump``.
        **options: Attributes of the task.
    """
    options.pop("lazy", None)  # of a task that was made in a spawned child
    if "replace" in options:
        # Task.replace() is Celery's.
        options["unique_replace"] = options.pop("replace")
    name = name or app.gen_task_name(fun.__name__, fun.__module__)
    # Binding reads settings, and reading the first of them calls functions of the program,
    # which may use this very task: let them have been called before it is looked for.
    app.conf.get("timezone")
    if name in app._tasks:
        return _taken(app, app._tasks[name], fun)
    decorated, dump_arguments = fun, None
    if pydantic:
        from pgtasks.app.pydantic import ModelTask

        models = ModelTask(
            app, fun, name, pydantic_strict, pydantic_context, pydantic_dump_kwargs
        )
        fun = models.wrapped
        dump_arguments = staticmethod(partial(models.dump_arguments, bound=bind))
    run = fun if bind else staticmethod(fun)
    attributes = {
        "app": app,
        "name": name,
        "run": run,
        "_decorated": True,
        "_decorated_fun": staticmethod(decorated),
        "_dump_pydantic_arguments": dump_arguments,
        "__doc__": fun.__doc__,
        "__module__": fun.__module__,
        "__annotations__": _annotations(fun),
        "__header__": app.type_checker(fun, bound=bind),
        "__wrapped__": run,
        **options,
    }
    task = type(fun.__name__, (base or app.Task,), attributes)()
    # Not to be had through type(): there it would have to suit the class.
    if hasattr(fun, "__qualname__"):
        task.__qualname__ = fun.__qualname__
    task.bind(app)
    add_autoretry_behaviour(task, **options)
    # Last: what stands in the registry may be called by any thread, at once.
    with app._naming:
        if task.name not in app._tasks:
            app._tasks[task.name] = task
            return task
    return _taken(app, app._tasks[task.name], decorated)


def _annotations(fun: Callable[..., Any]) -> Any:
    """Answer a function's annotations, as text where they cannot be evaluated."""
    try:
        return getattr(fun, "__annotations__", {})
    except NameError:
        # From Python 3.14 on they are evaluated when asked for, and may name what only
        # type checkers import.
        annotationlib = importlib.import_module("annotationlib")
        return annotationlib.get_annotations(fun, format=annotationlib.Format.STRING)


def register_task(app: Celery, task: Any, **options: Any) -> Any:
    """Add a task that was written as a class, given by itself or by its class.

    It takes the place of another of the same name.
    """
    task = task() if inspect.isclass(task) else task
    if not task.name:
        cls = type(task)
        task.name = app.gen_task_name(cls.__name__, cls.__module__)
    existing = app.tasks.get(task.name)
    if existing is not None and existing is not task:
        _warn(
            app,
            task.name,
            getattr(existing, "_decorated_fun", None) or type(existing),
            getattr(task, "_decorated_fun", None) or type(task),
            "The new one replaced the other: calls under this name now reach it.",
        )
    task._app = app
    task.bind(app)
    add_autoretry_behaviour(task, **options)
    app.tasks[task.name] = task
    return task


# ── names that are taken ────────────────────────────────────────────────────────────────


def _taken(app: Celery, task: Any, fun: Callable[..., Any]) -> Any:
    """Answer the task that has the name already, and warn if it is another function."""
    # A module that is imported twice brings the same function again, so it is the object
    # that tells, not its name.
    known, new = getattr(task, "_decorated_fun", None), _original(fun)
    if known is not None and _original(known) is not new:
        _warn(
            app,
            task.name,
            known,
            new,
            "The new one was not registered: calls under this name reach the other.",
        )
    return task


def _original(fun: Any) -> Any:
    """Answer the function behind a task that is decorated again, as ``shared_task`` may."""
    return getattr(maybe_evaluate(fun), "_decorated_fun", None) or fun


def _warn(app: Celery, name: str, old: Any, new: Any, consequence: str) -> None:
    # Once for each name: it is one mistake, however often the module is imported.
    if name in app._duplicate_task_names_warned:
        return
    app._duplicate_task_names_warned.add(name)
    warnings.warn(
        f"Task name {name!r} is already registered to a different callable: "
        f"{qualname(old)} and now {qualname(new)}. {consequence} Give one of them another "
        f"name=.",
        DuplicateTaskNameWarning,
        stacklevel=_level_of_caller(),
    )


def _level_of_caller() -> int:
    """Answer how far up the stack the first line of the program's own is."""
    frame: FrameType | None = sys._getframe(1)
    level = 1
    while frame is not None and _is_ours(frame.f_globals.get("__name__", "")):
        frame, level = frame.f_back, level + 1
    return level


def _is_ours(module: str) -> bool:
    # functools: a task may be made because somebody looked at a cached property.
    return module in ("pgtasks", "functools") or module.startswith("pgtasks.")
