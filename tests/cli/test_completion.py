"""Tab in a shell: what the program offers, asked as the scripts of `pgtasks completion` ask."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
from cli_helpers import write

NOISY = """
import sys
from pgtasks import Celery

print("noise")
print("more", file=sys.stderr)
app = Celery("noisy")


@app.task
def add(x, y): ...


@app.task
def mail(x): ...
"""


@pytest.fixture
def offered(pgtasks, tmp_path):
    write(tmp_path / "noisy.py", NOISY)

    def offered(line, **environment):
        words = line.split(" ")
        answer = pgtasks(
            _PGTASKS_COMPLETE="bash_complete",
            COMP_WORDS="\n".join(words),
            COMP_CWORD=str(len(words) - 1),
            **environment,
        )
        assert answer.stderr == ""
        return [each.partition(",")[2] for each in answer.stdout.splitlines() if each]

    return offered


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("pgtasks que", ["queues"]),
        ("pgtasks queues pau", ["pause"]),
        ("pgtasks worker --conc", ["--concurrency"]),
        ("pgtasks -A noisy call noisy.", ["noisy.add", "noisy.mail"]),
        ("pgtasks call -A noisy noisy.m", ["noisy.mail"]),
        ("pgtasks -A noisy jobs --task noisy.add,noisy.m", ["noisy.add,noisy.mail"]),
        ("pgtasks -A noisy inspect active_", ["active_queues"]),
        ("pgtasks -A noisy worker -Q cel", ["celery"]),
        ("pgtasks -A missing call x", []),
    ],
)
def test_words_are_offered_and_nothing_else_is_said(offered, line, words):
    assert offered(line) == words


def test_queues_and_workers_are_asked_of_the_database(offered, live):
    url = {"PGTASKS_DATABASE_URL": live.url}

    assert offered("pgtasks queues pause o", **url) == ["other"]
    assert offered("pgtasks inspect ping -d l", **url) == ["live@here"]
    assert (
        offered("pgtasks queues pause o", PGTASKS_DATABASE_URL="postgresql://127.0.0.1:1/x")
        == []
    )


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_can_read_its_script(run, shell):
    script = run("completion", shell).stdout

    assert "_PGTASKS_COMPLETE" in script
    if shutil.which(shell):
        checked = subprocess.run(
            [shell, "-n"], input=script, text=True, capture_output=True
        )
        assert checked.returncode == 0, checked.stderr


def test_bash_completes(run, pgtasks, tmp_path):
    if not shutil.which("bash"):
        pytest.skip("there is no bash")
    script = run("completion", "bash").stdout
    program = f"""
        pgtasks() {{ {sys.executable} -m pgtasks "$@"; }}
        {script}
        COMP_WORDS=(pgtasks queu) COMP_CWORD=1
        _pgtasks_completion {tmp_path}/pgtasks
        echo "${{COMPREPLY[@]}}"
    """
    write(tmp_path / "pgtasks", f'#!/bin/sh\nexec {sys.executable} -m pgtasks "$@"\n')
    (tmp_path / "pgtasks").chmod(0o755)
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True)

    assert done.stdout == "queues\n", done.stderr


def test_a_shell_that_is_not_known_is_refused(run):
    refused = run("completion", "csh")

    assert refused.exit_code == 2
    assert "bash" in refused.stderr
