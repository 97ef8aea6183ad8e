"""A worker in the background: whoever starts it learns what became of the start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from cli_helpers import TASKS, write

from helpers import children, eventually
from pgtasks.cli.background import Started, detach

LONG = "2.5"
"""Seconds that a failing start takes; the wait for one used to end before them."""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with a module ``tasks``; the workers that leave their pids in it are ended."""
    write(tmp_path / "tasks.py", TASKS)
    yield tmp_path
    for path in tmp_path.glob("*.pid"):
        os.kill(int(path.read_text()), signal.SIGTERM)
        eventually(lambda path=path: not path.exists(), timeout=20)


@pytest.fixture
def start(folder: Path, database_url: str) -> Callable[..., subprocess.Popen[str]]:
    """Begins to start a worker in the background."""

    def start(*words: str, **environment: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "pgtasks", "-A", "tasks", "worker", "-D", *words]
        return subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "PGTASKS_DATABASE_URL": database_url, **environment},
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def outcome(starting: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit status, and what was said."""
    _, said = starting.communicate(timeout=60)
    return starting.returncode, said


def pid_in(folder: Path) -> int:
    return int((folder / "bg.pid").read_text())


DAEMON = ("-n", "bg@here", "-l", "info", "-f", "%n.log", "--pidfile", "%n.pid")


# ── a good start ────────────────────────────────────────────────────────────────────────


def test_it_is_ready_when_the_command_returns(start, folder, database_url):
    status, said = outcome(start(*DAEMON, "-E", "-P", "threads"))

    assert (status, said) == (
        0,
        f"Worker bg@here runs in the background: {pid_in(folder)}\n",
    )
    assert "bg@here ready." in (folder / "bg.log").read_text()
    with psycopg.connect(database_url) as connection:
        names = connection.execute("select name from pgtasks.workers").fetchall()
    assert names == [("bg@here",)]


def test_a_second_one_is_refused_by_its_pid_file(start, folder):
    assert outcome(start(*DAEMON, "-P", "solo"))[0] == 0
    status, said = outcome(start("--pidfile", "bg.pid"))

    assert status == 73
    assert "which is running" in said


@pytest.mark.parametrize("log", [True, False], ids=["with a log", "without"])
def test_it_and_its_children_write_no_more_for_whoever_started_it(start, folder, log):
    words = DAEMON if log else (*DAEMON[:4], *DAEMON[6:])
    assert outcome(start(*words, "-c", "2"))[0] == 0
    worker = pid_in(folder)
    template = eventually(lambda: _below(worker))
    running = eventually(lambda: len(children(worker)) == 2 and children(worker))

    errors = {os.readlink(f"/proc/{pid}/fd/2") for pid in (worker, *template, *running)}
    assert errors == {str(folder / "bg.log") if log else os.devnull}


def test_prints_of_modules_reach_the_log_as_before(start, folder):
    write(
        folder / "more.py",
        """
        from pgtasks import signals

        @signals.worker_ready.connect
        def tell(**kwargs):
            print("said when ready")
        """,
    )

    assert outcome(start(*DAEMON, "-P", "solo", "-I", "more"))[0] == 0
    assert "said when ready" in (folder / "bg.log").read_text()


def test_it_goes_on_when_whoever_started_it_is_killed(start, folder):
    write(
        folder / "slow.py",
        """
        import time
        from pathlib import Path

        Path("begun").touch()
        while not Path("go").exists():
            time.sleep(0.01)
        """,
    )
    starting = start(*DAEMON, "-I", "slow")
    eventually((folder / "begun").exists, timeout=30)
    starting.kill()
    outcome(starting)
    (folder / "go").touch()

    log = folder / "bg.log"
    eventually(lambda: log.exists() and "bg@here ready." in log.read_text(), timeout=30)
    eventually(lambda: len(children(pid_in(folder))) > 0)


# ── a start that fails ──────────────────────────────────────────────────────────────────


def test_what_goes_wrong_at_once_is_reported(start, fresh_database):
    status, said = outcome(start(PGTASKS_DATABASE_URL=fresh_database))

    assert status == 78
    assert "ended while it started, with status 78" in said
    assert "pgtasks schema apply" in said


def test_what_goes_wrong_late_is_reported(start, folder):
    write(
        folder / "late.py",
        f"""
        import time

        begun = time.monotonic()
        while time.monotonic() - begun < {LONG}:
            time.sleep(0.01)
        raise RuntimeError("too late to be seen")
        """,
    )
    status, said = outcome(start("-I", "late"))

    assert status == 1
    assert "ended while it started, with status 1" in said
    assert "RuntimeError: too late to be seen" in said


@pytest.mark.parametrize("error", ["ValueError", "SystemExit"])
def test_what_goes_wrong_when_prints_are_logged_is_reported_too(start, folder, error):
    write(
        folder / "more.py",
        """
        from pgtasks.bootsteps import StartStopStep
        from tasks import app

        class Refusing(StartStopStep):
            def start(self, parent):
                print("begun")
                raise {error}("not today")

        app.steps["worker"].add(Refusing)
        """.replace("{error}", error),
    )
    status, said = outcome(start(*DAEMON, "-I", "more", "-P", "solo"))
    log = (folder / "bg.log").read_text()

    assert status == 1
    assert "not today" in said
    assert f"Its log is {folder / 'bg.log'}" in said
    assert "begun" in log
    assert error == "SystemExit" or "Could not start: " in log


def test_a_kill_during_the_start_is_reported(start, folder):
    write(folder / "dying.py", "import os\nos.kill(os.getpid(), 9)\n")
    status, said = outcome(start("-I", "dying"))

    assert status == 128 + 9
    assert "was ended by signal 9" in said
    assert "(none)" in said


def test_processes_that_it_leaves_behind_keep_nobody_waiting(start, folder):
    write(
        folder / "forking.py",
        """
        import os, time
        from pathlib import Path

        if not os.fork():
            Path("left.txt").write_text(str(os.getpid()))
            while not Path("go").exists():
                time.sleep(0.01)
            os._exit(0)
        while not Path("left.txt").exists():
            time.sleep(0.01)
        raise RuntimeError("and leaves a child")
        """,
    )
    status, said = outcome(start("-I", "forking"))
    left = int((folder / "left.txt").read_text())

    try:
        os.kill(left, 0)
        assert os.readlink(f"/proc/{left}/fd/2") == os.devnull
        assert status == 1
        assert "RuntimeError: and leaves a child" in said
    finally:
        (folder / "go").touch()


def test_one_that_is_not_ready_in_time_goes_on_and_its_words_are_shown(tmp_path):
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho 'Trying again in 2 s.' >&2\nexec sleep 60\n")
    program.chmod(0o755)
    started = detach(["worker", "-D"], executable=str(program), patience=1.0)
    try:
        assert started == (started.pid, False, "Trying again in 2 s.")
        assert os.waitpid(started.pid, os.WNOHANG) == (0, 0)
    finally:
        os.kill(started.pid, signal.SIGKILL)
        os.waitpid(started.pid, 0)


def test_the_command_says_that_one_is_not_ready_and_what_it_has_said(run, monkeypatch):
    started = Started(4711, False, "Trying again in 2 s.")
    monkeypatch.setattr("pgtasks.cli.worker.detach", lambda *words, **options: started)
    waiting = run("worker", "-D", "-n", "bg@here")

    assert waiting.exit_code == 0
    assert "Worker bg@here is in the background (4711), and not ready" in waiting.stderr
    assert waiting.stderr.endswith("Its last words:\n\nTrying again in 2 s.\n")


def test_a_program_that_is_not_there_is_named(run):
    refused = run("worker", "-D", "--executable", "/not/there/python")

    assert refused.exit_code == 1
    assert "Cannot start /not/there/python" in refused.stderr
    assert "--executable" in refused.stderr


def _below(pid: int) -> list[int]:
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


# ── a new start ─────────────────────────────────────────────────────────────────────────


def test_it_begins_anew_where_it_was_and_as_the_process_that_it_was(start, folder):
    (folder / "below").mkdir()
    (folder / "tasks.py").rename(folder / "below/tasks.py")
    words = ("--workdir", "below", *DAEMON[:4], "-f", "../%n.log", "--pidfile", "../%n.pid")
    assert outcome(start(*words, "-c", "1"))[0] == 0
    pid = pid_in(folder)

    os.kill(pid, signal.SIGHUP)
    log = folder / "bg.log"
    eventually(lambda: log.read_text().count("bg@here ready.") == 2, timeout=30)

    assert pid_in(folder) == pid
    assert os.readlink(f"/proc/{pid}/cwd") == str(folder / "below")
