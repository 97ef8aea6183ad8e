"""What this process knows of the workers in it, as ``celery.worker.state``.

Setting `should_stop` or `should_terminate`, from a test or from another thread, stops the
workers of this process within a fraction of a second.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Set
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from pgtasks.utils.collections import LimitedSet

if TYPE_CHECKING:
    from pgtasks.job import Job
    from pgtasks.worker.request import Request
    from pgtasks.worker.worker import Worker

__all__ = [
    "active_requests",
    "all_total_count",
    "reserved_requests",
    "revoked",
    "should_stop",
    "should_terminate",
    "successful_requests",
    "total_count",
    "workers",
]

should_stop: int | None = None
"""Exit code of a warm shutdown that was asked for; None when none was."""

should_terminate: int | None = None
"""Exit code of a cold one."""

workers: WeakSet[Worker] = WeakSet()
"""The workers that run in this process; in a program one, in tests now and then two."""

total_count: Counter[str] = Counter()
"""How often each task was taken from the queues, by name."""

all_total_count = [0]
"""The same of all tasks together, as a list of one number."""

revoked: Any = LimitedSet(maxlen=50_000, expires=10_800)
"""Ids of tasks that shall not run in this process; a worker here cancels what it takes."""


successful_requests: Any = LimitedSet(maxlen=1000, expires=10_800)
"""Ids of tasks that succeeded in this process lately, while the setting
``worker_deduplicate_successful_tasks`` is on."""


class Requests(Set["Request"]):
    """What the workers of this process hold now, looked up when asked; a set.

    Args:
        choose: Which of a worker's jobs are meant.
    """

    def __init__(self, choose: Callable[[Worker], Iterable[Job]]) -> None:
        self._choose = choose

    def __iter__(self) -> Iterator[Request]:
        from pgtasks.worker.request import Request

        for worker in list(workers):
            for job in self._choose(worker):
                yield Request.of_job(worker.app, job, hostname=worker.hostname)

    def __len__(self) -> int:
        return sum(len(list(self._choose(worker))) for worker in list(workers))

    def __contains__(self, request: object) -> bool:
        return any(each == request for each in self)

    def __repr__(self) -> str:
        return f"<{', '.join(map(repr, self)) or 'no requests'}>"

    @classmethod
    def _from_iterable(cls, found: Iterable[Any]) -> Any:
        return set(found)  # what ``|`` and ``&`` give is no longer looked up


def _running(worker: Worker) -> Iterable[Job]:
    running = worker.pool.running()
    return [job for job in worker.held() if job.id in running]


reserved_requests = Requests(lambda worker: worker.held())
"""The tasks that are claimed here, those that run included."""

active_requests = Requests(_running)
"""The tasks that run."""
