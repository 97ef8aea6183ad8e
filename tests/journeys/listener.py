"""An application that hears every signal, and tells a file of each, in whatever process."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

from pgtasks import Celery, signals

app = Celery("listener", broker=os.environ["JOURNEY_URL"])
app.conf.update(
    worker_lease=float(os.environ.get("JOURNEY_LEASE", "3")),
    worker_heartbeat_interval=0.5,
    task_default_queue="journey",
)


def _tell(name: str, sender: Any, keys: list[str], **more: Any) -> None:
    shown = sender if isinstance(sender, str) else getattr(sender, "name", None)
    line = {
        "signal": name,
        "type": type(sender).__name__,
        "sender": shown if isinstance(shown, str) else None,
        "host": getattr(sender, "hostname", None),
        "keys": sorted(keys),
        "pid": os.getpid(),
        **more,
    }
    # One write, so that lines of several processes do not mix.
    descriptor = os.open(os.environ["HEARD"], os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    try:
        os.write(descriptor, json.dumps(line).encode() + b"\n")
    finally:
        os.close(descriptor)


def _hear(name: str, heard: Any) -> None:
    def receive(sender: Any = None, signal: Any = None, **kwargs: Any) -> None:
        request = kwargs.get("request")
        _tell(name, sender, list(kwargs), task=getattr(request, "name", None))

    heard.connect(receive, weak=False)


for each in signals.__all__:
    # With a receiver for that, logging would be left to us.
    if each != "setup_logging" or os.environ.get("HEAR_SETUP_LOGGING"):
        _hear(each, getattr(signals, each))
for each in ("on_configure", "on_after_configure", "on_after_finalize", "on_after_fork"):
    _hear(f"app.{each}", getattr(app, each))


@app.task
def succeed() -> str:
    follow.delay()
    return "done"


@app.task
def follow() -> None:
    pass


@app.task
def fail() -> None:
    raise ValueError("no")


@app.task(bind=True, default_retry_delay=0, max_retries=1)
def again(self: Any) -> None:
    if not self.request.retries:
        raise self.retry()


@app.task
def never() -> None:
    raise AssertionError("it had expired")


@app.task
def sleep() -> None:
    time.sleep(60)


class Broken(app.Task):  # type: ignore[name-defined,misc]
    def on_failure(self, *args: Any) -> None:
        raise OSError("a handler of the task's")


@app.task(base=Broken)
def internal() -> None:
    raise ValueError("no")


@app.task(bind=True, retry_on_worker_lost=True, max_retries=2, default_retry_delay=0)
def dies(self: Any, times: int) -> int:
    _tell("ran", self, [], retries=self.request.retries)
    if self.request.retries < times:
        os.kill(os.getpid(), signal.SIGKILL)
    return self.request.retries


@app.task(bind=True, retry_on_worker_lost=True, max_retries=1, default_retry_delay=0)
def leaves(self: Any) -> None:
    _tell("ran", self, [], retries=self.request.retries)
    raise SystemExit(1)
