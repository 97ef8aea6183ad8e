"""The faults of a chaos run: each takes the run and does one kind of harm."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psycopg

from pgtasks.dev.postgres import Server
from pgtasks.job import NewJob
from pgtasks.storage import jobs
from pgtasks.storage.database import Database
from tests.helpers import children

ROOT = Path(__file__).parents[2]


class Crew:
    """The workers, kept running as a service manager would."""

    def __init__(
        self, server: Server, folder: Path, seed: int, *, workers: int, lease: float
    ) -> None:
        self.server = server
        self.chance = random.Random(seed)
        self.folder = folder
        self.lease = lease
        self.counts: Counter[str] = Counter()
        self.log: list[str] = []
        self._processes: list[subprocess.Popen[bytes] | None] = [None] * workers
        self._away: dict[int, float] = {}
        self._began = time.monotonic()
        for number in range(workers):
            self._start(number)

    def _start(self, number: int) -> None:
        with (self.folder / f"worker-{number}.log").open("ab") as log:
            self._processes[number] = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "pgtasks",
                    "-A",
                    "tests.chaos.app:app",
                    "worker",
                    "-Q",
                    "chaos",
                    "-c",
                    "4",
                    "-n",
                    f"w{number}@chaos",
                    "-l",
                    "info",
                ],
                cwd=ROOT,
                env={
                    **os.environ,
                    "CHAOS_URL": self.server.url,
                    "CHAOS_LEASE": str(self.lease),
                    "CHAOS_BEGUN": str(self.folder / "begun.log"),
                },
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def processes(self) -> list[subprocess.Popen[bytes]]:
        """The workers of this moment."""
        return [process for process in self._processes if process is not None]

    def tend(self) -> None:
        """Restart what ended; forget what has come back."""
        now = time.monotonic()
        self._away = {number: until for number, until in self._away.items() if until > now}
        for number, process in enumerate(self._processes):
            if number not in self._away and (process is None or process.poll() is not None):
                self._start(number)

    def strike(self) -> None:
        """Do one kind of harm, chosen by chance."""
        kind = self.chance.choice(KINDS)
        if kind(self):
            self.counts[kind.__name__] += 1
            self.log.append(f"{time.monotonic() - self._began:8.2f} {kind.__name__}")

    def victim(self) -> tuple[int, subprocess.Popen[bytes]] | None:
        number = self.chance.randrange(len(self._processes))
        process = self._processes[number]
        if number in self._away or process is None or process.poll() is not None:
            return None
        return number, process

    def away(self, number: int, seconds: float) -> None:
        self._away[number] = time.monotonic() + seconds

    def stop(self) -> list[int]:
        """End all workers warmly; the answer is the exit codes of those that were there."""
        # One that the last fault killed may not have been started again yet.
        living = [process for process in self.processes if process.poll() is None]
        for process in living:
            # The whole group: a fault may have stopped children too.
            os.killpg(process.pid, signal.SIGCONT)
            process.terminate()
        codes = []
        for process in living:
            try:
                codes.append(process.wait(30))
            except subprocess.TimeoutExpired:
                process.kill()
                codes.append(-9)
        return codes


def kill_parent(crew: Crew) -> bool:
    if (victim := crew.victim()) is None:
        return False
    number, process = victim
    process.kill()
    process.wait()
    crew.away(number, crew.chance.uniform(0.2, 1.5))
    return True


def kill_child(crew: Crew) -> bool:
    if (victim := crew.victim()) is None or not (pids := children(victim[1].pid)):
        return False
    try:
        os.kill(crew.chance.choice(pids), signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def stop_and_continue(crew: Crew) -> bool:
    if (victim := crew.victim()) is None:
        return False
    number, process = victim
    seconds = crew.chance.choice([1, 2, 5, 8])
    pids = [process.pid, *children(process.pid)]

    def send(kind: signal.Signals) -> None:
        for pid in pids:
            try:
                os.kill(pid, kind)
            except ProcessLookupError:
                pass

    send(signal.SIGSTOP)
    crew.away(number, seconds + 0.2)
    threading.Timer(seconds, send, (signal.SIGCONT,)).start()
    return True


def ask_to_stop(crew: Crew) -> bool:
    if (victim := crew.victim()) is None:
        return False
    victim[1].terminate()
    return True


def terminate_backends(crew: Crew) -> bool:
    return _sql(
        crew,
        "select pg_terminate_backend(pid) from (select pid from pg_stat_activity where "
        "application_name like 'pgtasks%%' order by random() limit %s) as some",
        crew.chance.randint(1, 6),
    )


def restart_immediate(crew: Crew) -> bool:
    crew.server.restart("immediate")
    return True


def restart_fast(crew: Crew) -> bool:
    crew.server.restart("fast")
    return True


def lock_table(crew: Crew) -> bool:
    seconds = crew.chance.uniform(0.3, 1.5)
    return _sql(
        crew,
        "do $$ begin lock table pgtasks.jobs in access exclusive mode; "
        f"perform pg_sleep({seconds:.3f}); end $$",
    )


def add_poison(crew: Crew) -> bool:
    database = Database(crew.server.url)
    try:
        job = NewJob("chaos.poison", f"poison-{uuid.uuid4()}", queue="chaos")
        database.run(jobs.insert([job]), retry=True)
    finally:
        database.close()
    return True


def _sql(crew: Crew, statement: str, *params: object) -> bool:
    try:
        with psycopg.connect(
            crew.server.url, autocommit=True, connect_timeout=3, application_name="fault"
        ) as connection:
            connection.execute(statement, params or None)
    except psycopg.Error:
        return False
    return True


KINDS: list[Callable[[Crew], bool]] = [
    kill_parent, kill_parent, kill_child, kill_child, stop_and_continue, stop_and_continue,
    ask_to_stop, terminate_backends, terminate_backends, restart_immediate, restart_fast,
    lock_table, add_poison,
]  # fmt: skip
