"""The ``call`` command."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from pgtasks.app.connection import keeps_jobs_in_memory
from pgtasks.app.modes import is_eager
from pgtasks.cli import completing
from pgtasks.cli.hints import hint
from pgtasks.cli.invocation import EX_CONFIG, Failure, Invocation
from pgtasks.cli.options import (
    MOMENT,
    MOMENT_OR_SECONDS,
    Command,
    JsonParam,
    json_option,
    option,
)
from pgtasks.cli.output import clean

__all__ = ["call"]


@click.command(cls=Command)
@click.argument("name", shell_complete=completing.tasks)
@option(
    "-a",
    "--args",
    group="Calling Options",
    type=JsonParam(list, """'[2, "three"]'"""),
    default="[]",
    metavar="JSON",
    help="Positional arguments, a list.",
)
@option(
    "-k",
    "--kwargs",
    group="Calling Options",
    type=JsonParam(dict, """'{"x": 2}'"""),
    default="{}",
    metavar="JSON",
    help="Keyword arguments, an object.",
)
@option(
    "--eta",
    group="Calling Options",
    type=MOMENT,
    metavar="TIME",
    help="When to run it: 2026-01-31T18:30:00+01:00.",
)
@option(
    "--countdown",
    group="Calling Options",
    type=float,
    metavar="SECONDS",
    help="The same, from now.",
)
@option(
    "--expires",
    group="Calling Options",
    type=MOMENT_OR_SECONDS,
    metavar="TIME",
    help="When not to start it any more; a time, or seconds from now.",
)
@option(
    "--serializer",
    group="Calling Options",
    default="json",
    show_default=True,
    metavar="NAME",
    help="Serializer of the arguments.",
)
@option(
    "--priority",
    group="Calling Options",
    type=int,
    metavar="N",
    help="Its place in the queue.",
)
@option("--task-id", group="Calling Options", metavar="ID", help="The id to give it.")
@option(
    "--queue",
    group="Routing Options",
    metavar="NAME",
    shell_complete=completing.queues,
    help="The queue.",
)
@option("--exchange", group="Routing Options", metavar="NAME", help="Accepted from Celery.")
@option(
    "--routing-key",
    group="Routing Options",
    metavar="KEY",
    help="Leads to the queue that is bound to it.",
)
@json_option
@click.pass_context
def call(ctx: click.Context, /, name: str, as_json: bool, **options: Any) -> None:
    """Call the task NAME and print the id of the job.

    The task need not be known here: a worker that knows it will run it.
    """
    invocation = ctx.ensure_object(Invocation)
    app, out = invocation.application, invocation.out
    if keeps_jobs_in_memory(app) and not is_eager(app):
        raise Failure(
            "broker_url is 'memory://', so the job would end with this process. Name a "
            "database: set PGTASKS_DATABASE_URL, or -b postgresql://user@host/name",
            EX_CONFIG,
        )
    eta = options["eta"]
    if isinstance(eta, datetime) and eta.tzinfo is None:
        # Without an offset it is meant as the application tells time.
        options["eta"] = eta.replace(tzinfo=app.timezone)
    sent = app.send_task(
        name, **{key: value for key, value in options.items() if value is not None}
    )
    if as_json:
        out.json({"id": sent.id, "task": name})
    else:
        out.say(clean(sent.id))
    _doubt(invocation, name)


def _doubt(invocation: Invocation, name: str) -> None:
    """Say so if the task is not known here but one of a similar name is."""
    app = invocation.application
    app.loader.import_default_modules()
    app.finalize()
    remark = hint("task", name, app.tasks)
    if remark is not None:
        invocation.out.note(f"{remark} It was sent all the same.")
