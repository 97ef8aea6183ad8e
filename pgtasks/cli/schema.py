"""``pgtasks schema``: create the tables, bring them up to date, look at them."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from pgtasks.cli.groups import Subgroup
from pgtasks.cli.options import json_option

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pgtasks.storage.migrations import Migration

__all__ = ["schema"]


class Target(NamedTuple):
    """The database, and the schema in it, that a command is about."""

    url: str
    schema: str


def _database(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option(
        "--schema", metavar="NAME", help="Schema of the tables; default: pgtasks."
    )(command)
    return click.option(
        "--database-url",
        metavar="URL",
        help="The database; default: the app's (-A), else PGTASKS_DATABASE_URL.",
    )(command)


@click.group(cls=Subgroup)
def schema() -> None:
    """Create the tables in PostgreSQL and bring them up to date."""


@schema.command()
@_database
@click.option("--to", type=int, metavar="N", help="Stop at version N.")
@json_option
@click.pass_context
def apply(
    ctx: click.Context,
    database_url: str | None,
    schema: str | None,
    to: int | None,
    as_json: bool,
) -> None:
    """Apply what has not been applied yet. Safe to run at any time, by many at once."""
    from pgtasks.storage.schema import apply

    target = _target(ctx, database_url, schema)
    applied = apply(target.url, schema=target.schema, to=to)
    _show(applied, as_json, "Applied {}", "Nothing to apply: the schema is up to date.")


@schema.command()
@_database
@click.option("--to", type=int, metavar="N", help="Stop at version N.")
@json_option
@click.pass_context
def plan(
    ctx: click.Context,
    database_url: str | None,
    schema: str | None,
    to: int | None,
    as_json: bool,
) -> None:
    """Show what apply would do, and do nothing."""
    from pgtasks.storage.schema import plan

    target = _target(ctx, database_url, schema)
    pending = plan(target.url, schema=target.schema, to=to)
    _show(pending, as_json, "Would apply {}", "Nothing to apply: the schema is up to date.")


@schema.command("print")
@click.option("--schema", metavar="NAME", help="Schema of the tables; default: pgtasks.")
@click.option(
    "--from", "from_", type=int, default=0, metavar="N", help="The version that is there."
)
@click.option("--to", type=int, metavar="N", help="The version to reach; default: newest.")
@click.option(
    "--no-transactions", is_flag=True, help="Without begin and commit, for RunSQL, Alembic."
)
@click.pass_context
def print_(
    ctx: click.Context,
    schema: str | None,
    from_: int,
    to: int | None,
    no_transactions: bool,
) -> None:
    """Print plain SQL for psql or another migration tool; asks no database."""
    from pgtasks.storage.schema import script

    text = script(
        from_,
        to,
        schema=schema or _schema_of(ctx),
        transactions=not no_transactions,
    )
    click.echo(text, nl=False)


@schema.command()
@_database
@json_option
@click.pass_context
def verify(
    ctx: click.Context, database_url: str | None, schema: str | None, as_json: bool
) -> None:
    """Compare the database with this version of pgtasks; exit status 1 if they differ."""
    from pgtasks.storage.schema import verify

    target = _target(ctx, database_url, schema)
    problems = verify(target.url, schema=target.schema)
    if as_json:
        click.echo(json.dumps([problem._asdict() for problem in problems], indent=2))
    else:
        for problem in problems:
            click.echo(f"{problem.kind}: {problem.message}")
        if not problems:
            click.echo("The schema is what this version of pgtasks expects.")
    ctx.exit(1 if problems else 0)


@schema.command()
@_database
@click.option("--to", type=int, required=True, metavar="N", help="The version to end at.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@json_option
@click.pass_context
def down(
    ctx: click.Context,
    database_url: str | None,
    schema: str | None,
    to: int,
    yes: bool,
    as_json: bool,
) -> None:
    """Take migrations back, newest first. The tables that they made are lost."""
    from pgtasks.storage.schema import down

    target = _target(ctx, database_url, schema)
    if not yes:
        click.confirm(
            f"Take everything above version {to} away, with the jobs in it?", abort=True
        )
    reverted = down(target.url, to, schema=target.schema)
    _show(reverted, as_json, "Took back {}", f"Nothing is above version {to}.")


def _target(ctx: click.Context, url: str | None, schema: str | None) -> Target:
    if url is None:
        app = getattr(ctx.obj, "app", None)
        if app is not None:
            database = app.database
            # Migrations need sessions, which a pooler does not give.
            url = database.direct.url
            schema = schema or database.schema
        else:
            url = os.environ.get("PGTASKS_DATABASE_URL")
    if not url:
        raise click.UsageError(
            "Which database? Name it with --database-url postgresql://…, with "
            "PGTASKS_DATABASE_URL in the environment, or through an app: "
            "pgtasks -A proj schema …"
        )
    return Target(url, schema or _schema_of(ctx))


def _schema_of(ctx: click.Context) -> str:
    # Not by way of app.database, which may start a server of its own.
    app = getattr(ctx.obj, "app", None)
    return getattr(getattr(app, "conf", None), "database_schema", None) or "pgtasks"


def _show(migrations: Sequence[Migration], as_json: bool, line: str, nothing: str) -> None:
    if as_json:
        records = [
            {"version": each.version, "name": each.name, "breaking": each.breaking}
            for each in migrations
        ]
        click.echo(json.dumps(records, indent=2))
        return
    for each in migrations:
        remark = "  (breaking: restart older workers)" if each.breaking else ""
        click.echo(line.format(each) + remark)
    if not migrations:
        click.echo(nothing)
