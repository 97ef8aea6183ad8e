"""``pgtasks beat`` and ``pgtasks worker -B``, as processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from cli_helpers import write

from helpers import eventually
from pgtasks import Celery

SCHEDULED = """
from pgtasks import Celery

app = Celery("tasks")
app.conf.timezone = "Europe/Berlin"
app.conf.beat_schedule = {
    "often": {"task": "tasks.add", "schedule": 0.2, "args": (2, 3)},
    "seldom": {"task": "tasks.add", "schedule": 3600.0, "args": (1, 1)},
}


@app.task
def add(x, y):
    return x + y
"""


class Program:
    """A command that runs on, its log, and the jobs in its database."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *words: str, url: str = "") -> subprocess.Popen[bytes]:
        with self.path(len(self.processes)).open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "pgtasks", "-A", "tasks", *words],
                cwd=self.folder,
                env={**os.environ, "PGTASKS_DATABASE_URL": url or self.url},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def path(self, number: int) -> Path:
        return self.folder / f"{number}.log"

    def log(self, number: int = 0) -> str:
        return self.path(number).read_text()

    def jobs(self, args: str, state: str = "%") -> int:
        with psycopg.connect(self.url) as connection:
            [[count]] = connection.execute(
                "select count(*) from pgtasks.all_jobs "
                "where args = %s::jsonb and state::text like %s",
                [args, state],
            )
        return count


@pytest.fixture
def program(tmp_path: Path, database_url: str) -> Iterator[Program]:
    write(tmp_path / "tasks.py", SCHEDULED)
    running = Program(tmp_path, database_url)
    yield running
    for process in running.processes:
        if process.poll() is None:
            process.kill()
            process.wait()


def ended(process: subprocess.Popen[bytes]) -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(timeout=20)


def test_beat_sends_what_is_due_until_it_is_told_to_stop(program: Program):
    process = program.start("beat", "-l", "debug", "-s", "runs", "--pidfile", "beat.pid")
    eventually(lambda: program.jobs("[2, 3]") >= 3, message=program.log)
    pid = int((program.folder / "beat.pid").read_text())
    status = ended(process)

    assert pid == process.pid
    assert status == 0
    assert not (program.folder / "beat.pid").exists()
    assert "\ncelery beat v" in "\n" + program.log(), "printed, not logged"
    assert ". scheduler -> pgtasks.plugins.shared_beat.SharedScheduler" in program.log()
    assert "Scheduler: Sending due task often (tasks.add)" in program.log()
    assert program.jobs("[1, 1]") == 0


def test_a_beat_that_starts_again_knows_when_it_has_sent_what(program: Program):
    first = program.start("beat", "-s", "runs")
    eventually(lambda: program.jobs("[2, 3]") >= 1, message=program.log)
    ended(first)
    write(program.folder / "tasks.py", SCHEDULED.replace("3600.0", "3601.0"))
    before = program.jobs("[2, 3]")
    second = program.start("beat", "-s", "runs")
    eventually(lambda: program.jobs("[2, 3]") > before, message=lambda: program.log(1))
    ended(second)

    assert program.jobs("[1, 1]") == 0, "an hour has not passed"


def test_a_second_beat_with_the_same_pid_file_does_not_start(program: Program):
    program.start("beat", "-s", "runs", "--pidfile", "beat.pid")
    eventually(lambda: program.jobs("[2, 3]") >= 1, message=program.log)
    second = program.start("beat", "-s", "others", "--pidfile", "beat.pid")

    assert second.wait(timeout=20) == 73
    assert "beat.pid belongs to process" in program.log(1)


def test_beat_in_the_background_is_ready_when_the_command_returns(program: Program):
    words = ("-s", "runs", "--pidfile", "beat.pid", "-f", "%n.log", "-l", "info")
    begun = program.start("beat", "--detach", *words)
    status = begun.wait(timeout=30)
    pid = int((program.folder / "beat.pid").read_text())
    eventually(lambda: program.jobs("[2, 3]") >= 1)
    os.kill(pid, signal.SIGTERM)
    eventually(lambda: not (program.folder / "beat.pid").exists())

    assert status == 0, program.log()
    assert f"Beat runs in the background: {pid}" in program.log()
    assert "beat: Starting..." in (program.folder / "celerybeat.log").read_text()


def test_a_worker_with_b_sends_and_runs(program: Program):
    worker = program.start("worker", "-B", "-s", "runs", "-c", "1", "-l", "info")
    eventually(lambda: program.jobs("[2, 3]", "completed") >= 3, message=program.log)
    status = ended(worker)

    assert status == 0
    assert "beat: Starting..." in program.log()
    assert "beat: Shutting down..." in program.log()


