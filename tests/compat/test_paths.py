"""Modules that are thin here, and lead from Celery's path to what is ours."""

from __future__ import annotations

import json

import click
import pytest
from click.testing import CliRunner

from pgtasks import Celery
from pgtasks.bin.base import (
    CeleryCommand,
    CeleryOption,
    CLIContext,
    handle_preload_options,
)
from pgtasks.bin.celery import celery, main
from pgtasks.cli.invocation import Invocation
from pgtasks.concurrency import get_available_pool_names, get_implementation
from pgtasks.concurrency.base import BasePool, apply_target
from pgtasks.exceptions import WorkerLostError
from pgtasks.signals import user_preload_options
from pgtasks.worker.pools.prefork import PreforkPool
from pgtasks.worker.pools.threads import ThreadPool


@pytest.fixture
def app():
    with Celery("paths", broker="memory://", set_as_current=False) as app:
        yield app


class TestTheCommandLine:
    def test_is_the_program(self) -> None:
        said = CliRunner().invoke(celery, ["--help"])

        assert "Start a worker." in said.output
        assert main(["--version"]) == 0

    def test_commands_are_where_celery_has_them(self) -> None:
        from pgtasks.bin.worker import worker
        from pgtasks.cli.worker import worker as ours

        assert worker is ours

    def test_an_option_takes_its_default_from_the_context(self, app) -> None:
        @click.command(cls=CeleryCommand)
        @click.option("--place", cls=CeleryOption, default_value_from_context="workdir")
        def show(place):
            click.echo(place)

        context = CLIContext(app, no_color=True, workdir="there")
        said = CliRunner().invoke(show, [], obj=context)

        assert said.output == "there\n", said

    def test_a_command_of_ones_own_tells_preload_options(self, app) -> None:
        app.user_options["preload"].add(click.Option(["--place"]))
        told = []

        def heard(options, **kwargs):
            told.append(options)

        user_preload_options.connect(heard)

        @click.command(params=[click.Option(["--place"])])
        @click.pass_context
        @handle_preload_options
        def show(ctx, **rest):
            click.echo(json.dumps(rest))

        said = CliRunner().invoke(show, ["--place", "here"], obj=Invocation(named=app))
        user_preload_options.disconnect(heard)

        # It takes whatever comes, so it is given the option as well.
        assert (said.output, told) == ('{"place": "here"}\n', [{"place": "here"}])

    def test_a_context_prints_with_and_without_colours(self, app, capsys) -> None:
        plain = CLIContext(app, no_color=True, workdir=None)
        coloured = CLIContext(app, no_color=False, workdir=None)

        assert plain.OK == "OK"
        assert "\x1b[" in coloured.ERROR
        assert plain.pretty([]) == ("OK", "- empty -")
        assert plain.pretty({"error": "no"}) == ("ERROR", "no")
        assert json.loads(plain.pretty({"a": 1})[1]) == {"a": 1}
        plain.say_chat("->", "title", "body", show_body=True)
        assert capsys.readouterr().out == "-> title\nbody\n"


class TestPools:
    def test_have_names(self) -> None:
        assert get_implementation("prefork") is PreforkPool
        assert get_implementation("threads") is ThreadPool
        assert get_implementation("pgtasks.concurrency.base:BasePool") is BasePool
        assert {"prefork", "threads", "solo"} <= set(get_available_pool_names())
        with pytest.raises(ValueError, match="There is no pool named 'eggs'"):
            get_implementation("eggs")

    def test_of_ones_own_say_where_to_call(self) -> None:
        class Here(BasePool):
            def on_apply(self, target, args, kwargs, callback=None, **options):
                apply_target(target, args, kwargs, callback)

        pool, results = Here(limit=1), []
        pool.start()
        pool.apply_async(divmod, (7, 2), callback=results.append)

        assert pool.active
        assert results == [(3, 1)]
        pool.stop()
        assert not pool.active
        assert pool.info["max-concurrency"] == 1

    def test_tell_of_what_would_end_the_process(self) -> None:
        def leave():
            raise SystemExit(3)

        results = []
        apply_target(leave, callback=results.append)

        assert isinstance(results[0].exception, WorkerLostError)
        with pytest.raises(ZeroDivisionError):
            apply_target(divmod, (1, 0))
