"""The ``why`` command."""

from __future__ import annotations

import click

from pgtasks.cli.invocation import Failure, Invocation
from pgtasks.cli.options import Command, json_option
from pgtasks.cli.output import clean

__all__ = ["why"]


@click.command(cls=Command)
@click.argument("task_id")
@json_option
@click.pass_context
def why(ctx: click.Context, task_id: str, as_json: bool) -> None:
    """Say why the job TASK_ID does not run, and what to do about it."""
    invocation = ctx.ensure_object(Invocation)
    out = invocation.out
    found = invocation.reached.jobs.why(task_id)
    if as_json:
        out.json(found.as_dict())
        return
    job = found.job
    out.say(
        out.style(
            clean(f"{job.task}[{job.task_id}] in queue {job.queue}: {job.state}"), bold=True
        )
    )
    for reason in found.reasons:
        out.say(f"  {clean(reason.text)}")
        if reason.remedy:
            out.say(f"    {out.style('->', fg='white', bold=True)} {clean(reason.remedy)}")
    if not found.reasons:
        raise Failure("Its state has changed while it was being looked at. Ask again.")
