"""The picture of a cluster that its events add up to: workers, tasks, and their order."""

from __future__ import annotations

import bisect
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple
from weakref import WeakSet, ref

from pgtasks.events.members import (
    HEARTBEAT_DRIFT_MAX,
    HEARTBEAT_EXPIRE_WINDOW,
    TASK_EVENT_TO_STATE,
    Task,
    Worker,
    heartbeat_expires,
)
from pgtasks.utils.log import get_logger

__all__ = [
    "HEARTBEAT_DRIFT_MAX",
    "HEARTBEAT_EXPIRE_WINDOW",
    "TASK_EVENT_TO_STATE",
    "State",
    "Task",
    "Worker",
    "heartbeat_expires",
]

logger = get_logger("celery.events.state")
warn = logger.warning


class Recent(OrderedDict[str, Any]):
    """A dict that forgets what was asked for least lately.

    Args:
        limit: How much it keeps.
    """

    def __init__(self, limit: int | None) -> None:
        super().__init__()
        self.limit = limit

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        try:
            self.move_to_end(key)
        except KeyError:
            pass  # Python 3.10's own pop() asks for what it has taken out of the order.
        return value

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        while self.limit and len(self) > self.limit:
            self.popitem(last=False)

    def __reduce__(self) -> Any:
        return _recent, (self.limit, list(self.items()))


def _recent(limit: int | None, items: list[tuple[str, Any]]) -> Recent:
    found = Recent(limit)
    found.update(items)
    return found


class By(defaultdict[str, "WeakSet[Task]"]):
    """Tasks by something, to be looked up (``by[name]``) or asked (``by(name, limit)``).

    Args:
        ask: Answers a call.
    """

    def __init__(self, ask: Callable[..., Any]) -> None:
        super().__init__(WeakSet)
        self._ask = ask

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._ask(*args, **kwargs)


class Moment(NamedTuple):
    """When an event of a task happened, in an order that all machines agree on."""

    clock: int
    timestamp: float
    node: str
    task: ref[Task]

    @property
    def order(self) -> tuple[Any, ...]:
        """What to sort by: the logical clock, where there is one, says what came first."""
        return (self.clock or 0, self.node or "") if self.clock else (0, "", self.timestamp)


#: Under other names, as `State` has attributes of these.
_Task = Task
_Worker = Worker


