"""The ``amqp`` command: Celery's shell to a broker, as far as tables can answer it."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from typing import Any

import click

from pgtasks.cli.groups import Subgroup
from pgtasks.cli.invocation import Failure, Invocation
from pgtasks.cli.options import Command, json_option
from pgtasks.cli.output import clean

__all__ = ["amqp"]

_NOTHING = {
    "exchange": "There are no exchanges here: a job goes to the queue that its call names. "
    "Nothing is done, and nothing need be.",
    "binding": "There are no bindings here: task_queues and task_routes say which routing "
    "key leads to which queue ('pgtasks list bindings'). Nothing is done.",
    "ack": "There is nothing to acknowledge: basic.get only looks. Nothing is done.",
}


@click.group(cls=Subgroup, invoke_without_command=True)
@click.pass_context
def amqp(ctx: click.Context) -> None:
    """Ask about queues, and change them, in AMQP's words; a shell without a command.

    A queue is a word in a row: it need not be made. What has no meaning here says so once,
    and goes on. pgtasks queues and pgtasks jobs do more.
    """
    if ctx.invoked_subcommand is None:
        _converse(ctx)


def _command(name: str) -> Callable[[Any], click.Command]:
    def add(function: Any) -> click.Command:
        command = amqp.command(name, cls=Command)
        return command(click.pass_context(function))

    return add


def _word(name: str, **settings: Any) -> Callable[[Any], Any]:
    return click.argument(name, **settings)


def _flag(name: str, *, required: bool = False) -> Callable[[Any], Any]:
    default = None if required else False
    return click.argument(name, type=bool, required=required, default=default)


# ── what has no meaning ─────────────────────────────────────────────────────────────────


def _without_meaning(ctx: click.Context, what: str) -> None:
    said: set[str] = ctx.find_root().meta.setdefault("pgtasks.amqp.said", set())
    out = ctx.ensure_object(Invocation).out
    if what not in said:
        said.add(what)
        out.note(_NOTHING[what])
    out.say(out.style("OK", fg="green", bold=True))


@_command("exchange.declare")
@_word("exchange")
@_word("type")
@_flag("passive")
@_flag("durable")
@_flag("auto_delete")
def exchange_declare(ctx: click.Context, /, **words: Any) -> None:
    """Do nothing: there are no exchanges."""
    _without_meaning(ctx, "exchange")


@_command("exchange.delete")
@_word("exchange")
@_flag("if_unused", required=True)
def exchange_delete(ctx: click.Context, /, **words: Any) -> None:
    """Do nothing: there are no exchanges."""
    _without_meaning(ctx, "exchange")


@_command("queue.bind")
@_word("queue")
@_word("exchange")
@_word("routing_key")
def queue_bind(ctx: click.Context, /, **words: Any) -> None:
    """Do nothing: there are no bindings."""
    _without_meaning(ctx, "binding")


@_command("basic.ack")
@click.argument("delivery_tag", type=int)
def basic_ack(ctx: click.Context, /, delivery_tag: int) -> None:
    """Do nothing: there is nothing to acknowledge."""
    _without_meaning(ctx, "ack")


# ── queues ──────────────────────────────────────────────────────────────────────────────


def _channel(ctx: click.Context) -> Any:
    return ctx.ensure_object(Invocation).application.connection().default_channel


def _answer(ctx: click.Context, document: dict[str, Any], text: str, as_json: bool) -> None:
    out = ctx.ensure_object(Invocation).out
    if as_json:
        out.json(document)
        return
    out.say(out.style(clean(text), fg="cyan", bold=True))
    out.say(out.style("OK", fg="green", bold=True))


@_command("queue.declare")
@_word("queue")
@_flag("passive")
@_flag("durable")
@_flag("auto_delete")
@json_option
def queue_declare(ctx: click.Context, /, queue: str, as_json: bool, **words: Any) -> None:
    """Say how many jobs of a queue may run now, and how many workers serve it."""
    found = _channel(ctx).queue_declare(queue)
    name, messages, consumers = found
    text = f"queue:{name} messages:{messages} consumers:{consumers}"
    _answer(ctx, found._asdict(), text, as_json)


@_command("queue.delete")
@_word("queue")
@_flag("if_unused")
@_flag("if_empty")
@json_option
def queue_delete(
    ctx: click.Context, /, queue: str, if_unused: bool, if_empty: bool, as_json: bool
) -> None:
    """Delete the waiting jobs of a queue; unless it is served, or has any, if you say so.

    There is no way back.
    """
    found = _channel(ctx).queue_declare(queue)
    if if_unused and found.consumer_count:
        raise Failure(f"{queue} is served by {found.consumer_count} workers; it stays.")
    if if_empty and found.message_count:
        raise Failure(f"{queue} has {found.message_count:,} waiting jobs; it stays.")
    _purge(ctx, queue, as_json)


@_command("queue.purge")
@_word("queue")
@json_option
def queue_purge(ctx: click.Context, /, queue: str, as_json: bool) -> None:
    """Delete the waiting jobs of a queue. There is no way back."""
    _purge(ctx, queue, as_json)


def _purge(ctx: click.Context, queue: str, as_json: bool) -> None:
    number = _channel(ctx).queue_purge(queue)
    document = {"queue": queue, "deleted": number}
    _answer(ctx, document, f"{number} messages deleted.", as_json)


# ── messages ────────────────────────────────────────────────────────────────────────────


@_command("basic.get")
@_word("queue")
@_flag("no_ack")
@json_option
def basic_get(ctx: click.Context, /, queue: str, no_ack: bool, as_json: bool) -> None:
    """Show the job of a queue that is next. It stays where it is, and may run meanwhile."""
    invocation = ctx.ensure_object(Invocation)
    out = invocation.out
    found = invocation.reached.jobs.list(
        queue=queue, state="available", order="priority", limit=1
    )
    if no_ack:
        out.note("basic.get only looks here; 'pgtasks jobs delete' takes a job away.")
    if not found:
        if as_json:
            out.json(None)
        else:
            out.say("No messages in queue. basic.publish something.")
        return
    job = found[0]
    document = {
        "body": {
            "task": job.task,
            "id": job.task_id,
            "args": job.args,
            "kwargs": job.kwargs,
        },
        "properties": {"correlation_id": job.task_id, "priority": job.priority},
        "delivery_info": {"exchange": "", "routing_key": job.queue},
    }
    out.json(document)
    if not as_json:
        out.say(out.style("OK", fg="green", bold=True))


@_command("basic.publish")
@_word("msg")
@_word("exchange")
@_word("routing_key")
@_flag("mandatory")
@_flag("immediate")
@json_option
def basic_publish(
    ctx: click.Context,
    /,
    msg: str,
    exchange: str,
    routing_key: str,
    mandatory: bool,
    immediate: bool,
    as_json: bool,
) -> None:
    """Insert a job: MSG is JSON with its task, ROUTING_KEY its queue.

    \b
    $ pgtasks amqp basic.publish '{"task": "shop.mail", "args": [7]}' '' celery
    """  # noqa: D301 - \b is what keeps click from filling the lines
    app = ctx.ensure_object(Invocation).reached
    try:
        body = json.loads(msg)
    except ValueError as error:
        raise click.UsageError(_no_job(msg, str(error))) from error
    if not isinstance(body, dict) or not isinstance(body.get("task"), str):
        raise click.UsageError(_no_job(msg, "there is no task in it"))
    sent = app.send_task(
        body["task"],
        body.get("args"),
        body.get("kwargs"),
        task_id=body.get("id"),
        queue=routing_key,
    )
    _answer(ctx, {"id": sent.id, "queue": routing_key}, sent.id, as_json)


def _no_job(text: str, why: str) -> str:
    return (
        f"{text!r} is no job: {why}. Write what Celery's messages have, "
        f'\'{{"task": "shop.mail", "args": [7]}}\', or use pgtasks call.'
    )


# ── the shell ───────────────────────────────────────────────────────────────────────────


@_command("repl")
def repl(ctx: click.Context, /) -> None:
    """Read commands line by line; so does pgtasks amqp alone."""
    assert ctx.parent is not None
    _converse(ctx.parent)


def _converse(ctx: click.Context) -> None:
    invocation = ctx.ensure_object(Invocation)
    out = invocation.out
    person = sys.stdin.isatty()
    if person:
        address = invocation.application.connection().as_uri()
        out.note(f"-> {address}. 'help' lists the commands, 'exit' ends it.")
    status = 0
    while (line := _next_line(person)) is not None:
        try:
            words = shlex.split(line)
        except ValueError as error:
            out.note(f"{error}: {line}")
            status = 2
            continue
        if words[:1] in (["exit"], ["quit"]):
            break
        if words:
            status = _carry_out(ctx, words)
    # A script is told of its last line, as by a shell.
    ctx.exit(0 if person else status)


def _next_line(person: bool) -> str | None:
    try:
        if person:
            return input("> ")
        line = sys.stdin.readline()
        return line if line else None
    except (EOFError, KeyboardInterrupt):
        click.echo()
        return None


def _carry_out(ctx: click.Context, words: list[str]) -> int:
    out = ctx.ensure_object(Invocation).out
    if words[0] in ("help", "?"):
        out.say(amqp.get_help(ctx))
        return 0
    if words[0] == "repl":
        return 0
    try:
        name, command, rest = amqp.resolve_command(ctx, words)
        assert command is not None
        with command.make_context(name, rest, parent=ctx) as inner:
            command.invoke(inner)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except Exception as error:
        from pgtasks.exceptions import PgtasksError

        if not isinstance(error, PgtasksError):
            raise
        out.say(f"Error: {clean(error)}", error=True)
        return 1
    return 0
