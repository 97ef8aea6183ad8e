"""The ``events`` command."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import Any

import click

from pgtasks.cli.background import PATIENCE, Detached, detach
from pgtasks.cli.daemon import daemon_options, loglevel_option
from pgtasks.cli.invocation import EX_CONFIG, Failure, Invocation
from pgtasks.cli.options import Command, option
from pgtasks.cli.process import become, log_file, pid_file
from pgtasks.cli.readiness import await_database
from pgtasks.utils.nodenames import default_nodename, node_format

__all__ = ["events"]

logger = logging.getLogger("celery.evcam")


@click.command(cls=Command)
@option(
    "-d", "--dump", group="Dumper", is_flag=True, help="Write events down, a line each."
)
@option(
    "-c",
    "--camera",
    group="Snapshot",
    metavar="CLASS",
    help="Show this camera, proj.module:Class, the picture that events add up to.",
)
@option(
    "--detach",
    group="Snapshot",
    is_flag=True,
    help="Start the camera in the background.",
)
@option(
    "-F",
    "--frequency",
    "--freq",
    group="Snapshot",
    type=click.FloatRange(min=0.001),
    default=1.0,
    metavar="SECONDS",
    help="Seconds between pictures; 1 by default.",
)
@option(
    "-r",
    "--maxrate",
    group="Snapshot",
    metavar="RATE",
    help="At most so many pictures, as 10/m.",
)
@loglevel_option("Snapshot")
@daemon_options
@click.pass_context
def events(ctx: click.Context, /, dump: bool, camera: str | None, **options: Any) -> None:
    """Watch the events of workers and clients.

    \b
    $ pgtasks -A proj events                      a screen of tasks
    $ pgtasks -A proj events --dump               a line for each event
    $ pgtasks -A proj events -c proj.Camera -F 10 --detach

    Workers tell of tasks if they were started with -E, or were told to with 'pgtasks
    control enable_events'.
    """  # noqa: D301 - \b is what keeps click from filling the lines
    invocation = ctx.ensure_object(Invocation)
    app = invocation.application
    if dump:
        ctx.exit(_run_evdump(app))
    if camera:
        ctx.exit(_run_evcam(camera, app=app, invocation=invocation, **options))
    ctx.exit(_run_evtop(app))


def _run_evdump(app: Any) -> int:
    from pgtasks.events.dumper import evdump

    evdump(app=app)
    return 0


def _run_evtop(app: Any) -> int:
    if not sys.stdout.isatty():
        raise Failure(
            "The screen of tasks needs a terminal. To write events down, a line each: "
            "pgtasks events --dump",
            EX_CONFIG,
        )
    try:
        from pgtasks.events.cursesmon import evtop
    except ImportError as error:
        raise Failure(
            f"The screen of tasks needs Python's module curses, which cannot be had here "
            f"({error}). Use --dump.",
            EX_CONFIG,
        ) from error
    evtop(app=app)
    return 0


def _run_evcam(
    camera: str,
    *,
    app: Any,
    invocation: Invocation | None = None,
    frequency: float = 1.0,
    maxrate: str | None = None,
    loglevel: int = logging.WARNING,
    logfile: str | None = None,
    pidfile: str | None = None,
    uid: str | None = None,
    gid: str | None = None,
    umask: str | None = None,
    executable: str | None = None,
    detach: bool = False,
) -> int:
    name = default_nodename(None, "celeryev")
    logfile, pidfile = (path and node_format(path, name) for path in (logfile, pidfile))
    background = Detached.of_environment()
    if detach and background is None:
        _detach(invocation or Invocation(named=app), executable)
        return 0
    with background.starting() if background else contextlib.nullcontext():
        become(uid, gid, umask)
        _check(camera, maxrate)
        from pgtasks.events.snapshot import evcam

        with log_file(logfile):
            app.log.setup_logging_subsystem(loglevel, logfile)
        await_database(app, logger)
        with pid_file(pidfile):
            if background is not None:
                background.log_to(logfile)
            evcam(
                camera,
                freq=frequency,
                maxrate=maxrate,
                loglevel=loglevel,
                logfile=logfile,
                app=app,
                on_ready=None if background is None else background.ready,
            )
    return 0


def _check(camera: str, maxrate: str | None) -> None:
    """Say what is wrong with the words of the command line before anything begins."""
    from pgtasks.utils.imports import symbol_by_name
    from pgtasks.utils.time import rate

    try:
        symbol_by_name(camera)
    except (ImportError, AttributeError, ValueError) as error:
        raise Failure(
            f"The camera {camera!r} cannot be had: {error}. Name a class as "
            f"proj.module:Class.",
            EX_CONFIG,
        ) from error
    try:
        rate(maxrate)
    except (ValueError, KeyError, TypeError) as error:
        raise Failure(
            f"--maxrate is {maxrate!r}: write it as 10/s, 10/m or 10/h.", 2
        ) from error


def _detach(invocation: Invocation, executable: str | None) -> None:
    started = detach(sys.argv[1:], executable=executable, what="camera")
    said = f"The camera runs in the background: {started.pid}"
    if not started.ready:
        said = (
            f"The camera is in the background ({started.pid}), and not ready after "
            f"{PATIENCE:g} s. It goes on trying; see its log, or stop it with kill "
            f"{started.pid}. Its last words:\n\n{started.words or '(none)'}"
        )
    invocation.out.note(said)
