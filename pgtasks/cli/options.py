"""Options and commands: click's, with what Celery's command line does."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from pgtasks.cli import plugins
from pgtasks.cli.alias import VARIABLE, answer_to_celery
from pgtasks.cli.completing import silence
from pgtasks.cli.invocation import Invocation, tell_preload_options
from pgtasks.cli.types import COMMAS, LOG_LEVEL, MOMENT, MOMENT_OR_SECONDS, JsonParam

__all__ = [
    "COMMAS",
    "LOG_LEVEL",
    "MOMENT",
    "MOMENT_OR_SECONDS",
    "Command",
    "JsonParam",
    "Option",
    "accept_global_options",
    "global_options",
    "invocation_of",
    "json_option",
    "option",
    "write_grouped",
]


# ── options ─────────────────────────────────────────────────────────────────────────────


class Option(click.Option):
    """An option with a heading to stand under in the help.

    Args:
        *args: As click's.
        help_group: The heading.
        **kwargs: As click's.
    """

    def __init__(self, *args: Any, help_group: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.help_group = help_group


def option(*names: str, group: str, **settings: Any) -> Callable[[Any], Any]:
    """Add an option to a command, under the heading ``group``; a decorator."""
    return click.option(*names, cls=Option, help_group=group, **settings)


def json_option(command: Any) -> Any:
    """Add ``-j``, for programs that read the answer; a decorator."""
    return click.option("-j", "--json", "as_json", is_flag=True, help="Answer in JSON.")(
        command
    )


def write_grouped(
    ctx: click.Context, formatter: click.HelpFormatter, params: Iterable[click.Parameter]
) -> None:
    """Write options into a help text, each under its heading."""
    sections: dict[str, list[tuple[str, str]]] = {}
    for param in params:
        record = param.get_help_record(ctx)
        # Newer versions of click list arguments too, which the usage line has shown.
        if record is not None and not isinstance(param, click.Argument):
            heading = getattr(param, "help_group", None) or "Options"
            sections.setdefault(heading, []).append(record)
    rest = sections.pop("Options", None)
    if rest is not None:
        sections["Options"] = rest
    for heading, records in sections.items():
        with formatter.section(heading):
            formatter.write_dl(records)


# ── options of every command ────────────────────────────────────────────────────────────


def _tell(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    """Put the value of a global option where all commands look for it."""

    def callback(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        # Behind the command it wins; not given there, it must not undo what was.
        if value not in (None, False):
            setattr(ctx.ensure_object(Invocation), name, value)

    return callback


def _change_folder(ctx: click.Context, param: click.Parameter, value: Path | None) -> None:
    if value is not None:
        _go_to(value)


def _answer_to_celery(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        answer_to_celery()


def global_options(*, hidden: bool = False) -> list[click.Parameter]:
    """The options that stand before the command, or, hidden from its help, behind it."""

    def make(*names: str, callback: Any, **settings: Any) -> click.Parameter:
        if hidden:
            # The environment has been asked when they were looked for in front.
            settings.pop("envvar", None)
            settings["show_envvar"] = False
        return Option(
            list(names),
            help_group="Global Options",
            expose_value=False,
            hidden=hidden,
            callback=callback,
            allow_from_autoenv=not hidden,
            **settings,
        )

    return [
        make(
            "-A", "--app",
            envvar="APP",
            metavar="APP",
            type=click.UNPROCESSED,
            callback=_tell("named"),
            help="The application: proj, proj.celery or proj.module:name.",
        ),
        make(
            "-b", "--broker",
            envvar="BROKER_URL",
            metavar="URL",
            callback=_tell("broker"),
            help="The database, postgresql://user@host/name, over the one in the settings.",
        ),
        make(
            "--result-backend",
            envvar="RESULT_BACKEND",
            metavar="URL",
            callback=_tell("result_backend"),
            help="Where results are kept.",
        ),
        make(
            "--loader",
            envvar="LOADER",
            metavar="NAME",
            callback=_tell("loader"),
            help="Class that loads the configuration.",
        ),
        make(
            "--config",
            envvar="CONFIG_MODULE",
            metavar="MODULE",
            callback=_tell("config"),
            help="Module with the configuration.",
        ),
        make(
            "--as-celery",
            envvar=VARIABLE,
            is_flag=True,
            is_eager=True,
            callback=_answer_to_celery,
            help="Let the program's imports of celery find pgtasks.",
        ),
        make(
            "--workdir",
            type=click.Path(path_type=Path),
            metavar="FOLDER",
            is_eager=True,
            callback=_change_folder,
            help="Go to this folder first.",
        ),
        make("-C", "--no-color", is_flag=True, callback=_tell("no_color"), help="No colours."),
        make("-q", "--quiet", is_flag=True, callback=_tell("quiet"), help="Say less."),
        make(
            "--skip-checks",
            is_flag=True,
            callback=_tell("skip_checks"),
            help="Skip Django's system checks.",
        ),
        make(
            "--debug", is_flag=True, callback=_tell("debug"), help="Show tracebacks of errors."
        ),
    ]  # fmt: skip


def accept_global_options(command: click.Command) -> click.Command:
    """Let a command, and those below it, take the global options behind its name too."""
    if not getattr(command, "_takes_global_options", False):
        command._takes_global_options = True  # type: ignore[attr-defined]
        taken = {name for param in command.params for name in param.opts}
        command.params += [
            param
            for param in global_options(hidden=True)
            if not taken.intersection(param.opts)
        ]
        if isinstance(command, click.Group):
            for below in command.commands.values():
                accept_global_options(below)
    return command


# ── commands ────────────────────────────────────────────────────────────────────────────


class Command(click.Command):
    """A command whose help is in sections, and that programs may add options to.

    Those are what Celery calls user options: ``app.user_options["worker"].add(Option(…))``,
    and ``["preload"]`` for all commands.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, knowing the application's own options."""
        invocation = invocation_of(ctx)
        if invocation is not None:
            args = _take_values(invocation, args)
            if invocation.named is not None:
                # A shell that asks what may come next must not hear of anything else.
                with silence() if ctx.resilient_parsing else nullcontext():
                    own = invocation.user_options(self.name or "")
                    ctx.meta["pgtasks.user_options"] = own
        return super().parse_args(ctx, args)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The command's own, and those of the application."""
        return [*super().get_params(ctx), *ctx.meta.get("pgtasks.user_options", ())]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, under their headings."""
        write_grouped(ctx, formatter, self.get_params(ctx))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Say where the other options are."""
        formatter.write_paragraph()
        formatter.write_text(
            "-A and the other global options may stand here too: pgtasks -h"
        )

    def invoke(self, ctx: click.Context) -> Any:
        """Run it; the application hears of its own options first."""
        invocation = invocation_of(ctx)
        if (
            invocation is not None
            and invocation.named is not None
            # Those of other packages may be decorated, and tell of them themselves.
            and not plugins.handles_preload_options(self.callback)
        ):
            tell_preload_options(invocation.application, self.callback, ctx.params)
        return super().invoke(ctx)


