"""The ``upgrade`` command: names of settings from before Celery 4 become today's."""

from __future__ import annotations

import io
import os
import re
import shutil
import tempfile
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import click

from pgtasks.app.defaults import _TO_NEW_KEY, OPTIONS
from pgtasks.cli.groups import Subgroup
from pgtasks.cli.invocation import Failure, Invocation
from pgtasks.cli.options import Command, json_option, option
from pgtasks.cli.output import clean

__all__ = ["Change", "changes_of", "upgrade"]

GROUP = "Upgrading Options"
EX_NOINPUT = 66

#: What there was before Celery 4; a name of ours in a file like that is somebody else's.
_OLD = {old: new for old, new in _TO_NEW_KEY.items() if not OPTIONS[new].ours}

#: A setting that is commented out.
_COMMENTED = re.compile(r"#+\s*(?:[\w.]+\.)?([A-Z][A-Z0-9_]+)\s*=(?!=)")


class Change(NamedTuple):
    """One name to be replaced.

    Attributes:
        line: Its line, from 1.
        column: Where it begins there, from 0.
        old: The name that is there.
        new: The name that it gets.
    """

    line: int
    column: int
    old: str
    new: str


@click.group(cls=Subgroup)
def upgrade() -> None:
    """Bring a program up to date."""


@upgrade.command(cls=Command)
@click.argument("filename", type=click.Path(path_type=Path))
@option(
    "--django",
    group=GROUP,
    is_flag=True,
    help="The file has Django's settings: CELERY_TASK_ALWAYS_EAGER, as namespace='CELERY' "
    "wants it.",
)
@option(
    "--compat",
    group=GROUP,
    is_flag=True,
    help="The same for any other program that keeps its names in capitals.",
)
@option("--no-backup", group=GROUP, is_flag=True, help="Keep no copy of the file.")
@json_option
@click.pass_context
def settings(
    ctx: click.Context,
    filename: Path,
    django: bool,
    compat: bool,
    no_backup: bool,
    as_json: bool,
) -> None:
    """Replace old names of settings in a Python file, FILENAME.

    Names of variables and attributes, keys of dicts and what is commented out; texts
    otherwise stay as they are. The file as it was is kept beside it, as FILENAME.orig.
    """
    out = ctx.ensure_object(Invocation).out
    source, encoding = _read(filename)
    changes = changes_of(source, _in_capitals if django or compat else str)
    backup = None
    if changes:
        backup = None if no_backup else _back_up(filename)
        _write(filename, _replaced(source, changes).encode(encoding))
    if as_json:
        out.json(
            {
                "file": str(filename),
                "backup": None if backup is None else str(backup),
                "changes": [change._asdict() for change in changes],
            }
        )
        return
    for change in changes:
        out.say(clean(f"{filename}:{change.line}: {change.old} is now called {change.new}"))
    if backup is not None:
        out.note(f"The file as it was: {clean(backup)}")
    # What scripts that were written for Celery's command look for.
    out.say(
        "Changes to your setting have been made!"
        if changes
        else "Does not seem to require any changes :-)"
    )


def _in_capitals(name: str) -> str:
    name = name.upper()
    return name if name.startswith("CELERY") else f"CELERY_{name}"


# ── finding ─────────────────────────────────────────────────────────────────────────────


def changes_of(source: str, rename: Callable[[str], str] = str) -> list[Change]:
    """The old names in the text of a Python module, and what they are called today.

    Args:
        source: The text.
        rename: Says how a name of today is to be written.

    Raises:
        Failure: It is no Python.
    """
    found = []
    try:
        for line, column, old in _names(source):
            new = rename(_OLD[old])
            if new != old:
                found.append(Change(line, column, old, new))
    except (tokenize.TokenError, SyntaxError) as error:
        raise Failure(f"This is no Python: {error}. Nothing was changed.") from error
    return found


def _names(source: str) -> Iterator[tuple[int, int, str]]:
    """Where the file has old names: line, column, name."""
    # tokenize reads line by line; of its own it would read a lone \r as the end of one.
    lines = io.StringIO(source, newline="\n")
    tokens = [
        token
        for token in tokenize.generate_tokens(lines.readline)
        if token.type not in (tokenize.NL, tokenize.INDENT, tokenize.DEDENT)
    ]
    for place, token in enumerate(tokens):
        line, column = token.start
        if token.type == tokenize.NAME and token.string in _OLD:
            yield line, column, token.string
        elif token.type == tokenize.STRING and _is_key(tokens, place):
            quote = re.match(r"""[A-Za-z]*('''|\"\"\"|'|")(\w+)\1\Z""", token.string)
            if quote and quote[2] in _OLD:
                yield line, column + quote.start(2), quote[2]
        elif token.type == tokenize.COMMENT:
            commented = _COMMENTED.match(token.string)
            if commented and commented[1] in _OLD:
                yield line, column + commented.start(1), commented[1]


def _is_key(tokens: list[tokenize.TokenInfo], place: int) -> bool:
    """Whether a text is the key of a dict, or of ``conf[…]``; environ[…] has its own names."""
    behind = tokens[place + 1].string if place + 1 < len(tokens) else ""
    before = [token.string for token in tokens[max(0, place - 2) : place]]
    if behind == ":":
        return before[-1:] != ["["]
    return behind == "]" and len(before) == 2 and before[0] == "conf" and before[1] == "["


# ── writing ─────────────────────────────────────────────────────────────────────────────


def _replaced(source: str, changes: list[Change]) -> str:
    lines = source.split("\n")
    for change in reversed(changes):
        line = lines[change.line - 1]
        end = change.column + len(change.old)
        lines[change.line - 1] = line[: change.column] + change.new + line[end:]
    return "\n".join(lines)


def _read(path: Path) -> tuple[str, str]:
    """The text, with the ends of its lines as they are, and its encoding."""
    try:
        content = path.read_bytes()
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        return content.decode(encoding), encoding
    except OSError as error:
        raise Failure(f"Cannot read {path}: {error.strerror}.", EX_NOINPUT) from error
    except (SyntaxError, UnicodeDecodeError) as error:
        raise Failure(f"{path} is no Python: {error}. Nothing was changed.") from error


def _back_up(path: Path) -> Path:
    """Copy the file beside itself; what an earlier run has kept stays."""
    backup, number = path.with_name(f"{path.name}.orig"), 1
    while backup.exists():
        number += 1
        backup = path.with_name(f"{path.name}.orig{number}")
    shutil.copy2(path, backup)
    return backup


def _write(path: Path, content: bytes) -> None:
    """Replace the file at once: whoever reads it finds it whole, before or after."""
    real = path.resolve()
    try:
        with tempfile.NamedTemporaryFile(dir=real.parent, delete=False) as file:
            file.write(content)
        shutil.copymode(real, file.name)
        os.replace(file.name, real)
    except OSError as error:
        raise Failure(f"Cannot write {path}: {error.strerror}.", 73) from error
