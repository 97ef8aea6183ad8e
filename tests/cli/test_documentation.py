from __future__ import annotations

from pathlib import Path

import click
import pytest

from pgtasks.cli.examination import examine
from pgtasks.cli.invocation import Invocation
from pgtasks.cli.main import COMMANDS, program
from pgtasks.cli.options import global_options
from pgtasks.worker.control import Panel

PAGE = Path(__file__).parents[2] / "docs/reference/command-line.md"
TEXT = PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_and_option_is_documented(name):
    command = program.get_command(click.Context(program), name)
    assert command is not None
    # The tables' commands have a page of their own.
    options = [] if name in ("schema", "demo") else command.params
    hidden = {option for param in global_options() for option in param.opts}
    missing = [
        option
        for param in options
        for option in param.opts
        if option.startswith("--") and option not in hidden and f"`{option}`" not in TEXT
    ]

    assert f"## {name}" in TEXT or f"and {name}\n" in TEXT
    assert missing == []


def test_every_global_option_is_documented():
    missing = [
        option
        for param in global_options()
        for option in param.opts
        if f"`{option}`" not in TEXT
    ]

    assert missing == []


def test_every_command_to_workers_is_documented():
    missing = [
        name
        for name, info in Panel.meta.items()
        if info.visible and f"`{name}`" not in TEXT
    ]

    assert missing == []


def test_every_question_of_the_doctor_is_documented(app):
    app.send_task("tests.add")
    lines = {finding.about for finding in examine(app, Invocation(named=app))}
    # With nobody there, the line about workers is in the plural.
    missing = [
        line for line in lines - {"workers", "queues"} if f"| `{line}` |" not in TEXT
    ]

    assert missing == []
