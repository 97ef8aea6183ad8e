"""The application whose tasks behave badly, each in its own way."""

from __future__ import annotations

import base64
import marshal
import os
import pickle
import time

import psycopg

from pgtasks import Celery

LEASE = float(os.environ.get("BAD_INPUTS_LEASE", "3"))

app = Celery("behaviour", broker=os.environ["BAD_INPUTS_URL"], set_as_current=False)
app.conf.update(
    worker_lease=LEASE, worker_heartbeat_interval=LEASE / 4, task_default_queue="bad"
)

_witness: tuple[int, psycopg.Connection] | None = None


def note(task, event: str) -> None:
    """Write down that a task was here, on a connection of the tests' own."""
    global _witness
    if _witness is None or _witness[0] != os.getpid():
        url = os.environ["BAD_INPUTS_URL"]
        _witness = (os.getpid(), psycopg.connect(url, autocommit=True))
    _witness[1].execute(
        "insert into public.witness (task_id, event, pid) values (%s, %s, %s)",
        [task.request.id, event, os.getpid()],
    )


# ── good ones ───────────────────────────────────────────────────────────────────────────


@app.task
def good():
    return "good"


@app.task(bind=True)
def witness(self, *args, **kwargs):
    """Write down that it ran, and answer with what it got, exactly."""
    note(self, "ran")
    try:
        seen = b"p" + pickle.dumps((args, kwargs))
    except RecursionError:
        seen = b"m" + marshal.dumps((args, kwargs))
    return base64.b64encode(seen).decode()


def what_was_seen(text):
    """The answer of `witness`, as values."""
    seen = base64.b64decode(text)
    return (pickle if seen[:1] == b"p" else marshal).loads(seen[1:])


@app.task(bind=True, acks_late=True)
def gated(self):
    """Run until the test says so."""
    note(self, "began")
    wait_for_word(self, "go")
    note(self, "ended")
    return f"run {self.request.attempt}"


def wait_for_word(task, word: str) -> None:
    while not heard(task, word):
        time.sleep(0.005)


def heard(task, word: str) -> bool:
    found = _witness[1].execute(
        "select exists (select from public.witness where task_id = %s and event = %s)",
        [task.request.id, word],
    )
    return found.fetchone()[0]


@app.task
def add(x, y):
    return x + y


@app.task(bind=True)
def bound(self, x=0):
    return x
