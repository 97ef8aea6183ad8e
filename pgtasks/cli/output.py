"""What commands print: colours and tables for people, plain lines and JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Output", "clean"]


def clean(text: object, *, lines: bool = False) -> str:
    r"""Make text safe to print that anybody may have put into the tables.

    Control characters would move the cursor, recolour the terminal or forge lines of
    output; so would the signs that reverse the direction of writing. They are shown as
    Python shows them, ``\x1b``.

    Args:
        text: Anything; what is no text is shown as ``str`` shows it.
        lines: Keep the ends of lines and tabs.
    """
    kept = "\n\t" if lines else ""
    shown = (
        each if each.isprintable() or each in kept else _escaped(each) for each in str(text)
    )
    return "".join(shown)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


class Output:
    """Where a command's answers go.

    Args:
        color: None uses colours where a terminal shows them, False never.
        quiet: Say only what was asked for.
    """

    def __init__(self, *, color: bool | None = None, quiet: bool = False) -> None:
        self.color = color
        self.quiet = quiet

    @property
    def terminal(self) -> bool:
        """Whether a person looks at standard output."""
        return sys.stdout.isatty()

    def style(self, text: str, **style: Any) -> str:
        """Text in colour, unless there are to be none."""
        return text if self.color is False else click.style(text, **style)

    def say(self, text: str = "", *, error: bool = False) -> None:
        """Print a line."""
        click.echo(text, err=error, color=self.color)

    def note(self, text: str) -> None:
        """Print a remark beside the answer, to standard error; not when quiet."""
        if not self.quiet:
            self.say(text, error=True)

    def json(self, value: object) -> None:
        """Print a value as JSON."""
        self.say(json.dumps(value, indent=2, default=str))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Print rows: a table for a terminal, else columns apart by two spaces."""
        texts = [[clean(cell) for cell in row] for row in rows]
        if self.terminal:
            from rich.box import SIMPLE_HEAD
            from rich.console import Console
            from rich.table import Table
            from rich.text import Text

            table = Table(*columns, box=SIMPLE_HEAD, pad_edge=False)
            for row in texts:
                # Not as markup: a queue may be called [red].
                table.add_row(*map(Text, row))
            Console(no_color=self.color is False).print(table)
            return
        widths = [max(map(len, column)) for column in zip(columns, *texts, strict=True)]
        for row in ([each.upper() for each in columns], *texts):
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            self.say("  ".join(cells).rstrip())

    @contextmanager
    def progress(self, title: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """A function that is told how much more is done; a bar shows it on a terminal."""
        if self.quiet or not sys.stderr.isatty():
            yield lambda more: None
            return
        from rich.console import Console
        from rich.progress import Progress

        console = Console(stderr=True, no_color=self.color is False)
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task(title, total=total)
            yield lambda more: progress.advance(task, more)

    # ── replies of workers, as Celery shows them ────────────────────────────────────────

    def reply(self, node: str, reply: Any, *, body: bool = True) -> None:
        """Print what one worker replied."""
        failed = isinstance(reply, Mapping) and "error" in reply and "ok" not in reply
        verdict = (
            self.style("ERROR", fg="red", bold=True)
            if failed
            else self.style("OK", fg="green", bold=True)
        )
        if not self.quiet:
            arrow = self.style("->", fg="white", bold=True)
            self.say(f"{arrow}  {self.style(clean(node), fg='cyan', bold=True)}: {verdict}")
        if body:
            for line in self._lines(reply):
                self.say(f"    {line}")

    def _lines(self, value: Any) -> list[str]:
        if isinstance(value, Mapping) and len(value) == 1 and set(value) <= {"ok", "error"}:
            return [f"    {line}" for line in self._lines(next(iter(value.values())))]
        if isinstance(value, list) and all(isinstance(each, str) for each in value):
            return [f"* {clean(each)}" for each in value] or ["- empty -"]
        if isinstance(value, str):
            return clean(value, lines=True).splitlines()
        if value == []:
            return ["- empty -"]
        # JSON escapes all that could harm a terminal.
        return json.dumps(value, indent=4, sort_keys=True, default=str).splitlines()
