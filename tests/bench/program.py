"""The program that all systems run: Celery's, and of it only the import differs."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any

from tests.bench import board

if TYPE_CHECKING or os.environ["BENCH_SYSTEM"] == "pgtasks":
    from pgtasks import Celery, chain, chord, group
    from pgtasks.signals import worker_ready
else:
    from celery import Celery, chain, chord, group
    from celery.signals import worker_ready

__all__ = [
    "QUEUE", "app", "chain", "chord", "group", "nap", "noop", "rest", "step", "total",
]  # fmt: skip

#: A name of our own: the RabbitMQ may be somebody's, with a queue ``celery`` in use.
QUEUE = "pgtasks-bench"

app = Celery(
    "bench", broker=os.environ["BENCH_BROKER"], backend=os.environ.get("BENCH_BACKEND")
)
app.conf.task_default_queue = QUEUE
app.conf.broker_connection_retry_on_startup = True  # what Celery does; unsaid, it warns


@worker_ready.connect
def tell(**_: Any) -> None:
    """Tell when the worker takes jobs."""
    board.mark(int(os.environ[board.READY]))


@app.task(name="bench.noop")
def noop(place: int) -> int:
    """Do nothing but tell when; the result is kept."""
    board.mark(place)
    return place


@app.task(name="bench.nap")
def nap(seconds: float) -> None:
    """Keep a child busy without using a processor."""
    time.sleep(seconds)


@app.task(name="bench.rest")
async def rest(place: int, seconds: float) -> None:
    """Wait without holding anybody up, and tell when that is over."""
    await asyncio.sleep(seconds)
    board.mark(place)


@app.task(name="bench.total")
def total(numbers: list[int]) -> int:
    """The body of a chord."""
    return sum(numbers)


@app.task(name="bench.step")
def step(number: int) -> int:
    """A link of a chain."""
    return number + 1
