"""Counts jobs and workers every now and then, for whoever wants to look."""

from __future__ import annotations

from typing import Any

from pgtasks.plugins.base import Plugin, as_age
from pgtasks.storage import upkeep

__all__ = ["Metrics"]


class Metrics(Plugin):
    """Keeps what ``pgtasks status`` and `pgtasks.contrib.prometheus` show.

    One worker counts for all, so that any number of lookers cost nothing. The unfinished
    jobs are all counted, 0.3 s for a million of them; of the finished ones those of the
    last ten seconds, which is the throughput.
    """

    name = "metrics"
    interval = 60.0
    leader_only = True
    options = {"window": 10.0}

    def validate(self) -> None:
        """Check the window."""
        self._window = as_age("plugins['metrics']['window']", self.options["window"])

    def run(self) -> dict[str, Any]:
        """Count, and keep it."""
        if self.seat is None:
            return {}
        document = count(self.database, self._window)
        self.database.run(upkeep.keep(self.seat, "jobs", document))
        return {
            "queue_count": len({each["queue"] for each in document["jobs"]}),
            "worker_count": len(document["workers"]),
        }


def count(database: Any, window: float) -> dict[str, Any]:
    """What there is now: ``jobs``, ``ended`` and ``workers``, each a list of dicts."""
    found = database.run(upkeep.counts(window))
    return {
        "jobs": [
            {
                "queue": each.queue,
                "state": each.state,
                "count": each.jobs,
                "age": round(each.age, 3),
            }
            for each in found
            if each.age is not None
        ],
        "ended": [
            {"queue": each.queue, "state": each.state, "rate": each.jobs / window}
            for each in found
            if each.age is None
        ],
        "window": window,
        "workers": database.run(upkeep.workers()),
    }
