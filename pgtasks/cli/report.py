"""The ``report`` command."""

from __future__ import annotations

import click

from pgtasks.cli.invocation import Invocation
from pgtasks.cli.options import Command, json_option
from pgtasks.cli.output import clean

__all__ = ["report"]


@click.command(cls=Command)
@json_option
@click.pass_context
def report(ctx: click.Context, as_json: bool) -> None:
    """Show what belongs into a bug report: versions, platform, settings without secrets."""
    invocation = ctx.ensure_object(Invocation)
    app = invocation.application
    app.loader.import_default_modules()
    text = app.bugreport()
    if as_json:
        invocation.out.json({"report": text})
    else:
        invocation.out.say(clean(text, lines=True))
