"""The ``jobs`` command: list jobs, show one, and act on them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from pgtasks.app.job_changes import CHANGES
from pgtasks.cli.invocation import Failure, Invocation
from pgtasks.cli.job_options import filter_options, filters_of, setting, span, value
from pgtasks.cli.job_page import show_job
from pgtasks.cli.options import COMMAS, Command, option, write_grouped
from pgtasks.cli.output import clean
from pgtasks.utils.text import pluralize

if TYPE_CHECKING:
    from pgtasks.app.job_info import JobInfo
    from pgtasks.app.jobs import Jobs

__all__ = ["jobs"]

COLUMNS = ("task_id", "task", "state", "queue", "attempt", "scheduled_at", "call")
"""The columns of a list, unless others are asked for."""


class _JobsGroup(click.Group):
    """Commands about jobs, and options of its own: without a command it is a list."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, under their headings, and the commands."""
        write_grouped(ctx, formatter, self.get_params(ctx))
        self.format_commands(ctx, formatter)


@click.group(cls=_JobsGroup, invoke_without_command=True)
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
    with _usage():
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


class _usage:
    """Turns what `app.jobs` says of a question that cannot be into an error of the line."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, (TypeError, ValueError)) and not isinstance(
            error, click.UsageError
        ):
            raise click.UsageError(str(error)) from error


# ── one job ─────────────────────────────────────────────────────────────────────────────


@jobs.command(cls=Command)
@click.argument("task_id")
@click.option("-j", "--json", "as_json", is_flag=True, help="Answer in JSON.")
@click.pass_context
def show(ctx: click.Context, task_id: str, as_json: bool) -> None:
    """Show everything about the job TASK_ID: arguments, times, errors, what it leads to."""
    invocation = ctx.ensure_object(Invocation)
    job = invocation.reached.jobs.get(task_id)
    if as_json:
        invocation.out.json({**job.as_dict(), "call": job.call})
    else:
        show_job(invocation.out, job)


# ── operations ──────────────────────────────────────────────────────────────────────────


def _operation(command: Any) -> Any:
    """Make an operation of a command: ids or filters, a question, a dry run; a decorator."""
    for decorate in (
        click.option("-j", "--json", "as_json", is_flag=True, help="Answer in JSON."),
        option("--batch", group="Carrying Out", type=click.IntRange(1, 100_000), default=1000,
               show_default=True, metavar="N", help="Jobs of one transaction."),
        option("--dry-run", "dry_run", group="Carrying Out", is_flag=True,
               help="Only say how many jobs that would be."),
        option("-y", "--yes", group="Carrying Out", is_flag=True, help="Do not ask."),
        filter_options,
        click.argument("task_ids", nargs=-1, metavar="[IDS]..."),
    ):  # fmt: skip
        command = decorate(command)
    return command


def _carry_out(
    ctx: click.Context,
    verb: str,
    past: str,
    options: dict[str, Any],
    operate: Callable[..., int],
) -> None:
    """Ask, act in batches, and say how many jobs that were.

    Args:
        ctx: The command's.
        verb: What is done: ``retry``.
        past: The same when it is done: ``Retried``.
        options: The command's.
        operate: The operation of `app.jobs`.
    """
    invocation = ctx.ensure_object(Invocation)
    app, out = invocation.reached, invocation.out
    ids, batch = list(options["task_ids"]), options["batch"]
    as_json, dry_run = options["as_json"], options["dry_run"]
    filters = filters_of(options)
    if ids and filters:
        raise click.UsageError("Name either jobs by their ids or options that find them.")
    if not ids and not filters:
        raise click.UsageError(
            f"Which jobs? Name their ids, or say which: pgtasks jobs {verb} --state discarded"
        )
    if filters.get("kwargs"):
        app.loader.import_default_modules()
        app.finalize()
    target: Any = ids[0] if len(ids) == 1 else ids or None
    with _usage():
        total = operate(app.jobs, target, dry_run=True, **filters)
        if dry_run:
            _tell(out, f"Would {verb}", total, verb, dry_run=True, as_json=as_json)
            return
        if not options["yes"] and total and (len(ids) != 1 or verb == "delete"):
            _ask(out, app.jobs, verb, total, filters, err=as_json)
        with out.progress(past, total) as advance:
            done = operate(app.jobs, target, batch=batch, progress=advance, **filters)
    _tell(out, past, done, verb, dry_run=False, as_json=as_json)


def _ask(
    out: Any, jobs: Jobs, verb: str, total: int, filters: dict[str, Any], *, err: bool
) -> None:
    parts = ""
    if filters:
        counts = jobs.count(by="state", **filters)
        parts = f" ({', '.join(f'{number:,} {state}' for state, number in counts.items())} found)"
    warning = out.style("WARNING", fg="red", bold=True) + ": there is no way back. "
    click.confirm(
        f"{warning if verb == 'delete' else ''}{verb.capitalize()} {total:,} "
        f"{pluralize(total, 'job')}{parts}? (-y skips this question.)",
        abort=True,
        err=err,
    )


def _tell(
    out: Any, words: str, number: int, verb: str, *, dry_run: bool, as_json: bool
) -> None:
    if as_json:
        out.json({"operation": verb, "jobs": number, "dry_run": dry_run})
    else:
        out.say(f"{words} {number:,} {pluralize(number, 'job')}.")


@jobs.command(cls=Command)
@_operation
@click.pass_context
def retry(ctx: click.Context, /, **options: Any) -> None:
    """Have jobs run again, or sooner: discarded, cancelled, scheduled, retryable, held ones.

    Completed ones only by their ids, or with --state completed.
    """
    _carry_out(ctx, "retry", "Retried", options, lambda jobs, *a, **k: jobs.retry(*a, **k))


@jobs.command(cls=Command)
@_operation
@option("--reason", group="Carrying Out", metavar="TEXT", help="Why; kept with the jobs.")
@option("--signal", group="Carrying Out", default="TERM", show_default=True, metavar="NAME",
        help="Which signal ends what runs.")  # fmt: skip
@click.pass_context
def cancel(ctx: click.Context, /, reason: str | None, signal: str, **options: Any) -> None:
    """Have jobs not run, or run no longer."""

    def operate(jobs: Jobs, *args: Any, **given: Any) -> int:
        return jobs.cancel(*args, reason=reason, signal=signal, **given)

    _carry_out(ctx, "cancel", "Cancelled", options, operate)


@jobs.command(cls=Command)
@_operation
@click.pass_context
def delete(ctx: click.Context, /, **options: Any) -> None:
    """Delete jobs that do not run. There is no way back."""
    _carry_out(
        ctx, "delete", "Deleted", options, lambda jobs, *a, **k: jobs.delete(*a, **k)
    )


@jobs.command(cls=Command)
@_operation
@click.pass_context
def hold(ctx: click.Context, /, **options: Any) -> None:
    """Have waiting jobs not run until they are released."""
    _carry_out(ctx, "hold", "Held", options, lambda jobs, *a, **k: jobs.hold(*a, **k))


@jobs.command(cls=Command)
@_operation
@click.pass_context
def release(ctx: click.Context, /, **options: Any) -> None:
    """Release held jobs."""
    _carry_out(
        ctx, "release", "Released", options, lambda jobs, *a, **k: jobs.release(*a, **k)
    )


@jobs.command(cls=Command)
@_operation
@option("--set", "settings", group="Carrying Out", multiple=True, metavar="NAME=VALUE",
        help="A new value: queue=mail, priority=3, args='[7]', kwargs='{\"x\": 1}', "
        "scheduled_at=2h, tags=a,b, meta='{}', max_attempts=5, task=shop.send, "
        "expires=never.")  # fmt: skip
@click.pass_context
def update(ctx: click.Context, /, settings: tuple[str, ...], **options: Any) -> None:
    """Change jobs that have not begun."""
    changes = {name: _change(name, text) for name, text in map(setting, settings)}
    if not changes:
        raise click.UsageError(
            f"What shall be changed? --set NAME=VALUE, where NAME is one of {', '.join(CHANGES)}."
        )

    def operate(jobs: Jobs, target: Any, **given: Any) -> int:
        return jobs.update(target, changes, **given)

    _carry_out(ctx, "update", "Updated", options, operate)


def _change(name: str, text: str) -> Any:
    if name in ("queue", "task"):
        return text
    if name == "tags":
        return [each.strip() for each in text.split(",") if each.strip()]
    if name in ("scheduled_at", "expires"):
        if text == "never" and name == "expires":
            return None
        seconds = span(text)
        return text if seconds is None else seconds
    return value(text)


@jobs.command(cls=Command)
@_operation
@option("--to", "new", group="Carrying Out", type=int, required=True, metavar="N",
        help="The new priority.")  # fmt: skip
@click.pass_context
def reprioritise(ctx: click.Context, /, new: int, **options: Any) -> None:
    """Have waiting jobs run sooner or later than others."""

    def operate(jobs: Jobs, target: Any, **given: Any) -> int:
        return jobs.reprioritise(target, new, **given)

    _carry_out(ctx, "reprioritise", "Reprioritised", options, operate)


# ── why ─────────────────────────────────────────────────────────────────────────────────


@click.command(cls=Command)
@click.argument("task_id")
@click.option("-j", "--json", "as_json", is_flag=True, help="Answer in JSON.")
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
