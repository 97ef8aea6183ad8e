"""The application under chaos: one task that may run twice, one that may not, one that kills."""

from __future__ import annotations

import os
import signal
import time
import uuid

import psycopg

from pgtasks import Celery

LEASE = float(os.environ.get("CHAOS_LEASE", "3"))

app = Celery("chaos", broker=os.environ["CHAOS_URL"])
app.conf.update(
    task_default_queue="chaos", worker_lease=LEASE, worker_heartbeat_interval=LEASE / 4
)

# The ledger's answer takes milliseconds, in which a process may be killed. What was begun
# stands in this file as soon as the task's first line has run.
_begun = os.open(os.environ["CHAOS_BEGUN"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

_connection: psycopg.Connection | None = None


def note(task_id: str, run: str, event: str) -> None:
    """Write to the ledger once, whatever happens to the server meanwhile."""
    global _connection
    while True:
        try:
            if _connection is None or _connection.closed:
                _connection = psycopg.connect(
                    os.environ["CHAOS_URL"],
                    autocommit=True,
                    connect_timeout=3,
                    application_name="ledger",
                )
            _connection.execute(
                "insert into ledger (task_id, run, event, pid) values (%s, %s, %s, %s) "
                "on conflict do nothing",
                [task_id, run, event, os.getpid()],
            )
            return
        except (psycopg.OperationalError, psycopg.InterfaceError):
            _connection = None
            time.sleep(0.05)


def _work(task, seconds: float) -> str:
    os.write(_begun, f"{task.request.id}\n".encode())
    run = str(uuid.uuid4())
    note(task.request.id, run, "start")
    time.sleep(seconds)
    note(task.request.id, run, "end")
    return run


@app.task(name="chaos.safe", bind=True, acks_late=True, reject_on_worker_lost=True)
def safe(self, seconds):
    return _work(self, seconds)


@app.task(name="chaos.once", bind=True)
def once(self, seconds):
    return _work(self, seconds)


@app.task(name="chaos.poison", bind=True, acks_late=True, reject_on_worker_lost=True)
def poison(self):
    note(self.request.id, str(uuid.uuid4()), "start")
    os.kill(os.getpid(), signal.SIGKILL)
