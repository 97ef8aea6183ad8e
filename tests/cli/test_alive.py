"""Health checks: whether a worker lives, by what it did last."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from helpers import eventually
from pgtasks.cli.invocation import Invocation
from pgtasks.cli.main import main, program

pytestmark = pytest.mark.usefixtures("live")


@pytest.fixture(scope="module", autouse=True)
def _a_machine_of_our_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Workers of other tests keep their files elsewhere, and may be stopped or hang."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("machine")))
        patch.setattr(tempfile, "tempdir", None)
        yield


@pytest.fixture
def ask(live):
    def ask(*words):
        words = ("status", "--alive", *words)
        return CliRunner().invoke(program, words, obj=Invocation(named=live.app))

    return ask


def test_a_worker_that_lives_is_found_here_and_by_its_name(ask):
    for words in ((), ("-d", "live@here"), ("-d", "live@here", "--max-age", "60")):
        shown = ask(*words)

        assert shown.exit_code == 0, shown.output
        assert shown.stdout.startswith("live@here: its last heartbeat was ")
    answer = json.loads(ask("--json").stdout)
    assert answer["live@here"]["alive"] is True
    assert 0 <= answer["live@here"]["age"] < 30


def test_one_that_has_not_signed_on_does_not_live(ask):
    refused = ask("-d", "live@here,other@here")

    assert refused.exit_code == 69
    assert "other@here: no worker of that name has signed on" in refused.stderr
    assert "Without a sign of life for 30 s: other@here" in refused.stderr
    assert "live@here: its last heartbeat was" in refused.stdout


def test_a_sign_of_life_may_be_too_old(ask):
    refused = ask("--max-age", "0.000001")

    assert refused.exit_code == 69
    assert "Without a sign of life for 1e-06 s: live@here" in refused.stderr


def test_this_machine_is_asked_without_a_database(live, monkeypatch):
    monkeypatch.setenv("PGTASKS_DATABASE_URL", "postgresql://127.0.0.1:1/nowhere")

    assert main(["status", "--alive", "--local"]) == 0
    assert main(["status", "--alive", "-d", "live@here"]) == 69


def test_a_process_that_does_nothing_does_not_live_though_it_is_there(ask, live):
    pid = live.worker.process.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        refused = eventually(
            lambda: (shown := ask("--local", "--max-age", "2")).exit_code == 69 and shown,
            timeout=30,
        )
    finally:
        os.kill(pid, signal.SIGCONT)

    assert ": it last looked for jobs 2." in refused.stderr
    eventually(lambda: ask("--local", "--max-age", "2").exit_code == 0, timeout=30)


def test_no_workers_at_all_are_no_health(monkeypatch, tmp_path, app):
    # Of another machine, as far as can be told.
    monkeypatch.setattr("pgtasks.worker.identity.machine", lambda: "elsewhere")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    for words in ((), ("--local",)):
        shown = CliRunner().invoke(
            program, ("status", "--alive", *words), obj=Invocation(named=app)
        )
        assert shown.exit_code == 69
        assert "No worker of this " in shown.stderr


def test_the_machine_knows_no_names(ask):
    refused = ask("--local", "-d", "live@here")

    assert refused.exit_code == 2
    assert "knows no names" in refused.stderr
