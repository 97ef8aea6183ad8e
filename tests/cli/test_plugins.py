"""Commands and options that others add: entry points, ``add_command``, ``user_options``."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint
from typing import Any

import click
import pytest

from pgtasks import signals
from pgtasks.bin.base import CeleryCommand, CeleryOption, handle_preload_options
from pgtasks.cli import plugins
from pgtasks.cli.main import program


@click.command()
@click.option("--force", is_flag=True)
@click.pass_context
def tidy(ctx: click.Context, force: bool) -> None:
    """Tidy up."""
    click.echo(f"tidied {ctx.obj.app.main} {force}")


@click.command(cls=CeleryCommand)
@click.option("--count", type=int, cls=CeleryOption, help_group="Tidying", default=1)
@click.pass_context
@handle_preload_options
def sweep(ctx: click.Context, count: int, template: str) -> None:
    """Sweep."""
    click.echo(f"swept {count} {template}")


nonsense = object()


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entry points of another package."""
    points = {
        "pgtasks.commands": [
            EntryPoint("tidy", f"{__name__}:tidy", "pgtasks.commands"),
            EntryPoint("report", f"{__name__}:tidy", "pgtasks.commands"),
            EntryPoint("nonsense", f"{__name__}:nonsense", "pgtasks.commands"),
        ],
        "celery.commands": [
            EntryPoint("sweep", f"{__name__}:sweep", "celery.commands"),
            EntryPoint("flower", f"{__name__}:tidy", "celery.commands"),
            EntryPoint("gone", "celery.no_such_module:command", "celery.commands"),
        ],
    }
    monkeypatch.setattr(plugins, "entry_points", lambda group: points[group])


@pytest.fixture
def heard(app: Any) -> Iterator[list[Any]]:
    """What is told of an option that the application adds to all commands."""
    told: list[Any] = []

    def receive(sender: Any, app: Any, options: Any, **kwargs: Any) -> None:
        told.append((sender, options))

    app.user_options["preload"].add(click.Option(["-Z", "--template"], default="plain"))
    signals.user_preload_options.connect(receive)
    yield told
    signals.user_preload_options.disconnect(receive)


def test_a_package_adds_a_command_by_an_entry_point(run, added):
    assert run("tidy", "--force").stdout == "tidied tests True\n"
    assert run("sweep", "--count", "3").exit_code == 1  # it wants an option of an app's
    help = run("--help").stdout
    assert "Commands of other packages" in help
    assert "tidy" in help


def test_ours_and_what_is_said_of_celerys_come_first(run, added):
    assert "software -> pgtasks:" in run("report").stdout
    assert "Flower does not know this broker" in run("flower").stderr


def test_what_cannot_be_imported_is_named(run, added):
    failed = run("gone")
    assert failed.exit_code == 1
    assert "The command 'gone' (celery.no_such_module:command)" in failed.stderr
    assert "no command of click's, but object" in run("nonsense").stderr


def test_their_misspelt_names_are_recognized(run, added):
    assert "Did you mean 'tidy'?" in run("tydi").stderr


def test_a_program_adds_a_command_to_ours(run):
    program.add_command(tidy)
    try:
        assert run("tidy").stdout == "tidied tests False\n"
        assert "Tidy up." in run("--help").stdout
    finally:
        del program.commands["tidy"]


def test_commands_of_others_take_the_options_of_all(run, added, heard):
    told = run("tidy", "-Z", "fancy")
    assert told.stdout == "tidied tests False\n", told.output
    assert run("sweep", "--count", "2").stdout == "swept 2 plain\n"

    assert [options for _, options in heard] == [
        {"template": "fancy"},
        {"template": "plain"},
    ]
    assert callable(heard[0][0])
    # Of another application they are not.
    assert "-Z" not in {name for param in tidy.params for name in param.opts}


def test_values_are_told_before_the_command_runs_and_once(run, app, heard):
    assert run("report", "-Z", "fancy").exit_code == 0
    [(sender, options)] = heard
    assert sender.__name__ == "report"
    assert options == {"template": "fancy"}
