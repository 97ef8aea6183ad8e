"""One worker for the tests of a module, a client that sends it tasks, and the ledger."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fleet import Fleet
from helpers import eventually
from pgtasks import Celery

PATIENCE = 60


class Ensemble:
    """A worker of `choir`, and whoever listens to it."""

    def __init__(self, fleet: Fleet, app: Celery, pid: int) -> None:
        self.fleet = fleet
        self.app = app
        self.pid = pid

    def sig(self, task: str, *args: Any, **options: Any) -> Any:
        options = {"queue": "journey", **options}
        return self.app.signature(f"choir.{task}", args=args, **options)

    def send(self, task: str, *args: Any) -> Any:
        return self.sig(task, *args).apply_async()

    def get(self, task: str, *args: Any) -> Any:
        return self.send(task, *args).get(timeout=PATIENCE)

    def expect(self, result: Any, *events: str) -> None:
        eventually(
            lambda: self.fleet.events()[result.id] == list(events),
            timeout=PATIENCE,
            message=lambda: (
                f"{self.fleet.events()[result.id]}\n{self.fleet.log(0)[-3000:]}"
            ),
        )

    def memory(self) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return 1024 * int(re.search(r"VmRSS:\s+(\d+)", status)[1])


@contextmanager
def ensemble(url: str, folder: Path, *options: str) -> Iterator[Ensemble]:
    """Run a worker of `choir` with these options."""
    fleet = Fleet(url, folder)
    app = Celery("client", broker=url, set_as_current=False)
    try:
        process = fleet.start(*options, app="choir")
        yield Ensemble(fleet, app, process.pid)
        assert fleet.stop(process) == 0
    finally:
        fleet.close()
        app.close()
