"""A worker for ``broker_url = "memory://"``: runs the jobs that this process has sent itself.

It claims, executes and settles with what the real worker uses, so that countdowns, retries,
callbacks, chords and expiry are the real ones. What needs processes or a database (time
limits, remote control, rescue after a crash) is not there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from pgtasks import signals
from pgtasks.app.execute import execute
from pgtasks.app.memory import queue_of
from pgtasks.app.modes import check_that_jobs_run
from pgtasks.utils.nodenames import anon_nodename

__all__ = ["MemoryWorker"]


class MemoryWorker:
    """Runs the jobs of some queues in threads of this process until it is told to stop.

    Args:
        app: The application, whose jobs are in memory.
        hostname: Name of the node.
        queues: Queues to take jobs from; the application's default queue without.
        concurrency: Jobs at a time; always 1 with the pool ``solo``.
        pool: ``solo`` runs them in the thread that calls `start`; anything else in
            ``concurrency`` threads.
        ready_callback: Called with the worker when it takes jobs.
        **options: Options of the real worker that mean nothing here.
    """

    def __init__(
        self,
        app: Any,
        hostname: str | None = None,
        *,
        queues: Sequence[str] | str | None = None,
        concurrency: int | None = None,
        pool: str | None = None,
        ready_callback: Callable[[Any], None] | None = None,
        **options: Any,
    ) -> None:
        check_that_jobs_run(app)
        self.app = app
        self.hostname = hostname or anon_nodename()
        if isinstance(queues, str):
            queues = [name.strip() for name in queues.split(",")]
        self.queues = list(queues or [app.conf.task_default_queue])
        self.pool_name = pool or "solo"
        self.concurrency = 1 if self.pool_name == "solo" else (concurrency or 1)
        self.options = options
        self._ready_callback = ready_callback
        self._stopping = threading.Event()
        self._ended = threading.Event()

    def start(self) -> int:
        """Work until stopped; the answer is the exit code."""
        try:
            self.app.loader.import_default_modules()
            self.app.finalize()
            signals.worker_init.send(sender=self)
            signals.worker_process_init.send(sender=self.hostname)
            signals.worker_ready.send(sender=self)
            if self._ready_callback is not None:
                self._ready_callback(self)
            if self.pool_name == "solo":
                self._serve()
            else:
                self._serve_in_threads()
            signals.worker_shutdown.send(sender=self)
        finally:
            self._ended.set()
        return 0

    def stop(self) -> None:
        """Let running jobs end, and wait for that. What waits stays in the queue."""
        if not self._stopping.is_set():
            signals.worker_shutting_down.send(
                sender=self.hostname, sig=None, how="Warm", exitcode=0
            )
        self._stopping.set()
        queue_of(self.app).wake()
        self._ended.wait()

    def _serve_in_threads(self) -> None:
        threads = [
            threading.Thread(target=self._serve, name=f"{self.hostname} {number}")
            for number in range(1, self.concurrency + 1)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _serve(self) -> None:
        # The current app is the thread's own, and tasks may ask for it.
        self.app.set_current()
        queue, stopped = queue_of(self.app), self._stopping.is_set
        while jobs := queue.get(self.queues, timeout=None, stopped=stopped):
            for job in jobs:
                outcome = execute(self.app, job, hostname=self.hostname)
                queue.settle([outcome], worker=self.hostname)
