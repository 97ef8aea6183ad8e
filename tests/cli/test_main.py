from __future__ import annotations

import subprocess
import sys

import click
import pytest
from cli_helpers import write

from pgtasks import Celery, signals


def test_the_help_has_every_command_and_headings(run):
    shown = run("--help")

    assert shown.exit_code == 0
    assert "Global Options:" in shown.stdout
    for command in ("worker", "call", "result", "status", "inspect", "purge", "doctor"):
        assert f"\n  {command} " in shown.stdout


@pytest.mark.parametrize(
    "command",
    [
        "worker", "call", "result", "status", "inspect", "control", "purge", "schema",
        "doctor", "report", "demo",
    ],
)  # fmt: skip
def test_each_command_has_help(run, command):
    shown = run(command, "--help")

    assert shown.exit_code == 0
    assert shown.stdout.startswith(f"Usage: pgtasks {command}")


def test_without_a_command_the_help_is_shown(run):
    assert run().stdout == run("--help").stdout


def test_the_version_is_shown(run):
    from pgtasks import __version__

    assert run("--version").stdout == f"{__version__}\n"


def test_help_costs_neither_the_driver_nor_kombu():
    check = (
        "import sys; from pgtasks.cli.main import main; main(['--help']); "
        "print(sorted({'psycopg', 'kombu', 'rich'} & set(sys.modules)), file=sys.stderr)"
    )
    process = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)

    assert process.stderr == "[]\n"


def test_a_misspelt_command_is_recognized(run):
    refused = run("wroker")

    assert refused.exit_code == 2
    assert "No such command 'wroker'. Did you mean 'worker'" in refused.stderr


def test_a_misspelt_option_is_recognized(run):
    refused = run("worker", "--concurency", "3")

    assert refused.exit_code == 2
    assert "--concurrency" in refused.stderr


@pytest.mark.parametrize("command", ["flower"])
def test_a_command_of_celerys_that_is_not_here_says_what_to_do(run, command):
    refused = run(command)

    assert refused.exit_code == 2
    assert f"There is no command {command!r} here. " in refused.stderr


# ── -A ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "words",
    [
        ("-A", "tasks", "report"),
        ("report", "-A", "tasks"),
        ("report", "-Atasks"),
        ("report", "--app=tasks"),
        ("-A", "tasks:app", "report"),
    ],
)
def test_the_application_is_named_before_or_behind_the_command(pgtasks, words):
    shown = pgtasks(*words)

    assert shown.returncode == 0, shown.stderr
    assert "software -> pgtasks:" in shown.stdout


def test_the_environment_may_name_the_application(pgtasks):
    assert pgtasks("inspect", "--list", APP="tasks").returncode == 0
    assert "twice [number]" in pgtasks("inspect", "--list", CELERY_APP="tasks").stdout


def test_the_application_is_found_in_the_module_celery_of_a_package(pgtasks, tmp_path):
    write(tmp_path / "proj" / "__init__.py", "")
    write(
        tmp_path / "proj" / "celery.py",
        "from pgtasks import Celery\napp = Celery('proj', broker='redis://here')\n",
    )
    shown = pgtasks("-A", "proj", "report")

    assert "transport:redis://here" in shown.stdout


def test_a_folder_may_be_gone_to_first(pgtasks, tmp_path):
    write(
        tmp_path / "deep" / "inside.py", "from pgtasks import Celery\napp = Celery('i')\n"
    )

    assert pgtasks("report", "-A", "inside").returncode == 2
    assert pgtasks("--workdir", "deep", "-A", "inside", "report").returncode == 0
    assert pgtasks("report", "--workdir", "deep", "-A", "inside").returncode == 0


def test_a_misspelt_module_is_recognized(pgtasks):
    refused = pgtasks("-A", "taks", "report")

    assert refused.returncode == 2
    assert "the module 'taks' was not found" in refused.stderr
    assert "Did you mean -A tasks?" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_file_name_is_recognized(pgtasks):
    refused = pgtasks("-A", "tasks.py", "report")

    assert refused.returncode == 2
    assert "Name it without the suffix: -A tasks" in refused.stderr


def test_a_misspelt_attribute_is_answered_with_those_there_are(pgtasks):
    refused = pgtasks("-A", "tasks:ap", "report")

    assert refused.returncode == 2
    assert "the module 'tasks' has no 'ap'. There is -A tasks:app." in refused.stderr


