"""The options of ``pgtasks jobs``: which jobs are meant, in words of a shell."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import click

from pgtasks.cli import completing
from pgtasks.cli.options import COMMAS, option
from pgtasks.cli.types import MOMENT

__all__ = [
    "AGO", "filter_options", "filters_of", "setting", "span", "usage", "value",
]  # fmt: skip

_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(s|sec|m|min|h|d|w)?")
_UNITS = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}


def span(text: str) -> float | None:
    """Seconds in ``90``, ``90s``, ``5m``, ``2h``, ``3d``, ``1w``; None if it is no such text."""
    match = _SPAN.fullmatch(text.strip())
    return float(match[1]) * _UNITS[match[2] or "s"] if match else None


class _Ago(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    name = "time"

    def __init__(self, *, moments: bool) -> None:
        self._moments = moments

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        if not isinstance(value, str):
            return value
        seconds = span(value)
        if seconds is not None:
            return timedelta(seconds=seconds)
        if self._moments:
            return MOMENT.convert(value, param, ctx)
        self.fail(f"{value!r} is no span of time. Write 90s, 5m, 2h, 3d or 1w.", param, ctx)


SPAN = _Ago(moments=False)
AGO = _Ago(moments=True)
"""How long ago, or a date."""


def value(text: str) -> Any:
    """JSON where it is any, else the text itself: ``7`` is a number, ``ann`` is none."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def setting(text: str) -> tuple[str, str]:
    """Take ``name=value`` apart."""
    name, equals, rest = text.partition("=")
    if not equals or not name:
        raise click.UsageError(f"{text!r}: write name=value.")
    return name, rest


GROUP = "Which Jobs"

_OFFERS = {
    "--queue": completing.queues,
    "--task": completing.tasks,
    "--worker": completing.workers,
}


def filter_options(command: Any) -> Any:
    """Add the options that say which jobs are meant; a decorator."""
    options: list[Callable[[Any], Any]] = [
        _many("--state", "STATES", "available, scheduled, suspended, executing, retryable, "
              "completed, discarded or cancelled; several with commas between them."),
        _many("--queue", "NAMES", "In these queues."),
        _many("--task", "NAMES", "Of these tasks; 'shop.*' for all that begin so."),
        _many("--worker", "NAMES", "Held by these workers, by name or id; '*' for anything."),
        _several("--tag", "TAG", "With this tag; several times: with all of them."),
        _several("--meta", "KEY=VALUE", "With this in their metadata."),
        _several("--arg", "NAME=VALUE", "Called with this argument, by its name or, of tasks "
                 "that are known here, by its place; a VALUE without a name stands anywhere."),
        _many("--priority", "NUMBERS", "Of these priorities."),
        _many("--group", "IDS", "Members of these groups or chords."),
        _many("--root", "IDS", "In the work-flows that began with these tasks."),
        option("--error", "error", group=GROUP, metavar="PATTERN",
               help="Whose last error looks so: 'Timeout%', '%no answer%'."),
        option("--held/--not-held", "held", group=GROUP, default=None,
               help="Held by hand, or not."),
        option("--older-than", "older_than", group=GROUP, type=SPAN, metavar="SPAN",
               help="Inserted longer ago than that: 90s, 5m, 2h, 3d, 1w."),
        option("--since", "inserted_after", group=GROUP, type=AGO, metavar="TIME",
               help="Inserted since then: so long ago, or a date."),
        option("--until", "inserted_before", group=GROUP, type=AGO, metavar="TIME",
               help="Inserted before then."),
        option("--due-after", "scheduled_after", group=GROUP, type=AGO, metavar="TIME",
               help="Due since then."),
        option("--due-before", "scheduled_before", group=GROUP, type=AGO, metavar="TIME",
               help="Due before then."),
        option("--finished-after", "finished_after", group=GROUP, type=AGO, metavar="TIME",
               help="Over since then."),
        option("--finished-before", "finished_before", group=GROUP, type=AGO, metavar="TIME",
               help="Over before then."),
    ]  # fmt: skip
    for decorate in reversed(options):
        command = decorate(command)
    return command


def _many(name: str, metavar: str, help: str) -> Callable[[Any], Any]:
    return option(
        name,
        group=GROUP,
        type=COMMAS,
        metavar=metavar,
        help=help,
        shell_complete=_OFFERS.get(name),
    )


def _several(name: str, metavar: str, help: str) -> Callable[[Any], Any]:
    return option(name, group=GROUP, multiple=True, metavar=metavar, help=help)


NAMES = (
    "state", "queue", "task", "worker", "tag", "meta", "arg", "priority", "group", "root",
    "error", "held", "older_than", "inserted_after", "inserted_before", "scheduled_after",
    "scheduled_before", "finished_after", "finished_before",
)  # fmt: skip


def filters_of(options: dict[str, Any]) -> dict[str, Any]:
    """Take the filters out of a command's ``options``, in the words of ``app.jobs``."""
    given = {name: options.pop(name) for name in NAMES}
    tags, metas, args = given.pop("tag"), given.pop("meta"), given.pop("arg")
    found = {name: each for name, each in given.items() if each not in (None, [], ())}
    if tags:
        found["tags"] = list(tags)
    if metas:
        found["meta"] = {name: value(each) for name, each in map(setting, metas)}
    named = [each for each in args if re.match(r"[A-Za-z_]\w*=", each)]
    if named:
        found["kwargs"] = {name: value(each) for name, each in map(setting, named)}
    if len(named) < len(args):
        found["args"] = [value(each) for each in args if each not in named]
    if "priority" in found:
        found["priority"] = [_number(each) for each in found["priority"]]
    return found


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise click.UsageError(f"--priority {text!r}: it must be a whole number.") from None


class usage:
    """Turns what `app.jobs` says of a question that cannot be into an error of the line."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, (TypeError, ValueError)) and not isinstance(
            error, click.UsageError
        ):
            raise click.UsageError(str(error)) from error
