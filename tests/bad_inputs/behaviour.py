"""The application whose tasks behave badly, each in its own way."""

from __future__ import annotations

import base64
import ctypes
import marshal
import os
import pickle
import signal
import sys
import threading
import time
from functools import wraps

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


# ── exceptions that are hard to write down ──────────────────────────────────────────────


def bad(function):
    """Make a task of it that notes when it begins, and is soon tried again, if at all."""
    return app.task(bind=True, backoff=0.02, name=f"behaviour.{function.__name__}")(
        _noting(function)
    )


def _noting(function):
    @wraps(function)
    def noting(self, *args, **kwargs):
        note(self, "ran")
        return function(self, *args, **kwargs)

    return noting


@bad
def exc_nul(self):
    raise Exception("bad \0 byte")


@bad
def exc_surrogate(self):
    raise Exception("\ud800")


@bad
def exc_50mb(self):
    raise Exception("x" * 50_000_000)


class Mute(Exception):
    def __str__(self):
        raise ValueError("I will not say.")

    __repr__ = __str__


@bad
def exc_str_raises(self):
    raise Mute


class Locked(Exception):
    def __init__(self, lock):
        super().__init__(lock)
        self.lock = lock


@bad
def exc_unpicklable(self):
    raise Locked(threading.Lock())


@bad
def exc_base(self):
    raise BaseException("of no kind")


@bad
def sysexit(self):
    sys.exit(0)


@bad
def keyboardint(self):
    raise KeyboardInterrupt


# ── results ─────────────────────────────────────────────────────────────────────────────


@bad
def result_unserial(self):
    return object()


@bad
def result_nan(self):
    return float("nan")


@bad
def result_200mb(self):
    return "x" * 200_000_000


@bad
def result_generator(self):
    return (each for each in [])


# ── the end of the process ──────────────────────────────────────────────────────────────


@bad
def os_exit(self):
    os._exit(3)


@bad
def segv(self):
    ctypes.string_at(0)


@bad
def kill9_self(self):
    os.kill(os.getpid(), signal.SIGKILL)


@bad
def kill9_parent(self):
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)


@bad
def deadlock_self(self):
    good.delay().get(timeout=5)


@bad
def stdout_binary(self):
    print("\udcff")
    print(b"\xff")
    sys.stderr.write("a\udcffb\x1b[2J\n")
    return "printed"


@bad
def retry_inf(self):
    self.retry(countdown=float("inf"))


@bad
def retry_neg(self):
    if not self.request.retries:
        self.retry(countdown=-1)
    return self.request.retries


@app.task(bind=True, acks_late=True)
async def loop_block(self, seconds):
    note(self, "began")
    time.sleep(seconds)
    return "done"
