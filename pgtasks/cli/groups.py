"""Groups of commands: the program itself, and commands below a command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import click

from pgtasks.cli import plugins
from pgtasks.cli.options import accept_global_options, invocation_of, write_grouped

__all__ = ["Group", "Subgroup"]


class Subgroup(click.Group):
    """Commands below a command: `queues pause`; without one of them it may do something."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which one may have been meant."""
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            _refuse(ctx, args[0], self.list_commands(ctx))
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the commands, in the order in which they were defined."""
        return list(self.commands)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, under their headings, and the commands."""
        write_grouped(ctx, formatter, self.get_params(ctx))
        self.format_commands(ctx, formatter)


class Group(click.Group):
    """Commands that are imported when they are called, and those that packages add.

    Args:
        *args: As click's.
        homes: Where each command is, ``module:attribute``, and its line in the help.
        absent: Celery's commands that do not exist here, and what to do instead.
        **kwargs: As click's.
    """

    def __init__(
        self,
        *args: Any,
        homes: Mapping[str, tuple[str, str]],
        absent: Mapping[str, str],
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._homes = homes
        self._absent = absent

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the commands."""
        names = [*self._homes, *sorted({*self.commands, *plugins.names()})]
        return list(dict.fromkeys(names))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name in self.commands:
            return plugins.prepared(self.commands[cmd_name], invocation_of(ctx))
        if cmd_name in self._homes:
            module, _, attribute = self._homes[cmd_name][0].partition(":")
            return accept_global_options(getattr(import_module(module), attribute))
        if cmd_name in self._absent:
            return None
        found = plugins.load(cmd_name)
        return None if found is None else plugins.prepared(found, invocation_of(ctx))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which one may have been meant."""
        name = args[0] if args else ""
        if args and name in self._absent and name not in self.commands:
            ctx.fail(f"There is no command {name!r} here. {self._absent[name]}")
        if args and name not in self._homes and not name.startswith("-"):
            known = self.list_commands(ctx)
            if name not in known:
                _refuse(ctx, name, known)
        return super().resolve_command(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, under their headings, and the commands."""
        write_grouped(ctx, formatter, self.get_params(ctx))
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self._homes.items()])
        added = {
            **plugins.names(),
            **{name: each.get_short_help_str() for name, each in self.commands.items()},
        }
        if added:
            with formatter.section("Commands of other packages"):
                formatter.write_dl(sorted(added.items()))


def _refuse(ctx: click.Context, name: str, known: Sequence[str]) -> None:
    near = get_close_matches(name, known, 3, 0.5)
    hint = f" Did you mean {_either(near)}?" if near else ""
    ctx.fail(f"No such command {name!r}.{hint}")


def _either(words: Sequence[str]) -> str:
    return " or ".join(repr(word) for word in words)