def invocation_of(ctx: click.Context) -> Invocation | None:
    """What the options of all commands said; None where a program has an object of its own."""
    return ctx.obj if isinstance(ctx.obj, Invocation) else None


_VALUES = {
    "-A": "named",
    "--app": "named",
    "-b": "broker",
    "--broker": "broker",
    "--result-backend": "result_backend",
    "--loader": "loader",
    "--config": "config",
    "--workdir": "workdir",
}


def _take_values(invocation: Invocation, args: Sequence[str]) -> list[str]:
    """Take the global options that come first from behind a command; answers the rest.

    They are needed before the rest can be parsed: they lead to the application, which may
    have options of its own.
    """
    rest: list[str] = []
    words = iter(args)
    for word in words:
        if word == "--":
            return [*rest, word, *words]
        option, equals, value = word.partition("=")
        if word[:2] in ("-A", "-b") and word[2:3] not in ("", "="):
            option, equals, value = word[:2], "=", word[2:]
        if word == "--as-celery":
            answer_to_celery()
            continue
        if word == "--skip-checks":
            invocation.skip_checks = True
            continue
        name = _VALUES.get(option)
        if name is None:
            rest.append(word)
            continue
        if not equals:
            try:
                value = next(words)
            except StopIteration:
                # The parser says best what is missing.
                return [*rest, word]
        if name == "workdir":
            _go_to(value)
        else:
            setattr(invocation, name, value)
    return rest


def _go_to(folder: str | Path) -> None:
    try:
        os.chdir(folder)
    except OSError as error:
        raise click.BadOptionUsage(
            "--workdir", f"Cannot go to {folder}: {error}"
        ) from error
