"""Commands that other packages add: entry points of ``pgtasks.commands``, or Celery's.

    [project.entry-points."pgtasks.commands"]
    tidy = "shop.commands:tidy"

``shop.commands.tidy`` is a command of click's. It finds the application as ``ctx.obj.app``,
and takes the options that the application adds to every command.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import update_wrapper
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click

from pgtasks.cli.invocation import (
    Failure,
    Invocation,
    tell_preload_options,
    users_traceback,
)

__all__ = ["handle_preload_options", "handles_preload_options", "load", "names", "prepared"]

GROUPS = ("pgtasks.commands", "celery.commands")

_HANDLES = "_handles_preload_options"


def _found() -> dict[str, EntryPoint]:
    # Looked for when they are wanted: it takes longer than most commands.
    return {
        point.name: point
        for group in reversed(GROUPS)
        for point in entry_points(group=group)
    }


def names() -> dict[str, str]:
    """The commands of other packages, and which package each is from."""
    return {
        name: f"From {point.dist.name}." if point.dist is not None else ""
        for name, point in _found().items()
    }


def load(name: str) -> click.Command | None:
    """Import the command of that name; None if no package has one.

    Raises:
        Failure: It cannot be imported, or is no command.
    """
    point = _found().get(name)
    if point is None:
        return None
    try:
        command = point.load()
    except Exception as error:
        hint = ""
        if isinstance(error, ModuleNotFoundError) and "celery" in str(error.name):
            hint = " It is made for Celery; with --as-celery it may find pgtasks instead."
        raise Failure(
            f"The command {name!r} ({point.value}) could not be imported.{hint}\n\n"
            f"{users_traceback()}"
        ) from error
    if not isinstance(command, click.Command):
        raise Failure(
            f"The command {name!r} ({point.value}) is no command of click's, but "
            f"{type(command).__name__}. Its package has to mend that."
        )
    return command


def prepared(command: click.Command, invocation: Invocation | None) -> click.Command:
    """The command with the options that the application adds to every one."""
    from pgtasks.cli.options import Command

    if isinstance(command, Command) or invocation is None or command.callback is None:
        return command
    if not handles_preload_options(command.callback):
        command.callback = handle_preload_options(command.callback)
    if invocation.app is None:
        return command
    # Of a copy: another application would have others.
    copied = copy.copy(command)
    own = {name for param in command.params for name in param.opts}
    copied.params = [
        *command.params,
        *(
            param
            for param in invocation.user_options("")
            if not own.intersection(param.opts)
        ),
    ]
    return copied


def handle_preload_options(f: Callable[..., Any]) -> Callable[..., Any]:
    """Tell the application the values of its ``preload`` options; a decorator.

    For the functions of commands, be it above ``click.pass_context`` or below it. Commands
    of this package, and those found by entry points, do it without.
    """
    if handles_preload_options(f):
        return f

    def caller(*args: Any, **kwargs: Any) -> Any:
        context = (
            args[0] if args and hasattr(args[0], "obj") else click.get_current_context()
        )
        tell_preload_options(getattr(context.obj, "app", None), f, kwargs)
        return f(*args, **kwargs)

    setattr(caller, _HANDLES, True)
    return update_wrapper(caller, f)


def handles_preload_options(f: Any) -> bool:
    """Whether a function, or one that it wraps, is decorated by the above."""
    while f is not None:
        if getattr(f, _HANDLES, False):
            return True
        f = getattr(f, "__wrapped__", None)
    return False
