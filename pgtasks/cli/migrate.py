"""The ``migrate`` command: what waits in a broker of Celery's becomes jobs."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from pgtasks.cli.invocation import Invocation
from pgtasks.cli.options import COMMAS, Command, json_option, option
from pgtasks.cli.output import Output, clean
from pgtasks.utils.text import pluralize

__all__ = ["migrate"]

GROUP = "Migration Options"

REASONS = 10
"""How many reasons to leave a message are said, the most frequent first."""


@click.command(cls=Command)
@click.argument("source")
@click.argument("destination", required=False)
@option(
    "-n",
    "--limit",
    group=GROUP,
    type=click.IntRange(min=1),
    metavar="N",
    help="Take no more jobs than that.",
)
@option(
    "-t",
    "--timeout",
    group=GROUP,
    type=click.FloatRange(min=0.1),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="End after so long without a message.",
)
@option(
    "-a",
    "--ack-messages",
    group=GROUP,
    is_flag=True,
    help="Take them out of the broker. Without it they are copied.",
)
@option(
    "-T",
    "--tasks",
    group=GROUP,
    type=COMMAS,
    metavar="NAMES",
    help="Only these tasks, with commas between them.",
)
@option(
    "-Q",
    "--queues",
    group=GROUP,
    type=COMMAS,
    metavar="NAMES",
    help="Only these queues; old:new gives one another name. By default those that the "
    "application declares.",
)
@option(
    "-F",
    "--forever",
    group=GROUP,
    is_flag=True,
    help="Go on until it is stopped: programs may still send to the broker.",
)
@option(
    "--unacknowledged",
    group=GROUP,
    is_flag=True,
    help="Of Redis: also what workers held that were killed. Stop all of them first, or what "
    "they run runs twice.",
)
@option(
    "--dry-run",
    "rehearse",
    group=GROUP,
    is_flag=True,
    help="Only count; nothing is inserted, nothing taken.",
)
@json_option
@click.pass_context
def migrate(
    ctx: click.Context,
    /,
    source: str,
    destination: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Take the tasks that wait in a broker of Celery's, SOURCE, and insert them as jobs.

    \b
    $ pgtasks -A proj migrate --dry-run redis://cache/0
    $ pgtasks -A proj migrate -a redis://cache/0 postgresql://proj@db/proj
    $ pgtasks -A proj migrate -a -Q mail:mailers -F amqp://guest@rabbit//

    DESTINATION is a database; by default the application's. Task ids, arguments, ETA,
    expiry, priority, retries and callbacks are kept. What is there already, or was, is not
    inserted again, so the command may be run as often as you like.
    """  # noqa: D301 - \b is what keeps click from filling the lines
    from pgtasks.app.migrating import Migration

    invocation = ctx.ensure_object(Invocation)
    app, out = invocation.application, invocation.out
    _check(source, destination)
    if destination is not None:
        app.conf.database_url = destination
    # Tasks of the program's own have serializers, limits and custom types registered.
    app.loader.import_default_modules()
    app.finalize()
    app = invocation.reached
    looked_for = options["unacknowledged"] and not options["rehearse"]
    migration = Migration(
        app,
        source,
        queues=_queues(app, options.pop("queues")),
        tasks=options.pop("tasks") or (),
        acknowledge=options.pop("ack_messages"),
        **options,
    )
    with _stopping(), out.progress("Taking over", None) as advance:
        migration.on_progress(advance)
        try:
            migration.run()
        except KeyboardInterrupt:
            out.note("Stopped. What was not inserted is still in the broker.")
    if looked_for and migration.tally.reclaimed is None:
        out.note(
            "--unacknowledged is of no use here: this broker gives out again what a worker "
            "held as soon as that has ended."
        )
    copied = not (migration.acknowledges or options["rehearse"])
    if as_json:
        _show_json(out, migration.tally, copied=copied)
    else:
        _show(out, migration.tally, rehearsed=options["rehearse"], copied=copied)


def _check(source: str, destination: str | None) -> None:
    from pgtasks.app.connection import is_postgresql

    if is_postgresql(source):
        raise click.UsageError(
            "SOURCE is the broker that Celery has used, redis://… or amqp://…; the database "
            "comes second."
        )
    if "://" not in source:
        raise click.UsageError(f"SOURCE is {source!r}: write a URL, as redis://host/0.")
    if destination is not None and not is_postgresql(destination):
        raise click.UsageError(
            "DESTINATION is the PostgreSQL database that jobs are kept in: "
            "postgresql://user@host/name. Between brokers, Celery's own command moves them."
        )


def _queues(app: Any, named: list[str] | None) -> dict[str, str]:
    """The queues to look at, and what each is called here."""
    from pgtasks.app.control import known_queues

    found = {}
    for each in named or known_queues(app):
        old, _, new = each.partition(":")
        found[old] = new or old
    return found


@contextmanager
def _stopping() -> Iterator[None]:
    """Let SIGTERM end it as Ctrl-C does: what a Redis has given out must go back to it."""

    def stop(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _show_json(out: Output, tally: Any, *, copied: bool) -> None:
    out.json(
        {
            "waiting": tally.waiting,
            "missing": tally.missing,
            "moved": dict(tally.moved),
            "known": tally.known,
            "reclaimed": tally.reclaimed,
            "passed": tally.passed,
            "refused": dict(tally.refused),
            "copied": copied,
        }
    )


def _show(out: Output, tally: Any, *, rehearsed: bool, copied: bool) -> None:
    for queue in tally.missing:
        out.note(f"The broker has no queue {clean(queue)}, or nothing in it (-Q).")
    if tally.moved:
        out.table(("task", "jobs"), sorted(tally.moved.items()))
    if tally.reclaimed:
        number = tally.reclaimed
        out.note(f"{number:,} {pluralize(number, 'message')} of killed workers were back.")
    out.say(_summary(tally, "to be inserted" if rehearsed else "inserted"))
    for reason, number in tally.refused.most_common(REASONS):
        out.note(
            f"Left {number:,} {pluralize(number, 'message')} where "
            f"{'it is' if number == 1 else 'they are'}: {clean(reason)}."
        )
    if len(tally.refused) > REASONS:
        out.note(f"There are {len(tally.refused) - REASONS:,} reasons more: --json.")
    if copied and tally.jobs:
        out.note(
            "They are in the broker as well (-a takes them out): stop Celery's workers, or "
            "each runs twice."
        )


def _summary(tally: Any, done: str) -> str:
    text = f"{tally.jobs:,} {pluralize(tally.jobs, 'job')} {done}"
    if tally.known:
        text += f", {tally.known:,} known already"
    if tally.passed:
        text += f", {tally.passed:,} of other tasks left"
    return f"{text}."
