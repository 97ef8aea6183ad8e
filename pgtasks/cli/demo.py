"""The ``demo`` command: a program run to its end on a private PostgreSQL, and checked."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

import pgtasks
from pgtasks.cli.demo_run import (
    Killer,
    Tally,
    WorkerProcess,
    follow,
    step,
    stop_like_ctrl_c,
)
from pgtasks.dev.postgres import private_server
from pgtasks.exceptions import PgtasksError
from pgtasks.storage import schema
from pgtasks.storage.database import Database
from pgtasks.storage.query import Query, Row

__all__ = ["demo"]

QUEUE = "demo"
JOBS = 500


@click.command()
@click.option(
    "--chaos", is_flag=True, help="Kill the worker in the middle and start another."
)
def demo(chaos: bool) -> None:
    """Run a program to its end and check what came out.

    It uses a PostgreSQL and a worker of its own and leaves nothing behind. In a
    checkout this is the newsletter of docs/examples; elsewhere it is a smaller program
    that comes with the package.
    """
    newsletter = Path(pgtasks.__file__).parents[1] / "docs/examples/newsletter/demo.py"
    if newsletter.is_file() and find_spec("aiosmtpd"):
        environment = {**os.environ, "CHAOS": "1"} if chaos else dict(os.environ)
        # In place of this process, so that Ctrl-C and the status are the program's.
        os.execve(sys.executable, [sys.executable, str(newsletter)], environment)  # noqa: S606
    small(chaos=chaos)


def small(*, chaos: bool = False) -> None:
    """Run the small program; leave with status 0 when what came out is right."""
    console = Console()
    stop_like_ctrl_c()
    try:
        with ExitStack() as cleanup:
            good = run(console, cleanup, chaos=chaos)
    except PgtasksError as failure:
        raise click.ClickException(str(failure)) from failure
    sys.exit(0 if good else 1)


def run(console: Console, cleanup: ExitStack, *, chaos: bool) -> bool:
    """Square the numbers below 500 and say whether the database has all the squares."""
    folder = Path(
        cleanup.enter_context(tempfile.TemporaryDirectory(prefix="pgtasks-demo-"))
    )
    with step(console, "A private PostgreSQL with our tables"):
        server = cleanup.enter_context(private_server(durable=True))
        schema.apply(server.url)
    os.environ["PGTASKS_DATABASE_URL"] = server.url

    # Imported only now: it finds the database in the environment.
    from pgtasks.cli.demo_tasks import app, square

    options = [
        "-A",
        "pgtasks.cli.demo_tasks",
        "worker",
        "-Q",
        QUEUE,
        "-c",
        "2",
        "-l",
        "info",
    ]
    worker = WorkerProcess(options, directory=folder, log=folder / "worker.log")
    cleanup.callback(worker.stop)
    with step(console, f"pgtasks {' '.join(options)}"):
        worker.start()
    with step(console, f"square.delay_many(…), {JOBS} jobs"):
        square.delay_many((number,) for number in range(JOBS))
    killer = Killer(console, worker, at=JOBS * 2 // 5) if chaos else None
    counts = follow(console, app.database, QUEUE, JOBS, worker=worker, watch=killer)
    total = _sum(app.database)
    _show(console, counts, total)
    return total == sum(number * number for number in range(JOBS))


def _sum(database: Database) -> int:
    def read(rows: Sequence[Row]) -> int:
        return int(rows[0][0] or 0)

    statement = """
        select sum((result #>> '{}')::bigint)
          from pgtasks.all_jobs
         where queue = %(queue)s and state = 'completed'
    """
    return database.run(Query(statement, {"queue": QUEUE}, read))


def _show(console: Console, counts: Tally, total: int) -> None:
    table = Table(title=f"{JOBS} jobs", title_justify="left")
    table.add_column("")
    table.add_column("database", justify="right")
    for name, value in (
        ("completed", f"{counts.completed:,}"),
        ("retried", f"{counts.retried:,}"),
        ("lost and run again", f"{counts.lost:,}"),
        ("sum of the results", f"{total:,}"),
        ("seconds", f"{counts.seconds:.1f}"),
        ("jobs/s", f"{counts.rate:,.0f}"),
    ):
        table.add_row(name, value)
    console.print()
    console.print(table)
