"""What the README tells a newcomer to type, typed."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")

pytestmark = pytest.mark.journey


def test_the_first_program_runs_in_an_empty_directory_without_configuration(tmp_path):
    program = re.search(r"^    # tasks\.py\n(?:    .*\n|\n)+", README, re.MULTILINE)
    worker_line = re.search(r"^ +\$ (pgtasks .*?) +# terminal 1$", README, re.MULTILINE)
    python_line = re.search(r"^ +>>> (.*?) +# terminal 2$", README, re.MULTILINE)
    assert program
    assert worker_line
    assert python_line
    (tmp_path / "tasks.py").write_text(dedent(program[0]), encoding="utf-8")
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PGTASKS_", "CELERY_"))
    }

    worker = subprocess.Popen(
        [sys.executable, "-m", *shlex.split(worker_line[1])],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        caller = subprocess.run(
            [sys.executable, "-c", as_program(python_line[1])],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
    finally:
        worker.send_signal(signal.SIGTERM)
        log = worker.communicate(timeout=30)[0]

    assert caller.stdout == "5\n", caller.stderr + log
    assert worker.returncode == 0, log
    assert (tmp_path / ".pgtasks").is_dir()


def as_program(line: str) -> str:
    """The line of an interactive session as a program: its last expression is printed."""
    *statements, expression = line.split("; ")
    return "\n".join([*statements, f"print({expression})"])
