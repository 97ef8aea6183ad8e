"""The application whose tasks behave badly, each in its own way."""

from __future__ import annotations

import base64
import os
import pickle

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
    return base64.b64encode(pickle.dumps((args, kwargs))).decode()
