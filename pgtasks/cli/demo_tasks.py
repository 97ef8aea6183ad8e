"""The program of the small demo, for installations without the examples."""

from __future__ import annotations

import time

from pgtasks import Celery, Task

__all__ = ["app", "square"]

app = Celery("demo")
app.conf.task_default_queue = "demo"
# A short lease: `pgtasks demo --chaos` should not keep people waiting.
app.conf.worker_lease = 3


@app.task(bind=True, acks_late=True, reject_on_worker_lost=True, max_retries=3)
def square(self: Task[..., int], number: int) -> int:
    """Take a few milliseconds over a multiplication; fail the first time now and then."""
    time.sleep(0.001 * (number % 10))
    if number % 50 == 7 and self.request.retries == 0:
        raise self.retry(exc=ConnectionError("the line was busy"), countdown=0.5)
    return number * number
