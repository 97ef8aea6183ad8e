"""What a producer does, run in the system's own interpreter: ``client.py OPERATION JSON``.

The harness starts it as a process, so that neither its imports nor its memory weigh on the
figures, and reads the last line that it prints.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from typing import Any
from uuid import uuid4

from tests.bench.program import (
    QUEUE,
    app,
    chain,
    chord,
    group,
    nap,
    noop,
    rest,
    step,
    total,
)

OURS = os.environ["BENCH_SYSTEM"] == "pgtasks"
WARM = 20


def one(first: int, count: int) -> dict[str, Any]:
    """Send jobs one by one; the connection is opened before the clock starts."""
    for place in range(first, first + WARM):
        noop.delay(place)
    with Stopwatch() as watch:
        for place in range(first + WARM, first + count):
            noop.delay(place)
    return {"rate": (count - WARM) / watch.seconds, "client_us": watch.cpu_us(count - WARM)}


def transient(first: int, count: int) -> dict[str, Any]:
    """`one`, of jobs that need not be on disk when the call returns."""
    for place in range(first, first + WARM):
        noop.apply_async((place,), delivery_mode="transient")
    with Stopwatch() as watch:
        for place in range(first + WARM, first + count):
            noop.apply_async((place,), delivery_mode="transient")
    return {"transient_rate": (count - WARM) / watch.seconds}


def send(first: int, count: int) -> dict[str, Any]:
    """Send jobs, whatever it takes."""
    for place in range(first, first + count):
        noop.delay(place)
    return {}


def bulk(count: int, first: int = 0, warm: int = 0) -> dict[str, Any]:
    """Send many jobs as fast as the system can, and know their ids."""
    send(first, warm)
    places = range(first, first + count)
    with Stopwatch() as watch:
        if OURS:
            ids = [result.id for result in noop.delay_many((place,) for place in places)]
        else:
            ids = loop({"args": (place,)} for place in places)
    assert len(set(ids)) == count
    return {
        "rate": count / watch.seconds,
        "client_us": watch.cpu_us(count),
        "sample": {str(first + at): ids[at] for at in range(0, count, max(1, count // 10))},
    }


def kept(sample: dict[str, str]) -> dict[str, Any]:
    """Look up the results of the jobs of a `bulk`: they must be what the tasks returned."""
    results = {int(place): app.AsyncResult(task_id) for place, task_id in sample.items()}
    got = {place: result.get(timeout=10) for place, result in results.items()}
    return {"wrong": {place: value for place, value in got.items() if value != place}}


def idle(count: int, pause: tuple[float, float]) -> dict[str, Any]:
    """Send a job now and then and tell when; then do so and wait for the result."""
    sent, took = [], []
    for place in range(count):
        time.sleep(random.uniform(*pause))
        sent.append(time.time())
        noop.delay(place)
    for place in range(count, 2 * count):
        time.sleep(random.uniform(*pause))
        began = time.time()
        assert noop.delay(place).get(timeout=20) == place
        took.append(time.time() - began)
    return {"sent": sent, "took": took}


def due(count: int, lead: float, span: float, seed: int) -> dict[str, Any]:
    """Send jobs that are due at random times of a span which begins in ``lead`` seconds."""
    generator = random.Random(seed)
    base = time.time() + lead
    times = [base + generator.uniform(0, span) for _ in range(count)]
    etas = [datetime.fromtimestamp(at, timezone.utc) for at in times]
    if OURS:
        noop.apply_async_many(
            noop.signature((place,), eta=eta) for place, eta in enumerate(etas)
        )
    else:
        loop({"args": (place,), "eta": eta} for place, eta in enumerate(etas))
    return {"times": times, "spare": base - time.time()}


def far(count: int) -> dict[str, Any]:
    """Send jobs that are due in ten hours."""
    if OURS:
        noop.apply_async_many(((place,) for place in range(count)), countdown=36_000)
    else:
        loop({"args": (place,), "countdown": 36_000} for place in range(count))
    return {}


def canvas(members: int, links: int) -> dict[str, Any]:
    """Run a group, a chord and a chain; tell how long each took until its result was here.

    The processor time of a chord is that of the call with the waiting, and of the call
    alone: what a web request pays that does not wait.
    """
    chord([noop.s(place) for place in range(2)])(total.s()).get(timeout=60)

    with Stopwatch() as whole_chord:
        with Stopwatch() as calling:
            result = chord([noop.s(place) for place in range(members)])(total.s())
        assert result.get(timeout=300) == sum(range(members))

    began = time.perf_counter()
    results = group([noop.s(place) for place in range(members)])()
    assert results.get(timeout=300) == list(range(members))
    group_seconds = time.perf_counter() - began

    began = time.perf_counter()
    last = chain([step.s(0), *(step.s() for _ in range(links - 1))])()
    assert last.get(timeout=300) == links
    chain_seconds = time.perf_counter() - began
    return {
        "chord_ms": 1e3 * whole_chord.seconds,
        "chord_cpu_ms": 1e3 * whole_chord.cpu,
        "chord_call_cpu_ms": 1e3 * calling.cpu,
        "group_ms": 1e3 * group_seconds,
        "chain_ms": 1e3 * chain_seconds,
    }


def naps(count: int, seconds: float) -> dict[str, Any]:
    """Give the workers something to be busy with."""
    nap.delay_many((seconds,) for _ in range(count))
    return {}


def rests(count: int, seconds: float) -> dict[str, Any]:
    """Send tasks that wait; tell when."""
    began = time.time()
    rest.delay_many((place, seconds) for place in range(count))
    return {"sent": began}


def hammer(
    producers: int, wakes: list[str], seconds: float, when_empty: bool
) -> dict[str, Any]:
    """Insert jobs one by one from several processes, with each of ``wakes`` in turn."""
    import psycopg

    context = multiprocessing.get_context("fork")
    # A barrier before each turn, and one after it.
    barrier = context.Barrier(producers + 1)
    counts = context.Array("q", producers * len(wakes))

    def produce(number: int) -> None:
        for turn, wake in enumerate(wakes):
            insert(wake)
            barrier.wait()
            inserted, end = 0, time.monotonic() + seconds
            while time.monotonic() < end:
                insert(wake)
                inserted += 1
            counts[producers * turn + number] = inserted
            barrier.wait()

    processes = [
        context.Process(target=produce, args=(number,)) for number in range(producers)
    ]
    for process in processes:
        process.start()
    with psycopg.connect(os.environ["BENCH_BROKER"], autocommit=True) as connection:
        left = "select exists (select from pgtasks.jobs)"
        for _ in wakes:
            while when_empty and connection.execute(left).fetchone() == (True,):
                time.sleep(0.02)
            barrier.wait(60)
            barrier.wait(60 + seconds)
    for process in processes:
        process.join()
    turns = [
        counts[producers * turn : producers * (turn + 1)] for turn in range(len(wakes))
    ]
    return {"rates": [sum(turn) / seconds for turn in turns]}


def insert(wake: str) -> None:
    """Insert a job by the statement itself, because `delay` lets nobody choose ``wake``."""
    from pgtasks.job import NewJob
    from pgtasks.storage import jobs

    job = NewJob(noop.name, str(uuid4()), queue=QUEUE, args="[0]")
    app.database.run(jobs.insert([job], wake=wake))


def lend(count: int, threads: int, open_for: float) -> dict[str, Any]:
    """Send jobs in transactions that stay open for a while; tell when each committed."""
    import psycopg

    committed = [0.0] * count
    numbers = iter(range(count))
    lock = threading.Lock()
    failures: list[str] = []

    def work() -> None:
        try:
            # Out of step with each other, as requests of a web site are.
            time.sleep(random.uniform(0, open_for))
            with psycopg.connect(os.environ["BENCH_BROKER"]) as connection:
                while True:
                    with lock:
                        place = next(numbers, None)
                    if place is None:
                        return
                    noop.apply_async((place,), connection=connection)
                    time.sleep(open_for)
                    committed[place] = time.time()
                    connection.commit()
        except Exception:
            failures.append(traceback.format_exc())

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if failures:
        raise RuntimeError(failures[0])
    return {"committed": committed}


def clear() -> dict[str, Any]:
    """Remove the queue from Celery's broker, with all that waits in it."""
    celery: Any = app
    with celery.connection_for_write() as connection:
        connection.default_channel.queue_delete(QUEUE)
        connection.default_channel.exchange_delete(QUEUE)
    return {}


def loop(calls: Iterable[dict[str, Any]]) -> list[str]:
    """Celery has no call for many jobs; to keep the producer is the best that it offers."""
    celery: Any = app
    with celery.producer_or_acquire() as producer:
        return [noop.apply_async(**call, producer=producer).id for call in calls]


class Stopwatch:
    """Wall-clock and processor time of a ``with`` block."""

    def __enter__(self) -> Stopwatch:
        self._cpu, self._began = time.process_time(), time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._began
        self.cpu = time.process_time() - self._cpu

    def cpu_us(self, count: int) -> float:
        """Processor time for each of ``count`` jobs, in microseconds."""
        return 1e6 * self.cpu / count


_OPERATIONS = (
    one, transient, send, bulk, kept, idle, due, far, canvas, naps, rests, hammer, lend,
    clear,
)  # fmt: skip
OPERATIONS: dict[str, Callable[..., dict[str, Any]]] = {
    each.__name__: each for each in _OPERATIONS
}

if __name__ == "__main__":
    print(json.dumps(OPERATIONS[sys.argv[1]](**json.loads(sys.argv[2]))))