class State:
    """What the events so far have told.

    Args:
        callback: Called with this and each event first.
        workers: Known ones, by name.
        tasks: Known ones, by id.
        taskheap: The order of their events.
        max_workers_in_memory: Workers to keep.
        max_tasks_in_memory: Tasks to keep.
        on_node_join: Called with each worker that comes.
        on_node_leave: Called with each worker that goes.
        tasks_by_type: Celery's; gathered from ``tasks``.
        tasks_by_worker: Celery's; likewise.
    """

    Worker = Worker
    Task = Task
    event_count = 0
    task_count = 0
    #: How many events in the order there may be for each task that is kept.
    heap_multiplier = 4

    def __init__(
        self,
        callback: Callable[[State, Any], Any] | None = None,
        workers: Mapping[str, _Worker] | None = None,
        tasks: Mapping[str, _Task] | None = None,
        taskheap: list[Moment] | None = None,
        max_workers_in_memory: int = 5000,
        max_tasks_in_memory: int = 10000,
        on_node_join: Callable[[_Worker], Any] | None = None,
        on_node_leave: Callable[[_Worker], Any] | None = None,
        tasks_by_type: Any = None,
        tasks_by_worker: Any = None,
    ) -> None:
        self.event_callback = callback
        self.max_workers_in_memory = max_workers_in_memory
        self.max_tasks_in_memory = max_tasks_in_memory
        self.on_node_join, self.on_node_leave = on_node_join, on_node_leave
        self.workers: Any = Recent(max_workers_in_memory)
        self.workers.update(workers or {})
        self.tasks: Any = Recent(max_tasks_in_memory)
        self.tasks.update(tasks or {})
        self.handlers: dict[str, Callable[..., Any]] = {}
        self.tasks_by_type = By(self._tasks_by_type)
        self.tasks_by_worker = By(self._tasks_by_worker)
        self._taskheap: list[Moment] = [] if taskheap is None else taskheap
        self._tasks_to_resolve: Any = Recent(max_tasks_in_memory)
        self._seen_types: set[str] = set()
        self._mutex = threading.RLock()
        for task in self.tasks.values():
            task.cluster_state = self
            self._index(task)
        self.rebuild_taskheap()

    def __reduce__(self) -> Any:
        return type(self), (
            self.event_callback,
            dict(self.workers),
            dict(self.tasks),
            None,
            self.max_workers_in_memory,
            self.max_tasks_in_memory,
            self.on_node_join,
            self.on_node_leave,
        )

    def __repr__(self) -> str:
        return f"<State: events={self.event_count} tasks={self.task_count}>"

    # ── taking in ───────────────────────────────────────────────────────────────────────

    def event(self, event: dict[str, Any]) -> Any:
        """Take in an event; the answer is whom it is about, if that is new, and its subject."""
        with self._mutex:
            self.event_count += 1
            if self.event_callback is not None:
                self.event_callback(self, event)
            group, _, subject = event["type"].partition("-")
            if group in self.handlers:
                return self.handlers[group](subject, event), subject
            if group == "worker":
                return self._worker(subject, event)
            if group == "task":
                return self._task(subject, event)
            return None

    def worker_event(self, type_: str, fields: Mapping[str, Any]) -> Any:
        """Take in an event about a worker, by its subject."""
        return self.event({**fields, "type": f"worker-{type_}"})[0]

    def task_event(self, type_: str, fields: Mapping[str, Any]) -> Any:
        """Take in an event about a task, by its subject."""
        return self.event({**fields, "type": f"task-{type_}"})[0]

    def _worker(self, subject: str, event: dict[str, Any]) -> Any:
        try:
            hostname, sent, came = (event[name] for name in _WORKER_FIELDS)
        except KeyError:
            return None
        leaves = subject == "offline"
        worker, created = self.workers.get(hostname), False
        if worker is None:
            worker, created = self.Worker(hostname), not leaves
            if not leaves:
                self.workers[hostname] = worker
        worker.event(subject, sent, came, event)
        if self.on_node_join is not None and (created or subject == "online"):
            self.on_node_join(worker)
        if self.on_node_leave is not None and leaves:
            self.on_node_leave(worker)
            self.workers.pop(hostname, None)
        return (worker, created), subject

    def _task(self, subject: str, event: dict[str, Any]) -> Any:
        uuid, hostname, sent, came, clock = (event[name] for name in _TASK_FIELDS)
        task, created = self.get_or_create_task(uuid)
        if subject == "sent":
            task.client = origin = hostname
        else:
            worker, _ = self.get_or_create_worker(hostname)
            task.worker = worker
            if came:
                worker.event(None, sent, came)
            origin = worker.id
        self._remember(Moment(clock, sent, origin, ref(task)))
        if subject == "received":
            self.task_count += 1
        task.event(subject, sent, came, event)
        self._index(task)
        if created:
            self._join_family(task)
        return (task, created), subject

    def _remember(self, moment: Moment) -> None:
        if len(self._taskheap) + 1 > self.max_tasks_in_memory * self.heap_multiplier:
            del self._taskheap[0]
        bisect.insort(self._taskheap, moment, key=lambda each: each.order)

    def _index(self, task: _Task) -> None:
        if task.name is not None:
            self._seen_types.add(task.name)
            self.tasks_by_type[task.name].add(task)
        if task.worker is not None:
            self.tasks_by_worker[task.worker.hostname].add(task)

    def _join_family(self, task: _Task) -> None:
        """Make it its parent's child, now or when that is heard of."""
        if task.parent_id:
            parent = self.tasks.get(task.parent_id)
            if parent is not None:
                parent.children.add(task)
            else:
                self._tasks_to_resolve.setdefault(task.parent_id, WeakSet()).add(task)
                while len(self._tasks_to_resolve) > self.max_tasks_in_memory:
                    self._tasks_to_resolve.popitem(last=False)
        task.children.update(self._tasks_to_resolve.pop(task.uuid, ()))

    def get_or_create_task(self, uuid: str) -> tuple[_Task, bool]:
        """The task of an id, and whether it is new."""
        try:
            return self.tasks[uuid], False
        except KeyError:
            task = self.tasks[uuid] = self.Task(uuid, cluster_state=self)
            return task, True

    def get_or_create_worker(self, hostname: str, **kwargs: Any) -> tuple[_Worker, bool]:
        """The worker of a name, with these attributes, and whether it is new."""
        try:
            worker = self.workers[hostname]
        except KeyError:
            worker = self.workers[hostname] = self.Worker(hostname, **kwargs)
            return worker, True
        worker.update(kwargs)
        return worker, False

    # ── asking ──────────────────────────────────────────────────────────────────────────

    def alive_workers(self) -> Iterator[_Worker]:
        """The workers that were heard of lately."""
        return (worker for worker in list(self.workers.values()) if worker.alive)

    def task_types(self) -> list[str]:
        """The names of tasks that were seen."""
        return sorted(self._seen_types)

    def itertasks(self, limit: int | None = None) -> Iterator[tuple[str, _Task]]:
        """Ids and tasks."""
        return islice(list(self.tasks.items()), limit)

    def tasks_by_time(
        self, limit: int | None = None, reverse: bool = True
    ) -> Iterator[tuple[Any, _Task]]:
        """Ids and tasks by their last event, the latest first."""
        order: Iterable[Moment] = self._taskheap
        seen: set[Any] = set()
        for moment in islice(reversed(list(order)) if reverse else list(order), limit):
            task = moment.task()
            if task is not None and task.uuid not in seen:
                seen.add(task.uuid)
                yield task.uuid, task

    tasks_by_timestamp = tasks_by_time

    def _tasks_by_type(
        self, name: str, limit: int | None = None, reverse: bool = True
    ) -> Iterator[tuple[Any, _Task]]:
        found = (
            each for each in self.tasks_by_time(reverse=reverse) if each[1].name == name
        )
        return islice(found, limit)

    def _tasks_by_worker(
        self, hostname: str, limit: int | None = None, reverse: bool = True
    ) -> Iterator[tuple[Any, _Task]]:
        def runs_here(task: Any) -> bool:
            return task.worker is not None and task.worker.hostname == hostname

        found = (each for each in self.tasks_by_time(reverse=reverse) if runs_here(each[1]))
        return islice(found, limit)

    # ── keeping ─────────────────────────────────────────────────────────────────────────

    def freeze_while(self, fun: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function while nothing is taken in.

        Args:
            fun: The function.
            *args: Its arguments.
            **kwargs: Its keyword arguments; ``clear_after`` forgets afterwards.
        """
        clear_after = kwargs.pop("clear_after", False)
        with self._mutex:
            try:
                return fun(*args, **kwargs)
            finally:
                if clear_after:
                    self.clear()

    def clear(self, ready: bool = True) -> None:
        """Forget workers, counts, and tasks.

        Args:
            ready: Only tasks that are over.
        """
        with self._mutex:
            self.workers.clear()
            self.clear_tasks(ready)
            self.event_count = self.task_count = 0

    def clear_tasks(self, ready: bool = True) -> None:
        """Forget tasks, of them only those that are over by default."""
        with self._mutex:
            kept = {
                uuid: task
                for uuid, task in self.tasks.items()
                if ready and not getattr(task, "ready", False)
            }
            self.tasks.clear()
            self.tasks.update(kept)
            self._taskheap[:] = [each for each in self._taskheap if _is_in(each, kept)]

    def rebuild_taskheap(self, timetuple: Any = Moment) -> None:
        """Put the tasks into the order of their last events."""
        self._taskheap[:] = sorted(
            (
                timetuple(task.clock, task.timestamp or 0.0, task.origin, ref(task))
                for task in self.tasks.values()
            ),
            key=lambda each: each.order,
        )


_WORKER_FIELDS = ("hostname", "timestamp", "local_received")
_TASK_FIELDS = ("uuid", "hostname", "timestamp", "local_received", "clock")


def _is_in(moment: Moment, tasks: Mapping[str, _Task]) -> bool:
    task = moment.task()
    return task is not None and task.uuid in tasks
