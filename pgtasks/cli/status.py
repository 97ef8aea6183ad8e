"""The ``status`` command."""

from __future__ import annotations

from typing import Any

import click

from pgtasks.cli.alive import MAX_AGE, check
from pgtasks.cli.inspect import NOBODY, destination_options, unavailable
from pgtasks.cli.invocation import EX_UNAVAILABLE, Failure, Invocation
from pgtasks.cli.options import Command, option
from pgtasks.cli.output import clean
from pgtasks.utils.text import pluralize, short_span

__all__ = ["status"]


@click.command(cls=Command)
@option(
    "--alive",
    group="Health Checks",
    is_flag=True,
    help="Do not ask the workers, but see when each last gave a sign of life: those of this "
    "machine, or of --destination. Exits with 69 if one has not, or there are none.",
)
@option(
    "--max-age",
    group="Health Checks",
    type=click.FloatRange(min=0, min_open=True),
    default=MAX_AGE,
    show_default=True,
    metavar="SECONDS",
    help="With --alive: a sign of life that is older is none.",
)
@option(
    "--local",
    group="Health Checks",
    is_flag=True,
    help="With --alive: ask this machine and not the database, which may be down without "
    "its workers being so.",
)
@destination_options
@click.pass_context
def status(
    ctx: click.Context,
    timeout: float,
    destination: list[str] | None,
    as_json: bool,
    alive: bool,
    max_age: float,
    local: bool,
) -> None:
    """Show the workers that are there, and those that do not answer."""
    invocation = ctx.ensure_object(Invocation)
    if local and (destination or not alive):
        raise click.UsageError(
            "--local belongs to --alive, and knows no names: it means the workers that this "
            "user has on this machine."
        )
    if alive:
        check(
            invocation,
            destination=destination,
            max_age=max_age,
            local=local,
            as_json=as_json,
        )
        return
    from pgtasks.storage import health, leaders, upkeep

    app, out = invocation.application, invocation.out
    # Colours and tables are for people; what programs read looks as Celery's does.
    shows = not as_json and not out.terminal

    def show(reply: dict[str, Any]) -> None:
        for node, answer in reply.items():
            out.reply(node, answer, body=False)

    with unavailable("status", debug=invocation.debug):
        replies = app.control.inspect(
            timeout=timeout, destination=destination, callback=show if shows else None
        ).ping()
    known = [
        worker
        for worker in app.database.run(health.workers())
        if not worker.dead and (not destination or worker.name in destination)
    ]
    if replies and as_json:
        out.json(replies)
    elif out.terminal and not as_json and known:
        rows = [
            (
                worker.name,
                "OK" if worker.name in (replies or {}) else "no answer",
                ", ".join(worker.queues),
                f"{worker.pool} {worker.concurrency}",
                worker.pid,
                f"{worker.silence:.0f} s ago",
            )
            for worker in known
        ]
        out.table(("node", "status", "queues", "pool", "pid", "last heartbeat"), rows)
    if not as_json and not out.quiet:
        for leader in app.database.run(leaders.sitting()):
            if leader.sits and (not destination or leader.node in destination):
                out.note(
                    f"{clean(leader.node)} has led the {clean(leader.office)} for "
                    f"{short_span(leader.duration)} (term {leader.term})."
                )
        tell_metrics(out, app.database.run(upkeep.kept("jobs")))
    for worker in known:
        if worker.name not in (replies or {}) and (shows or as_json):
            out.note(
                f"{clean(worker.name)} does not answer; its last heartbeat was "
                f"{worker.silence:.0f} s ago."
            )
    if not replies:
        raise Failure(NOBODY, EX_UNAVAILABLE)
    if not as_json and not out.quiet:
        out.say(f"\n{len(replies)} {pluralize(len(replies), 'node')} online.")


def tell_metrics(out: Any, kept: Any) -> None:
    """What the plugin ``metrics`` has counted, in a table; nothing if it has not."""
    if kept is None or not (kept.document["jobs"] or kept.document["ended"]):
        return
    queues: dict[str, dict[str, float]] = {}
    for each in kept.document["jobs"]:
        row = queues.setdefault(each["queue"], {})
        row[each["state"]] = each["count"]
        if each["state"] == "available":
            row["age"] = each["age"]
    for each in kept.document["ended"]:
        row = queues.setdefault(each["queue"], {})
        row["rate"] = row.get("rate", 0.0) + each["rate"]
    if out.terminal:
        rows = [
            (
                queue,
                row.get("available", 0),
                row.get("executing", 0),
                row.get("scheduled", 0) + row.get("retryable", 0),
                short_span(row["age"]) if "age" in row else "",
                f"{row.get('rate', 0.0):.1f}",
            )
            for queue, row in sorted(queues.items())
        ]
        columns = ("queue", "waiting", "running", "later", "oldest waits", "ended a second")
        out.table(columns, rows)
        out.note(f"Counted {short_span(kept.age)} ago.")
