"""The ``list`` command: which routing keys lead to which queues."""

from __future__ import annotations

import click

from pgtasks.cli.groups import Subgroup
from pgtasks.cli.invocation import Invocation
from pgtasks.cli.options import Command, json_option

__all__ = ["list_"]


@click.group("list", cls=Subgroup)
def list_() -> None:
    """Show what the application declares."""


@list_.command(cls=Command)
@json_option
@click.pass_context
def bindings(ctx: click.Context, as_json: bool) -> None:
    """Show which exchange and routing key lead to which queue.

    There is no broker that knew of others: these are the declarations of the application
    (task_queues), by which exchange= and routing_key= of a call find a queue.
    """
    invocation = ctx.ensure_object(Invocation)
    rows = [
        (queue.name, queue.exchange.name if queue.exchange else "", queue.routing_key or "")
        for queue in invocation.application.amqp.queues.values()
    ]
    if as_json:
        names = ("queue", "exchange", "routing_key")
        invocation.out.json([dict(zip(names, row, strict=True)) for row in rows])
    else:
        invocation.out.table(("queue", "exchange", "routing key"), rows)
