"""A thread that calls functions later, for boot steps that have none of their own."""

from __future__ import annotations

import itertools
import os
import sys
import threading
from collections.abc import Callable
from time import sleep
from typing import Any

from kombu.asynchronous.timer import Entry, logger, to_timestamp
from kombu.asynchronous.timer import Timer as Schedule

__all__ = ["Entry", "Schedule", "Timer", "to_timestamp"]


class Timer(threading.Thread):
    """Calls functions at their time; started by the first of them.

    Args:
        schedule: Keeps them in order; a new one by default.
        on_error: Called with the exceptions of functions, which are logged otherwise.
        on_tick: Called with the seconds before each sleep.
        on_start: Called with the timer before it starts.
        max_interval: Seconds to sleep at most.
        **kwargs: Accepted from Celery.
    """

    Entry = Entry
    Schedule = Schedule

    running = False
    on_tick: Callable[[float], Any] | None = None

    _numbers = itertools.count(1)

    def __init__(
        self,
        schedule: Any = None,
        on_error: Callable[[Exception], Any] | None = None,
        on_tick: Callable[[float], Any] | None = None,
        on_start: Callable[[Timer], Any] | None = None,
        max_interval: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=f"Timer-{next(self._numbers)}", daemon=True)
        if schedule is None:
            schedule = self.Schedule(on_error=on_error, max_interval=max_interval)
        self.schedule = schedule
        self.on_start = on_start
        self.on_tick = on_tick or self.on_tick
        # Thread has names of its own for the like.
        self.__is_shutdown = threading.Event()
        self.__is_stopped = threading.Event()
        self.mutex = threading.Lock()
        self.not_empty = threading.Condition(self.mutex)

    def run(self) -> None:
        """Call functions until stopped."""
        self.running = True
        self.scheduler = iter(self.schedule)
        try:
            while not self.__is_shutdown.is_set():
                delay = self._next_entry()
                if delay:
                    if self.on_tick:
                        self.on_tick(delay)
                    sleep(delay)
        except Exception as error:
            # What waits here would wait for ever.
            logger.error("Thread Timer crashed: %r", error, exc_info=True)
            sys.stderr.flush()
            os._exit(1)
        try:
            self.__is_stopped.set()
        except TypeError:
            # The interpreter is on its way out, and Python's modules are gone.
            pass

    def _next_entry(self) -> Any:
        with self.not_empty:
            delay, entry = next(self.scheduler)
            if entry is None:
                if delay is None:
                    self.not_empty.wait(1.0)
                return delay
        return self.schedule.apply_entry(entry)

    __next__ = next = _next_entry

    def stop(self) -> None:
        """Call no more functions, and wait for the one that runs."""
        self.__is_shutdown.set()
        if self.running:
            self.__is_stopped.wait()
            self.join(threading.TIMEOUT_MAX)
            self.running = False

    def ensure_started(self) -> None:
        """Start the thread, unless it has been."""
        if not self.running and not self.is_alive():
            if self.on_start:
                self.on_start(self)
            self.start()

    def _do_enter(self, meth: str, *args: Any, **kwargs: Any) -> Any:
        self.ensure_started()
        with self.mutex:
            entry = getattr(self.schedule, meth)(*args, **kwargs)
            self.not_empty.notify()
            return entry

    def enter(self, entry: Any, eta: Any, priority: int | None = None) -> Any:
        """Call an entry at a date."""
        return self._do_enter("enter_at", entry, eta, priority=priority)

    def enter_after(self, *args: Any, **kwargs: Any) -> Any:
        """Call an entry after some seconds: ``enter_after(seconds, entry)``."""
        return self._do_enter("enter_after", *args, **kwargs)

    def call_at(self, *args: Any, **kwargs: Any) -> Any:
        """Call a function at a date: ``call_at(date, function, args, kwargs)``."""
        return self._do_enter("call_at", *args, **kwargs)

    def call_after(self, *args: Any, **kwargs: Any) -> Any:
        """Call a function after seconds: ``call_after(seconds, function, args, kwargs)``."""
        return self._do_enter("call_after", *args, **kwargs)

    def call_repeatedly(self, *args: Any, **kwargs: Any) -> Any:
        """Call a function every so many seconds, with the arguments of `call_after`."""
        return self._do_enter("call_repeatedly", *args, **kwargs)

    def exit_after(self, secs: float, priority: int = 10) -> None:
        """Leave this thread after some seconds."""
        self.call_after(secs, sys.exit, priority)

    def cancel(self, tref: Any) -> None:
        """Do not call an entry any more, as the other methods answer them."""
        tref.cancel()

    def clear(self) -> None:
        """Forget all entries."""
        self.schedule.clear()

    def empty(self) -> bool:
        """Whether there are none."""
        return not len(self)

    @property
    def queue(self) -> Any:
        """The entries."""
        return self.schedule.queue

    def __len__(self) -> int:
        return len(self.schedule)

    def __bool__(self) -> bool:
        return True
