"""The loop that ticks, in the foreground, in a thread or in a process of its own."""

from __future__ import annotations

import time
from contextlib import nullcontext
from functools import cached_property
from multiprocessing import Process
from threading import Event, Thread
from typing import Any

import pgtasks.beat as beat
from pgtasks import signals
from pgtasks.app.connection import keeps_jobs_in_memory
from pgtasks.app.doors import DOORS
from pgtasks.beat.names import NAMESPACE, scheduler_class
from pgtasks.beat.persistent import PersistentScheduler
from pgtasks.beat.presence import presence
from pgtasks.beat.reading import is_stock
from pgtasks.exceptions import ImproperlyConfigured
from pgtasks.utils.nodenames import gethostname, host_format
from pgtasks.utils.time import humanize_seconds

__all__ = ["BeatPidbox", "EmbeddedService", "Service", "beat_nodename", "scheduler_of"]


def beat_nodename(hostname: str | None = None) -> str:
    """Name of a beat: ``celerybeat@host``, with ``%h`` and its kin replaced."""
    name, at, host = (hostname or "").rpartition("@")
    given = f"{name if at else 'celerybeat'}@{host or gethostname()}"
    return str(host_format(given))


def scheduler_of(app: Any) -> Any:
    """Which scheduler a beat runs that is told of none.

    The setting ``beat_scheduler``; but where that is Celery's own, and jobs are in a
    database, the one that sends each tick once for all beats and workers.

    Args:
        app: The application.
    """
    configured = app.conf.beat_scheduler
    if is_stock(configured) and not keeps_jobs_in_memory(app):
        return DOORS["SharedScheduler"]
    return configured


class Service:
    """A scheduler that is asked again and again.

    Args:
        app: The application.
        max_interval: Longest time between two ticks, in seconds.
        schedule_filename: Where `PersistentScheduler` keeps the last runs.
        scheduler_cls: The scheduler, or its name.
        remote_control: Celery's; a beat has no control node here, and says so.
        hostname: Name of the beat.
    """

    scheduler_cls: Any = PersistentScheduler
    effective_max_interval: float | None = None
    _last_tick: float | None = None

    def __init__(
        self,
        app: Any,
        max_interval: float | None = None,
        schedule_filename: str | None = None,
        scheduler_cls: Any = None,
        remote_control: bool | None = None,
        hostname: str | None = None,
    ) -> None:
        conf = app.conf
        self.app = app
        self.max_interval = max_interval or conf.beat_max_loop_interval
        self.scheduler_cls = scheduler_cls or self.scheduler_cls
        self.schedule_filename = schedule_filename or conf.beat_schedule_filename
        wanted = (
            conf.beat_enable_remote_control if remote_control is None else remote_control
        )
        self.remote_control = wanted
        self.hostname = beat_nodename(hostname)
        self._is_shutdown = Event()
        self._is_stopped = Event()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (
            self.app,
            self.max_interval,
            self.schedule_filename,
            self.scheduler_cls,
            self.remote_control,
            self.hostname,
        )

    def start(self, embedded_process: bool = False) -> None:
        """Tick until stopped.

        Args:
            embedded_process: This is a process of a worker's.
        """
        beat.info("beat: Starting...")
        self.effective_max_interval = self.scheduler.max_interval
        beat.debug(
            "beat: Ticking with max interval->%s",
            humanize_seconds(self.effective_max_interval or 0),
        )
        if self.remote_control:
            beat.warning("beat: beat_enable_remote_control has no effect: %s", NO_PIDBOX)
        signals.beat_init.send(sender=self)
        if embedded_process:
            signals.beat_embedded_init.send(sender=self)
        # One that is not for the whole fleet has workers leave the schedule to it.
        shared = getattr(self.scheduler, "shared", False)
        told = nullcontext() if shared else presence(self.app, self.hostname)
        try:
            with told:
                while not self._is_shutdown.is_set():
                    self._tick()
        except (KeyboardInterrupt, SystemExit):
            self._is_shutdown.set()
        finally:
            self.sync()

    def _tick(self) -> None:
        interval = self.scheduler.tick()
        self._last_tick = time.monotonic()
        if interval and interval > 0.0:
            beat.debug("beat: Waking up %s.", humanize_seconds(interval, prefix="in "))
            # Not a sleep: a request to stop need not wait for the next entry.
            self._is_shutdown.wait(interval)
        if self.scheduler.should_sync():
            self.scheduler._do_sync()

    def sync(self) -> None:
        """Let the scheduler write down what it must, for the last time."""
        # A signal may come while it is being made: a second one, made by the signal's
        # handler, would wait for locks that the first one holds.
        if "scheduler" in vars(self):
            self.scheduler.close()
        self._is_stopped.set()

    def stop(self, wait: bool = False) -> None:
        """Ask the loop to end.

        Args:
            wait: Until it has.
        """
        beat.info("beat: Shutting down...")
        self._is_shutdown.set()
        if wait:
            self._is_stopped.wait()

    def get_scheduler(
        self, lazy: bool = False, extension_namespace: str = NAMESPACE
    ) -> Any:
        """Make the scheduler.

        Args:
            lazy: Leave its schedule empty.
            extension_namespace: Entry points that give names to schedulers.
        """
        return scheduler_class(self.scheduler_cls, extension_namespace)(
            app=self.app,
            schedule_filename=self.schedule_filename,
            max_interval=self.max_interval,
            lazy=lazy,
        )

    @cached_property
    def scheduler(self) -> Any:
        """The scheduler, made on first use."""
        return self.get_scheduler()


class _Threaded(Thread):
    """A service in a thread, for tests and for pools without processes."""

    def __init__(self, app: Any, **kwargs: Any) -> None:
        super().__init__(name="Beat", daemon=True)
        self.app = app
        self.service: Any = Service(app, **kwargs)

    def run(self) -> None:
        self.app.set_current()
        self.service.start()

    def stop(self) -> None:
        self.service.stop(wait=True)


class _Embedded(Process):
    """A service in a process beside a worker."""

    def __init__(self, app: Any, **kwargs: Any) -> None:
        super().__init__(name="Beat")
        self.app = app
        self.service: Any = Service(app, **kwargs)

    def run(self) -> None:
        self.app.set_default()
        self.app.set_current()
        self.service.start(embedded_process=True)

    def stop(self) -> None:
        self.service.stop()
        self.terminate()


def EmbeddedService(app: Any, max_interval: float | None = None, **kwargs: Any) -> Any:
    """A service to be started beside a worker, with ``start()`` and ``stop()``.

    Args:
        app: The application.
        max_interval: As `Service`'s.
        **kwargs: As `Service`'s; with ``thread=True`` it is a thread and no process.
    """
    kwargs = {"remote_control": False, "max_interval": max_interval, **kwargs}
    kind = _Threaded if kwargs.pop("thread", False) else _Embedded
    return kind(app, **kwargs)


NO_PIDBOX = (
    "a beat answers to no control commands here. Its process is watched by whatever starts "
    "it, and when an entry was last sent its jobs tell: pgtasks.all_jobs."
)


class BeatPidbox:
    """Celery's control node of a beat, which there is none of here."""

    __absent__ = True

    def __init__(self, service: Any) -> None:
        raise ImproperlyConfigured(f"BeatPidbox is not there: {NO_PIDBOX}")
