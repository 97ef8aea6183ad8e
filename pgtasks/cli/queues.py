"""The ``queues`` command: how queues do, and what is said about them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from pgtasks.cli import completing
from pgtasks.cli.groups import Subgroup
from pgtasks.cli.hints import queue_hints
from pgtasks.cli.invocation import Invocation
from pgtasks.cli.options import Command, json_option
from pgtasks.cli.output import clean

if TYPE_CHECKING:
    from pgtasks.app.queues import Queue, Queues

__all__ = ["queues"]


class _Group(Subgroup):
    """Commands below one that does something itself, when it is called without them."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run what was asked for; what a queue cannot be told is a mistake of the words."""
        ctx.ensure_object(Invocation)
        try:
            return super().invoke(ctx)
        except (TypeError, ValueError) as error:
            raise click.UsageError(str(error), ctx) from error


@click.group(cls=_Group, invoke_without_command=True)
@json_option
@click.pass_context
def queues(ctx: click.Context, as_json: bool) -> None:
    """Show queues: what waits, what runs, what is paused and limited."""
    if ctx.invoked_subcommand is not None:
        return
    out = ctx.ensure_object(Invocation).out
    found = _queues(ctx).list()
    if as_json:
        out.json([_document(each) for each in found])
        return
    shown = [each for each in found if each.name != "*"]
    out.table(
        ("queue", "state", "waiting", "later", "running", "oldest", "limits", "workers"),
        [_row(each) for each in shown],
    )
    if any(each.name == "*" and each.paused for each in found):
        out.note(
            "All queues are paused, those that are not shown too (queues resume --all)."
        )


def _row(queue: Queue) -> tuple[object, ...]:
    counts = dict(queue.states)
    running = counts.pop("executing", 0)
    later = counts.pop("scheduled", 0) + counts.pop("retryable", 0)
    waiting = sum(counts.values())
    age = "-" if queue.age is None else f"{queue.age:.0f} s"
    return (
        queue.name,
        _state(queue),
        waiting,
        later,
        running,
        age,
        ", ".join(_limits(queue)) or "-",
        len(queue.workers),
    )


def _state(queue: Queue) -> str:
    words = []
    if queue.paused:
        since = f"{queue.since:%Y-%m-%d %H:%M:%S} UTC" if queue.since else "?"
        words.append(f"paused since {since} by {queue.by}")
    for said in queue.said:
        if said.node is not None and said.paused is not None:
            words.append(f"{'paused' if said.paused else 'resumed'} on {said.node}")
        if said.served is not None:
            words.append(
                f"{'started' if said.served else 'stopped'} on {said.node or 'all nodes'}"
            )
    return "; ".join(words) or "active"


def _limits(queue: Queue) -> list[str]:
    shown = [
        f"{said.limit} in {said.node or 'each worker'}"
        for said in queue.said
        if said.limit is not None
    ]
    if queue.concurrency is not None:
        shown.append(f"{queue.concurrency} in the fleet")
    if queue.rate is not None and queue.period is not None:
        unit = {1.0: "s", 60.0: "m", 3600.0: "h"}.get(queue.period, f"{queue.period:g} s")
        shown.append(f"{queue.rate}/{unit}")
    return shown


def _document(queue: Queue) -> dict[str, Any]:
    return {
        **queue._asdict(),
        "said": [said._asdict() for said in queue.said],
    }


# ── what is said about them ─────────────────────────────────────────────────────────────


def _queues(ctx: click.Context) -> Queues:
    return ctx.ensure_object(Invocation).reached.queues  # type: ignore[no-any-return]


def _command(name: str) -> Callable[[Callable[..., Any]], click.Command]:
    """A command of the group, which takes the global options behind its name, and JSON."""

    def add(function: Callable[..., Any]) -> click.Command:
        function = click.option(
            "-j",
            "--json",
            is_flag=True,
            expose_value=False,
            callback=_note_json,
            help="Confirm in JSON.",
        )(function)
        return queues.command(name, cls=Command)(function)

    return add


_node = click.option(
    "-n",
    "--node",
    metavar="NAME",
    shell_complete=completing.workers,
    help="Name of the only worker that this is said to; by default it is all of them.",
)
_all = click.option("--all", "every", is_flag=True, help="All queues.")
_name = click.argument("name", required=False, shell_complete=completing.queues)
_queue = click.argument("name", shell_complete=completing.queues)


