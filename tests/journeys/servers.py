"""Web servers as processes, what their processes hold open, and those who ask them."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from helpers import eventually

HERE = Path(__file__).parent
PATIENCE = 60
NAME = "site"

#: How each server is started: it listens at the address, has two processes for requests,
#: and loads the application (``module:name``) before it forks, where it can.
COMMANDS: dict[str, list[str]] = {
    "gunicorn": ["-m", "gunicorn", "-w", "2", "--preload", "-b", "unix:{at}", "-t", "90"],
    "uvicorn": ["-m", "uvicorn", "--workers", "2", "--uds", "{at}"],
}  # fmt: skip


class _Connection(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.host)


class Server:
    """One web server, at a socket in a folder of its own."""

    def __init__(
        self,
        kind: str,
        site: str,
        *options: str,
        preload: bool = True,
        **environment: str,
    ) -> None:
        # Short: the path of a socket has room for a hundred letters.
        self.folder = Path(tempfile.mkdtemp(prefix="web-"))
        self.at = str(self.folder / "http")
        command = [word.replace("{at}", self.at) for word in COMMANDS[kind]]
        if not preload:
            command.remove("--preload")
        command += [*options, site]
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *command],
                cwd=HERE,
                # gunicorn puts a socket into the home of whoever starts it.
                env={
                    **os.environ,
                    "HOME": str(self.folder),
                    "WEB_NAME": NAME,
                    **environment,
                },
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def get(self, path: str) -> dict[str, Any]:
        """What the site answers; an `AssertionError` if that is no success."""
        connection = _Connection(self.at, timeout=PATIENCE)
        try:
            connection.request("GET", path, headers={"Host": "site"})
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        assert response.status == 200, f"{path}: {response.status}\n{self.log[-4000:]}"
        found: dict[str, Any] = json.loads(body)
        return found

    def get_all(self, paths: list[str], at_a_time: int = 200) -> list[dict[str, Any]]:
        """The answers to all these requests, sent side by side."""
        with ThreadPoolExecutor(at_a_time) as askers:
            return list(askers.map(self.get, paths))

    def is_up(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(f"The server ended at once:\n{self.log}")
        try:
            return bool(self.get("/pid"))
        except (OSError, http.client.HTTPException):
            return False

    def workers(self) -> set[int]:
        """The processes that answer requests: children of ours that are not helpers."""
        found = set()
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                if "resource_tracker" not in Path(f"/proc/{child}/cmdline").read_text():
                    found.add(int(child))
        return found

    def sockets(self, pid: int) -> set[int]:
        """The inodes of what a process has open, without those that requests come by."""
        table = Path("/proc/net/unix").read_text()
        ours = {int(line.split()[6]) for line in table.splitlines() if self.at in line}
        found = set()
        for each in Path(f"/proc/{pid}/fd").iterdir():
            try:
                match = re.fullmatch(r"socket:\[(\d+)\]", str(each.readlink()))
            except OSError:  # closed meanwhile
                continue
            if match is not None:
                found.add(int(match[1]))
        return found - ours

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                pass
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def serving(kind: str, site: str, *options: str, **given: Any) -> Iterator[Server]:
    """Run a server, for as long as the ``with`` lasts, from when it answers."""
    server = Server(kind, site, *options, **given)
    try:
        eventually(server.is_up, timeout=PATIENCE, message=lambda: server.log)
        yield server
    finally:
        server.close()
