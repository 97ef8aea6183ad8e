"""A program with tasks, and a worker of it that runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

from helpers import eventually

TASKS = """
import os
import threading
import time
from pathlib import Path

from pgtasks import Celery
from pgtasks.worker.control import inspect_command

app = Celery("tasks")


@app.task
def add(x, y):
    return x + y


@app.task
def divide(x, y):
    return x / y


@app.task
def wait_for(path):
    # The file is the test's word that this may end.
    while not Path(path).exists():
        time.sleep(0.01)
    return "seen"


@inspect_command(args=[("number", int)], signature="[number]")
def twice(state, number=1, **kwargs):
    "Double a number."
    return {"ok": 2 * number}
"""


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text), encoding="utf-8")


class LiveWorker:
    """``pgtasks worker`` as a process."""

    def __init__(
        self, folder: Path, url: str, *options: str, ready_in: str | None = None
    ) -> None:
        self.folder = folder
        self._ready_in = folder / ready_in if ready_in else None
        self.path = folder / "worker.log"
        with self.path.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "pgtasks",
                    "-A",
                    "tasks",
                    "worker",
                    "-l",
                    "info",
                    *options,
                ],
                cwd=folder,
                env={**os.environ, "PGTASKS_DATABASE_URL": url},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        eventually(self._is_ready, timeout=30, message=self.log)

    def _is_ready(self) -> bool:
        ended = self.process.poll() is not None
        if " ready." in self.log():
            return True
        own = self._ready_in
        if own is not None and own.exists() and " ready." in own.read_text():
            return True
        if ended:
            raise RuntimeError(f"The worker ended at once:\n{self.log()}")
        return False

    def log(self) -> str:
        return self.path.read_text(encoding="utf-8", errors="replace")

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise
        return self.process.returncode
