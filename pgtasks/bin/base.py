"""What commands of one's own are made of, under ``celery.bin.base``'s names."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pprint import pformat
from typing import Any

import click

from pgtasks.cli.inspect import handle_remote_command_error
from pgtasks.cli.options import Command, Option
from pgtasks.cli.plugins import handle_preload_options
from pgtasks.cli.types import COMMAS, LOG_LEVEL, MOMENT, MOMENT_OR_SECONDS, JsonParam

__all__ = [
    "COMMA_SEPARATED_LIST",
    "ISO8601",
    "ISO8601_OR_FLOAT",
    "JSON_ARRAY",
    "JSON_OBJECT",
    "LOG_LEVEL",
    "CLIContext",
    "CeleryCommand",
    "CeleryOption",
    "handle_preload_options",
    "handle_remote_command_error",
]

COMMA_SEPARATED_LIST = COMMAS
ISO8601 = MOMENT
ISO8601_OR_FLOAT = MOMENT_OR_SECONDS
JSON_ARRAY = JsonParam(list, '["a", 1]')
JSON_OBJECT = JsonParam(dict, '{"a": 1}')


class CLIContext:
    """An application, and how to print.

    Args:
        app: The application.
        no_color: Print no colours.
        workdir: The folder that the command was told to go to.
        quiet: Leave out what was not asked for.
    """

    def __init__(
        self, app: Any, no_color: bool | None, workdir: Any, quiet: bool = False
    ) -> None:
        self.app = app or _current_app()
        self.no_color = no_color
        self.workdir = workdir
        self.quiet = quiet

    @cached_property
    def OK(self) -> str:
        """The word, in green."""
        return self.style("OK", fg="green", bold=True)

    @cached_property
    def ERROR(self) -> str:
        """The word, in red."""
        return self.style("ERROR", fg="red", bold=True)

    def style(self, message: Any = None, **kwargs: Any) -> str:
        """Text in colour, unless there are to be none."""
        return str(message) if self.no_color else click.style(message, **kwargs)

    def secho(self, message: Any = None, **kwargs: Any) -> None:
        """Print a line in colour, unless there are to be none."""
        if self.no_color:
            kwargs["color"] = False
        click.secho(message, **kwargs)

    def echo(self, message: Any = None, **kwargs: Any) -> None:
        """Print a line."""
        if self.no_color:
            kwargs["color"] = False
        click.echo(message, **kwargs)

    def error(self, message: Any = None, **kwargs: Any) -> None:
        """Print a line to standard error."""
        self.echo(message, **{**kwargs, "err": True})

    def pretty(self, n: Any) -> tuple[str, str]:
        """A reply of a worker: a word about it, and its text."""
        if isinstance(n, list):
            return self.OK, self.pretty_list(n)
        if isinstance(n, Mapping):
            if "ok" in n or "error" in n:
                return self.pretty_dict_ok_error(n)
            return self.OK, json.dumps(n, sort_keys=True, indent=4, default=str)
        return self.OK, n if isinstance(n, str) else pformat(n)

    def pretty_list(self, n: Sequence[Any]) -> str:
        """A list, a line each."""
        if not n:
            return "- empty -"
        return "\n".join(f"{self.style('*', fg='white')} {item}" for item in n)

    def pretty_dict_ok_error(self, n: Mapping[str, Any]) -> tuple[str, str]:
        """A reply that says whether all is well."""
        if "ok" in n:
            return self.OK, self.pretty(n["ok"])[1]
        return self.ERROR, self.pretty(n["error"])[1]

    def say_chat(
        self, direction: str, title: Any, body: Any = "", show_body: bool = False
    ) -> None:
        """Print what was sent (``<-``, not when quiet) or came back (``->``)."""
        if direction == "<-" and self.quiet:
            return
        arrow = "" if self.quiet else f"{self.style(direction, fg='white', bold=True)} "
        self.echo(f"{arrow}{title}")
        if body and show_body:
            self.echo(body)


class CeleryOption(Option):
    """An option, which may take its default from the application's settings.

    Args:
        *args: As click's.
        **kwargs: As click's; ``help_group`` is the heading in the help, and
            ``default_value_from_context`` an attribute of ``ctx.obj`` to take the
            default from.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._attribute = kwargs.pop("default_value_from_context", None)
        super().__init__(*args, **kwargs)

    def get_default(self, ctx: click.Context, *args: Any, **kwargs: Any) -> Any:
        """The default."""
        if self._attribute and ctx.obj is not None:
            self.default = getattr(ctx.obj, self._attribute)
        return super().get_default(ctx, *args, **kwargs)


CeleryCommand = Command


def _current_app() -> Any:
    from pgtasks._state import get_current_app

    return get_current_app()
