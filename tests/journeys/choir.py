"""Tasks that wait side by side: coroutines, and functions that greenlets may run."""

from __future__ import annotations

import asyncio
import functools
import os
import threading
import time
from typing import Any

from pgtasks import Celery, current_task, signals
from pgtasks.app import trace
from pgtasks.exceptions import Ignore, Reject, Snooze, SoftTimeLimitExceeded

app = Celery("choir", broker=os.environ["JOURNEY_URL"])
app.conf.update(
    worker_lease=float(os.environ.get("JOURNEY_LEASE", "3")),
    worker_heartbeat_interval=float(os.environ.get("JOURNEY_LEASE", "3")) / 4,
    task_default_queue="journey",
)
PLACE: dict[str, Any] = {}


@signals.worker_process_init.connect
def remember(**_: Any) -> None:
    PLACE["init"] = [os.getpid(), threading.current_thread().name]


def here() -> list[Any]:
    return [os.getpid(), threading.current_thread().name]


build_tracer = trace.build_tracer


def build_watched_tracer(name: str, *args: Any, **options: Any) -> Any:
    """What Sentry and its like do: put something around the run of a task."""
    tracer = build_tracer(name, *args, **options)
    if name != "choir.watched":
        return tracer

    @functools.wraps(tracer)
    def watched(*args: Any, **kwargs: Any) -> Any:
        RUNNING.add(args[0])
        try:
            return tracer(*args, **kwargs)
        finally:
            RUNNING.discard(args[0])

    return watched


RUNNING: set[str] = set()
trace.build_tracer = build_watched_tracer


# ── coroutines ──────────────────────────────────────────────────────────────────────────


@app.task(bind=True)
async def rest(self: Any, seconds: float) -> list[Any]:
    """Wait, and say whose request it is that is seen here before and after."""
    before = [self.request.id, current_task.request.id]
    await asyncio.sleep(seconds)
    return [
        *before,
        self.request.id,
        current_task.request.id,
        threading.current_thread().name,
    ]


@app.task
async def place() -> dict[str, Any]:
    return {**PLACE, "here": here()}


@app.task
def plain_place(seconds: float) -> dict[str, Any]:
    time.sleep(seconds)
    return {**PLACE, "here": here()}


@app.task(bind=True)
async def watched(self: Any, seconds: float) -> list[Any]:
    await asyncio.sleep(seconds)
    return [self.request.id in RUNNING, threading.current_thread().name]


@app.task
def hoard(megabytes: int) -> dict[str, Any]:
    held = b"x" * (megabytes * 2**20)
    return {**PLACE, "here": here(), "held": len(held)}


@app.task(bind=True)
async def long(self: Any, seconds: float) -> str:
    from shop import note

    note(self.request.id, "start")
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        note(self.request.id, "cancelled")
        raise
    finally:
        # What it holds can be given back, which may take a moment.
        await asyncio.sleep(0.01)
        note(self.request.id, "tidied up")
    return "slept"


@app.task(bind=True)
async def stubborn(self: Any) -> str:
    from shop import note

    note(self.request.id, "start")
    for _ in range(2):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            note(self.request.id, "not yet")
    return "on my own terms"


@app.task(soft_time_limit=0.3)
async def softly() -> str:
    try:
        await asyncio.sleep(60)
    except SoftTimeLimitExceeded:
        await asyncio.sleep(0.05)
        return "in good time"
    return "too late"


@app.task(soft_time_limit=0.3)
async def softly_in_parts() -> str:
    parts = [asyncio.ensure_future(asyncio.sleep(60)) for _ in range(3)]
    try:
        await asyncio.gather(*parts)
    finally:
        assert all(part.cancelled() for part in parts)
    return "too late"


@app.task(time_limit=0.3)
async def killed() -> None:
    await asyncio.sleep(60)


@app.task(timeout=0.3, max_attempts=2, backoff=0)
async def late() -> None:
    await asyncio.sleep(60)


