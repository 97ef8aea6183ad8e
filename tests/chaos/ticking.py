"""The application of `tests.chaos.beats`: one entry, every second, and nothing lost."""

from __future__ import annotations

import os

from pgtasks import Celery

app = Celery("ticking", broker=os.environ.get("CHAOS_URL", "memory://"))
app.conf.update(
    task_default_queue="ticks",
    worker_concurrency=2,
    beat_schedule={
        "second": {"task": "ticking.tick", "schedule": 1.0, "catch_up": "all"},
    },
)


@app.task(name="ticking.tick", acks_late=True, reject_on_worker_lost=True)
def tick():
    return None
