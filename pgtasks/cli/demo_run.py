"""What a demo is made of: a worker in a process of its own, and a watch on its jobs.

The numbers come from the database, the one place that knows: nothing here counts.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

from pgtasks.exceptions import PgtasksError
from pgtasks.storage.database import Database
from pgtasks.storage.query import Query, Row

__all__ = [
    "DemoFailed",
    "Killer",
    "Tally",
    "WorkerProcess",
    "follow",
    "step",
    "stop_like_ctrl_c",
    "tally",
]


class DemoFailed(PgtasksError):
    """A step of a demo failed; the message ends with what to do about it."""


class Tally(NamedTuple):
    """What the database says about the jobs of one queue.

    Attributes:
        total: Jobs that exist.
        completed: Jobs that ended well.
        discarded: Jobs that were given up.
        cancelled: Jobs that were called off.
        retried: Jobs that ran again after an error.
        snoozed: Jobs that were put off.
        lost: Jobs that were running when their worker vanished.
        seconds: From the first insert to the last end.
    """

    total: int
    completed: int
    discarded: int
    cancelled: int
    retried: int
    snoozed: int
    lost: int
    seconds: float

    @property
    def over(self) -> int:
        """Jobs that nothing more will happen to."""
        return self.completed + self.discarded + self.cancelled

    @property
    def rate(self) -> float:
        """Finished jobs a second."""
        return self.over / self.seconds if self.seconds else 0.0


_TALLY = """
    select count(*),
           count(*) filter (where state = 'completed'),
           count(*) filter (where state = 'discarded'),
           count(*) filter (where state = 'cancelled'),
           count(*) filter (where retries > 0),
           -- A snooze gives its attempt back and leaves a later due time, no more.
           count(*) filter (where retries = 0
                              and scheduled_at > inserted_at + interval '0.1 s'),
           count(*) filter (where lost > 0),
           coalesce(extract(epoch from max(finished_at) - min(inserted_at)), 0)::float8
      from pgtasks.all_jobs
     where queue = %(queue)s
