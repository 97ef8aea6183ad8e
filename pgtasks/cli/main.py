"""The program ``pgtasks``: its options and its commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import click

from pgtasks.cli.groups import Group
from pgtasks.cli.invocation import (
    EX_CONFIG,
    EX_UNAVAILABLE,
    Failure,
    Invocation,
    starting_here,
)
from pgtasks.cli.options import global_options
from pgtasks.cli.output import clean

if TYPE_CHECKING:
    from pgtasks.app.base import Celery

__all__ = ["Invocation", "main", "program"]

COMMANDS = {
    "worker": ("pgtasks.cli.worker:worker", "Start a worker."),
    "multi": ("pgtasks.cli.multi:multi", "Start several workers, stop them."),
    "beat": ("pgtasks.cli.beat:beat", "Send the tasks of a schedule when they are due."),
    "call": ("pgtasks.cli.call:call", "Call a task by its name."),
    "result": ("pgtasks.cli.result:result", "Show the result of a task."),
    "status": ("pgtasks.cli.status:status", "Show the workers that are there."),
    "inspect": ("pgtasks.cli.inspect:inspect", "Ask workers about themselves."),
    "control": ("pgtasks.cli.inspect:control", "Tell workers something."),
    "queues": ("pgtasks.cli.queues:queues", "Show queues; pause, scale and limit them."),
    "events": (
        "pgtasks.cli.events:events",
        "Watch what workers and clients tell of tasks.",
    ),
    "cron": ("pgtasks.cli.cron:cron", "Show the schedule; pause, resume and run entries."),
    "jobs": ("pgtasks.cli.jobs:jobs", "List jobs; retry, cancel, change, delete them."),
    "top": ("pgtasks.cli.top.command:top", "Watch queues, workers and jobs on a screen."),
    "why": ("pgtasks.cli.why:why", "Say why a job does not run."),
    "purge": ("pgtasks.cli.purge:purge", "Delete the waiting jobs of queues."),
    "migrate": ("pgtasks.cli.migrate:migrate", "Take over what waits in Celery's broker."),
    "schema": ("pgtasks.cli.schema:schema", "Create the tables, bring them up to date."),
    "doctor": ("pgtasks.cli.doctor:doctor", "Check the installation and say what to do."),
    "list": ("pgtasks.cli.list_bindings:list_", "Show which keys lead to which queues."),
    "amqp": ("pgtasks.cli.amqp:amqp", "Ask about queues in AMQP's words."),
    "graph": ("pgtasks.cli.graph:graph", "Draw boot steps, or workers."),
    "shell": ("pgtasks.cli.shell:shell", "Start Python with the application at hand."),
    "upgrade": ("pgtasks.cli.upgrade:upgrade", "Rename settings from before Celery 4."),
    "logtool": ("pgtasks.cli.logtool:logtool", "Count tasks and find errors in logs."),
    "report": ("pgtasks.cli.report:report", "Show what belongs into a bug report."),
    "completion": (
        "pgtasks.cli.completion:completion",
        "Complete words in bash, zsh, fish.",
    ),
    "demo": ("pgtasks.cli.demo:demo", "Run a program to its end, and check it."),
}

ABSENT = {
    "flower": "Flower does not know this broker. 'pgtasks events' shows tasks, and the view "
    "pgtasks.all_jobs has every job.",
}


#: The application whose own command line is being run, by `Celery.start`.
_named: ContextVar[Celery | None] = ContextVar("named", default=None)


class _Program(Group):
    """Turns errors that have a remedy into a message and an exit status."""

    def main(self, *args: Any, **extra: Any) -> Any:
        # Else it would depend on the name that the program was started by.
        extra.setdefault("complete_var", "_PGTASKS_COMPLETE")
        return super().main(*args, **extra)

    def make_context(
        self, info_name: str | None, args: list[str], *more: Any, **extra: Any
    ) -> click.Context:
        app = _named.get()
        if app is not None:
            extra.setdefault("obj", Invocation(named=app))
        # Not the file's name: it may be a module, or a program of the user's.
        return super().make_context("pgtasks", args, *more, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            found = ctx.find_object(Invocation)
            status = _status_of(error)
            if status is None or (found is not None and found.debug):
                raise
            raise Failure(clean(error, lines=True), status) from error


def _status_of(error: Exception) -> int | None:
    """The exit status for an error with a remedy; None for what only a traceback tells."""
    from pgtasks.dev import EmbeddedPostgresError
    from pgtasks.exceptions import ImproperlyConfigured, PgtasksError

    if isinstance(error, (ImproperlyConfigured, EmbeddedPostgresError)):
        return EX_CONFIG
    # What has not been imported has not been raised, and is dear to import.
    storage = sys.modules.get("pgtasks.storage.errors")
    if storage is not None and isinstance(error, storage.StorageError):
        if isinstance(error, storage.StorageMisconfigured):
            return EX_CONFIG
        if isinstance(error, (storage.StorageUnavailable, storage.StorageBusy)):
            return EX_UNAVAILABLE
        return 1
    kombu = sys.modules.get("kombu.exceptions")
    if kombu is not None and isinstance(error, kombu.OperationalError):
        return EX_UNAVAILABLE
    return 1 if isinstance(error, PgtasksError) else None


@click.group(
    cls=_Program,
    homes=COMMANDS,
    absent=ABSENT,
    invoke_without_command=True,
    params=global_options(),
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": "CELERY",
    },
)
@click.option("--version", is_flag=True, help="Show the version.")
@click.pass_context
def program(ctx: click.Context, version: bool) -> None:
    """Celery's command line, for jobs in PostgreSQL."""
    ctx.ensure_object(Invocation)
    if version:
        from pgtasks import VERSION_BANNER

        click.echo(VERSION_BANNER)
        ctx.exit()
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(
    argv: Sequence[str] | None = None,
    *,
    app: Celery | None = None,
    group: click.Group = program,
) -> int:
    """Run the command line and return its exit status.

    Args:
        argv: Its words, without the program's name; those of the process by default.
        app: The application, in place of one that ``-A`` names.
        group: The commands.
    """
    for stream in (sys.stdout, sys.stderr):
        # A task's name may have signs that the terminal's encoding has not.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    named = _named.set(app)
    try:
        words = None if argv is None else list(argv)
        with starting_here():
            status = group.main(args=words, standalone_mode=False)
    except click.Abort as abort:
        click.echo("Aborted!", err=True)
        return 130 if isinstance(abort.__cause__, KeyboardInterrupt) else 1
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except BrokenPipeError:
        # Whoever read our output has had enough, and must not hear of the rest either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    finally:
        _named.reset(named)
    return status if isinstance(status, int) else 0
