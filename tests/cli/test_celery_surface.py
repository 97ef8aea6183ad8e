"""Celery's command line, word for word, and what each of our commands owes its user."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from pgtasks.cli.main import COMMANDS, program

SURFACE = json.loads(
    (Path(__file__).parents[2] / "compat/command-line.json").read_text(encoding="utf-8")
)

#: Commands that print no data, or print it in a language of their own.
NO_DATA = {
    "amqp basic.ack", "amqp exchange.declare", "amqp exchange.delete", "amqp queue.bind",
    "amqp repl", "beat", "completion", "demo", "schema print", "shell", "worker",
    "events", "multi",
}  # fmt: skip


def find(*words: str) -> click.Command | None:
    command: click.Command | None = program
    for word in words:
        assert isinstance(command, click.Group)
        command = command.get_command(click.Context(command), word)
        if command is None:
            return None
    return command


def celerys() -> Iterator[tuple[str, dict[str, Any]]]:
    def walk(name: str, node: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        yield name, node
        for below, each in node.get("commands", {}).items():
            yield from walk(f"{name} {below}".strip(), each)

    for name, node in SURFACE["commands"].items():
        yield from walk(name, node)


def ours() -> Iterator[tuple[str, click.Command]]:
    def walk(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
        yield name, command
        if isinstance(command, click.Group):
            for below, each in command.commands.items():
                yield from walk(f"{name} {below}", each)

    for name in COMMANDS:
        command = find(name)
        assert command is not None
        yield from walk(name, command)


CELERYS = dict(celerys())
OURS = dict(ours())
HERE = [name for name in CELERYS if name.split()[0] in COMMANDS]


def test_every_command_of_celerys_is_here_or_says_what_to_do() -> None:
    missing = {name for name in CELERYS if name.split()[0] not in COMMANDS}

    assert missing == set()


@pytest.mark.parametrize("name", HERE)
def test_every_option_of_celerys_is_accepted(name: str) -> None:
    command = find(*name.split())
    assert command is not None
    context = click.Context(command, info_name=name)
    for option in CELERYS[name].get("options", []):
        value = option.get("choice", ["1"])[0]
        for word in option["names"]:
            words = [word] if option.get("flag") else [word, value]
            parser = command.make_parser(context)
            values, rest, _ = parser.parse_args(words)

            assert rest == []
            assert values, word


@pytest.mark.parametrize("name", HERE)
def test_arguments_are_those_of_celerys(name: str) -> None:
    command = find(*name.split())
    assert command is not None
    arguments = [each for each in command.params if isinstance(each, click.Argument)]
    wanted = CELERYS[name].get("arguments", [])

    assert len(arguments) == len(wanted)
    for ours, theirs in zip(arguments, wanted, strict=True):
        assert ours.name == theirs["name"]
        assert (ours.nargs == -1) == theirs.get("many", False)
        # What Celery can do without, so can we.
        assert not ours.required or theirs.get("required", False)


def test_the_global_options_are_those_of_celerys() -> None:
    known = {word for param in program.params for word in param.opts}

    assert [
        word
        for option in SURFACE["options"]
        for word in option["names"]
        if word not in known
    ] == []


@pytest.mark.parametrize("name", list(OURS))
def test_the_help_is_complete(run: Any, name: str) -> None:
    command = OURS[name]
    options = [
        param
        for param in command.params
        if isinstance(param, click.Option) and not param.hidden
    ]
    shown = run(*name.split(), "--help")

    assert shown.exit_code == 0, shown.output
    assert shown.stdout.startswith(f"Usage: pgtasks {name} ")
    assert (command.help or "").strip()
    assert [param.name for param in options if not (param.help or "").strip()] == []
    assert [
        word
        for param in options
        for word in (*param.opts, *param.secondary_opts)
        if word not in shown.stdout
    ] == []


def test_every_command_that_prints_data_prints_json() -> None:
    without = {
        name
        for name, command in OURS.items()
        if not (isinstance(command, click.Group) and not command.invoke_without_command)
        and not any(
            "--json" in param.opts and "-j" in param.opts for param in command.params
        )
    }

    assert without - NO_DATA - {"amqp"} == set()
    assert NO_DATA & OURS.keys() <= without
