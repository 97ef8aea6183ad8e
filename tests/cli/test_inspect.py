"""``status``, ``inspect`` and ``control`` against a worker that runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from cli_helpers import TASKS, LiveWorker, write
from click.testing import CliRunner

from helpers import eventually
from pgtasks.cli.invocation import Invocation
from pgtasks.cli.main import program
from pgtasks.cli.output import Output
from pgtasks.worker.control import Panel

pytestmark = pytest.mark.usefixtures("live")


@pytest.fixture
def ask(live):
    def ask(*words):
        return CliRunner().invoke(program, words, obj=Invocation(named=live.app))

    return ask


def test_status_shows_who_is_there(ask):
    shown = ask("status")

    assert shown.exit_code == 0
    assert shown.stdout == "->  live@here: OK\n\n1 node online.\n"
    assert json.loads(ask("status", "--json").stdout) == {"live@here": {"ok": "pong"}}


def test_status_on_a_terminal_is_a_table(ask, monkeypatch):
    monkeypatch.setattr(Output, "terminal", True)
    shown = ask("-C", "status").stdout

    assert "last heartbeat" in shown
    assert "live@here" in shown
    assert "celery, other" in shown
    assert "prefork 2" in shown
    assert "1 node online." in shown


def test_ping_answers_pong(ask):
    shown = ask("inspect", "ping")

    assert shown.exit_code == 0
    assert shown.stdout == "->  live@here: OK\n        pong\n\n1 node online.\n"


def test_options_stand_before_and_behind_the_command(ask):
    for words in (
        ("inspect", "-d", "live@here", "-t", "5", "ping"),
        ("inspect", "ping", "-d", "live@here", "--timeout", "5"),
        ("inspect", "ping", "--destination=other@here,live@here"),
    ):
        assert ask(*words).exit_code == 0


@pytest.mark.parametrize(
    "words", [("status",), ("inspect", "ping"), ("control", "shutdown")]
)
def test_without_an_answer_the_status_is_69(ask, words):
    refused = ask(*words, "-d", "nobody@here", "-t", "0.1")

    assert refused.exit_code == 69
    assert "No nodes replied within time constraint." in refused.stderr


def test_registered_tasks_are_listed(ask):
    shown = ask("inspect", "registered")

    assert "    * tasks.add\n" in shown.stdout
    assert "celery." not in shown.stdout
    assert (
        "* tasks.add [max_retries=3]" in ask("inspect", "registered", "max_retries").stdout
    )


def test_a_running_task_is_active_in_celerys_shape(ask, live, tmp_path):
    word = tmp_path / "end"
    sent = live.app.send_task("tasks.wait_for", [str(word)])
    try:

        def active():
            return json.loads(ask("inspect", "active", "-j").stdout)["live@here"]

        [task] = eventually(active)
        queried = json.loads(ask("inspect", "query_task", sent.id, "-j").stdout)
    finally:
        word.touch()
    eventually(lambda: not active())

    assert task["id"] == sent.id
    assert task["name"] == task["type"] == "tasks.wait_for"
    assert task["args"] == [str(word)]
    assert task["kwargs"] == {}
    assert task["hostname"] == "live@here"
    assert abs(task["time_start"] - os.stat(word).st_mtime) < 60
    assert task["acknowledged"] is True
    assert task["delivery_info"]["routing_key"] == "celery"
    assert task["worker_pid"] not in (None, live.worker.process.pid)
    assert queried["live@here"][sent.id][0] == "active"


def test_jobs_for_later_are_scheduled(ask, live):
    live.app.send_task("tasks.add", [1, 1], countdown=3600, task_id="later")
    [entry] = json.loads(ask("inspect", "scheduled", "-j").stdout)["live@here"]
    live.app.control.purge()

    assert entry["request"]["id"] == "later"
    assert entry["request"]["args"] == [1, 1]
    assert entry["eta"].endswith("+00:00")


def test_stats_count(ask, live):
    before = stats(ask)
    live.app.send_task("tasks.add", [1, 1]).get(timeout=20)
    after = stats(ask)

    assert after["total"].get("tasks.add", 0) == before["total"].get("tasks.add", 0) + 1
    assert after["pid"] == live.worker.process.pid
    assert after["pool"]["max-concurrency"] == 2
    assert len(after["pool"]["processes"]) == 2
    assert after["uptime"] >= 0
    assert after["rusage"]["utime"] > 0


def stats(ask):
    return json.loads(ask("inspect", "stats", "-j").stdout)["live@here"]


def test_settings_are_shown_without_secrets(ask):
    shown = json.loads(ask("inspect", "conf", "yes", "-j").stdout)["live@here"]

    assert shown["task_default_queue"] == "celery"
    assert "software -> pgtasks:" in ask("inspect", "report").stdout


def test_queues_are_added_and_cancelled(ask, live):
    def queues():
        answer = json.loads(ask("inspect", "active_queues", "-j").stdout)
        return [queue["name"] for queue in answer["live@here"]]

    assert queues() == ["celery", "other"]
    added = ask("control", "add_consumer", "third")
    assert added.exit_code == 0
    assert "add consumer third" in added.stdout
    assert queues() == ["celery", "other", "third"]
    assert live.app.send_task("tasks.add", [1, 2], queue="third").get(timeout=20) == 3
    ask("control", "cancel_consumer", "third")
    assert queues() == ["celery", "other"]


def test_a_time_limit_is_set(ask, live):
    set_ = ask("control", "time_limit", "tasks.wait_for", "0.2", "30")
    assert set_.exit_code == 0, set_.output
    failed = live.app.send_task("tasks.wait_for", ["/not/there"])
    with pytest.raises(Exception, match="SoftTimeLimitExceeded"):
        failed.get(timeout=20)
    refused = ask("control", "time_limit", "tasks.none", "1")

    assert "unknown task" in refused.stdout
    assert refused.exit_code == 1


def test_commands_of_the_program_are_known(live):
    def program(*words):
        return subprocess.run(
            [sys.executable, "-m", "pgtasks", "-A", "tasks", *words],
            cwd=live.folder,
            env={**os.environ, "PGTASKS_DATABASE_URL": live.url},
            capture_output=True,
            text=True,
        )

    assert "twice [number]" in program("inspect", "--list").stdout
    assert json.loads(program("inspect", "twice", "21", "-j").stdout) == {
        "live@here": {"ok": 42}
    }
    refused = program("inspect", "twice", "many")
    assert refused.returncode == 2
    assert "The argument number of 'twice' cannot be 'many'" in refused.stderr


ARGUMENTS = {
    "add_consumer": ["third", "exchange", "direct", "key"],
    "autoscale": ["3", "1"],
    "cancel_consumer": ["third"],
    "conf": ["yes"],
    "forgive": ["one", "two"],
    "memdump": ["5"],
    "objgraph": ["Job", "10", "3"],
    "pool_grow": ["1"],
    "pool_shrink": ["1"],
    "query_task": ["one", "two"],
    "rate_limit": ["tasks.add", "0"],
    "registered": ["rate_limit"],
    "revoke": ["one", "two"],
    "revoke_by_stamped_headers": ["one=1", "two=2"],
    "terminate": ["KILL", "one", "two"],
    "time_limit": ["tasks.add", "10", "20"],
}
# Those that end the worker, or are sent by programs, with arguments that are no words.
UNASKED = {"election", "shutdown"}


@pytest.mark.parametrize(
    "name",
    [name for name, info in Panel.meta.items() if info.visible and name not in UNASKED],
)
def test_every_command_can_be_given_and_is_answered(ask, name):
    shown = ask(Panel.meta[name].type, name, *ARGUMENTS.get(name, ()), "-t", "30", "-j")
    told = json.loads(shown.stdout)
    [(node, reply)] = (told if isinstance(told, dict) else told[0]).items()

    assert node == "live@here"
    # What is an error here is one of this worker's pool, or of its machine.
    assert "knows no command" not in str(reply)
    assert "TypeError" not in str(reply)


def test_the_commands_are_listed(ask):
    listed = ask("control", "--list").stdout + ask("inspect", "--list").stdout

    assert "  rate_limit <task_name> <rate_limit (e.g., 5/s | 5/m | 5/h)>" in listed
    assert "  objgraph [object_type=Request] [num=200 [max_depth=10]]" in listed
    assert "hello" not in listed


def test_a_command_that_takes_long_is_waited_for(ask, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "pgtasks.app.inspection.Inspect._request",
        lambda self, command, **arguments: asked.append(self.timeout),
    )
    for words in (("ping",), ("objgraph",), ("objgraph", "-t", "3")):
        ask("inspect", *words)

    assert asked == [1.0, 60.0, 3.0]


def test_an_unknown_command_is_answered_with_those_there_are(ask):
    refused = ask("inspect", "activ")
    assert refused.exit_code == 2
    assert "Command activ not recognized. Available inspect commands: active, " in (
        refused.stderr
    )
    assert "Did you mean 'active'?" in refused.stderr
    assert "pgtasks control shutdown" in ask("inspect", "shutdown").stderr
    assert "pgtasks inspect ping" in ask("control", "ping").stderr
    assert "has no use for 'now'" in ask("inspect", "ping", "now").stderr


def test_the_worker_logs_no_complaint(live):
    complaints = [
        line
        for line in live.worker.log().splitlines()
        if ("ERROR" in line or "CRITICAL" in line) and "SoftTimeLimitExceeded" not in line
    ]

    assert complaints == []


def test_shutdown_ends_the_worker_warmly(tmp_path, database_url, run):
    # Not the one that the others ask: any of them may come after this.
    write(tmp_path / "tasks.py", TASKS)
    worker = LiveWorker(tmp_path, database_url, "-n", "ending@here", "-P", "threads")
    answer = run("control", "shutdown")

    assert answer.exit_code == 0
    assert "warm shutdown" in answer.stdout
    assert worker.process.wait(20) == 0
    assert "Got shutdown from remote" in worker.log()


@pytest.mark.parametrize("words", [("inspect", "stats"), ("inspect", "registered", "-j")])
def test_a_reader_who_has_had_enough_is_no_error(live, words):
    asked = subprocess.Popen(
        [sys.executable, "-m", "pgtasks", "-A", "tasks", *words],
        cwd=live.folder,
        env={**os.environ, "PGTASKS_DATABASE_URL": live.url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    asked.stdout.close()
    _, said = asked.communicate(timeout=30)

    assert asked.returncode == 1
    assert said == b""
