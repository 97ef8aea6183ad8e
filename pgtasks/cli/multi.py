"""The command ``multi``: several workers on one machine, in the background."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any

import click

from pgtasks.apps.cluster import Cluster as Nodes
from pgtasks.apps.multi import MultiParser, NamespacedOptionParser, Node
from pgtasks.cli.invocation import Invocation
from pgtasks.cli.multi_talk import HELP, USAGE, Teller, TermLogger
from pgtasks.platforms import EX_FAILURE, EX_OK, signals

__all__ = ["MultiTool", "TermLogger", "multi"]

# ── what is done ────────────────────────────────────────────────────────────────────────

Command = Callable[..., Any]


def splash(fun: Command) -> Command:
    """Have the line with the version printed before a command; a decorator."""

    @wraps(fun)
    def inner(self: MultiTool, *args: Any, **kwargs: Any) -> Any:
        self.splash()
        return fun(self, *args, **kwargs)

    return inner


def using_cluster(fun: Command) -> Command:
    """Hand a command the nodes that its words name; a decorator."""

    @wraps(fun)
    def inner(self: MultiTool, *argv: str, **kwargs: Any) -> Any:
        return fun(self, self.cluster_from_argv(argv), **kwargs)

    return inner


def using_cluster_and_sig(fun: Command) -> Command:
    """Hand a command the nodes and the signal that its words name; a decorator."""

    @wraps(fun)
    def inner(self: MultiTool, *argv: str, **kwargs: Any) -> Any:
        parsed, cluster = self._cluster_from_argv(argv)
        return fun(self, cluster, self._find_sig_argument(parsed), **kwargs)

    return inner


class MultiTool(Teller):
    """The program ``pgtasks multi``.

    Args:
        env: Environment of the nodes that are started.
        cmd: What starts a node.
        fh: Where to print; an old name of ``stdout``.
        stdout: Where to print.
        stderr: Where to complain.
        **kwargs: ``nosplash``, ``quiet``, ``verbose`` and ``no_color``.
    """

    MultiParser = MultiParser
    OptionParser = NamespacedOptionParser

    reserved_options = [
        ("--nosplash", "nosplash"),
        ("--quiet", "quiet"),
        ("-q", "quiet"),
        ("--verbose", "verbose"),
        ("--no-color", "no_color"),
    ]

    def __init__(
        self,
        env: Mapping[str, str] | None = None,
        cmd: str | None = None,
        fh: Any = None,
        stdout: Any = None,
        stderr: Any = None,
        **kwargs: Any,
    ) -> None:
        self.env = env
        self.cmd = cmd
        self.setup_terminal(stdout or fh, stderr, **kwargs)
        self.fh = self.stdout
        self.commands: dict[str, Command] = {
            "start": self.start,
            "show": self.show,
            "stop": self.stop,
            "stopwait": self.stopwait,
            "stop_verify": self.stop_verify,
            "restart": self.restart,
            "kill": self.kill,
            "names": self.names,
            "expand": self.expand,
            "get": self.get,
            "help": self.help,
        }

    def execute_from_commandline(self, argv: Sequence[str], cmd: str | None = None) -> int:
        """Carry out a command line, and answer the exit status.

        Args:
            argv: Its words, the program's name first.
            cmd: What starts a node.
        """
        words = self._handle_reserved_options(argv)
        self.cmd = self.cmd if cmd is None else cmd
        self.prog_name = os.path.basename(words.pop(0))
        if not self.validate_arguments(words):
            return self.error()
        return self.call_command(words[0], words[1:])

    def validate_arguments(self, argv: Sequence[str]) -> bool:
        """Whether the words begin with a command."""
        return bool(argv) and not argv[0].startswith("-")

    def call_command(self, command: str, argv: Sequence[str]) -> int:
        """Carry out a command."""
        if command not in self.commands:
            return self.error(f"Invalid command: {command}")
        try:
            return self.commands[command](*argv) or EX_OK
        except (KeyError, ValueError) as error:
            # Of nodes that are not there, and abbreviations that are none.
            return self.error(f"{command}: {error.args[0]}")

    def _handle_reserved_options(self, argv: Sequence[str]) -> list[str]:
        words = list(argv)
        for option, attribute in self.reserved_options:
            if option in words:
                words.remove(option)
                setattr(self, attribute, True)
        return words

    @splash
    @using_cluster
    def start(self, cluster: Nodes) -> int:
        """Start the nodes."""
        self.note("> Starting nodes...")
        return int(any(cluster.start()))

    @splash
    @using_cluster_and_sig
    def stop(self, cluster: Nodes, sig: int, **kwargs: Any) -> None:
        """Signal the nodes to stop."""
        cluster.stop(sig=sig, **kwargs)

    @splash
    @using_cluster_and_sig
    def stopwait(self, cluster: Nodes, sig: int, **kwargs: Any) -> None:
        """Signal the nodes to stop, and wait until they have."""
        cluster.stopwait(sig=sig, **kwargs)

    stop_verify = stopwait

    @splash
    @using_cluster_and_sig
    def restart(self, cluster: Nodes, sig: int, **kwargs: Any) -> int:
        """Stop the nodes, and start each when it has stopped."""
        return int(any(cluster.restart(sig=sig, **kwargs)))

    @splash
    @using_cluster
    def kill(self, cluster: Nodes) -> None:
        """Kill the nodes."""
        cluster.kill()

    @using_cluster
    def names(self, cluster: Nodes) -> None:
        """Print the names of the nodes."""
        self.say("\n".join(node.name for node in cluster))

    @using_cluster
    def show(self, cluster: Nodes) -> int:
        """Print the commands that start the nodes."""
        return self.ok("\n".join(" ".join(node.argv_with_executable) for node in cluster))

    def get(self, wanted: str, *argv: str) -> int:
        """Print the command that starts one node."""
        try:
            node = self.cluster_from_argv(argv).find(wanted)
        except KeyError:
            return EX_FAILURE
        return self.ok(" ".join(node.argv))

    def expand(self, template: str, *argv: str) -> int:
        """Print a text with the abbreviations of each node filled in."""
        nodes = self.cluster_from_argv(argv)
        return self.ok("\n".join(node.expander(template) for node in nodes))

    def help(self, *argv: str) -> None:
        """Print how it is used, at length."""
        self.say(HELP)

    def _find_sig_argument(
        self, p: NamespacedOptionParser, default: int = signal.SIGTERM
    ) -> int:
        for word in reversed(p.args[len(p.values) :]):
            if word[:1] != "-":
                continue
            if word[1:].isdecimal():
                return int(word[1:])
            try:
                return int(signals.signum(word[1:]))
            except (AttributeError, TypeError, ValueError):
                continue
        return default

    def _nodes_from_argv(
        self, argv: Sequence[str], cmd: str | None = None
    ) -> tuple[NamespacedOptionParser, Any]:
        parser = self.OptionParser(argv)
        parser.parse()
        cmd = self.cmd if cmd is None else cmd
        return parser, self.MultiParser(cmd=cmd).parse(parser)

    def cluster_from_argv(self, argv: Sequence[str], cmd: str | None = None) -> Nodes:
        """The nodes that some words name."""
        return self._cluster_from_argv(argv, cmd=cmd)[1]

    def _cluster_from_argv(
        self, argv: Sequence[str], cmd: str | None = None
    ) -> tuple[NamespacedOptionParser, Nodes]:
        parser, nodes = self._nodes_from_argv(argv, cmd=cmd)
        return parser, self.Cluster(list(nodes), cmd=cmd)

    def Cluster(self, nodes: Sequence[Node], cmd: str | None = None) -> Nodes:
        """A cluster that tells this of what happens."""
        told = {
            name: getattr(self, name)
            for name in dir(type(self))
            if name.startswith("on_") and hasattr(Nodes, name)
        }
        return Nodes(nodes, cmd=cmd, env=self.env, **told)


# ── the command ─────────────────────────────────────────────────────────────────────────


class _Words(click.Command):
    """Takes its words as they are: they are options of workers, and of some of them."""

    # Those behind the command are for the workers as well.
    _takes_global_options = True

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args[:1] in (["-h"], ["--help"]):
            click.echo(self.get_help(ctx))
            ctx.exit()
        ctx.args = list(args)
        return ctx.args

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write(USAGE.format(prog_name=ctx.command_path))

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write(f"\n{HELP}")


@click.command(cls=_Words)
@click.pass_context
def multi(ctx: click.Context) -> None:
    """Start several workers on this machine, stop them, start them anew."""
    invocation = ctx.ensure_object(Invocation)
    plain = invocation.no_color or not invocation.out.terminal
    tool = MultiTool(quiet=invocation.quiet, no_color=plain)
    command, words = ctx.args[:1], ctx.args[1:]
    # What stood before the command is for the workers; behind a '--' it would be for none.
    argv = [ctx.command_path, *command, *_global_words(invocation), *words]
    ctx.exit(tool.execute_from_commandline(argv))


def _global_words(invocation: Invocation) -> list[str]:
    pairs = (
        ("--app", invocation.named),
        ("--broker", invocation.broker),
        ("--result-backend", invocation.result_backend),
        ("--loader", invocation.loader),
        ("--config", invocation.config),
    )
    words = [f"{flag}={value}" for flag, value in pairs if isinstance(value, str)]
    return [*words, *(["--skip-checks"] if invocation.skip_checks else [])]
