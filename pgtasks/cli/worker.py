"""The ``worker`` command."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import click

from pgtasks.cli import completing
from pgtasks.cli.background import PATIENCE, Detached, detach
from pgtasks.cli.daemon import daemon_options, loglevel_option
from pgtasks.cli.invocation import Invocation
from pgtasks.cli.options import COMMAS, Command, option

__all__ = ["worker"]


def _hostname(ctx: click.Context, param: click.Parameter, value: str | None) -> str:
    from pgtasks.utils.nodenames import default_nodename, host_format

    try:
        return host_format(default_nodename(value))
    except ValueError as error:
        raise click.BadParameter(str(error), ctx=ctx, param=param) from error


def _concurrency(
    ctx: click.Context, param: click.Parameter | None, value: str | None
) -> int | str | None:
    text = (value or "").strip().lower()
    if text in ("", "auto"):
        return text or None
    try:
        number = int(text)
    except ValueError:
        number = -1
    if number < 0:
        raise click.BadParameter(
            f"{value!r} is neither a number nor 'auto'.", ctx=ctx, param=param
        )
    return number or None


_INSTEAD_OF_POOL = {
    "eventlet": "Eventlet is no longer maintained; use gevent, which does the same.",
}


def _pool(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    from pgtasks.worker.pools import POOLS

    if value == "gevent" and find_spec("gevent") is None:
        raise click.BadParameter(
            "gevent is not installed. Install it with: pip install 'pgtasks[gevent]'",
            ctx=ctx,
            param=param,
        )
    if value is None or value in POOLS:
        return value
    instead = _INSTEAD_OF_POOL.get(value, f"Choose one of {', '.join(POOLS)}.")
    raise click.BadParameter(
        f"There is no pool {value!r} here. {instead}", ctx=ctx, param=param
    )


def _autoscale(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> tuple[int, int] | None:
    from pgtasks.worker.autoscale import bounds

    if not value:
        return None
    try:
        return bounds(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx=ctx, param=param) from error


# What these did for a broker is done otherwise here, or comes later. Programs are started
# with them all the same, and a worker that refuses to start is of no use to anybody.
WITHOUT_EFFECT = {
    "disable_prefetch": "--disable-prefetch",
    "optimization": "-O",
    "pool_start_method": "--pool-start-method",
    "prefetch_multiplier": "--prefetch-multiplier",
    "without_gossip": "--without-gossip",
    "without_mingle": "--without-mingle",
}


def _accepted(*names: str, group: str, why: str, **settings: Any) -> Callable[[Any], Any]:
    return option(*names, group=group, help=f"Accepted from Celery: {why}", **settings)


@click.command(cls=Command, context_settings={"allow_extra_args": True})
@option(
    "-n",
    "--hostname",
    group="Worker Options",
    callback=_hostname,
    help="Name of the worker (e.g., 'w1@%h'). Expands: %h (host name), %n (name) and %d (domain).",
)
@option(
    "-D",
    "--detach",
    group="Worker Options",
    is_flag=True,
    help="Start it in the background.",
)
@option(
    "-S",
    "--statedb",
    group="Worker Options",
    metavar="PATH",
    help="File for ids that a program revokes in celery.worker.state itself; all others are "
    "in the database. Expands as --hostname does.",
)
@loglevel_option("Worker Options")
@_accepted(
    "-O",
    "--optimization",
    group="Worker Options",
    type=click.Choice(["default", "fair"]),
    why="a job always goes to a process that is free.",
)
@_accepted(
    "--prefetch-multiplier",
    group="Worker Options",
    type=int,
    metavar="N",
    why="how many jobs are claimed ahead follows from how long they take.",
)
@_accepted(
    "--disable-prefetch",
    group="Worker Options",
    is_flag=True,
    why="long jobs are not claimed ahead anyway.",
)
@option(
    "-c",
    "--concurrency",
    group="Pool Options",
    callback=_concurrency,
    metavar="N",
    help="Jobs that run at a time. By default the number of processors; 'auto' counts those "
    "that this process may use.",
)
@option(
    "-P",
    "--pool",
    group="Pool Options",
    callback=_pool,
    metavar="[prefork|threads|asyncio|gevent|solo]",
    help="Where jobs run: in child processes (the default), in threads, on an event loop (and "
    "in threads what is no coroutine), in greenlets, or in the worker's own main thread.",
)
@option(
    "-E",
    "--task-events",
    "--events",
    group="Pool Options",
    is_flag=True,
    default=None,
    help="Tell those who watch events of tasks, too. By default worker_send_task_events says.",
)
@option(
    "--time-limit",
    group="Pool Options",
    type=float,
    metavar="SECONDS",
    help="A task that runs longer is killed together with its process.",
)
@option(
    "--soft-time-limit",
    group="Pool Options",
    type=float,
    metavar="SECONDS",
    help="A task that runs longer gets SoftTimeLimitExceeded.",
)
@option(
    "--max-tasks-per-child",
    group="Pool Options",
    type=click.IntRange(min=1),
    metavar="N",
    help="Jobs after which a child process is replaced.",
)
@_accepted(
    "--pool-start-method",
    group="Pool Options",
    type=click.Choice(["fork", "spawn"]),
    why="children always come from one clean template process.",
)
@option(
    "--max-memory-per-child",
    group="Pool Options",
    type=click.IntRange(min=1),
    metavar="KILOBYTES",
    help="Resident memory above which a child process is replaced when its job is over.",
)
@option(
    "--purge",
    "--discard",
    group="Queue Options",
    is_flag=True,
    help="Delete the waiting jobs of the queues first.",
)
@option(
    "-Q",
    "--queues",
    group="Queue Options",
    type=COMMAS,
    metavar="NAMES",
    shell_complete=completing.queues,
    help="Queues to serve, with commas between them; mailers:20 runs at most 20 jobs of "
    "that queue at a time here.",
)
@option(
    "-X",
    "--exclude-queues",
    group="Queue Options",
    type=COMMAS,
    metavar="NAMES",
    shell_complete=completing.queues,
    help="Queues not to serve.",
)
@option(
    "-I",
    "--include",
    group="Queue Options",
    type=COMMAS,
    metavar="MODULES",
    help="Further modules to import.",
)
@_accepted(
    "--without-gossip",
    group="Features",
    is_flag=True,
    why="workers do not talk to each other.",
)
@_accepted(
    "--without-mingle",
    group="Features",
    is_flag=True,
    why="workers do not talk to each other.",
)
@_accepted(
    "--without-heartbeat",
    group="Features",
    is_flag=True,
    why="the lease by which others know that a worker lives is always renewed.",
)
@option(
    "--heartbeat-interval",
    group="Features",
    type=click.FloatRange(min=0.1),
    metavar="SECONDS",
    help="Seconds between two signs of life.",
)
@option(
    "--autoscale",
    group="Features",
    metavar="MAX,MIN",
    callback=_autoscale,
    help="Between how many jobs at a time and how few: more places while jobs wait, fewer "
    "again when they stay empty. In place of -c.",
)
@option(
    "-B",
    "--beat",
    group="Embedded Beat Options",
    is_flag=True,
    help="Send the tasks of the schedule as well. For one worker of the fleet only.",
)
@option(
    "-s",
    "--schedule-filename",
    "--schedule",
    group="Embedded Beat Options",
    metavar="PATH",
    help="With -B: file for the moments of the last runs; beat_schedule_filename by default.",
)
@option(
    "--scheduler",
    group="Embedded Beat Options",
    metavar="CLASS",
    help="With -B: what decides what is due; beat_scheduler by default.",
)
@daemon_options
@click.pass_context
def worker(ctx: click.Context, /, **options: Any) -> None:
    """Start a worker: it runs the jobs of some queues until it is told to stop.

    \b
    $ pgtasks -A proj worker -l INFO
    $ pgtasks -A proj worker -l INFO -Q hipri,lopri
    $ pgtasks -A proj worker --concurrency=4
    $ pgtasks -A proj worker --concurrency=100 -P threads

    Ctrl-C or SIGTERM lets running jobs end, a second one does not.
    """  # noqa: D301 - \b is what keeps click from filling the lines
    invocation = ctx.ensure_object(Invocation)
    background = Detached.of_environment()
    if options.pop("detach") and background is None:
        _detach(invocation, options)
        return
    if options["loglevel"] <= logging.DEBUG:
        invocation.debug = True
    given = [shown for name, shown in WITHOUT_EFFECT.items() if options.pop(name)]
    from pgtasks.cli.start import Start

    start = Start(
        invocation,
        options,
        without_effect=given,
        settings=ctx.args,
        background=background,
    )
    ctx.exit(start.run())


def _detach(invocation: Invocation, options: dict[str, Any]) -> None:
    started = detach(sys.argv[1:], executable=options["executable"])
    name = options["hostname"]
    if started.ready:
        invocation.out.note(f"Worker {name} runs in the background: {started.pid}")
        return
    invocation.out.note(
        f"Worker {name} is in the background ({started.pid}), and not ready after "
        f"{PATIENCE:g} s. It goes on trying; see its log, or stop it with kill "
        f"{started.pid}. Its last words:\n\n{started.words or '(none)'}"
    )
