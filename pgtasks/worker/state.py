"""What this process knows of the workers in it, as ``celery.worker.state``.

Setting `should_stop` or `should_terminate`, from a test or from another thread, stops the
workers of this process within a fraction of a second.
"""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Set
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakSet

from pgtasks import __version__
from pgtasks.exceptions import ImproperlyConfigured, WorkerShutdown, WorkerTerminate
from pgtasks.utils.collections import LimitedSet
from pgtasks.worker.persistent import Persistent

if TYPE_CHECKING:
    from pgtasks.job import Job
    from pgtasks.worker.request import Request
    from pgtasks.worker.worker import Worker

__all__ = [
    "SOFTWARE_INFO", "Persistent", "active_requests", "all_total_count", "maybe_shutdown",
    "merge_revoked", "requests", "reserved_requests", "reset_state", "revoked", "revoked_stamps",
    "scheduled_requests", "should_stop", "should_terminate", "successful_requests",
    "task_accepted", "task_ready", "task_reserved", "task_scheduled", "total_count",
    "workers",
]  # fmt: skip

N = TypeVar("N", int, float)


def _number(variable: str, default: N) -> N:
    text = os.environ.get(variable)
    if text is None:
        return default
    kind = type(default)
    try:
        return kind(text)
    except ValueError:
        raise ImproperlyConfigured(
            f"The environment variable {variable} is {text!r}: expected {kind.__name__}."
        ) from None


SOFTWARE_INFO = {
    "sw_ident": "py-pgtasks",
    "sw_ver": __version__,
    "sw_sys": platform.system(),
}
"""What a worker's events say about its software."""

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

REVOKES_MAX = _number("CELERY_WORKER_REVOKES_MAX", 50_000)
SUCCESSFUL_MAX = _number("CELERY_WORKER_SUCCESSFUL_MAX", 1000)
REVOKE_EXPIRES = _number("CELERY_WORKER_REVOKE_EXPIRES", 10_800.0)
SUCCESSFUL_EXPIRES = _number("CELERY_WORKER_SUCCESSFUL_EXPIRES", 10_800.0)

revoked: Any = LimitedSet(maxlen=REVOKES_MAX, expires=REVOKE_EXPIRES)
"""Ids of tasks that shall not run in this process; a worker here cancels what it takes."""

revoked_stamps: dict[str, list[Any]] = {}
"""Stamps of such tasks: values by the name of the header."""


successful_requests: Any = LimitedSet(maxlen=SUCCESSFUL_MAX, expires=SUCCESSFUL_EXPIRES)
"""Ids of tasks that succeeded lately in the workers of this process, or in their children."""


class Requests(Set["Request"]):
    """What the workers of this process hold now, looked up when asked; a set.

    And what a program has told of itself, by `task_accepted` and the like.

    Args:
        choose: Which of a worker's jobs are meant.
    """

    def __init__(self, choose: Callable[[Worker], Iterable[Job]]) -> None:
        self._choose = choose
        self._told: set[Any] = set()

    def add(self, request: Any) -> None:
        """Count in a request that no worker here holds."""
        self._told.add(request)

    def discard(self, request: Any) -> None:
        """Count it in no longer."""
        self._told.discard(request)

    def clear(self) -> None:
        """Forget all that was counted in."""
        self._told.clear()

    def __iter__(self) -> Iterator[Request]:
        from pgtasks.worker.request import Request

        for worker in list(workers):
            for job in self._choose(worker):
                yield Request.of_job(worker.app, job, hostname=worker.hostname)
        yield from list(self._told)

    def __len__(self) -> int:
        return len(self._told) + sum(
            len(list(self._choose(worker))) for worker in list(workers)
        )

    def __contains__(self, request: object) -> bool:
        return request in self._told or any(each == request for each in self)

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

scheduled_requests = Requests(lambda worker: ())
"""Those that wait here for their time: none, since what is not due waits in the table."""

requests: dict[str, Any] = {}
"""Those that a program has told of, by id."""


# ── for programs that handle requests themselves ────────────────────────────────────────


def task_scheduled(request: Any) -> None:
    """A request waits for its time; nothing new of one that is further on."""
    requests[request.id] = request
    if request not in reserved_requests and request not in active_requests:
        scheduled_requests.add(request)


def task_reserved(request: Any) -> None:
    """A request is about to run."""
    requests[request.id] = request
    scheduled_requests.discard(request)
    reserved_requests.add(request)


def task_accepted(request: Any) -> None:
    """A request runs."""
    requests[request.id] = request
    active_requests.add(request)
    total_count[request.name] += 1
    all_total_count[0] += 1


def task_ready(request: Any, successful: bool = False) -> None:
    """A request has ended."""
    if successful:
        successful_requests.add(request.id)
    requests.pop(request.id, None)
    for each in (scheduled_requests, reserved_requests, active_requests):
        each.discard(request)


def merge_revoked(ids: Iterable[str] | None) -> None:
    """Revoke these ids as of now, whatever times they come with."""
    for each in ids or ():
        revoked.add(each)


def maybe_shutdown() -> None:
    """Leave the program if `should_terminate` or `should_stop` say so.

    Raises:
        WorkerTerminate: At once.
        WorkerShutdown: In order.
    """
    if should_terminate is not None and should_terminate is not False:
        raise WorkerTerminate(should_terminate)
    if should_stop is not None and should_stop is not False:
        raise WorkerShutdown(should_stop)


def reset_state() -> None:
    """Forget everything, as at the beginning of a test."""
    for each in (
        requests, scheduled_requests, reserved_requests, active_requests, revoked,
        successful_requests, total_count,
    ):  # fmt: skip
        each.clear()
    all_total_count[:] = [0]
