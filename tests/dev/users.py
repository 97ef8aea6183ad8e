"""Users of an embedded server: real processes, which can be killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pgtasks.dev.binaries import find_binaries

ROOT = Path(__file__).parents[2]
PROGRAM = """
import json, os, sys
from pathlib import Path
from pgtasks.dev.postgres import EmbeddedPostgresError, private_server, shared_server

try:
    server = {call}
except EmbeddedPostgresError as error:
    print(json.dumps({{"error": str(error)}}), flush=True)
    sys.exit(3)
print(json.dumps({{
    "url": server.url, "pid": server.pid, "supervisor": server.supervisor_pid,
    "folder": str(server.folder), "version": server.version,
}}), flush=True)
{then}
sys.stdin.read()
"""


class User:
    """A process that has joined a server, and does nothing until it is told to end."""

    def __init__(
        self,
        call: str,
        then: str = "",
        *,
        uid: int | None = None,
        prefix: tuple[str, ...] = (),
        cwd: Path | None = None,
        **environment: str,
    ) -> None:
        script = PROGRAM.format(call=call, then=then)
        switch: dict[str, Any] = (
            {} if uid is None else {"user": uid, "group": uid, "extra_groups": []}
        )
        self.process = subprocess.Popen(
            [*prefix, python_for(uid), "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=cwd,
            env={
                "PGTASKS_PG_BIN": str(find_binaries()),
                "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}",
                "PGTASKS_LINGER": "0",
                "PATH": os.environ["PATH"],
                **environment,
            },
            **switch,
        )
        self._said: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        """What it said about its server; waits until it has joined."""
        self._listen()
        assert ("error" in self._said) == (name == "error"), self._said
        return self._said[name]

    def line(self) -> str:
        """The next line that it prints, by which it tells how far it is."""
        self._listen()
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def _listen(self) -> None:
        assert self.process.stdout
        if not self._said:
            line = self.process.stdout.readline()
            assert line, f"the user ended with {self.process.wait()} before it had joined"
            self._said = json.loads(line)

    def leave(self) -> None:
        """Let it end properly."""
        assert self.process.stdin
        self.process.stdin.close()
        assert self.process.wait(30) == 0

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.process.kill()
        self.process.wait()


Join = Callable[..., User]


def python_for(uid: int | None) -> str:
    """A Python that the user can start: this one may be in a home that is closed to it."""
    if uid is None:
        return sys.executable
    for candidate in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        try:
            found = subprocess.run(
                [candidate, "-c", "import sys; sys.exit(sys.version_info < (3, 10))"],
                user=uid,
                cwd="/",
                check=False,
            )
        except OSError:
            continue
        if found.returncode == 0:
            return candidate
    pytest.skip(f"no Python that the user id {uid} could start")


def processes_in(folder: Path) -> list[int]:
    """The processes that work below ``folder``, server and supervisor among them."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            at_home = os.readlink(f"/proc/{pid}/cwd").startswith(str(folder))
            if at_home and int(pid) != os.getpid():
                found.append(int(pid))
    return found


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
