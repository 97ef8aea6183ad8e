"""The ``top`` command: the screen for a person, lines or JSON for anybody else."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from pgtasks.cli.invocation import Failure, Invocation
from pgtasks.cli.options import Command, json_option, option
from pgtasks.cli.output import Output
from pgtasks.cli.top.cells import queue_cells, span_of, worker_cells

if TYPE_CHECKING:
    from pgtasks.cli.top.reading import Snapshot

__all__ = ["top"]

GROUP = "Screen Options"


@click.command(cls=Command)
@option(
    "-i",
    "--interval",
    group=GROUP,
    type=click.FloatRange(min=0.2),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="How often to look.",
)
@option(
    "-f",
    "--filter",
    "wanted",
    group=GROUP,
    default="",
    metavar="WORDS",
    help="Only jobs that match: a part of the task's name, queue:mail, worker:web*, "
    "tag:b2b, error:Timeout.",
)
@option(
    "--tab",
    group=GROUP,
    type=click.Choice(["running", "failing", "waiting"]),
    default="running",
    show_default=True,
    help="The list of jobs to begin with.",
)
@option("--once", group=GROUP, is_flag=True, help="Print what there is now, and end.")
@json_option
@click.pass_context
def top(
    ctx: click.Context,
    /,
    interval: float,
    wanted: str,
    tab: str,
    once: bool,
    as_json: bool,
) -> None:
    """Watch queues, workers, and the jobs that run, fail or wait; act on them by keys.

    It reads the tables, so it shows what is there even if no worker answers. The keys are
    shown at the bottom, and ? explains them. Where no terminal looks on, it prints what
    there is once. It needs Textual: pip install 'pgtasks[top]'
    """
    from pgtasks.cli.top.reading import read, words_of

    invocation = ctx.ensure_object(Invocation)
    try:
        words_of(wanted)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    app, out = invocation.reached, invocation.out
    if as_json:
        out.json(read(app, tab, wanted).as_dict())
    elif once or not (out.terminal and sys.stdin.isatty()):
        _print(out, read(app, tab, wanted), tab)
    else:
        _watch(invocation, app, interval=interval, wanted=wanted, tab=tab)


def _watch(invocation: Invocation, app: Any, **options: Any) -> None:
    if invocation.no_color:
        os.environ["NO_COLOR"] = "1"
    try:
        from pgtasks.cli.top.screen import Top
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("textual"):
            raise
        raise Failure(
            "The screen is drawn by Textual, which is not installed: "
            "pip install 'pgtasks[top]'. With --once this prints what there is now."
        ) from error
    Top(app, **options).run()


def _print(out: Output, snapshot: Snapshot, tab: str) -> None:
    out.table(
        ("waiting", "running", "later", "ended a second", "discarded a second"),
        [
            (
                snapshot.waiting,
                snapshot.running,
                snapshot.later,
                f"{snapshot.done:.1f}",
                f"{snapshot.failing:.1f}",
            )
        ],
    )
    out.say()
    out.table(
        ("queue", "state", "waiting", "running", "later", "oldest", "a second", "workers"),
        [queue_cells(each, snapshot) for each in snapshot.queues],
    )
    out.say()
    out.table(
        ("worker", "state", "busy", "places", "queues", "pool", "heard of"),
        [worker_cells(each, snapshot) for each in snapshot.workers],
    )
    out.say()
    out.table(
        (tab, "task", "queue", "worker", "since"),
        [
            (
                job.task_id,
                f"{job.task}{job.call}"[:100],
                job.queue,
                job.worker or "",
                span_of(job, snapshot.read_at),
            )
            for job in snapshot.jobs
        ],
    )
