"""The options of commands that run on: their log, and what init scripts say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from pgtasks.cli.invocation import Invocation
from pgtasks.cli.options import LOG_LEVEL, option

__all__ = ["daemon_options", "loglevel_option"]

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


def loglevel_option(group: str) -> Callable[[Any], Any]:
    """Add ``-l`` under a heading; a decorator."""
    return option(
        "-l",
        "--loglevel",
        group=group,
        type=LOG_LEVEL,
        default="WARNING",
        metavar="LEVEL",
        help="What to log: DEBUG, INFO, WARNING (the default), ERROR, CRITICAL or FATAL.",
    )
