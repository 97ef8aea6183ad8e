"""What ``pgtasks jobs`` does to jobs: retry, cancel, delete, hold, release, change."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from pgtasks.app.job_changes import CHANGES
from pgtasks.cli.invocation import Invocation
from pgtasks.cli.job_options import filter_options, filters_of, setting, span, usage, value
from pgtasks.cli.options import Command, option
from pgtasks.utils.text import pluralize

if TYPE_CHECKING:
    from pgtasks.app.jobs import Jobs

__all__ = ["OPERATIONS"]


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
    with usage():
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


@click.command(cls=Command)
@_operation
@click.pass_context
def retry(ctx: click.Context, /, **options: Any) -> None:
    """Have jobs run again, or sooner: discarded, cancelled, scheduled, retryable, held ones.

    Completed ones only by their ids, or with --state completed.
    """
    _carry_out(ctx, "retry", "Retried", options, lambda jobs, *a, **k: jobs.retry(*a, **k))


@click.command(cls=Command)
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


@click.command(cls=Command)
@_operation
@click.pass_context
def delete(ctx: click.Context, /, **options: Any) -> None:
    """Delete jobs that do not run. There is no way back."""
    _carry_out(
        ctx, "delete", "Deleted", options, lambda jobs, *a, **k: jobs.delete(*a, **k)
    )


@click.command(cls=Command)
@_operation
@click.pass_context
def hold(ctx: click.Context, /, **options: Any) -> None:
    """Have waiting jobs not run until they are released."""
    _carry_out(ctx, "hold", "Held", options, lambda jobs, *a, **k: jobs.hold(*a, **k))


@click.command(cls=Command)
@_operation
@click.pass_context
def release(ctx: click.Context, /, **options: Any) -> None:
    """Release held jobs."""
    _carry_out(
        ctx, "release", "Released", options, lambda jobs, *a, **k: jobs.release(*a, **k)
    )


@click.command(cls=Command)
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


@click.command(cls=Command)
@_operation
@option("--to", "new", group="Carrying Out", type=int, required=True, metavar="N",
        help="The new priority.")  # fmt: skip
@click.pass_context
def reprioritise(ctx: click.Context, /, new: int, **options: Any) -> None:
    """Have waiting jobs run sooner or later than others."""

    def operate(jobs: Jobs, target: Any, **given: Any) -> int:
        return jobs.reprioritise(target, new, **given)

    _carry_out(ctx, "reprioritise", "Reprioritised", options, operate)


OPERATIONS = (retry, cancel, delete, hold, release, update, reprioritise)
"""The commands, in the order in which the help shows them."""
