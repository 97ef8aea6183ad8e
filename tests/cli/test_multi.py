"""Several workers on one machine: what they are called, how they start and how they end."""

from __future__ import annotations

import io
import os
import signal
import sys

import pytest

from helpers import eventually
from pgtasks.apps.multi import MultiParser, NamespacedOptionParser, Node
from pgtasks.bin.multi import MultiTool
from pgtasks.cli.main import main
from pgtasks.worker.identity import is_there

FILES = ("--pidfile=%n.pid", "--logfile=%n.log")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def commands(*words: str) -> dict[str, str]:
    """The command lines of nodes, by the nodes' names."""
    parser = NamespacedOptionParser([*words, *FILES])
    parser.parse()
    nodes = MultiParser(suffix="here").parse(parser)
    return {node.name: " ".join(node.argv) for node in nodes}


class Tool(MultiTool):
    """The tool, and what it says."""

    def __init__(self, **options):
        self.said, self.complained = io.StringIO(), io.StringIO()
        super().__init__(stdout=self.said, stderr=self.complained, no_color=True, **options)

    def __call__(self, *words: str) -> tuple[int, str]:
        self.said.truncate(self.said.seek(0))
        status = self.execute_from_commandline(["pgtasks multi", *words])
        return status, self.said.getvalue()


# ── names and options ───────────────────────────────────────────────────────────────────


def test_a_node_is_a_worker_in_the_background_with_its_options():
    found = commands("images", "-A", "proj", "-c", "3", "-E", "-b", "postgresql://x")

    assert found["images@here"].split() == [
        "-m", "pgtasks", "-A", "proj", "-b", "postgresql://x", "worker", "--detach",
        "-c", "3", "-E", "--pidfile=images.pid", "--logfile=images.log",
        "-n", "images@here", f"--executable={sys.executable}",
    ]  # fmt: skip


def test_a_number_makes_as_many_nodes_with_numbers_in_their_names():
    assert list(commands("3")) == ["celery1@here", "celery2@here", "celery3@here"]
    assert list(commands("2", "--range-prefix=w")) == ["w1@here", "w2@here"]
    assert list(commands("a", "b@there", "--prefix=x-")) == ["x-a@here", "b@there"]


@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        (["5", "-c", "3", "-c:1-3", "10"], [10, 10, 10, 3, 3]),
        (["5", "-c", "3", "-c:1,5", "10", "-c:2", "7"], [10, 7, 3, 3, 10]),
        (["3", "-c:1-3", "10", "-c:2", "7"], [10, 7, 10]),
        (["3", "-c:2", "7", "-c:1-3", "10"], [10, 10, 10]),
        (["2", "-c", "3", "-c:1-9", "10"], [10, 10]),
        (["a", "b", "c", "-c", "3", "-c:a,c", "10"], [10, 3, 10]),
        (["a", "b", "c", "-c", "3", "-c:2", "10"], [3, 10, 3]),
        (["a", "b@there", "-c", "3", "-c:b@there", "10"], [3, 10]),
    ],
)
def test_options_for_some_nodes_override_those_for_all(words, numbers):
    found = [int(line.partition("-c ")[2].split()[0]) for line in commands(*words).values()]

    assert found == numbers


@pytest.mark.parametrize("nodes", ["0", "4", "1,4"])
def test_an_option_for_a_node_that_there_is_not_is_refused(nodes):
    tool = Tool()
    status, said = tool("names", "a", "b", "c", f"-c:{nodes}", "3")

    assert status == 1
    assert "There is no node" in tool.complained.getvalue()
    assert "Usage: pgtasks multi COMMAND" in said


def test_a_value_with_blanks_stays_one_word():
    node = Node("a@here", options={"-Q": "a b", "--logfile": "/tmp/my log/%n.log"})
    words = node.prepare_argv(node.argv, sys.executable)

    assert words[words.index("-Q") + 1] == "a b"
    assert "--logfile=/tmp/my log/a.log" in words


def test_whoever_only_looks_needs_no_folders_for_pid_files(monkeypatch):
    def refuse(path):
        raise PermissionError(13, "no", path)

    monkeypatch.setattr("os.makedirs", refuse)

    node = Node("a@here")
    assert node.pidfile == "/var/run/celery/a.pid"
    assert node.logfile == "/var/log/celery/a%I.log"


def test_it_prints_names_commands_and_texts():
    tool = Tool()

    assert tool("names", "2", "--suffix=here", *FILES) == (
        0,
        "celery1@here\ncelery2@here\n",
    )
    assert tool("expand", "%n-%i.txt", "2", "--suffix=here", *FILES)[1] == (
        "celery1-%i.txt\ncelery2-%i.txt\n"
    )
    status, shown = tool("show", "2", "--suffix=here", "-c:2", "9", *FILES)
    assert (status, shown.count("\n")) == (0, 2)
    assert shown.splitlines()[1].startswith(f"{sys.executable} -m pgtasks worker --detach")
    assert "-c 9" in shown.splitlines()[1]
    assert tool("get", "celery2@here", "2", "--suffix=here", *FILES)[1].startswith(
        "-m pgtasks worker"
    )
    assert tool("get", "nobody@here", "2", *FILES)[0] == 1
    assert "-Q:1-2 mailers" in tool("help")[1]


def test_what_is_no_command_is_said(capsys):
    assert main(["multi"]) == 1
    assert main(["multi", "begin", "3"]) == 1
    said = capsys.readouterr()

    assert "Invalid command: begin" in said.err
    assert "Usage: pgtasks multi COMMAND" in said.out


def test_options_before_the_command_are_for_the_workers(capsys):
    assert main(["-A", "proj", "-b", "postgresql://x", "multi", "show", "1", *FILES]) == 0

    shown = capsys.readouterr().out
    assert "-m pgtasks --app=proj --broker=postgresql://x worker --detach" in shown


# ── workers that run ────────────────────────────────────────────────────────────────────


def test_nodes_are_started_restarted_stopped_and_killed(pgtasks, tmp_path, database_url):
    env = {"PGTASKS_DATABASE_URL": database_url}
    words = ("2", "-l", "info", "-P", "solo", *FILES)

    def pids() -> list[int]:
        return [int(path.read_text()) for path in sorted(tmp_path.glob("*.pid"))]

    try:
        started = pgtasks("-A", "tasks", "multi", "start", *words, **env)
        assert started.returncode == 0, started.stderr
        assert "> Starting nodes..." in started.stdout
        assert started.stdout.count("OK") == 2
        first = pids()
        assert len(first) == 2
        restarted = pgtasks("-A", "tasks", "multi", "restart", *words, **env)
        assert restarted.returncode == 0, restarted.stderr
        assert len(pids()) == 2
        assert not set(pids()) & set(first)

        last = pids()
        killed = pgtasks("multi", "kill", "celery1", *FILES)
        assert f"Sending KILL to node celery1@{os.uname().nodename} ({last[0]})" in (
            killed.stdout
        )
        eventually(lambda: not is_there(last[0]), timeout=20)
        stopped = pgtasks("multi", "stopwait", "2", *FILES)
        assert stopped.returncode == 0, stopped.stderr
        assert f"TERM -> {last[1]}" in stopped.stdout
        eventually(lambda: not is_there(last[1]), timeout=20)
        assert stopped.stdout.count("DOWN") == 2
    finally:
        for pid in pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
