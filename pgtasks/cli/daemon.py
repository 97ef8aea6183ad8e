"""The options of commands that run on, for init scripts."""

from __future__ import annotations

from typing import Any

import click

from pgtasks.cli.invocation import Invocation
from pgtasks.cli.options import option

__all__ = ["daemon_options"]

_OPTIONS = {
    ("-f", "--logfile"): (
        "PATH",
        "Where to log; by default to standard error. Expands as --hostname does.",
    ),
    ("--pidfile",): (
        "PATH",
        "File to keep the process id in. Expands as --hostname does.",
    ),
    ("--uid",): ("USER", "Go on as this user, by name or number."),
    ("--gid",): ("GROUP", "Go on as this group, by name or number."),
    ("--umask",): ("OCTAL", "Create files with this umask."),
    ("--executable",): ("PATH", "The Python to start in the background."),
}


def _from_settings(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    if value is None and isinstance(ctx.obj, Invocation) and ctx.obj.app is not None:
        return ctx.obj.app.conf.get(f"{ctx.command.name}_{param.name}")
    return value


def daemon_options(command: Any) -> Any:
    """Add them to a command; what is not given is in the settings, as ``worker_pidfile``."""
    for names, (metavar, text) in reversed(_OPTIONS.items()):
        add = option(
            *names,
            group="Daemonization Options",
            callback=_from_settings,
            metavar=metavar,
            help=text,
        )
        command = add(command)
    return command
