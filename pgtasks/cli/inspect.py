"""The ``inspect`` and ``control`` commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NoReturn

import click

from pgtasks.cli import completing
from pgtasks.cli.invocation import EX_UNAVAILABLE, Failure, Invocation
from pgtasks.cli.options import COMMAS, Command, option
from pgtasks.cli.output import clean
from pgtasks.exceptions import PgtasksError
from pgtasks.utils.text import pluralize

if TYPE_CHECKING:
    from pgtasks.worker.control import CommandInfo

__all__ = [
    "NOBODY", "control", "destination_options", "handle_remote_command_error", "inspect",
    "unavailable",
]  # fmt: skip

NOBODY = (
    "No nodes replied within time constraint. 'pgtasks doctor' tells which workers there "
    "are; --timeout waits longer."
)


NOTED = (
    "No worker replied. What waits has been dealt with in the tables, and workers that come "
    "obey what stands there."
)

OF_TASKS: dict[str, Callable[..., Any]] = {
    "revoke": lambda control, task_id, **rest: control.revoke(task_id, **rest),
    "terminate": lambda control, signal, task_id, **rest: control.terminate(
        task_id, signal=signal, **rest
    ),
    "revoke_by_stamped_headers": lambda control, headers, **rest: (
        control.revoke_by_stamped_headers(_stamps(headers), **rest)
    ),
    "forgive": lambda control, task_id, **rest: control.forgive(task_id, **rest),
}


def _stamps(words: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise click.UsageError(f"{word!r} is no stamp: write name=value.")
        found.setdefault(name, []).append(value)
    return found


def handle_remote_command_error(command_name: str, exc: BaseException) -> NoReturn:
    """Say in a line or two why a command could not be carried out.

    Args:
        command_name: What was called, ``inspect active``.
        exc: What it raised, which is being handled.

    Raises:
        ClickException: Always; what has a remedy of its own is raised again.
    """
    # Also of whoever read our output and has had enough.
    if isinstance(exc, (click.ClickException, PgtasksError, BrokenPipeError)):
        raise exc
    from kombu.exceptions import OperationalError

    if isinstance(exc, OperationalError):
        text = f"Could not connect to the message broker.\nReason: {clean(exc)}"
    else:
        text = f"Unable to run the `{command_name}` command. Reason: {clean(exc)}"
    raise Failure(text, EX_UNAVAILABLE) from exc


@contextmanager
def unavailable(command: str, *, debug: bool = False) -> Iterator[None]:
    """Turn what a command raises into a message, but for those who look for the reason."""
    try:
        yield
    except Exception as error:
        if debug:
            raise
        handle_remote_command_error(command, error)


def destination_options(command: Any) -> Any:
    """Add the options of all commands that talk to workers; a decorator."""
    group = "Remote Control Options"
    for decorate in (
        option(
            "-j", "--json", "as_json", group=group, is_flag=True, help="Answer in JSON."
        ),
        option(
            "-d",
            "--destination",
            group=group,
            type=COMMAS,
            metavar="NAMES",
            shell_complete=completing.workers,
            help="Names of the workers, with commas between them; all by default.",
        ),
        option(
            "-t",
            "--timeout",
            group=group,
            type=float,
            default=1.0,
            show_default=True,
            metavar="SECONDS",
            help="Wait for replies for no longer than this.",
        ),
    ):
        command = decorate(command)
    return command


def _commands(kind: str) -> dict[str, CommandInfo]:
    """The commands of one kind: ours, and those that the application has added."""
    from pgtasks.worker.control import Panel

    return {
        name: info
        for name, info in sorted(Panel.meta.items())
        if info.type == kind and info.visible
    }


def _list_option(kind: str) -> Callable[[Any], Any]:
    def show(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        if not value:
            return
        invocation = ctx.ensure_object(Invocation)
        if invocation.app is not None:
            invocation.app.loader.import_default_modules()
        formatter = ctx.make_formatter()
        with formatter.section(f"{kind.capitalize()} Commands"):
            formatter.write_dl(
                [
                    (f"{name} {info.signature or ''}".rstrip(), info.help)
                    for name, info in _commands(kind).items()
                ]
            )
        click.echo(formatter.getvalue(), nl=False)
        ctx.exit()

    return click.option(
        "--list",
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=show,
        help=f"List the {kind} commands.",
    )


@click.command(cls=Command, context_settings={"allow_extra_args": True})
@click.argument("command", shell_complete=completing.control_commands("inspect"))
@_list_option("inspect")
@destination_options
@click.pass_context
def inspect(
    ctx: click.Context,
    command: str,
    timeout: float,
    destination: list[str] | None,
    as_json: bool,
) -> None:
    """Ask workers about themselves: ping, active, registered, stats, and more (--list).

    What stands behind COMMAND are its arguments.
    """
    invocation = ctx.ensure_object(Invocation)
    arguments = _arguments(invocation, "inspect", command, ctx.args)
    timeout = _patience(ctx, "inspect", command, timeout)
    replies = _ask(
        invocation, "inspect", command, arguments, timeout, destination, as_json=as_json
    )
    if as_json:
        invocation.out.json(
            {name: reply for each in replies for name, reply in each.items()}
        )
    elif not invocation.out.quiet:
        invocation.out.say(f"\n{len(replies)} {pluralize(len(replies), 'node')} online.")


@click.command(cls=Command, context_settings={"allow_extra_args": True})
@click.argument("command", shell_complete=completing.control_commands("control"))
@_list_option("control")
@destination_options
@click.pass_context
def control(
    ctx: click.Context,
    command: str,
    timeout: float,
    destination: list[str] | None,
    as_json: bool,
) -> None:
    """Tell workers something: shutdown, add_consumer, and more (--list).

    What stands behind COMMAND are its arguments.
    """
    invocation = ctx.ensure_object(Invocation)
    arguments = _arguments(invocation, "control", command, ctx.args)
    timeout = _patience(ctx, "control", command, timeout)
    replies = _ask(
        invocation, "control", command, arguments, timeout, destination, as_json=as_json
    )
    if as_json:
        invocation.out.json(replies)
    if any(
        isinstance(reply, dict) and "error" in reply
        for each in replies
        for reply in each.values()
    ):
        ctx.exit(1)


def _patience(ctx: click.Context, kind: str, command: str, timeout: float) -> float:
    """What was given, or else as long as the command is known to take."""
    given = ctx.get_parameter_source("timeout")
    if given is not click.core.ParameterSource.DEFAULT:
        return timeout
    return max(timeout, _commands(kind)[command].default_timeout)


def _ask(
    invocation: Invocation,
    kind: str,
    command: str,
    arguments: dict[str, Any],
    timeout: float,
    destination: list[str] | None,
    *,
    as_json: bool,
) -> list[dict[str, Any]]:
    def show(reply: dict[str, Any]) -> None:
        for node, answer in reply.items():
            invocation.out.reply(node, answer)

    control = invocation.application.control
    asked = {
        "destination": destination,
        "timeout": timeout,
        "callback": None if as_json else show,
    }
    replies: list[dict[str, Any]]
    with unavailable(f"{kind} {command}", debug=invocation.debug):
        if kind == "inspect":
            told = control.inspect(**asked)._request(command, **arguments)
            replies = [{node: answer} for node, answer in (told or {}).items()]
        else:
            # Those about tasks have effects on rows, too, which their methods see to.
            tell = OF_TASKS.get(command)
            if tell is None:
                replies = control.broadcast(
                    command, arguments=arguments, reply=True, **asked
                )
            else:
                replies = tell(control, **arguments, reply=True, **asked)
                if not replies and not destination:
                    invocation.out.note(NOTED)
                    return []
    if not replies:
        raise Failure(NOBODY, EX_UNAVAILABLE)
    return replies


def _arguments(
    invocation: Invocation, kind: str, command: str, words: list[str]
) -> dict[str, Any]:
    """Read the words behind a command as its arguments."""
    invocation.application.loader.import_default_modules()
    known = _commands(kind)
    info = known.get(command)
    if info is None:
        raise click.UsageError(_unknown(kind, command, known))
    arguments: dict[str, Any] = {}
    rest = list(words)
    for name, read in info.args or ():
        if rest:
            word = rest.pop(0)
            try:
                arguments[name] = word if read is None else read(word)
            except (TypeError, ValueError) as error:
                raise click.UsageError(
                    f"The argument {name} of {command!r} cannot be {word!r}: {error}."
                ) from error
    if info.variadic:
        arguments[info.variadic] = rest
    elif rest:
        takes = info.signature or "none"
        raise click.UsageError(
            f"The command {command!r} has no use for {' '.join(rest)!r}. Its arguments: {takes}"
        )
    return arguments


def _unknown(kind: str, command: str, known: dict[str, CommandInfo]) -> str:
    other = "control" if kind == "inspect" else "inspect"
    text = (
        f"Command {command} not recognized. Available {kind} commands: {', '.join(known)}."
    )
    if command in _commands(other):
        return f"{text} It is one of the others: pgtasks {other} {command}"
    near = get_close_matches(command, known, 1)
    return f"{text} Did you mean {near[0]!r}?" if near else text
