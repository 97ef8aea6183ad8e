"""The application that the journeys run: its tasks tell a ledger what they do.

The ledger is a table of its own, written on a connection of its own, so that it knows
what really happened however the worker, its database or both came to harm.
"""

from __future__ import annotations

import os
import signal
import time

import psycopg

from pgtasks import Celery

app = Celery("shop", broker=os.environ["JOURNEY_URL"])
app.conf.update(
    worker_lease=float(os.environ.get("JOURNEY_LEASE", "3")),
    worker_heartbeat_interval=float(os.environ.get("JOURNEY_LEASE", "3")) / 4,
    task_default_queue="journey",
)
_ledger: tuple[int, psycopg.Connection] | None = None


def note(task_id: str, event: str) -> None:
    """Write to the ledger, through restarts of the server."""
    global _ledger
    while True:
        try:
            if _ledger is None or _ledger[0] != os.getpid() or _ledger[1].closed:
                url = os.environ["JOURNEY_LEDGER"]
                _ledger = (os.getpid(), psycopg.connect(url, autocommit=True))
            _ledger[1].execute(
                "insert into ledger (task_id, event, pid) values (%s, %s, %s)",
                [task_id, event, os.getpid()],
            )
            return
        except psycopg.OperationalError:
            _ledger = None
            time.sleep(0.05)


def _nap(task, seconds: float) -> float:
    note(task.request.id, "start")
    time.sleep(seconds)
    note(task.request.id, "end")
    return seconds


@app.task(bind=True)
def nap(self, seconds):
    return _nap(self, seconds)


@app.task(bind=True, acks_late=True, reject_on_worker_lost=True)
def safe_nap(self, seconds):
    return _nap(self, seconds)


@app.task(bind=True, serializer="json")
def quick(self):
    note(self.request.id, "start")
    return self.request.id


@app.task(bind=True)
def die_at_first(self, seconds):
    note(self.request.id, "start")
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(bind=True, acks_late=True, reject_on_worker_lost=True)
def poison(self):
    note(self.request.id, "start")
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(bind=True, time_limit=0.5)
def overrun(self):
    note(self.request.id, "start")
    time.sleep(60)


@app.task(bind=True, timeout=0.3, max_attempts=2, backoff=0)
def too_long(self):
    note(self.request.id, "start")
    time.sleep(60)


@app.task(bind=True, time_limit=0.4, max_attempts=2, backoff=0)
def killed_once(self):
    note(self.request.id, "start")
    if self.request.attempt == 1:
        time.sleep(60)
    return "in time"


@app.task(bind=True, soft_time_limit=0.3)
def soft_overrun(self):
    from pgtasks.exceptions import SoftTimeLimitExceeded

    try:
        time.sleep(60)
    except SoftTimeLimitExceeded:
        return "stopped softly"


@app.task
def unstorable():
    return "unstorable"


@app.task(bind=True)
def hold_the_interpreter(self, seconds):
    """Keep the interpreter's lock for a while, as a bad regular expression does."""
    import re

    note(self.request.id, "start")
    deadline = time.monotonic() + seconds
    length = 18
    while time.monotonic() < deadline:
        began = time.monotonic()
        re.match(r"(a+)+$", "a" * length + "b")
        if time.monotonic() - began < seconds / 3:
            length += 1
    note(self.request.id, "end")
    return "done"