def test_beats_and_workers_send_each_tick_once(program: Program):
    program.start("beat", "-l", "info")
    program.start("worker", "-B", "-c", "1", "-l", "info")
    program.start("worker", "-c", "1", "-l", "info")
    eventually(lambda: "ready" in program.log(1) + program.log(2), timeout=30)
    before = program.jobs("[2, 3]")
    eventually(lambda: program.jobs("[2, 3]") >= before + 10, timeout=30)
    with psycopg.connect(program.url) as connection:
        [[ticks, jobs]] = connection.execute(
            "select count(*), (select count(*) from pgtasks.all_jobs "
            "where task = 'tasks.add' and args = '[2, 3]') from pgtasks.cron_ticks"
        )
        [[leaders]] = connection.execute(
            "select count(*) from pgtasks.leaders "
            "where office like 'cron:%' and expires_at > now()"
        )

    assert (ticks, leaders) == (jobs, 1)
    assert [ended(each) for each in program.processes] == [0, 0, 0]


def test_an_entry_that_is_made_by_hand_is_sent_by_workers_that_run_already(
    program: Program,
):
    write(
        program.folder / "tasks.py",
        SCHEDULED.replace("app.conf.beat_schedule =", "unused ="),
    )
    program.start("worker", "-c", "1", "-l", "info")
    eventually(lambda: "ready" in program.log(), timeout=30, message=program.log)
    with Celery("tasks", broker=program.url, set_as_current=False) as app:
        app.crons.add("by hand", 0.2, "tasks.add", [5, 6])
        # It would look by itself after a minute only.
        eventually(lambda: program.jobs("[5, 6]", "completed") >= 2, timeout=40)

    assert ended(program.processes[0]) == 0


OWN = """
from pgtasks.beat import Scheduler


class Own(Scheduler):
    def apply_entry(self, entry, producer=None):
        print(f"OWN {entry.name}", flush=True)
        super().apply_entry(entry, producer)
"""


def test_a_scheduler_of_ones_own_is_run_as_in_celery_and_has_the_schedule_for_itself(
    program: Program,
):
    write(program.folder / "own.py", OWN)
    program.start("beat", "-S", "own:Own", "-l", "info")
    eventually(lambda: "OWN often" in program.log(), timeout=30, message=program.log)
    program.start("worker", "-c", "1", "-l", "info")
    eventually(
        lambda: "left to it" in program.log(1), timeout=30, message=lambda: program.log(1)
    )
    before = program.log().count("OWN often")
    eventually(lambda: program.log().count("OWN often") > before + 2)
    with psycopg.connect(program.url) as connection:
        [[ticks]] = connection.execute("select count(*) from pgtasks.cron_ticks")

    assert ticks == 0
    assert [ended(each) for each in program.processes] == [0, 0]


@pytest.mark.parametrize(
    ("change", "words", "status", "said"),
    [
        (lambda text: text + "\n1 / 0\n", (), 2, "ZeroDivisionError: division by zero"),
        (str, ("--max-interval", "none"), 2, "'none' is not a valid float"),
        (str, ("-S", "nowhere:Scheduler"), 78, "'nowhere:Scheduler' cannot be had: No mod"),
    ],
)
def test_a_beat_that_cannot_start_says_why(
    program: Program,
    change: Callable[[str], str],
    words: tuple[str, ...],
    status: int,
    said: str,
):
    write(program.folder / "tasks.py", change(SCHEDULED))
    process = program.start("beat", *words)

    assert process.wait(timeout=20) == status, program.log()
    assert said in program.log()


def test_a_beat_whose_jobs_no_worker_finds_says_so(program: Program):
    text = SCHEDULED.replace('Celery("tasks")', 'Celery("tasks", broker="memory://")')
    write(program.folder / "tasks.py", text)
    process = program.start("beat", "-l", "info")
    eventually(lambda: "Sending due task" in program.log(), message=program.log)

    assert ended(process) == 0
    assert "no worker finds what this beat sends" in program.log()


def test_a_beat_without_a_database_waits_for_one_and_says_so(program: Program):
    process = program.start("beat", url="postgresql://127.0.0.1:1/nothing")
    eventually(lambda: "Trying again in" in program.log(), message=program.log)

    assert process.poll() is None
    assert "Start the server, or correct host and port" in program.log()


def test_a_log_that_cannot_be_written_is_told(program: Program):
    process = program.start("beat", "-f", "nowhere/beat.log")

    assert process.wait(timeout=20) == 73
    assert "Cannot write the log file nowhere/beat.log" in program.log()
