"""What the value of an option may be: names with commas, JSON, a moment, a log level."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

__all__ = ["COMMAS", "LOG_LEVEL", "MOMENT", "MOMENT_OR_SECONDS", "JsonParam"]

if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:
    # Only newer versions of click have it generic.
    _ParamType = click.ParamType


class _Commas(_ParamType):
    name = "names"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> list[str]:
        if isinstance(value, str):
            return [name.strip() for name in value.split(",") if name.strip()]
        return list(value)


class JsonParam(_ParamType):
    """JSON of one type.

    Args:
        type: ``list`` or ``dict``.
        example: Shown where somebody wrote something else.
    """

    name = "json"

    def __init__(self, type: type, example: str) -> None:
        self._type = type
        self._example = example

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        """Read it."""
        if isinstance(value, self._type):
            return value
        try:
            read = json.loads(value)
        except ValueError as error:
            self.fail(
                f"{value!r} is not JSON ({error}). Write {self._example}.", param, ctx
            )
        if not isinstance(read, self._type):
            kind = "a list" if self._type is list else "an object"
            self.fail(f"{value!r} is not {kind}. Write {self._example}.", param, ctx)
        return read


class _Moment(_ParamType):
    name = "time"

    def __init__(self, *, seconds: bool) -> None:
        self._seconds = seconds

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        from pgtasks.utils.time import maybe_iso8601

        if self._seconds:
            try:
                return float(value)
            except (TypeError, ValueError):
                pass
        try:
            return maybe_iso8601(value)
        except (TypeError, ValueError):
            instead = " or a number of seconds" if self._seconds else ""
            self.fail(
                f"{value!r} is no time. Write it as 2026-01-31T18:30:00+01:00{instead}.",
                param,
                ctx,
            )


class _LogLevel(click.Choice):  # type: ignore[type-arg,unused-ignore]
    def __init__(self) -> None:
        levels = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "FATAL")
        super().__init__(levels, case_sensitive=False)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        from pgtasks.utils.log import mlevel

        return (
            value if isinstance(value, int) else mlevel(super().convert(value, param, ctx))
        )


COMMAS = _Commas()
MOMENT = _Moment(seconds=False)
MOMENT_OR_SECONDS = _Moment(seconds=True)
LOG_LEVEL = _LogLevel()
