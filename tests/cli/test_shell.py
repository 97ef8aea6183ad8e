"""``pgtasks shell``: what is at hand in it."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest


@pytest.fixture
def ask(tmp_path, pgtasks):
    def ask(*words, line):
        return subprocess.run(
            [sys.executable, "-m", "pgtasks", "-A", "tasks", "shell", *words],
            cwd=tmp_path,
            input=f"{line}\n",
            capture_output=True,
            text=True,
            timeout=60,
        )

    return ask


def test_the_application_and_its_tasks_are_at_hand(ask):
    shown = ask(
        "--python", line="print([add(2, 3), app.main, celery is app, chain, chord])"
    )

    assert shown.returncode == 0, shown.stderr
    assert "[5, 'tasks', True, <class" in shown.stdout


def test_tasks_may_be_left_out(ask):
    shown = ask("--python", "-T", line="print('add' in globals(), 'group' in globals())")

    assert "False True" in shown.stdout


def test_eventlet_is_accepted_and_said_to_be_gone(ask):
    shown = ask("--python", "--eventlet", line="print(6 * 7)")

    assert "42" in shown.stdout
    assert "Eventlet is no longer maintained" in shown.stderr


@pytest.mark.parametrize(
    ("option", "name", "function"),
    [("-I", "IPython", "start_ipython"), ("-B", "bpython", "embed")],
)
def test_another_prompt_is_given_the_same_names(
    run, app, monkeypatch, option, name, function
):
    given = {}

    def start(names=None, *, argv=None, user_ns=None):
        given.update(names or user_ns)

    module = ModuleType(name)
    module.__spec__ = sys.__spec__  # which is what says that it is there
    setattr(module, function, start)
    monkeypatch.setitem(sys.modules, name, module)
    assert run("shell", option).exit_code == 0
    explicit = dict(given)
    given.clear()
    assert run("shell").exit_code == 0

    assert explicit["app"] is app
    assert explicit["add"] is app.tasks["tests.add"]
    assert given.keys() == explicit.keys()


def test_a_prompt_that_is_not_installed_says_what_to_do(run, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    refused = run("shell", "-B")

    assert refused.exit_code == 1
    assert "pip install bpython, or use --python" in refused.stderr
    assert "pip install gevent" in run("shell", "--gevent").stderr