@app.task
async def cancels_itself() -> None:
    part = asyncio.ensure_future(asyncio.sleep(60))
    part.cancel()
    await part


@app.task(bind=True, default_retry_delay=0)
async def again(self: Any) -> str:
    if self.request.retries == 0:
        await asyncio.sleep(0)
        raise self.retry()
    return f"at try {self.request.retries + 1}"


@app.task(autoretry_for=(KeyError,), retry_backoff=False, default_retry_delay=0)
async def again_by_itself() -> int:
    tries = current_task.request.retries
    if tries == 0:
        raise KeyError("first")
    return int(tries)


@app.task
async def end(how: str) -> None:
    await asyncio.sleep(0)
    raise {
        "ignore": Ignore(),
        "reject": Reject("no", requeue=False),
        "snooze": Snooze(3600),
    }[how]


@app.task
async def add(x: int, y: int) -> int:
    await asyncio.sleep(0)
    return x + y


@app.task
async def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task(transactional=True, bind=True)
async def booked(self: Any, fail: bool) -> str:
    await self.connection.execute(
        "insert into public.ledger (task_id, event) values (%s, 'booked')",
        [self.request.id],
    )
    if fail:
        raise ValueError("not booked")
    return "booked"


@app.task(transactional=True, bind=True, soft_time_limit=0.3)
async def booked_too_late(self: Any) -> None:
    await self.connection.execute(
        "insert into public.ledger (task_id, event) values (%s, 'booked')",
        [self.request.id],
    )
    await asyncio.sleep(60)


class Hooked(app.Task):  # type: ignore[name-defined,misc]
    def before_start(self, task_id: Any, args: Any, kwargs: Any) -> None:
        self._tell(task_id, "before_start")

    def on_success(self, retval: Any, task_id: Any, args: Any, kwargs: Any) -> None:
        self._tell(task_id, f"on_success {retval}")

    def on_failure(self, exc: Any, task_id: Any, *_: Any) -> None:
        self._tell(task_id, f"on_failure {exc!r}")

    def after_return(self, status: Any, retval: Any, task_id: Any, *_: Any) -> None:
        self._tell(task_id, f"after_return {status}")

    def _tell(self, task_id: str, event: str) -> None:
        from shop import note

        assert self.request.id == task_id
        note(task_id, event)


@app.task(base=Hooked)
async def hooked(fail: bool) -> str:
    await asyncio.sleep(0.05)
    if fail:
        raise ValueError("no")
    return "yes"


@app.task
async def sends() -> list[int]:
    results = [add.delay(1, 1), await add.adelay(2, 2)]
    return [await each.aget(timeout=20, disable_sync_subtasks=False) for each in results]


# ── greenlets ───────────────────────────────────────────────────────────────────────────


@app.task(bind=True)
def nap(self: Any, seconds: float) -> list[Any]:
    before = [self.request.id, current_task.request.id]
    time.sleep(seconds)
    return [*before, self.request.id, current_task.request.id]


@app.task(bind=True)
def long_nap(self: Any, seconds: float) -> str:
    from shop import note

    note(self.request.id, "start")
    try:
        time.sleep(seconds)
    finally:
        note(self.request.id, "tidied up")
    return "slept"


@app.task(soft_time_limit=0.3)
def softly_napped() -> str:
    try:
        time.sleep(60)
    except SoftTimeLimitExceeded:
        time.sleep(0.05)
        return "in good time"
    return "too late"


@app.task(time_limit=0.3)
def killed_napping() -> None:
    time.sleep(60)


@app.task(timeout=0.3, max_attempts=2, backoff=0)
def late_napping() -> None:
    time.sleep(60)


@app.task
def ask_the_server(seconds: float) -> int:
    """Wait for PostgreSQL, on a connection that other greenlets do not use."""
    import psycopg

    with psycopg.connect(os.environ["JOURNEY_URL"]) as connection:
        connection.execute("select pg_sleep(%s)", [seconds])
    return os.getpid()