def test_a_module_without_an_application_says_how_to_make_one(pgtasks):
    refused = pgtasks("-A", "json", "report")

    assert refused.returncode == 2
    assert "holds no application: make one there" in refused.stderr


def test_something_else_than_an_application_is_refused(pgtasks):
    refused = pgtasks("-A", "json:dumps", "report")

    assert refused.returncode == 2
    assert "is of type function, and no application" in refused.stderr


def test_a_module_that_fails_shows_the_traceback_of_the_program_only(pgtasks, tmp_path):
    write(tmp_path / "broken.py", "import tasks\n1 / 0\n")
    refused = pgtasks("-A", "broken", "report")

    assert refused.returncode == 2
    assert 'broken.py", line 2, in <module>' in refused.stderr
    assert "ZeroDivisionError" in refused.stderr
    assert "importlib" not in refused.stderr


def test_a_module_that_lacks_another_names_that_one(pgtasks, tmp_path):
    write(tmp_path / "lacking.py", "import surely_not_installed\n")
    refused = pgtasks("-A", "lacking", "report")

    assert refused.returncode == 2
    assert "No module named 'surely_not_installed'" in refused.stderr
    assert "lacking.py" in refused.stderr


def test_the_broker_option_wins_over_the_application(pgtasks):
    shown = pgtasks("-A", "tasks", "-b", "redis://elsewhere", "report")

    assert "transport:redis://elsewhere" in shown.stdout


def test_an_application_starts_its_own_command_line(app, capsys):
    assert app.start(["report"]) == 0
    assert "software -> pgtasks:" in capsys.readouterr().out
    assert app.start(["wroker"]) == 2


def test_an_application_starts_what_stands_under_celerys_name(app, monkeypatch):
    calls = []

    class Program:
        def main(self, **options):
            calls.append(options)
            return 3

    monkeypatch.setattr("pgtasks.bin.celery.celery", Program())

    assert app.worker_main(["worker", "--quiet"]) == 3
    assert calls == [{"args": ["worker", "--quiet"], "standalone_mode": False}]


# ── options of the application's own ────────────────────────────────────────────────────


def test_an_application_may_add_options_to_all_commands(run, app):
    heard = []

    @signals.user_preload_options.connect
    def receiver(options, **kwargs):
        heard.append(options)

    app.user_options["preload"].add(click.Option(["-Z", "--template"], default="plain"))
    try:
        assert run("report", "-Z", "fancy").exit_code == 0
        assert "--template" in run("report", "--help").stdout
    finally:
        signals.user_preload_options.disconnect(receiver)

    assert heard == [{"template": "fancy"}]


@pytest.mark.parametrize(
    "words", [("--skip-checks", "report"), ("report", "--skip-checks")]
)
def test_checks_are_skipped_before_the_application_is_imported(tmp_path, pgtasks, words):
    (tmp_path / "asks.py").write_text(
        "import os\nfrom pgtasks import Celery\n"
        "app = Celery(f\"skip={os.environ.get('CELERY_SKIP_CHECKS')}\")\n"
        "print(app.main)\n"
    )

    assert "skip=true" in pgtasks("-A", "asks", *words).stdout
    assert "skip=true" in pgtasks(*words, "-A", "asks").stdout


# ── errors ──────────────────────────────────────────────────────────────────────────────


def test_an_error_with_a_remedy_is_a_line_and_with_debug_a_traceback(run):
    foreign = Celery("foreign", broker="redis://here", set_as_current=False)
    refused = run("status", app=foreign)
    debugged = run("--debug", "status", app=foreign)

    assert refused.exit_code == 78
    assert refused.stderr.startswith("Error: broker_url is 'redis://here'")
    assert "PGTASKS_DATABASE_URL" in refused.stderr
    assert type(debugged.exception).__name__ == "ImproperlyConfigured"


def test_an_unreachable_database_is_unavailable(run):
    nowhere = Celery("x", broker="postgresql://127.0.0.1:1/x", set_as_current=False)
    refused = run("status", app=nowhere)

    assert refused.exit_code == 69
    assert "Start the server, or correct host and port in the URL." in refused.stderr


def test_ctrl_c_is_no_traceback(run, app, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(app, "bugreport", interrupted)
    from pgtasks.cli.main import main

    assert main(["report"], app=app) == 130
