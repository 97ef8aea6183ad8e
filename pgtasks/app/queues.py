"""``app.queues``: pause, resume, scale, start, stop and limit queues, and see how they do.

What is said here is a row. A worker that starts tomorrow obeys it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

from pgtasks.app.connection import keeps_jobs_in_memory
from pgtasks.exceptions import ImproperlyConfigured
from pgtasks.storage import limits, queues
from pgtasks.utils.nodenames import anon_nodename

if TYPE_CHECKING:
    from pgtasks.storage.limits import Known
    from pgtasks.storage.query import Query

__all__ = ["EVERY", "Queue", "Queues", "Said"]

EVERY = "*"
"""Stands for all queues."""

PATIENCE = 5.0
"""Seconds that `Queues.pause` waits for claims under way, which take milliseconds."""


class Said(NamedTuple):
    """What was said about a queue to one node.

    Attributes:
        node: Name of the worker; None is the whole fleet.
        paused: Whether it is paused; None says nothing.
        since: When it was paused.
        by: Who paused it.
        served: Whether it is served; None says nothing.
        limit: How many may run in one worker.
    """

    node: str | None
    paused: bool | None
    since: datetime | None
    by: str | None
    served: bool | None
    limit: int | None


class Queue(NamedTuple):
    """How a queue is doing.

    Attributes:
        name: Its name; ``*`` carries what was said about all of them.
        paused: Whether the fleet is told not to take its jobs.
        since: When it was paused.
        by: Who paused it.
        limit: How many may run in one worker; None is as many as it has places.
        concurrency: How many may run at a time in the whole fleet.
        rate: How many may start within ``period`` seconds in the whole fleet.
        period: In seconds.
        states: How many unfinished jobs it has, by state.
        age: Seconds since the oldest that may run became due; None where there is none.
        running: How many of its jobs run, by worker.
        workers: Names of the workers that serve it.
        said: What was said about it, to the fleet and to single nodes.
    """

    name: str
    paused: bool
    since: datetime | None
    by: str | None
    limit: int | None
    concurrency: int | None
    rate: int | None
    period: float | None
    states: dict[str, int]
    age: float | None
    running: dict[str, int]
    workers: list[str]
    said: list[Said]


class Queues:
    """The queues of an application.

    Args:
        app: The application.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    # ── pause and resume ────────────────────────────────────────────────────────────────

    def pause(self, queue: str, *, node: str | None = None, by: str | None = None) -> None:
        """Have no more jobs of ``queue`` begun; those that run go on.

        When this returns, no job of it is claimed any more, by any worker, until `resume`.
        Workers that start later obey it as well. What a worker had claimed and not begun
        yet, some milliseconds of work, it still runs.

        Args:
            queue: Its name.
            node: Name of the only worker that this is said to; None is the whole fleet,
                and takes back what was said to single nodes.
            by: Who is shown to have paused it; this process by default.
        """
        self._say_paused(_named(queue), True, node, by)

    def resume(self, queue: str, *, node: str | None = None) -> None:
        """Have jobs of ``queue`` begun again.

        Said about one queue after `pause_all` it holds for this queue; said to one node it
        holds there, though the fleet is paused.

        Args:
            queue: Its name.
            node: Name of the only worker that this is said to.
        """
        self._say_paused(_named(queue), False, node, None)

    def pause_all(self, *, node: str | None = None, by: str | None = None) -> None:
        """`pause` all queues, those too that nobody has heard of yet."""
        self._say_paused(EVERY, True, node, by)

    def resume_all(self, *, node: str | None = None) -> None:
        """`resume` all queues."""
        self._say_paused(EVERY, False, node, None)

    def _say_paused(
        self, queue: str, paused: bool, node: str | None, by: str | None
    ) -> None:
        who = by or anon_nodename()
        self._run(queues.pause(queue, paused=paused, node=node or "", by=who))
        if paused:
            self._outlast_claims()

    def _outlast_claims(self) -> None:
        """Wait for the claims that began before what was said last was committed."""
        under_way = self._run(queues.claiming())
        deadline = time.monotonic() + PATIENCE
        while under_way and time.monotonic() < deadline:
            time.sleep(0.002)
            under_way &= self._run(queues.claiming())

    # ── scale, start and stop ───────────────────────────────────────────────────────────

    def scale(self, queue: str, limit: int | None, *, node: str | None = None) -> None:
        """Let so many jobs of ``queue`` run at a time in each worker.

        Workers hear of it at once; see `limit` for the whole fleet together.

        Args:
            queue: Its name.
            limit: How many; None is what the worker was started with.
            node: Name of the only worker that this is said to.
        """
        self._run(queues.scale(_named(queue), worker_limit=_count(limit), node=node or ""))

    def start(
        self, queue: str, *, limit: int | None = None, node: str | None = None
    ) -> None:
        """Have workers serve ``queue``, beside those that they were started with.

        Args:
            queue: Its name.
            limit: How many of its jobs may run at a time in each worker.
            node: Name of the only worker that this is said to; None is all of them.
        """
        self._run(
            queues.serve(
                _named(queue), served=True, node=node or "", worker_limit=_count(limit)
            )
        )

    def stop(self, queue: str, *, node: str | None = None) -> None:
        """Have workers serve ``queue`` no longer; what runs goes on.

        Args:
            queue: Its name.
            node: Name of the only worker that this is said to; None is all of them.
        """
        self._run(
            queues.serve(_named(queue), served=False, node=node or "", worker_limit=None)
        )

    # ── limits of the whole fleet ───────────────────────────────────────────────────────

    def limit(
        self,
        queue: str | None = None,
        *,
        task: str | None = None,
        concurrency: int | None = None,
        rate: str | float | None = None,
    ) -> None:
        """Set a limit for the whole fleet, for what runs from now on.

        It is kept, and goes before what a task's own options say, until `unlimit`.

        Args:
            queue: Name of the queue that it is for; or
            task: name of the task. A task that has a key keeps it: the limit is for each
                of its values. It concerns jobs that were sent with a limit of that kind.
            concurrency: How many may run at a time; 0 lets none begin.
            rate: How many may start within a second, minute or hour: ``"100/m"``.

        Raises:
            TypeError: Neither or both of queue and task, or no limit.
        """
        from pgtasks.app.limits import as_concurrency, as_rate

        owner, of = self._owner(queue, task)
        many = as_concurrency(concurrency, of)
        count, period = as_rate(rate, of)
        if many is None and count is None:
            raise TypeError(
                f"There is no limit for {of}: give concurrency= or rate=, or call unlimit()."
            )
        if queue is not None:
            rule = limits.Limit(f"queue:{owner}", many, count, period)
            self._run(limits.set_(rule, queue=queue))
            self._outlast_claims()
            self._run(limits.occupy(queue))
            return
        if many is not None:
            self._run(limits.set_(limits.Limit(f"concurrency:{owner}", many)))
        if count is not None:
            self._run(limits.set_(limits.Limit(f"rate:{owner}", None, count, period)))

    def unlimit(self, queue: str | None = None, *, task: str | None = None) -> bool:
        """Drop a limit of the whole fleet.

        Of a task, its own options hold again as soon as a worker starts that has them.

        Args:
            queue: Name of the queue, or
            task: name of the task.

        Returns:
            Whether there was one.
        """
        owner, _ = self._owner(queue, task)
        if queue is not None:
            return bool(self._run(limits.forget(f"queue:{owner}", queue=queue)))
        found = [
            self._run(limits.forget(f"{kind}:{owner}")) for kind in ("concurrency", "rate")
        ]
        return any(found)

    def limits(self) -> Sequence[Known]:
        """The limits of the whole fleet, of queues and tasks, and how many run by them."""
        known: Sequence[Known] = self._run(limits.list_())
        return known

    @staticmethod
    def _owner(queue: str | None, task: str | None) -> tuple[str, str]:
        if (queue is None) == (task is None):
            raise TypeError("A limit is for a queue or for a task: name one of them.")
        return (_named(queue), f"queue {queue!r}") if queue is not None else (
            str(task), f"task {task!r}",
        )  # fmt: skip

    # ── how they do ─────────────────────────────────────────────────────────────────────

    def list(self) -> Sequence[Queue]:
        """All queues that have unfinished jobs or workers, or about which something was said."""
        found = self._run(queues.list_())
        every = next((each for each in found if each.queue == EVERY), None)
        return [_queue(each, every) for each in found]

    def check(self, queue: str) -> Queue:
        """How one queue is doing; one that nobody knows is empty."""
        found = {each.name: each for each in self.list()}
        if queue in found:
            return found[queue]
        every = found.get(EVERY)
        nothing: dict[str, int] = {}
        return Queue(
            queue, every is not None and every.paused, every and every.since,
            every and every.by, None, None, None, None, nothing, None, nothing, [], [],
        )  # fmt: skip

    def _run(self, query: Query[Any]) -> Any:
        if keeps_jobs_in_memory(self._app):
            raise ImproperlyConfigured(
                "broker_url is memory://: its queues are of this process alone, and cannot "
                "be paused, scaled or limited. Set broker_url to a PostgreSQL database."
            )
        return self._app.database.run(query, retry=True)


