"""Real workers as processes, and the harm that is done to them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg

from helpers import eventually
from pgtasks.job import NewJob
from pgtasks.storage import jobs
from pgtasks.storage.database import Database

HERE = Path(__file__).parent
FINAL = ("completed", "discarded", "cancelled")


class Fleet:
    """The workers of one journey, its jobs and its ledger."""

    def __init__(self, url: str, folder: Path, *, lease: float = 3.0) -> None:
        self.url = url
        self.lease = lease
        self.folder = folder
        self.database = Database(url)
        self.processes: list[subprocess.Popen[bytes]] = []
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("drop table if exists public.ledger")
            connection.execute(
                "create table public.ledger (seq bigint generated always as identity, "
                "task_id text, event text, pid int, at timestamptz default clock_timestamp())"
            )

    # ── workers ─────────────────────────────────────────────────────────────────────────

    def start(
        self, *options: str, url: str | None = None, app: str = "shop", **environment: str
    ) -> subprocess.Popen[bytes]:
        """Start a worker and wait until it takes jobs."""
        number = len(self.processes)
        log = (self.folder / f"worker-{number}.log").open("wb")
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "pgtasks",
                "-A",
                app,
                "worker",
                "-l",
                "info",
                "-n",
                f"w{number}@journey",
                *options,
            ],
            cwd=HERE,
            env={
                **os.environ,
                "JOURNEY_URL": url or self.url,
                "JOURNEY_LEDGER": self.url,
                "JOURNEY_LEASE": str(self.lease),
                "PYTHONUNBUFFERED": "1",
                **environment,
            },
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        log.close()
        self.processes.append(process)
        eventually(
            lambda: self._is_ready(process, number),
            timeout=20,
            message=lambda: f"worker {number} is not ready:\n{self.log(number)}",
        )
        return process

    def _is_ready(self, process: subprocess.Popen[bytes], number: int) -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"The worker ended at once:\n{self.log(number)}")
        return "ready" in self.log(number)

    def log(self, number: int) -> str:
        return (self.folder / f"worker-{number}.log").read_text(errors="replace")

    def stop(self, process: subprocess.Popen[bytes], timeout: float = 20) -> int:
        """Stop a worker warmly; the answer is its exit code."""
        process.send_signal(signal.SIGTERM)
        return process.wait(timeout)

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait()
        self.database.close()

    # ── jobs ────────────────────────────────────────────────────────────────────────────

    def insert(self, task: str, count: int = 1, args: str = "[]", **fields) -> list[str]:
        new = [
            NewJob(f"shop.{task}", str(uuid.uuid4()), queue="journey", args=args, **fields)
            for _ in range(count)
        ]
        for start in range(0, count, 1000):
            self.database.run(jobs.insert(new[start : start + 1000]), retry=True)
        return [job.task_id for job in new]

    def query(self, statement: str, *params) -> list[tuple]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement, params)
            return cursor.fetchall() if cursor.description else []

    def states(self, ids: Sequence[str]) -> dict[str, str]:
        rows = self.query(
            "select task_id, state::text from pgtasks.all_jobs where task_id = any(%s)",
            list(ids),
        )
        return dict(rows)

    def tally(self, ids: Sequence[str]) -> Counter[str]:
        return Counter(self.states(ids).values())

    def finished(self, ids: Sequence[str]) -> int:
        return sum(self.tally(ids)[state] for state in FINAL)

    def wait(self, ids: Sequence[str], timeout: float = 30) -> dict[str, str]:
        """Wait until all these jobs are over; the answer is their states."""
        eventually(
            lambda: self.finished(ids) == len(ids),
            timeout=timeout,
            message=lambda: f"not over: {self.tally(ids)}\n{self._logs()}",
        )
        return self.states(ids)

    def _logs(self) -> str:
        return "\n".join(
            f"--- worker {number}\n{self.log(number)[-2000:]}"
            for number in range(len(self.processes))
        )

    def events(self) -> dict[str, list[str]]:
        """What the ledger says happened to each job, in order."""
        found: dict[str, list[str]] = defaultdict(list)
        for task_id, event in self.query("select task_id, event from ledger order by seq"):
            found[task_id].append(event)
        return found

    def errors(self, task_id: str) -> list[dict]:
        [(errors,)] = self.query(
            "select errors from pgtasks.all_jobs where task_id = %s", task_id
        )
        return errors


class Proxy:
    """A man in the middle who can lose an answer of the server's on purpose."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        query = parse_qs(parts.query)
        host = parts.hostname or query.get("host", ["127.0.0.1"])[0]
        port = parts.port or int(query.get("port", ["5432"])[0])
        self._target: tuple[int, object]
        if host.startswith("/") or host.startswith("%2F"):
            path = host.replace("%2F", "/")
            self._target = (socket.AF_UNIX, f"{path}/.s.PGSQL.{port}")
        else:
            self._target = (socket.AF_INET, (host, port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        user = parts.username or query.get("user", ["postgres"])[0]
        self.url = (
            f"postgresql://{user}@127.0.0.1:{self._listener.getsockname()[1]}{parts.path}"
        )
        self.lose_answer_with: bytes | None = None
        self.lost = 0
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._ends: list[socket.socket] = []
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.socket(self._target[0])
            far.connect(self._target[1])
            self._ends += [near, far]
            for source, sink, answers in ((near, far, False), (far, near, True)):
                thread = threading.Thread(
                    target=self._pump, args=(source, sink, answers), daemon=True
                )
                self._threads.append(thread)
                thread.start()

    def _pump(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        try:
            while data := source.recv(65536):
                secret = self.lose_answer_with
                if answers and secret is not None and secret in data:
                    self.lose_answer_with = None
                    self.lost += 1
                    break
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self) -> None:
        for end in [self._listener, *self._ends]:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self._threads:
            thread.join()
        for end in [self._listener, *self._ends]:
            end.close()
