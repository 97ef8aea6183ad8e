"""The units and container files of the documentation say what the command line understands."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import eventually
from pgtasks.apps.multi import MultiParser, NamespacedOptionParser
from pgtasks.cli.main import program

EXAMPLES = Path(__file__).parents[2] / "docs/examples"
UNITS = sorted((EXAMPLES / "systemd").glob("*.service"))
CONTAINER = EXAMPLES / "container"


def unit(path: Path) -> dict[str, dict[str, str]]:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[method-assign, assignment]
    parser.read(path)
    return {name: dict(parser[name]) for name in parser.sections()}


def understood(words: list[str]) -> None:
    """Parse the words of a command line as the program would; nothing is carried out."""
    ctx = program.make_context("pgtasks", list(words))
    name, command, rest = program.resolve_command(ctx, [*ctx._protected_args, *ctx.args])
    assert command is not None, words
    command.make_context(name, rest, parent=ctx)


def filled_in(line: str, variables: dict[str, str]) -> list[str]:
    text = re.sub(r"\$(\w+)", lambda match: variables.get(match[1], ""), line)
    return shlex.split(text.replace("%%", "%").replace("%i", "images"))


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_the_commands_of_a_unit_are_understood(path: Path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop").mkdir()
    # A package, or else a module of that name anywhere on the path would go before it.
    (tmp_path / "shop/__init__.py").touch()
    (tmp_path / "shop/tasks.py").write_text(
        "from pgtasks import Celery\napp = Celery('shop')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    # Another test may have a program of that name.
    for name in ("shop", "shop.tasks"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    service = unit(path)["Service"]
    variables = {"OPTIONS": "-Q images -c 4"}
    commands = [
        service[key] for key in ("ExecStart", "ExecStop", "ExecReload") if key in service
    ]

    for line in commands:
        words = filled_in(line, variables)
        assert words.pop(0) == "/srv/shop/.venv/bin/pgtasks"
        if "multi" not in words:
            understood(words)
    if "worker" in service["ExecStart"]:
        # The processes of the worker are to end when their jobs have.
        assert service["KillMode"] == "mixed"
        assert int(service["TimeoutStopSec"]) >= 60


def test_the_unit_of_several_workers_stops_those_that_it_starts(tmp_path):
    service = unit(EXAMPLES / "systemd/pgtasks-multi.service")["Service"]
    text = (EXAMPLES / "systemd/pgtasks-multi.service").read_text()
    variables = {
        name: value
        for line in re.findall(r"^Environment=(.*)$", text, re.MULTILINE)
        for name, _, value in (word.partition("=") for word in shlex.split(line))
    }
    files = {}
    for key in ("ExecStart", "ExecStop"):
        words = filled_in(service[key], variables)
        words = words[words.index("multi") + 2 :]
        words = [
            word.replace("/run/", f"{tmp_path}/").replace("/var/", f"{tmp_path}/")
            for word in words
        ]
        parser = NamespacedOptionParser(words)
        parser.parse()
        files[key] = {node.name: node.pidfile for node in MultiParser().parse(parser)}

    assert len(files["ExecStart"]) == 3
    assert files["ExecStart"] == files["ExecStop"]


def listed(path: Path, before: str) -> list[list[str]]:
    """The lists of words in a file, behind this."""
    return [
        json.loads(each)
        for each in re.findall(rf"{before}[^\[\n]*(\[.*\])", path.read_text())
    ]


def test_the_commands_of_the_containers_are_understood(monkeypatch):
    monkeypatch.chdir(CONTAINER)
    [entry], [command] = (
        listed(CONTAINER / "Dockerfile", f"\n{word} ") for word in ("ENTRYPOINT", "CMD")
    )
    [migrate] = [
        each for each in listed(CONTAINER / "compose.yaml", "command: ") if "schema" in each
    ]
    [arguments] = listed(CONTAINER / "kubernetes.yaml", "args: ")
    checks = listed(CONTAINER / "kubernetes.yaml", "command: ")

    assert entry[0] == "pgtasks"
    for words in (command, migrate, arguments):
        understood([*entry[1:], *words])
    assert len(checks) == 2
    for words in checks:
        assert words[0] == "pgtasks"
        understood(words[1:])


def test_the_container_is_healthy_while_its_worker_works(database_url, tmp_path):
    [entry], [command] = (
        listed(CONTAINER / "Dockerfile", f"\n{word} ") for word in ("ENTRYPOINT", "CMD")
    )
    [check] = listed(CONTAINER / "Dockerfile", "    CMD ")
    environment = {
        **os.environ,
        "PGTASKS_DATABASE_URL": database_url,
        "TMPDIR": str(tmp_path),
        "PYTHONDONTWRITEBYTECODE": "1",
    }

    def healthy() -> bool:
        words = [sys.executable, "-m", *check]
        return not subprocess.run(words, env=environment, capture_output=True).returncode

    assert not healthy()
    log = (tmp_path / "log").open("wb")
    with log, subprocess.Popen(
        [sys.executable, "-m", *entry, *command],
        cwd=CONTAINER, env=environment, stdout=log, stderr=log,
    ) as worker:  # fmt: skip
        try:
            eventually(healthy, timeout=30, message=lambda: (tmp_path / "log").read_text())
        finally:
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(30) == 0
    assert not healthy()