def _queue(standing: queues.Standing, every: queues.Standing | None) -> Queue:
    said = [_said(each) for each in standing.said]
    of_all = [] if every is None or every is standing else every.said
    words = [each for each in [*standing.said, *of_all] if not each["node"]]
    word = next(
        (
            _said(each)
            for each in words
            if each["paused"] and standing.queue not in each["but"]
        ),
        None,
    )
    paused = word is not None
    return Queue(
        standing.queue,
        paused,
        word.since if word is not None else None,
        word.by if word is not None else None,
        next((each.limit for each in said if each.node is None), None),
        standing.concurrency,
        standing.rate,
        standing.period,
        standing.states,
        standing.age,
        standing.running,
        standing.workers,
        said,
    )


def _said(word: dict[str, Any]) -> Said:
    since = word["since"]
    return Said(
        word["node"] or None,
        word["paused"],
        None if since is None else datetime.fromtimestamp(since, timezone.utc),
        word["by"],
        word["served"],
        word["limit"],
    )


def _named(queue: str) -> str:
    if not isinstance(queue, str) or not queue or queue == EVERY:
        raise ValueError(
            f"{queue!r} is not the name of a queue. For all of them there are pause_all() "
            f"and resume_all()."
        )
    return queue


def _count(limit: Any) -> int | None:
    from pgtasks.app.limits import as_concurrency

    return as_concurrency(limit, "a worker")
