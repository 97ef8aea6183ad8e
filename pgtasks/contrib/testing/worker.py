"""A worker inside a test: in a thread of this process, over the jobs of the app.

Those are rows of a database, or in memory where the app says ``memory://``.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pgtasks._state import _set_task_join_will_block
from pgtasks.app import app_or_default
from pgtasks.app.connection import keeps_jobs_in_memory
from pgtasks.contrib.testing.child_logs import ChildLogs
from pgtasks.contrib.testing.in_memory import MemoryWorker
from pgtasks.result import allow_join_result
from pgtasks.utils.dispatch import Signal
from pgtasks.utils.nodenames import anon_nodename
from pgtasks.worker.worker import Worker

if TYPE_CHECKING:
    from pgtasks.plugins.base import Plugin
    from pgtasks.worker.service import Service

__all__ = [
    "TestWorkController",
    "setup_app_for_worker",
    "start_worker",
    "test_worker_started",
    "test_worker_starting",
    "test_worker_stopped",
]

WORKER_LOGLEVEL = os.environ.get("WORKER_LOGLEVEL", "error")

#: Sent before the worker is made; the sender is the app.
test_worker_starting = Signal(name="test_worker_starting")
#: Sent when it takes jobs.
test_worker_started = Signal(["worker", "consumer"], name="test_worker_started")
#: Sent after it has ended, also if it never began.
test_worker_stopped = Signal(["worker"], name="test_worker_stopped")


@contextmanager
def start_worker(
    app: Any,
    concurrency: int = 1,
    pool: str = "solo",
    loglevel: str | int = WORKER_LOGLEVEL,
    logfile: str | None = None,
    perform_ping_check: bool = True,
    ping_task_timeout: float = 10.0,
    shutdown_timeout: float = 10.0,
    **kwargs: Any,
) -> Iterator[Any]:
    """Run a worker beside the block.

    Args:
        app: Its application, which becomes the current one.
        concurrency: Jobs at a time.
        pool: ``solo``, ``threads`` or ``prefork``.
        loglevel: What it logs.
        logfile: And where.
        perform_ping_check: Run the task ``celery.ping`` first, to be sure.
        ping_task_timeout: Seconds to wait for that.
        shutdown_timeout: Seconds to wait for running jobs at the end.
        **kwargs: Further options of the worker: ``hostname``, ``queues`` …

    Raises:
        RuntimeError: The worker does not end in time.
    """
    test_worker_starting.send(sender=app)
    worker = None
    try:
        setup_app_for_worker(app, loglevel, logfile)
        worker = _make(app, concurrency=concurrency, pool=pool, **kwargs)
        with _in_thread(worker, shutdown_timeout):
            if perform_ping_check:
                _ping(ping_task_timeout)
            yield worker
    finally:
        test_worker_stopped.send(sender=app, worker=worker)


def setup_app_for_worker(app: Any, loglevel: str | int, logfile: str | None) -> None:
    """Make the app what it would be in a worker's process."""
    app.finalize()
    app.set_current()
    app.set_default()
    type(app.log)._setup = False
    app.log.setup(loglevel=loglevel, logfile=logfile)


class TestWorkController:
    """A worker whose thread can be waited for until it takes jobs, or has failed to.

    Made by itself it is the real worker, or one of jobs in memory, as its app says.
    """

    __test__ = False  # pytest would take it for a test by its name

    def __new__(cls, app: Any = None, *args: Any, **kwargs: Any) -> TestWorkController:
        """Choose the kind of worker."""
        kind: type[TestWorkController] = cls
        if cls is TestWorkController:
            in_memory = keeps_jobs_in_memory(app_or_default(app))
            kind = _MemoryWorker if in_memory else _DatabaseWorker
        return object.__new__(kind)

    def __init__(self, *args: Any, ready_callback: Any = None, **kwargs: Any) -> None:
        self._tell = ready_callback
        super().__init__(*args, ready_callback=self._on_ready, **kwargs)  # type: ignore[call-arg]
        self.error: BaseException | None = None
        self._answered = threading.Event()

    def start(self) -> int:
        """Work until stopped, as ever, and keep the exception that ends it before."""
        try:
            return super().start()  # type: ignore[misc, no-any-return]
        except BaseException as error:
            self.error = error
            return 1
        finally:
            self._answered.set()

    def ensure_started(self) -> None:
        """Wait until it takes jobs.

        Raises:
            BaseException: Whatever ended it before.
        """
        self._answered.wait()
        if self.error is not None:
            raise self.error

    def _on_ready(self, worker: Any) -> None:
        self._answered.set()
        if self._tell is not None:
            self._tell(worker)
        # What takes the jobs: the worker itself, where nothing has to be fetched.
        consumer = getattr(self, "consumer", self)
        test_worker_started.send(sender=worker.app, worker=self, consumer=consumer)


class _DatabaseWorker(TestWorkController, Worker):
    """The real worker, in a thread of a test."""

    def _make_timers(self, plugins: Sequence[Plugin]) -> list[Service]:
        # The schedule of a program is not what its tests wait for.
        return super()._make_timers([each for each in plugins if each.name != "cron"])

    #: Celery's: tests look for what they know.
    received_level = logging.INFO

    _child_logs: ChildLogs | None = None

    def start(self) -> int:
        """Work until stopped; what children log comes here meanwhile."""
        if "prefork" not in self.pool_cls.__module__:
            return super().start()
        with ChildLogs().carried() as self._child_logs:
            return super().start()

    def _on_ready(self, worker: Any) -> None:
        if self._child_logs is not None:
            self._child_logs.listen()
        super()._on_ready(worker)


class _MemoryWorker(TestWorkController, MemoryWorker):
    """A worker of the jobs in memory, likewise."""


def _make(app: Any, **options: Any) -> TestWorkController:
    hostname = options.pop("hostname", None) or anon_nodename()
    # Parts of Celery's worker that ours does not have.
    for name in ("without_heartbeat", "without_mingle", "without_gossip"):
        options.pop(name, None)
    return TestWorkController(app, hostname, **options)


@contextmanager
def _in_thread(worker: Any, shutdown_timeout: float) -> Iterator[None]:
    thread = threading.Thread(target=worker.start, name="test worker", daemon=True)
    thread.start()
    worker.ensure_started()
    # The test shares the process with tasks that must not wait for each other.
    _set_task_join_will_block(False)
    try:
        yield
    finally:
        stopping = threading.Thread(target=worker.stop, daemon=True)
        stopping.start()
        stopping.join(shutdown_timeout)
        thread.join(shutdown_timeout)
        if stopping.is_alive() or thread.is_alive():
            raise RuntimeError(
                f"The worker did not end within {shutdown_timeout} s. Raise "
                f"shutdown_timeout if tasks of the test take longer than that."
            )


def _ping(timeout: float) -> None:
    from pgtasks.contrib.testing.tasks import ping

    with allow_join_result():
        answer = ping.delay().get(timeout=timeout)
    if answer != "pong":
        raise RuntimeError(f"The worker answered a ping with {answer!r}")
