"""Keeps the entries of a schedule on a heap and sends what is on top when it is due.

Third parties subclass it, `Scheduler.tick` and all that it calls, so that every step is a
method of its own under Celery's name.
"""

from __future__ import annotations

import copy
import heapq
import time
import traceback
from calendar import timegm
from collections.abc import Callable, Mapping
from typing import Any

import pgtasks.beat as beat
from pgtasks.beat.entry import BeatLazyFunc, ScheduleEntry, SchedulingError, event_t
from pgtasks.schedules import crontab
from pgtasks.utils.proxy import maybe_evaluate
from pgtasks.utils.time import maybe_make_aware

__all__ = ["Scheduler"]

CLEANUP = "celery.backend_cleanup"


class Scheduler:
    """A schedule, and what is to be done about it next.

    Args:
        app: The application, whose ``beat_schedule`` is taken over.
        schedule: The entries by name, in place of a new dict.
        max_interval: Longest time between two looks at the schedule, in seconds.
        Producer: Celery's; there is no broker to produce for.
        lazy: Leave `setup_schedule` to the caller.
        sync_every_tasks: How many tasks may be sent before `sync`.
        **kwargs: For subclasses.
    """

    Entry: Any = ScheduleEntry
    max_interval: float = beat.DEFAULT_MAX_INTERVAL
    #: Seconds between two calls of `sync`.
    sync_every: float = 3 * 60
    sync_every_tasks: int | None = None
    logger: Any = beat.logger
    #: Celery's; jobs are sent on the application's own connections.
    connection = producer = None

    _last_sync: float | None = None
    _tasks_since_sync = 0

    def __init__(
        self,
        app: Any,
        schedule: Any = None,
        max_interval: float | None = None,
        Producer: Any = None,
        lazy: bool = False,
        sync_every_tasks: int | None = None,
        **kwargs: Any,
    ) -> None:
        conf = app.conf
        self.app = app
        self.data = maybe_evaluate({} if schedule is None else schedule)
        self.max_interval = max_interval or conf.beat_max_loop_interval or self.max_interval
        self.Producer = Producer
        self._heap: list[event_t] | None = None
        self.old_schedulers: Any = None
        every = conf.beat_sync_every if sync_every_tasks is None else sync_every_tasks
        self.sync_every_tasks = every
        if not lazy:
            self.setup_schedule()

    # ── the schedule ────────────────────────────────────────────────────────────────────

    def get_schedule(self) -> Any:
        """The entries by name."""
        return self.data

    def set_schedule(self, schedule: Any) -> None:
        """Replace the entries."""
        self.data = schedule

    schedule = property(
        lambda self: self.get_schedule(),
        lambda self, schedule: self.set_schedule(schedule),
        doc="The entries by name.",
    )

    def setup_schedule(self) -> None:
        """Fill the schedule at the start."""
        self.merge_inplace(self.app.conf.beat_schedule)
        self.install_default_entries(self.data)

    def install_default_entries(self, data: Mapping[str, Any]) -> None:
        """Add what every schedule has: the removal of results that have expired."""
        wanted = self.app.conf.result_expires and not self.app.backend.supports_autoexpire
        if wanted and CLEANUP not in data:
            nightly = {
                "task": CLEANUP,
                "schedule": crontab("0", "4", "*"),
                "options": {"expires": 12 * 3600},
            }
            self.update_from_dict({CLEANUP: nightly})

    def add(self, **kwargs: Any) -> Any:
        """Add an entry, given by its fields."""
        entry = self.Entry(app=self.app, **kwargs)
        self.schedule[entry.name] = entry
        return entry

    def _maybe_entry(self, name: str, entry: Any) -> Any:
        if isinstance(entry, self.Entry):
            entry.app = self.app
            return entry
        return self.Entry(**{**dict(entry), "name": name, "app": self.app})

    def update_from_dict(self, dict_: Mapping[str, Any]) -> None:
        """Add entries, given by their fields or ready."""
        self.schedule.update(
            {name: self._maybe_entry(name, entry) for name, entry in dict_.items()}
        )

    def merge_inplace(self, b: Mapping[str, Any]) -> None:
        """Make the schedule be ``b``; of entries that stay, the counts are kept."""
        schedule = self.schedule
        for name in set(schedule) - set(b):
            schedule.pop(name, None)
        for name, fields in b.items():
            entry = self.Entry(**{**dict(fields), "name": name, "app": self.app})
            if schedule.get(name):
                schedule[name].update(entry)
            else:
                schedule[name] = entry

    def schedules_equal(self, old_schedules: Any, new_schedules: Any) -> bool:
        """Whether two schedules have the same entries."""
        if old_schedules is None or new_schedules is None:
            return old_schedules is new_schedules
        # Most entries are the same objects as a tick ago, and need no comparing by value.
        return old_schedules.keys() == new_schedules.keys() and all(
            entry is new_schedules[name] or entry == new_schedules[name]
            for name, entry in old_schedules.items()
        )

    # ── time ────────────────────────────────────────────────────────────────────────────

    def adjust(self, n: Any, drift: float = -0.010) -> Any:
        """Seconds to wait, less what waking up takes."""
        return n + drift if n and n > 0 else n

    def _when(
        self, entry: Any, next_time_to_run: Any, mktime: Callable[..., float] = timegm
    ) -> float:
        """The moment in so many seconds, since the epoch, by the entry's clock."""
        now = maybe_make_aware(entry.default_now())
        begun = mktime(now.utctimetuple()) + now.microsecond / 1e6
        return begun + float(self.adjust(next_time_to_run) or 0)

    def is_due(self, entry: Any) -> Any:
        """Whether an entry is to be sent, and the seconds until it is asked again."""
        return entry.is_due()

    def _state_of(self, entry: Any) -> tuple[bool, float]:
        """The same; an entry that cannot say is passed over, and asked again later."""
        try:
            due, seconds = self.is_due(entry)
        except Exception as failed:
            beat.error(
                "Cannot tell when %s is due: %r. The other entries go on.",
                entry.name,
                failed,
                exc_info=True,
            )
            return False, self.max_interval
        return due, self.max_interval if seconds is None else seconds

    # ── the heap ────────────────────────────────────────────────────────────────────────

    def populate_heap(
        self, event_t: Any = event_t, heapify: Callable[..., Any] = heapq.heapify
    ) -> None:
        """Put every entry onto the heap anew."""
        priority = 5
        self._heap = []
        for entry in self.schedule.values():
            due, seconds = self._state_of(entry)
            when = self._when(entry, 0 if due else seconds)
            self._heap.append(event_t(when or 0, priority, entry))
        heapify(self._heap)

    def tick(
        self,
        event_t: Any = event_t,
        min: Callable[..., Any] = min,
        heappop: Callable[..., Any] = heapq.heappop,
        heappush: Callable[..., Any] = heapq.heappush,
    ) -> float:
        """Send the entry on top if it is due; the answer is the seconds until the next tick."""
        if self._heap is None or not self.schedules_equal(
            self.old_schedulers, self.schedule
        ):
            self.old_schedulers = copy.copy(self.schedule)
            self.populate_heap()
        heap: Any = self._heap
        if not heap:
            return self.max_interval
        event = heap[0]
        entry = event[2]
        due, seconds = self._state_of(entry)
        if heap[0] is not event:
            # Whoever was asked has changed the heap meanwhile.
            return float(min(self._until(heap[0]), self.max_interval))
        heappop(heap)
        if due:
            following = self.reserve(entry)
            self.apply_entry(entry, producer=self.producer)
            heappush(heap, event_t(self._when(following, seconds), event[1], following))
            return 0
        again = event_t(self._when(entry, seconds), event[1], entry)
        heappush(heap, again)
        if heap[0] is not again:
            return float(max(0, min(self._until(heap[0]), self.max_interval)))
        return float(min(self.adjust(seconds), self.max_interval))

    def _until(self, event: Any) -> float:
        return float(event[0]) - self._when(event[2], 0)

    def reserve(self, entry: Any) -> Any:
        """Count a run, before it is made: two beats would rather miss one than make two."""
        following = self.schedule[entry.name] = next(entry)
        return following

    # ── sending ─────────────────────────────────────────────────────────────────────────

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        """Send the task of an entry; that it cannot be sent is logged."""
        beat.info("Scheduler: Sending due task %s (%s)", entry.name, entry.task)
        try:
            result = self.apply_async(entry, producer=producer, advance=False)
        except Exception as failed:
            stack = "".join(traceback.format_stack())
            beat.error("Message Error: %s\n%s", failed, stack, exc_info=True)
        else:
            if result and hasattr(result, "id"):
                beat.debug("%s sent. id->%s", entry.task, result.id)
            else:
                beat.debug("%s sent.", entry.task)

    def apply_async(
        self, entry: Any, producer: Any = None, advance: bool = True, **kwargs: Any
    ) -> Any:
        """Send the task of an entry.

        Args:
            entry: The entry.
            producer: Celery's.
            advance: Count a run.
            **kwargs: For subclasses.

        Raises:
            SchedulingError: It cannot be sent.
        """
        # Done before the task is looked up, so that it is counted whatever happens.
        if advance:
            entry = self.reserve(entry)
        task = self.app.tasks.get(entry.task)
        try:
            args = [_value(each) for each in entry.args or ()]
            named = {key: _value(each) for key, each in (entry.kwargs or {}).items()}
            options = dict(entry.options or {})
            headers = {**(options.get("headers") or {}), "celery_beat_task": True}
            options["headers"] = headers
            if task is not None:
                return task.apply_async(args, named, producer=producer, **options)
            return self.send_task(entry.task, args, named, producer=producer, **options)
        except Exception as failed:
            raise SchedulingError(
                f"Couldn't apply scheduled task {entry.name}: {failed}"
            ) from failed
        finally:
            self._tasks_since_sync += 1
            if self.should_sync():
                self._do_sync()

    def send_task(self, *args: Any, **kwargs: Any) -> Any:
        """Send a task that is not known here."""
        return self.app.send_task(*args, **kwargs)

    # ── keeping ─────────────────────────────────────────────────────────────────────────

    def should_sync(self) -> bool:
        """Whether it is time for `sync`."""
        last = self._last_sync
        if not last or time.monotonic() - last > self.sync_every:
            return True
        return bool(
            self.sync_every_tasks and self._tasks_since_sync >= self.sync_every_tasks
        )

    def _do_sync(self) -> None:
        try:
            beat.debug("beat: Synchronizing schedule...")
            self.sync()
        finally:
            self._last_sync = time.monotonic()
            self._tasks_since_sync = 0

    def sync(self) -> None:
        """Write down what must outlive the process; for subclasses."""

    def close(self) -> None:
        """Do so for the last time."""
        self.sync()

    @property
    def info(self) -> str:
        """A line for the banner."""
        return ""


def _value(argument: Any) -> Any:
    return argument() if isinstance(argument, BeatLazyFunc) else argument
