"""Tasks that only so many may run of at a time; each notes when it began and ended."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from pgtasks import Celery

app = Celery("turnstile", broker=os.environ["JOURNEY_URL"])
app.conf.update(
    worker_lease=float(os.environ.get("JOURNEY_LEASE", "3")),
    worker_heartbeat_interval=float(os.environ.get("JOURNEY_LEASE", "3")) / 4,
    task_default_queue="journey",
)
SAFE: dict[str, Any] = {"acks_late": True, "reject_on_worker_lost": True}


def note(*words: object) -> None:
    """Append a line, whole, to the file that all processes write to."""
    line = " ".join(map(str, words)) + "\n"
    descriptor = os.open(
        Path(os.environ["JOURNEY_NOTES"]), os.O_WRONLY | os.O_APPEND | os.O_CREAT
    )
    os.write(descriptor, line.encode())
    os.close(descriptor)


@app.task(concurrency=3, concurrency_key="account", ignore_result=True, **SAFE)
def visit(account: str, seconds: float = 0.0) -> None:
    began = time.monotonic()
    time.sleep(seconds)
    note("visit", account, began, time.monotonic())


@app.task(rate="20/s", ignore_result=True)
def knock() -> None:
    note("knock", "-", time.monotonic(), time.monotonic())


@app.task(ignore_result=True)
def plain(seconds: float = 0.0) -> None:
    began = time.monotonic()
    time.sleep(seconds)
    note("plain", "-", began, time.monotonic())
