"""The application whose tasks behave badly, each in its own way."""

from __future__ import annotations

import base64
import ctypes
import datetime
import marshal
import os
import pickle
import re
import resource
import signal
import sys
import threading
import time
from contextlib import contextmanager
from functools import wraps
from pathlib import Path

import psycopg

from pgtasks import Celery
from pgtasks.storage.query import Query

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
    """Whether the test has said so, to every run of the job or to this one."""
    found = _witness[1].execute(
        "select exists (select from public.witness where task_id = %s and event = any(%s))",
        [task.request.id, [word, f"{word} {task.request.attempt}"]],
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
def kill9_parent(self, generations):
    """Kill the process that this one was copied from, or the worker above it."""
    pid = os.getppid()
    if generations == 2:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(pid, signal.SIGKILL)
    time.sleep(60)


# ── more than there is ──────────────────────────────────────────────────────────────────


@contextmanager
def limited(what, most):
    """Have the kernel refuse this process more than that, for a while."""
    soft, hard = resource.getrlimit(what)
    resource.setrlimit(what, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(what, (soft, hard))


def memory_and(more):
    """What this process has of address space, and ``more``."""
    return (
        int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + more
    )


@bad
def oom(self, killed):
    hoard = []
    try:
        with limited(resource.RLIMIT_AS, memory_and(200_000_000)):
            while True:
                hoard.append(bytearray(10_000_000))
    except MemoryError:
        hoard.clear()
        if killed:  # as the kernel does when it is at the end of its own tether
            os.kill(os.getpid(), signal.SIGKILL)
        raise


@bad
def fork_bomb(self):
    # The limit on processes and threads does not hold for root; that on memory does,
    # which each of them needs for its stack.
    with limited(resource.RLIMIT_AS, memory_and(500_000_000)):
        for _ in range(10_000):
            threading.Thread(target=threading.Event().wait, daemon=True).start()


_leaked = []


@bad
def fd_leak(self):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))
    for _ in range(100_000):
        _leaked.append(os.open("/dev/null", os.O_RDONLY))


# ── what belongs to the process ─────────────────────────────────────────────────────────


@bad
def chdir_umask(self):
    os.chdir("/")
    os.umask(0)
    return os.getpid()


@app.task(bind=True)
def deaf(self):
    """Ignore every signal that can be ignored."""
    note(self, "began")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    note(self, "deaf")
    time.sleep(60)


@app.task(bind=True)
def hold_the_interpreter(self, seconds):
    """Let nobody else in, as a regular expression does that goes back and back."""
    note(self, "began")
    length, until = 16, time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.monotonic()
        re.match(r"(a+)+$", "a" * length + "b")
        if time.monotonic() - began < seconds / 3:
            length += 1
    return "done"


@app.task(bind=True)
async def loop_block(self, seconds):
    note(self, "began")
    time.sleep(seconds)
    return "done"


# ── retries ─────────────────────────────────────────────────────────────────────────────


@bad
def retry_inf(self):
    self.retry(countdown=float("inf"))


@bad
def retry_neg(self):
    if not self.request.retries:
        self.retry(countdown=-1)
    return self.request.retries


@app.task(bind=True, max_retries=None)
def retry_max_none(self, enough):
    """Always try again; the test says when it has seen enough."""
    if self.request.retries < enough:
        self.retry(countdown=0, exc=ValueError(f"number {self.request.retries}"))
    return self.request.retries


@app.task(
    bind=True,
    max_retries=None,
    autoretry_for=(ValueError,),
    retry_backoff=True,
    retry_backoff_max=1,
)
def back_off(self, enough):
    if self.request.retries < enough:
        raise ValueError(f"number {self.request.retries}")
    return self.request.retries


# ── other trouble ───────────────────────────────────────────────────────────────────────


@bad
def tx_left_open(self):
    """Leave a transaction open, with a lock in it, on a connection of the application's."""
    patience = {"idle_in_transaction_session_timeout": "300"}
    lent = self.app.database.connection(patience)
    session = lent.__enter__()
    [(usual,)] = self.app.database.run(
        Query("select current_setting('idle_in_transaction_session_timeout')", {}, list)
    )
    session.execute("begin")
    session.execute("select pg_advisory_xact_lock(4711)")
    _leaked.append((lent, session))
    return usual


@bad
def deadlock_self(self):
    good.delay().get(timeout=5)


@app.task(bind=True)
def secretive(self, password, fail=False, *, pin):
    """Wait until the test has looked everywhere."""
    note(self, "began")
    wait_for_word(self, "go")
    if fail == "retry":
        self.retry(countdown=0, max_retries=0)
    if fail:
        raise ValueError("no")
    return "done"


@bad
def stdout_binary(self):
    print("\udcff")
    print(b"\xff")
    sys.stderr.write("a\udcffb\n")
    return "printed"


@app.task
def clock():
    """What this process believes that it is o'clock, by two ways to ask."""
    return time.time(), datetime.datetime.now(datetime.timezone.utc).timestamp()


@app.task(bind=True)
def sleeper(self, seconds):
    note(self, "began")
    time.sleep(seconds)


@app.task(bind=True, acks_late=False)
def gated_early(self):
    """`gated`, but not safe to run twice."""
    note(self, "began")
    wait_for_word(self, "go")
    note(self, "ended")
    return f"run {self.request.attempt}"
