"""The ``cron`` command: the schedule, when its entries are due, and what is said to them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click

from pgtasks.cli.groups import Subgroup
from pgtasks.cli.invocation import Invocation
from pgtasks.cli.options import Command, json_option
from pgtasks.cli.output import clean

if TYPE_CHECKING:
    from pgtasks.beat.crons import Cron, Crons

__all__ = ["cron"]


@click.group(cls=Subgroup)
def cron() -> None:
    """Show the schedule; pause, resume and run its entries."""


def _command(name: str) -> Callable[[Callable[..., Any]], click.Command]:
    """A command of the group, which takes the global options behind its name."""

    def add(function: Callable[..., Any]) -> click.Command:
        return cron.command(name, cls=Command)(function)

    return add


_name = click.argument("name")


def _crons(ctx: click.Context) -> Crons:
    return ctx.ensure_object(Invocation).reached.crons  # type: ignore[no-any-return]


@_command("list")
@json_option
@click.pass_context
def list_(ctx: click.Context, as_json: bool) -> None:
    """Show the entries: of the program, and those made by hand."""
    out = ctx.ensure_object(Invocation).out
    found = _crons(ctx).list()
    if as_json:
        out.json([each._asdict() for each in found])
        return
    out.table(
        ("name", "schedule", "task", "next", "last", "runs", "state"),
        [_row(each) for each in found],
    )
    for each in found:
        if each.error:
            out.note(f"{clean(each.name)}: {clean(each.error)}")
    if any(each.source == "code" and not each.led for each in found):
        out.note(
            "Nobody sends the entries that are idle: start a worker, or a beat, of this "
            "application."
        )


def _row(each: Cron) -> tuple[object, ...]:
    zone = f" ({each.timezone})" if each.timezone else ""
    return (
        each.name,
        f"{each.schedule}{zone}",
        each.task,
        _utc(each.next),
        _utc(each.last) if each.runs else "-",
        each.runs,
        _state(each),
    )


def _state(each: Cron) -> str:
    if each.paused_since is not None:
        return f"paused since {_utc(each.paused_since)} by {each.paused_by}"
    if each.error:
        return "broken"
    return "active" if each.led else "idle"


def _utc(moment: datetime | None) -> str:
    if moment is None:
        return "-"
    return f"{moment.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S} UTC"


@_command("next")
@click.argument("name", required=False)
@click.option(
    "-n",
    "--count",
    type=click.IntRange(1, 1000),
    default=5,
    show_default=True,
    help="How many times of each entry.",
)
@json_option
@click.pass_context
def next_(ctx: click.Context, name: str | None, count: int, as_json: bool) -> None:
    """Show when entries are due next, by the clock of this machine and in UTC."""
    out = ctx.ensure_object(Invocation).out
    crons = _crons(ctx)
    names = [name] if name else [each.name for each in crons.list() if each.next]
    found = {each: crons.next_runs(each, count) for each in names}
    if as_json:
        out.json(
            [
                {"name": each, "local": moment.astimezone(), "utc": moment}
                for each, moments in found.items()
                for moment in moments
            ]
        )
        return
    rows = [
        (each, f"{moment.astimezone():%a %Y-%m-%d %H:%M:%S %Z}", _utc(moment))
        for each, moments in found.items()
        for moment in moments
    ]
    out.table(("name", "local", "utc"), rows)


@_command("run")
@_name
@json_option
@click.pass_context
def run(ctx: click.Context, name: str, as_json: bool) -> None:
    """Send the task of an entry now, besides its ticks, and print the id."""
    result = _crons(ctx).run(name)
    _confirm(ctx, name, str(getattr(result, "id", result)), as_json)


@_command("pause")
@_name
@json_option
@click.pass_context
def pause(ctx: click.Context, name: str, as_json: bool) -> None:
    """Send nothing of an entry until it is resumed."""
    _crons(ctx).pause(name)
    _confirm(ctx, name, f"Paused {clean(name)}.", as_json)


@_command("resume")
@_name
@json_option
@click.pass_context
def resume(ctx: click.Context, name: str, as_json: bool) -> None:
    """Send an entry again, from its next tick on."""
    _crons(ctx).resume(name)
    _confirm(ctx, name, f"Resumed {clean(name)}.", as_json)


def _confirm(ctx: click.Context, name: str, text: str, as_json: bool) -> None:
    out = ctx.ensure_object(Invocation).out
    if as_json:
        sent = {"id": text} if ctx.info_name == "run" else {}
        out.json({"operation": ctx.info_name, "name": name, **sent})
    else:
        out.say(text)
