"""The ``jobs`` command: list jobs and show one; what acts on them stands beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from pgtasks.cli.groups import Subgroup
from pgtasks.cli.hints import queue_hints, task_hints
from pgtasks.cli.invocation import Invocation
from pgtasks.cli.job_operations import OPERATIONS
from pgtasks.cli.job_options import filter_options, filters_of, usage
from pgtasks.cli.job_page import show_job
from pgtasks.cli.options import COMMAS, Command, json_option, option

if TYPE_CHECKING:
    from pgtasks.app.job_info import JobInfo
    from pgtasks.app.jobs import Jobs

__all__ = ["jobs"]

COLUMNS = ("task_id", "task", "state", "queue", "attempt", "scheduled_at", "call")
"""The columns of a list, unless others are asked for."""


@click.group(cls=Subgroup, invoke_without_command=True)
@filter_options
@option(
    "--order",
    group="The List",
    default="-inserted",
    show_default=True,
    metavar="COLUMN",
    help="inserted, scheduled, attempted, finished, priority or attempt; with '-' the last "
    "of them first.",
)
@option(
    "--limit",
    group="The List",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    metavar="N",
    help="How many at most.",
)
@option(
    "--columns",
    group="The List",
    type=COMMAS,
    metavar="NAMES",
    help="What to show, with commas: task_id,task,state,error,worker …",
)
@option("--count", "count", group="The List", is_flag=True, help="Only how many there are.")
@option(
    "--group-by",
    "group_by",
    group="The List",
    type=COMMAS,
    metavar="NAMES",
    help="How many there are by state, queue, task, worker or priority.",
)
@click.option(
    "-j", "--json", "as_json", is_flag=True, help="Answer in JSON, a job on each line."
)
@click.pass_context
def jobs(ctx: click.Context, /, **options: Any) -> None:
    """List jobs, waiting, running and over; or act on them, see the commands."""
    if ctx.invoked_subcommand is not None:
        _refuse_options_in_front(ctx)
        return
    invocation = ctx.ensure_object(Invocation)
    app, out = invocation.reached, invocation.out
    filters = filters_of(options)
    if filters.get("kwargs"):
        app.loader.import_default_modules()
        app.finalize()
    as_json, by = options["as_json"], options["group_by"]
    with usage():
        if options["count"] or by:
            _show_counts(out, app.jobs, by or [], filters, as_json=as_json)
            return
        found = app.jobs.list(order=options["order"], limit=options["limit"], **filters)
    columns = options["columns"]
    if as_json:
        for job in found:
            out.say(_json_line(job, columns))
        return
    if not found:
        out.note("There are no such jobs.")
        for remark in (
            *queue_hints(app, filters.get("queue", ())),
            *task_hints(app, filters.get("task", ())),
        ):
            out.note(remark)
        return
    names = columns or COLUMNS
    out.table(names, [[_cell(job, name) for name in names] for job in found])
    if len(found) == options["limit"]:
        out.note(f"There may be more than these {len(found)}: --limit, --count.")


def _refuse_options_in_front(ctx: click.Context) -> None:
    """Else they would be forgotten, and all jobs be meant in place of some."""
    given = [
        name
        for name in ctx.params
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    ]
    if given:
        raise click.UsageError(
            f"Options about jobs stand behind the command: pgtasks jobs "
            f"{ctx.invoked_subcommand} --{given[0].replace('_', '-')} …"
        )


def _json_line(job: JobInfo, columns: Sequence[str] | None) -> str:
    document = {**job.as_dict(), "call": job.call, "error": job.error}
    if columns:
        document = {name: document.get(name, _cell(job, name)) for name in columns}
    return json.dumps(document, default=str)


def _show_counts(
    out: Any, jobs: Jobs, by: list[str], filters: dict[str, Any], *, as_json: bool
) -> None:
    if not by:
        number = jobs.count(**filters)
        out.json({"jobs": number}) if as_json else out.say(str(number))
        return
    counts = jobs.count(by=by, **filters)
    rows = [(*key, number) for key, number in counts.items()]
    if as_json:
        for row in rows:
            out.say(json.dumps(dict(zip((*by, "jobs"), row, strict=True)), default=str))
    elif rows:
        out.table(
            (*by, "jobs"), [["" if each is None else each for each in row] for row in rows]
        )
    else:
        out.note("There are no such jobs.")


def _cell(job: JobInfo, name: str) -> str:
    if name == "error":
        error = job.error
        return "" if error is None else f"{error.get('kind')}: {error.get('message')}"
    if name == "attempt" and job.max_attempts:
        return f"{job.attempt}/{job.max_attempts}"
    try:
        found = getattr(job, name)
    except AttributeError:
        raise click.UsageError(
            f"There is no column {name!r}. There are {', '.join(job.as_dict())}, call and error."
        ) from None
    if isinstance(found, datetime):
        return f"{found:%Y-%m-%d %H:%M:%S}"
    if found is None:
        return ""
    text = ", ".join(map(str, found)) if isinstance(found, list) else str(found)
    return text if len(text) <= 80 else f"{text[:79]}…"


# ── one job ─────────────────────────────────────────────────────────────────────────────


@jobs.command(cls=Command)
@click.argument("task_id")
@json_option
@click.pass_context
def show(ctx: click.Context, task_id: str, as_json: bool) -> None:
    """Show everything about the job TASK_ID: arguments, times, errors, what it leads to."""
    invocation = ctx.ensure_object(Invocation)
    job = invocation.reached.jobs.get(task_id)
    if as_json:
        invocation.out.json({**job.as_dict(), "call": job.call})
    else:
        show_job(invocation.out, job)


for _each in OPERATIONS:
    jobs.add_command(_each)