_JSON = "pgtasks.queues.json"


def _note_json(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    ctx.meta[_JSON] = value


def _said(ctx: click.Context, text: str, node: str | None) -> None:
    out = ctx.ensure_object(Invocation).out
    _doubt(ctx, ctx.params.get("name"))
    if ctx.meta.get(_JSON):
        said = dict(ctx.params)
        out.json({"operation": ctx.info_name, "queue": said.pop("name"), **said})
        return
    where = f" on {clean(node)}" if node else ""
    out.say(f"{text}{where}.")


def _doubt(ctx: click.Context, name: str | None) -> None:
    """Say so if nobody knows the queue, but one of a similar name: it may be a new one."""
    if name is not None:
        invocation = ctx.ensure_object(Invocation)
        for remark in queue_hints(invocation.application, [name]):
            invocation.out.note(remark)


def _one_or_all(name: str | None, every: bool) -> None:
    if (name is None) != every:
        raise click.UsageError("Name a queue, or say --all.")


@_command("pause")
@_name
@_all
@_node
@click.pass_context
def pause(ctx: click.Context, name: str | None, every: bool, node: str | None) -> None:
    """Begin no more jobs of a queue; what runs goes on."""
    _one_or_all(name, every)
    if name is None:
        _queues(ctx).pause_all(node=node)
    else:
        _queues(ctx).pause(name, node=node)
    _said(ctx, f"Paused {'all queues' if name is None else clean(name)}", node)


@_command("resume")
@_name
@_all
@_node
@click.pass_context
def resume(ctx: click.Context, name: str | None, every: bool, node: str | None) -> None:
    """Begin jobs of a queue again."""
    _one_or_all(name, every)
    if name is None:
        _queues(ctx).resume_all(node=node)
    else:
        _queues(ctx).resume(name, node=node)
    _said(ctx, f"Resumed {'all queues' if name is None else clean(name)}", node)


@_command("scale")
@_queue
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    metavar="N",
    help="How many; without it, as many as the worker was started with.",
)
@_node
@click.pass_context
def scale(ctx: click.Context, name: str, limit: int | None, node: str | None) -> None:
    """Let so many jobs of a queue run at a time in each worker."""
    _queues(ctx).scale(name, limit, node=node)
    many = "as many as there are places for" if limit is None else str(limit)
    _said(ctx, f"{clean(name)}: {many} at a time in each worker", node)


@_command("start")
@_queue
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    metavar="N",
    help="How many at a time in each worker.",
)
@_node
@click.pass_context
def start(ctx: click.Context, name: str, limit: int | None, node: str | None) -> None:
    """Have workers serve a queue beside those that they were started with."""
    _queues(ctx).start(name, limit=limit, node=node)
    _said(ctx, f"Started {clean(name)}", node)


@_command("stop")
@_queue
@_node
@click.pass_context
def stop(ctx: click.Context, name: str, node: str | None) -> None:
    """Have workers serve a queue no longer; what runs goes on."""
    _queues(ctx).stop(name, node=node)
    _said(ctx, f"Stopped {clean(name)}", node)


@_command("limit")
@_name
@click.option(
    "--task",
    metavar="NAME",
    shell_complete=completing.tasks,
    help="A task in place of a queue.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(min=0),
    metavar="N",
    help="How many may run at a time.",
)
@click.option("--rate", metavar="RATE", help="How many may start: 10/s, 100/m, 1000/h.")
@click.option("--remove", is_flag=True, help="Drop the limit.")
@click.pass_context
def limit(
    ctx: click.Context,
    name: str | None,
    task: str | None,
    concurrency: int | None,
    rate: str | None,
    remove: bool,
) -> None:
    """Limit a queue, or a task, in all workers together."""
    what = clean(name or task or "")
    if remove:
        found = _queues(ctx).unlimit(name, task=task)
        _said(
            ctx, f"{what}: {'the limit is gone' if found else 'there was no limit'}", None
        )
    else:
        _queues(ctx).limit(name, task=task, concurrency=concurrency, rate=rate)
        _said(ctx, f"Limited {what}", None)
