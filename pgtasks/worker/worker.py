"""One worker: builds its services, starts them in order, stops them in reverse."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from pgtasks import __version__, signals
from pgtasks.app import app_or_default
from pgtasks.app.modes import check_that_jobs_run
from pgtasks.job import Job, Outcome
from pgtasks.platforms import set_mp_process_title
from pgtasks.plugins.catalog import choose
from pgtasks.storage import schema, workers
from pgtasks.storage.errors import StorageError
from pgtasks.storage.jobs import ACK_SETTINGS
from pgtasks.worker import gates, identity, making, revocation, state, telling
from pgtasks.worker.acker import Acker
from pgtasks.worker.autoscale import bounds
from pgtasks.worker.begun import BegunFile, remove_leftovers
from pgtasks.worker.books import Books
from pgtasks.worker.consumer import Consumer
from pgtasks.worker.fetcher import Fetcher
from pgtasks.worker.gates import Gatekeeper
from pgtasks.worker.heartbeat import Heartbeat, Keeper
from pgtasks.worker.hooks import Hooks
from pgtasks.worker.leader import Leader
from pgtasks.worker.lifeline import Lifeline
from pgtasks.worker.mailbox import Mailbox
from pgtasks.worker.pools.solo import SoloPool
from pgtasks.worker.reporter import FREQUENCY, Reporter
from pgtasks.worker.service import Service
from pgtasks.worker.shutdown import install_signal_handlers
from pgtasks.worker.stager import LIMIT, Stager
from pgtasks.worker.steps import Stepped
from pgtasks.worker.stopping import Stopping
from pgtasks.worker.timer import Timer
from pgtasks.worker.warden import Warden

if TYPE_CHECKING:
    from pgtasks.app.base import Celery
    from pgtasks.plugins.base import Plugin
    from pgtasks.storage.leaders import Seat
    from pgtasks.worker.autoscale import Autoscaler
    from pgtasks.worker.pools.base import Pool

__all__ = ["Worker", "install_signal_handlers"]

logger = logging.getLogger("celery.worker")


class Worker(Stopping, Hooks, Stepped, Books):
    """Runs the jobs of some queues until it is told to stop.

    Args:
        app: The application whose tasks it runs; the current one by default.
        hostname: Name of the node, ``celery@host`` by default.
        queues: Queues to take jobs from; the application's by default.
        queue_limits: How many jobs of a queue may run here at a time; of queues without, as
            many as there are places.
        concurrency: Jobs at a time; by default the number of processors, with ``auto``
            of those that this process may use.
        pool: ``prefork``, ``threads``, ``asyncio``, ``gevent`` or ``solo``.
        max_tasks_per_child: Jobs after which a child process is replaced.
        max_memory_per_child: Resident kilobytes above which it is.
        time_limit: Hard limit in seconds for tasks that set none.
        soft_time_limit: Soft limit, likewise.
        ready_callback: Called with the worker when it takes jobs.
        autoscale: The largest and the smallest number of jobs at a time, ``"10,3"`` or
            ``(10, 3)``; it starts with the smallest.

    Attributes:
        autoscaler: What changes the number of places, with ``autoscale``; else None.
    """

    autoscaler: Autoscaler | None = None

    def __init__(
        self,
        app: Celery | None = None,
        hostname: str | None = None,
        *,
        queues: Sequence[str] | None = None,
        queue_limits: Mapping[str, int] | None = None,
        concurrency: int | str | None = None,
        pool: str | None = None,
        max_tasks_per_child: int | None = None,
        max_memory_per_child: int | None = None,
        time_limit: float | None = None,
        soft_time_limit: float | None = None,
        ready_callback: Callable[[Worker], None] | None = None,
        autoscale: str | Sequence[int] | None = None,
        **options: Any,
    ) -> None:
        app = app_or_default(app)
        check_that_jobs_run(app)
        conf = app.conf
        self._plugins = choose(app)
        self.on_before_init(**options)
        super().__init__(
            app,
            soft_limit=soft_time_limit or conf.task_soft_time_limit,
            hard_limit=time_limit or conf.task_time_limit,
        )
        self.hostname = hostname or f"celery@{socket.gethostname()}"
        self.queues = list(queues or [conf.task_default_queue])
        self._queue_limits = {**(conf.worker_queue_limits or {}), **(queue_limits or {})}
        self.setup_defaults(
            concurrency=concurrency,
            pool=pool,
            max_tasks_per_child=max_tasks_per_child,
            max_memory_per_child=max_memory_per_child,
            **options,
        )
        self.min_concurrency, self.max_concurrency = self.concurrency, self.concurrency
        self.autoscale = autoscale
        if autoscale:
            self.max_concurrency, self.min_concurrency = bounds(autoscale)
            self.concurrency = self.min_concurrency
        self.options = options
        wanted = options.get("task_events")
        self.task_events = bool(conf.worker_send_task_events if wanted is None else wanted)
        self.consumer = Consumer(self)
        self.steps = []
        self.started_at = time.time()
        self.prepare_to_stop()
        self._ready_callback = ready_callback
        self._services: list[Service] = []
        self.heart: Heartbeat | Keeper
        self.leader: Leader | None
        self._unsubscribe: list[Callable[[], None]] = []
        self.on_after_init(**options)

    @property
    def pool_cls(self) -> type[Pool]:
        """The class of its pool."""
        from pgtasks.worker.pools import by_name

        return by_name(self.pool_name)

    # ── life ────────────────────────────────────────────────────────────────────────────

    def start(self) -> int:
        """Work until stopped; the answer is the exit code."""
        self._build()
        self.app.database  # noqa: B018 - opened before the first thread needs it
        schema.check(self.app.database)
        self._register()
        self.gates.prepare()
        revocation.prepare(self.app)
        self.rates.on_death = self.died
        self.rates.reset()
        telling.of_start(self)
        if self._places_chosen:
            logger.info(
                "worker_concurrency='auto' resolved to %d (pool=%s)",
                self.concurrency,
                self.pool_name,
            )
        state.workers.add(self)
        self.on_start()
        try:
            self._start_services()
            self.start_steps()
            signals.worker_ready.send(sender=self.consumer)
            self.on_consumer_ready(self.consumer)
            if self._ready_callback is not None:
                self._ready_callback(self)
            if isinstance(self.pool, SoloPool):
                self.pool.serve()
            # Not without end: the kernel may give a signal to any thread, and only when
            # this one moves does Python run the handler.
            while not self._ended.wait(0.5):
                pass
        finally:
            self.stop()
            self.left.set()
        return self.exitcode

    def _build(self) -> None:
        """Everything that must be forked is forked here, before threads and connections."""
        conf = self.app.conf
        # Jobs are also found unreadable in children, which copy this.
        vars(self.app)["_consumer"] = self.consumer
        self.app.loader.import_default_modules()
        self.app.finalize()
        self.lease = float(conf.worker_lease)
        remove_leftovers()
        # Pools may grow. What nobody notes anything in costs no room.
        most = self.max_concurrency
        self.begun = BegunFile(str(uuid4()), max(2 * most, most + 32))
        self.begun.turned_at = identity.boottime()
        signals.worker_init.send(sender=self)
        known = {"concurrency": self.concurrency, "pool_cls": self.pool_name}
        self.make_steps(**{**known, **self.options})
        self.pool = making.make_pool(self)
        if self.autoscale:
            self.autoscaler = making.make_autoscaler(self)
            self._on_received = getattr(self.autoscaler, "on_task_received", None)
        interval = min(float(conf.worker_heartbeat_interval), self.lease / 4)
        beat = Keeper if self.pool.in_process else Heartbeat
        self.heart = beat(
            self.app.database, self.begun, lease=self.lease, interval=interval
        )
        if self.pool.in_process:
            self.on_process_start()
        # Its statement wants other plans than the rest, so it has a session of its own.
        self._ack_database = self.app.database.under(ACK_SETTINGS)
        self.gates = Gatekeeper(self, self._queue_limits)
        self.fetcher = Fetcher(
            self.app.database,
            self.queues,
            demand=lambda: self.pool.demand,
            submit=self._take,
            begun=self.begun,
            lease=self.lease,
            rerunnable=self.rerunnable,
            poll_interval=float(conf.worker_poll_interval),
            max_size=int(conf.task_body_max_size or 2**30),
            backlog=lambda: self.acker.backlog,
            listening=lambda: self.app.notifier.listening,
            gates=self.gates,
            node=self.hostname,
            watched=self._watched,
            on_awake=lambda: self.stager.wakeup.set(),
        )
        self.acker = Acker(
            self._ack_database, self._on_settled, self._on_runnable, claims=self.fetcher
        )
        chosen = self._plugins
        staging = chosen.services.get("stager")
        watching = chosen.services.get("lifeline")
        self.stager = Stager(
            self.app.database,
            worker=lambda: self.begun.worker,
            on_staged=self.fetcher.wakeup.set,
            is_busy=lambda: not self.fetcher.asleep,
            poll_interval=(staging or {}).get("interval")
            or float(conf.worker_poll_interval),
            watched=self._watched,
            limit=(staging or {}).get("limit", LIMIT),
        )
        self.reporter = self._make_reporter()
        self.mailbox = None
        if conf.worker_enable_remote_control:
            self.mailbox = Mailbox(self, self._watched)
        self.lifeline = Lifeline(
            self.app.database,
            worker=lambda: self.begun.worker,
            held=lambda: self._held,
            on_abandoned=self._on_abandoned,
            on_rescued=self.fetcher.wakeup.set,
            lease=self.lease,
            max_lost=(watching or {}).get("max_lost") or int(conf.worker_max_lost),
            interval=(watching or {}).get("interval"),
            sweeps=watching is not None,
            view=self._view,
            on_look=self._on_look,
        )
        self._services = [
            self.acker,
            self.fetcher,
            self.lifeline,
            self.gates,
            Warden(self),
        ]
        if staging is not None:
            self._services.insert(2, self.stager)
        self._services += self._make_timers(chosen.plugins)
        if self.mailbox is not None:
            self._hear = self.mailbox.hear
            self._services.append(self.mailbox)
        if isinstance(self.heart, Heartbeat):
            self._services.append(self.heart)
        self._services.append(self.reporter)
        if self.options.get("beat"):
            self._services.append(self._make_beat())

    def _make_reporter(self) -> Reporter:
        freq: float | None = FREQUENCY
        if self.app.conf.value_set_for("worker_heartbeat_interval"):
            freq = float(self.app.conf.worker_heartbeat_interval)
        if self.options.get("without_heartbeat"):
            freq = None
        reporter = Reporter(self, task_events=self.task_events, freq=freq)
        self.consumer.event_dispatcher = reporter.dispatcher
        return reporter

    def _make_beat(self) -> Service:
        from pgtasks.worker.embedded_beat import EmbeddedBeat

        file, scheduler = map(self.options.get, ("schedule_filename", "scheduler"))
        return EmbeddedBeat(self.app, schedule_filename=file, scheduler=scheduler)

    def _make_timers(self, plugins: Sequence[Plugin]) -> list[Service]:
        """A service for each plugin, behind the one that leads, if any of them asks for it."""
        self.leader = None
        timers = [Timer(each, self._seat, self.hostname) for each in plugins]
        if not any(each.leader_only for each in plugins):
            return list(timers)

        def tell() -> None:
            for timer in timers:
                timer.wakeup.set()

        self.leader = Leader(
            self.app.database,
            self.app.notifier,
            office="plugins",
            holder=lambda: self.begun.worker,
            node=self.hostname,
            lease=self.lease,
            on_change=tell,
        )
        return [self.leader, *timers]

    def _seat(self) -> Seat | None:
        return None if self.leader is None else self.leader.seat

    def _register(self) -> None:
        asked = identity.boottime()
        self.app.database.run(
            workers.register(
                id=self.begun.worker,
                name=self.hostname,
                hostname=socket.gethostname(),
                pid=os.getpid(),
                machine=identity.machine(),
                process_started=identity.process_started(os.getpid()),
                begun_file=str(self.begun.path),
                lease=self.lease,
                queues=self.queues,
                pool=self.pool_name,
                concurrency=self.concurrency,
                version=__version__,
                info={"tasks": sorted(self.app.tasks)},
            ),
            retry=True,
        )
        self.begun.renewed_at = asked
        self.begun.condemned = False

    def reincarnate(self) -> None:
        """We were declared dead: our jobs are others' now, so begin anew (R16).

        What runs may end; its results are taken while nobody has claimed the jobs
        again. What was not begun is given up.
        """
        logger.warning(
            "This worker was declared dead while it was stopped or cut off for more than "
            "%.1f s (worker_lease); it goes on as a new one.",
            self.lease,
        )
        # First the id, so that nothing that was claimed under the old one begins any more.
        self.begun.rename(str(uuid4()))
        self.let_go()
        self.pool.recall()
        self._register()
        self.fetcher.wakeup.set()

    def _start_services(self) -> None:
        for service in self._services:
            service.on_death = self.died
        self.acker.start()
        self.pool.start()
        if self.autoscaler is not None:
            self.autoscaler.start()
        for service in self._services[1:]:
            service.start()
        notifier = self.app.notifier
        self._unsubscribe = [
            notifier.subscribe("pgtasks.jobs", self._on_news),
            notifier.subscribe("pgtasks.queues", self.gates.tell),
        ]

    def _on_news(self, queue: str | None) -> None:
        # The payload is a hint and nothing more (R26): whatever it says, look.
        if queue is None or queue == "":
            self.stager.wakeup.set()
        if queue is None or queue in self.queues:
            self.fetcher.heed()

    def _watched(self) -> bool:
        """Whether services may wait for notifications, and for those who look around."""
        return self.app.notifier.listening and self.lifeline.fresh

    def _view(self) -> dict[str, Any]:
        mark, answered = (0, []) if self.mailbox is None else self.mailbox.position
        return {
            "name": self.hostname,
            "queues": list(self.queues),
            "mark": mark,
            "answered": answered,
        }

    def _on_look(self, look: workers.Look) -> None:
        if look.ready and self.fetcher.asleep:
            self.fetcher.wakeup.set()
        if look.due is not None:
            self.stager.hint(look.due)
        if look.told and self.mailbox is not None:
            self.mailbox.wakeup.set()
        if not self.app.notifier.listening:
            # They may be waiting as if it were.
            self.stager.wakeup.set()

    # ── in the child ────────────────────────────────────────────────────────────────────

    def execute(self, job: Job) -> Outcome:
        """Run a job; in prefork this is called in the child."""
        from pgtasks.app import trace

        return trace.execute(self.app, job, hostname=self.hostname)

    def resized(self, places: int) -> None:
        """The pool has this many places from now on; whoever lists workers shall see it."""
        self.concurrency = places
        self.fetcher.wakeup.set()
        try:
            gates.describe(self)
        except StorageError as error:
            logger.warning("Could not tell of %d places: %s", places, error)

    def on_child_start(self) -> None:
        """A child of the pool's is about to run tasks, in this process."""
        set_mp_process_title("pgtasks", hostname=self.hostname)
        self.app.log.set_up_child(self.hostname)
        self.on_process_start()

    def on_process_start(self) -> None:
        """Make this process one that runs tasks; called in each of them."""
        self.app.set_current()
        self.app.set_default()
        self.app.loader.init_worker_process()
        signals.worker_process_init.send(sender=self.hostname)

    def on_process_stop(self, exitcode: int) -> None:
        """This process runs no more tasks."""
        signals.worker_process_shutdown.send(
            sender=self.hostname, pid=os.getpid(), exitcode=exitcode
        )
