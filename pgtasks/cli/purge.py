"""The ``purge`` command."""

from __future__ import annotations

import click

from pgtasks.app.connection import keeps_jobs_in_memory
from pgtasks.cli import completing
from pgtasks.cli.hints import queue_hints
from pgtasks.cli.invocation import Invocation
from pgtasks.cli.options import COMMAS, Command, json_option, option
from pgtasks.cli.output import clean
from pgtasks.utils.text import pluralize

__all__ = ["purge"]


@click.command(cls=Command, context_settings={"allow_extra_args": True})
@option("-f", "--force", group="Purging Options", is_flag=True, help="Do not ask.")
@option(
    "-Q",
    "--queues",
    group="Purging Options",
    type=COMMAS,
    shell_complete=completing.queues,
    metavar="NAMES",
    help="The queues, with commas between them; by default those that the application "
    "declares.",
)
@option(
    "-X",
    "--exclude-queues",
    group="Purging Options",
    type=COMMAS,
    shell_complete=completing.queues,
    metavar="NAMES",
    help="Not these.",
)
@json_option
@click.pass_context
def purge(
    ctx: click.Context,
    force: bool,
    queues: list[str] | None,
    exclude_queues: list[str] | None,
    as_json: bool,
) -> None:
    """Delete the waiting jobs of queues; what runs, runs on.

    There is no way back.
    """
    from pgtasks.app.control import known_queues

    invocation = ctx.ensure_object(Invocation)
    app, out = invocation.application, invocation.out
    app.loader.import_default_modules()
    names = sorted(set(queues or known_queues(app)) - set(exclude_queues or ()))
    shown = f"{pluralize(len(names), 'queue')} {', '.join(map(clean, names))}"
    if queues and not keeps_jobs_in_memory(app):
        for remark in queue_hints(app, queues):
            out.note(remark)
    if names and not force:
        waiting = sum(_waiting(app, names).values())
        warning = out.style("WARNING", fg="red", bold=True)
        click.confirm(
            f"{warning}: this deletes all {waiting:,} waiting jobs of the {shown}.\n"
            f"There is no way back. (-f skips this question.)\n"
            f"Delete them?",
            abort=True,
            err=as_json,
        )
    deleted = 0
    if names:
        total = sum(_waiting(app, names).values())
        with out.progress("Deleting", total) as advance:
            for step in app.control.purging(names):
                deleted += step
                advance(step)
    if as_json:
        out.json({"queues": names, "deleted": deleted})
    elif deleted:
        out.say(f"Purged {deleted:,} {pluralize(deleted, 'job')} from the {shown}.")
    else:
        out.say(
            f"No jobs purged from the {shown}." if names else "There is no queue to purge."
        )


def _waiting(app: object, names: list[str]) -> dict[str, int]:
    from pgtasks.storage import health

    rows = app.database.run(health.backlog())  # type: ignore[attr-defined]
    return {row.queue: row.waiting + row.later for row in rows if row.queue in names}