"""


def tally(queue: str) -> Query[Tally]:
    """Count the jobs of ``queue`` by what became of them."""

    def read(rows: Sequence[Row]) -> Tally:
        return Tally(*rows[0])

    return Query(_TALLY, {"queue": queue}, read)


class WorkerProcess:
    """``pgtasks worker`` as a process of its own, writing to a log file.

    It gets a session of its own as well, so that Ctrl-C in the terminal reaches
    only the demo, which then stops its worker in an orderly way.

    Args:
        arguments: What stands behind ``pgtasks`` on the command line.
        directory: Where it runs, and so where ``-A`` looks for modules.
        log: The file that it writes to; a second start appends.
    """

    def __init__(self, arguments: Sequence[str], *, directory: Path, log: Path) -> None:
        self.arguments = arguments
        self.directory = directory
        self.log = log
        self._begins_at = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, timeout: float = 20) -> None:
        """Start it and return when it says that it is ready."""
        with self.log.open("ab") as log:
            self._begins_at = log.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pgtasks", *self.arguments],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + timeout
        while b" ready." not in self._output():
            if not self.running:
                raise self._failure(
                    f"The worker ended with status {self._process.returncode}"
                )
            if time.monotonic() > deadline:
                raise self._failure(f"The worker was not ready within {timeout:g} s")
            time.sleep(0.02)

    @property
    def running(self) -> bool:
        """Whether its parent process is alive."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The process id of the parent, while there is one."""
        return self._process.pid if self._process else None

    def kill(self) -> None:
        """SIGKILL to the parent alone; that its children follow is its own affair."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def stop(self, *, timeout: float = 10) -> None:
        """End it warmly, or by force after ``timeout``; leave no child behind."""
        if self._process is None:
            return
        process, self._process = self._process, None
        try:
            process.terminate()
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            pass
        finally:
            # Also when a second Ctrl-C came while it was ending.
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()

    def require_running(self) -> None:
        """Raise when it ended although nobody asked it to."""
        if not self.running:
            status = self._process.returncode if self._process else "none"
            raise self._failure(f"The worker ended in the middle, with status {status}")

    def tail(self, lines: int = 20) -> str:
        """The last lines that it wrote since its last start."""
        return "\n".join(self._output().decode(errors="replace").splitlines()[-lines:])

    def _output(self) -> bytes:
        with self.log.open("rb") as log:
            log.seek(self._begins_at)
            return log.read()

    def _failure(self, what: str) -> DemoFailed:
        return DemoFailed(
            f"{what}. Its last words:\n\n{self.tail()}\n\n"
            f"To see the same without the demo:\n\n"
            f"    cd {self.directory}\n"
            f"    pgtasks {' '.join(self.arguments)}\n\n"
            f"and `pgtasks doctor` checks the database and the installation."
        )


class Killer:
    """Watches the count, kills the worker with SIGKILL once, and starts another.

    Args:
        console: Where it says so.
        worker: The worker.
        at: How many jobs must be over first.
    """

    def __init__(self, console: Console, worker: WorkerProcess, *, at: int) -> None:
        self.console = console
        self.worker = worker
        self.at = at
        self.done = False

    def __call__(self, now: Tally) -> None:
        """Strike when it is time; later calls do nothing."""
        if self.done or now.over < self.at:
            return
        self.done = True
        pid = self.worker.pid
        self.worker.kill()
        self.console.print(
            f"  [bold red]kill -9 {pid}[/]: the worker is gone after {now.over} jobs",
            highlight=False,
        )
        self.worker.start()
        self.console.print(f"  Another one is at work: {self.worker.pid}", highlight=False)


def follow(
    console: Console,
    database: Database,
    queue: str,
    total: int,
    *,
    worker: WorkerProcess,
    watch: Callable[[Tally], None] | None = None,
    patience: float = 30,
) -> Tally:
    """Show progress until ``total`` jobs are over, and return the last count.

    Args:
        console: A bar where this is a terminal, a line a second where it is not.
        database: Where the jobs are.
        queue: Their queue.
        total: How many there will be.
        worker: The worker that runs them; its end is an error.
        watch: Called with each count, between two looks at the worker.
        patience: Seconds without any change after which waiting is an error.
    """
    last, moved_at = None, time.monotonic()
    with _bar(console, total) as show:
        while True:
            now = database.run(tally(queue))
            show(now)
            if watch:
                watch(now)
            if now.over >= total:
                return now
            worker.require_running()
            if now != last:
                last, moved_at = now, time.monotonic()
            elif time.monotonic() - moved_at > patience:
                raise DemoFailed(
                    f"Nothing has moved for {patience:g} s at {now.over} of {total} jobs. "
                    f"The worker's last words:\n\n{worker.tail()}\n\n"
                    f"`pgtasks doctor` checks the database and the installation."
                )
            time.sleep(0.1)


def stop_like_ctrl_c() -> None:
    """Have a ``kill`` and a closed terminal clean up as Ctrl-C does."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)


@contextmanager
def step(console: Console, doing: str) -> Iterator[None]:
    """Announce a step, and say how long it took once it is done."""
    begun = time.monotonic()
    with console.status(f"{doing} …") if console.is_terminal else _silence():
        yield
    console.print(f"  {doing:<64}{time.monotonic() - begun:5.1f} s", highlight=False)


@contextmanager
def _silence() -> Iterator[None]:
    yield


@contextmanager
def _bar(console: Console, total: int) -> Iterator[Callable[[Tally], None]]:
    """A function that shows a count: as a bar, or as a line now and then."""
    if not console.is_terminal:
        said_at = 0.0

        def say(now: Tally) -> None:
            nonlocal said_at
            if now.over >= total or time.monotonic() - said_at >= 1:
                said_at = time.monotonic()
                console.print(f"  {now.over} of {total} jobs", highlight=False)

        yield say
        return

    with Progress(
        TextColumn("  jobs"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        console=console,
    ) as progress:
        bar = progress.add_task("jobs", total=total, rate="")

        def draw(now: Tally) -> None:
            progress.update(bar, completed=now.over, rate=f"{now.rate:,.0f}/s")

        yield draw
