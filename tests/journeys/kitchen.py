"""The work-flows that the journeys run: tasks as in the canvas chapter of Celery's guide."""

from __future__ import annotations

import os
import time
from typing import Any

from pgtasks import Celery, group

app = Celery("kitchen", broker=os.environ["JOURNEY_URL"])
app.conf.update(
    worker_lease=float(os.environ.get("JOURNEY_LEASE", "3")),
    worker_heartbeat_interval=float(os.environ.get("JOURNEY_LEASE", "3")) / 4,
    task_default_queue="journey",
)
SAFE: dict[str, Any] = {"acks_late": True, "reject_on_worker_lost": True}


@app.task(**SAFE)
def add(x: int, y: int, seconds: float = 0) -> int:
    time.sleep(seconds)
    return x + y


@app.task(bind=True)
def once(self: Any, x: int, seconds: float) -> int:
    """Not declared safe to run again; the ledger hears of its beginning."""
    from shop import note

    note(self.request.id, "start")
    time.sleep(seconds)
    return x


@app.task(**SAFE)
def mul(x: int, y: int) -> int:
    return x * y


@app.task(**SAFE)
def xsum(numbers: list[int], seconds: float = 0) -> int:
    time.sleep(seconds)
    return sum(numbers)


@app.task(**SAFE)
def identity(value: Any) -> Any:
    return value


@app.task(bind=True, **SAFE)
def spread(self: Any, number: int) -> Any:
    """Become a group, under the same id."""
    raise self.replace(group(add.s(number, each) for each in range(3)))


@app.task(bind=True, **SAFE)
def become(self: Any, number: int) -> Any:
    """Become another task."""
    raise self.replace(add.s(number, 100))


@app.task(bind=True, default_retry_delay=0, **SAFE)
def at_second_try(self: Any, number: int) -> int:
    if self.request.retries == 0:
        raise self.retry()
    return number


@app.task(**SAFE)
def fail(*args: Any) -> None:
    raise ValueError("burnt")


@app.task
def on_error(request: Any, exc: BaseException, traceback: str) -> None:
    """Tell the ledger of an error, as an errback of the new style."""
    from shop import note

    note(request.id, type(exc).__name__)
