"""The ``beat`` command."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable
from typing import Any

import click

from pgtasks.cli.background import PATIENCE, Detached, detach
from pgtasks.cli.daemon import daemon_options, loglevel_option
from pgtasks.cli.invocation import EX_CONFIG, Failure, Invocation, users_traceback
from pgtasks.cli.options import Command, option
from pgtasks.cli.process import become, log_file, pid_file
from pgtasks.cli.readiness import await_database

__all__ = ["beat"]

logger = logging.getLogger("celery.beat")


@click.command(cls=Command, context_settings={"allow_extra_args": True})
@option("--detach", group="Beat Options", is_flag=True, help="Start it in the background.")
@option(
    "-s",
    "--schedule",
    group="Beat Options",
    metavar="PATH",
    help="File of a scheduler that has one; the last runs are in the database by default.",
)
@option(
    "-S",
    "--scheduler",
    group="Beat Options",
    metavar="CLASS",
    help="What decides what is due, proj.module:Class; beat_scheduler by default.",
)
@option(
    "--max-interval",
    group="Beat Options",
    type=click.FloatRange(min=0.001),
    metavar="SECONDS",
    help="Longest sleep between two looks at the schedule.",
)
@option(
    "--enable-remote-control/--no-enable-remote-control",
    "remote_control",
    group="Beat Options",
    default=None,
    help="Accepted from Celery: a beat answers to no control commands.",
)
@option(
    "-n",
    "--hostname",
    group="Beat Options",
    help="Name of the beat. Expands: %h (host name), %n (name) and %d (domain).",
)
@loglevel_option("Beat Options")
@daemon_options
@click.pass_context
def beat(ctx: click.Context, /, **options: Any) -> None:
    """Start beat: it sends the tasks of a schedule when they are due.

    \b
    $ pgtasks -A proj beat -l INFO
    $ pgtasks -A proj beat -s /var/run/celery/beat-schedule --detach

    Workers send it too, and any number of beats: one of them all is elected to. Of a
    scheduler of your own (-S) run one, as with Celery.
    """  # noqa: D301 - \b is what keeps click from filling the lines
    invocation = ctx.ensure_object(Invocation)
    background = Detached.of_environment()
    executable = options.pop("executable")
    if options.pop("detach") and background is None:
        started = detach(sys.argv[1:], executable=executable, what="beat")
        said = f"Beat runs in the background: {started.pid}"
        if not started.ready:
            said = (
                f"Beat is in the background ({started.pid}), and not ready after "
                f"{PATIENCE:g} s. It goes on trying; see its log, or stop it with kill "
                f"{started.pid}. Its last words:\n\n{started.words or '(none)'}"
            )
        invocation.out.note(said)
        return
    if options["loglevel"] <= logging.DEBUG:
        invocation.debug = True
    with background.starting() if background else contextlib.nullcontext():
        _run(invocation, options, ctx.args, background)


def _run(
    invocation: Invocation,
    options: dict[str, Any],
    settings: list[str],
    background: Detached | None,
) -> None:
    from pgtasks import signals
    from pgtasks.app.connection import keeps_jobs_in_memory
    from pgtasks.beat import beat_nodename
    from pgtasks.utils.nodenames import node_format

    app = invocation.application
    if settings:
        app.config_from_cmdline(settings)
    become(*(options.pop(name) for name in ("uid", "gid", "umask")))
    name = beat_nodename(options["hostname"])
    path, options["logfile"] = (
        options[each] and node_format(str(options[each]), name)
        for each in ("pidfile", "logfile")
    )
    del options["pidfile"]
    program = app.Beat(
        quiet=invocation.quiet,
        no_color=invocation.no_color or None,
        **options,
    )
    _guard(program)
    with log_file(options["logfile"]):
        # What is printed, the banner, is not for the log yet.
        app.log.setup(
            options["loglevel"], options["logfile"], colorize=invocation.out.color
        )
    if keeps_jobs_in_memory(app):
        # A scheduler of one's own may know what to do with that.
        invocation.out.note(
            "The application keeps its jobs in memory (broker_url), where no worker finds "
            "what this beat sends. Name a database: postgresql://user@host/name, or none at "
            "all for the embedded one."
        )
    else:
        await_database(app, logger)
    if background is not None:
        there = background
        there.log_to(options["logfile"])
        signals.beat_init.connect(lambda **kwargs: there.ready(), weak=False)
    with pid_file(path):
        program.run()


def _look_for(scheduler: Any) -> None:
    """Say what is wrong with the name of a scheduler, before the first tick."""
    from pgtasks.beat.names import scheduler_class
    from pgtasks.exceptions import ImproperlyConfigured

    try:
        scheduler_class(scheduler)
    except ImproperlyConfigured as error:
        raise Failure(str(error), EX_CONFIG) from error
    except (ImportError, AttributeError, ValueError) as error:
        hint = ""
        if str(getattr(error, "name", "")).partition(".")[0] == "celery":
            hint = " It imports celery: start with 'pgtasks --as-celery'."
        raise Failure(
            f"The scheduler {scheduler!r} cannot be had: {error}.{hint} Name one as "
            f"proj.module:Class with -S, or in beat_scheduler.",
            EX_CONFIG,
        ) from error


def _guard(program: Any) -> None:
    """Say what fails in the program's modules as its author wants to see it."""
    load: Callable[[], Any] = program.init_loader

    def guarded() -> None:
        try:
            load()
        except Exception as error:
            raise Failure(
                f"Importing the modules of the application failed.\n\n{users_traceback()}"
            ) from error
        # Not sooner: a module with a scheduler may have models, which want Django set up.
        _look_for(program.scheduler_cls)

    program.init_loader = guarded
