"""A worker at work among good neighbours: what bad input must not disturb."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg

from helpers import eventually

HERE = Path(__file__).parent
QUEUE = "bad"
FINAL = ("completed", "discarded", "cancelled")
LATEST = 1.0
"""Seconds that a neighbour may take from being due, and to be seen, to its end."""

SECRET = "hunter2-is-no-password"
LONGEST_TEXT = 2**16
"""Characters of an error's message or traceback in a row."""
LONGEST_LINE = 70_000
"""Characters of one line in the log."""


def with_secret(url: str) -> str:
    """The address with a password in it, which must not be seen anywhere.

    The tests' own server trusts everybody; a given one may have a password already.
    """
    parts = urlsplit(url)
    if parts.password:
        return url
    user, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user or 'postgres'}:{SECRET}@{host}"))


class Crew:
    """One worker process: how it is started, what it says, how it ends."""

    def __init__(
        self, url: str, log: Path, *options: str, lease: float = 3.0, **environment: str
    ) -> None:
        self.name = ""
        self.path = log
        words = ["-A", "behaviour", "worker", "-l", "debug", *options]
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pgtasks", *words],
                cwd=HERE,
                env={
                    **os.environ,
                    "BAD_INPUTS_URL": with_secret(url),
                    "BAD_INPUTS_LEASE": str(lease),
                    "PYTHONUNBUFFERED": "1",
                    **environment,
                },
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def await_ready(self) -> None:
        eventually(
            lambda: " ready." in self.log() or self.process.poll() is not None,
            timeout=30,
            message=self.log,
        )
        assert self.process.poll() is None, self.log()

    @property
    def pid(self) -> int:
        return self.process.pid

    def log(self, since: int = 0) -> str:
        with self.path.open("rb") as file:
            file.seek(since)
            return file.read().decode(errors="surrogateescape")

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Stop it warmly; the answer is its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


class Workplace:
    """A database, a worker that serves it, and what goes on there."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.crews: list[Crew] = []
        self._counter = itertools.count()
        self.connection = psycopg.connect(url, autocommit=True)
        # The tasks write down here that they have run; no result can tell as much.
        self.connection.execute(
            "create table if not exists public.witness (seq bigint generated always as identity, "
            "task_id text, event text, pid int, at timestamptz default clock_timestamp())"
        )

    def hire(
        self, *options: str, queue: str = QUEUE, lease: float = 3.0, **environment: str
    ) -> Crew:
        """Start another worker, and wait until it takes jobs."""
        number = next(self._counter)
        log = self.folder / f"worker-{number}.log"
        options = ("-n", f"w{number}@bad", "-Q", queue, *options)
        crew = Crew(self.url, log, *options, lease=lease, **environment)
        crew.name = f"w{number}@bad"
        self.crews.append(crew)
        crew.await_ready()
        return crew

    @property
    def crew(self) -> Crew:
        """The worker that serves all the cases."""
        return self.crews[0]

    def close(self) -> None:
        for crew in self.crews:
            crew.end()
        self.connection.close()

    # ── jobs ────────────────────────────────────────────────────────────────────────────

    def query(self, statement: str, *params: Any) -> list[tuple[Any, ...]]:
        cursor = self.connection.execute(statement, params or None)
        return cursor.fetchall() if cursor.description else []

    def put(self, *rows: Mapping[str, str]) -> list[str]:
        """Insert rows whose columns are given as SQL; the answer is their task ids."""
        ids = []
        for row in rows:
            task_id = str(uuid.uuid4())
            columns = {
                "task": "'behaviour.witness'",
                "task_id": f"'{task_id}'",
                "queue": f"'{QUEUE}'",
                **row,
            }
            names, values = ", ".join(columns), ", ".join(columns.values())
            statement = f"insert into pgtasks.jobs ({names}) values ({values})"
            found = self.connection.execute(f"{statement} returning task_id").fetchone()
            ids.append(found[0])
        # A bare insert is found by the next poll, at most a second later; this is what
        # whoever is in a hurry says.
        for queue in {row.get("queue", f"'{QUEUE}'") for row in rows}:
            self.connection.execute(f"select pg_notify('pgtasks.jobs', {queue})")
        return ids

    def call(self, task: str, *args: Any, **columns: str) -> str:
        """Have the worker run one of the tasks in behaviour.py."""
        text = json.dumps(args).replace("'", "''")
        row = {"task": f"'behaviour.{task}'", "args": f"'{text}'", **columns}
        return self.put(row)[0]

    def neighbours(self, count: int) -> list[str]:
        """Good jobs."""
        return self.put(*[{"task": "'behaviour.good'"}] * count)

    def state(self, task_id: str) -> str | None:
        return self.states([task_id]).get(task_id)

    def states(self, ids: Sequence[str]) -> dict[str, str]:
        return dict(
            self.query(
                "select task_id, state::text from pgtasks.jobs where task_id = any(%(ids)s) "
                "union all select task_id, state::text from pgtasks.finished_jobs "
                "where task_id = any(%(ids)s)".replace("%(ids)s", "%s"),
                list(ids),
                list(ids),
            )
        )

    def wait(self, *ids: str, timeout: float = 20) -> dict[str, str]:
        """Wait until these jobs are over."""

        def over() -> bool:
            if any(crew.process.poll() not in (None, 0) for crew in self.crews):
                raise RuntimeError(f"A worker has ended:\n{self.tail()}")
            found = self.states(ids)
            return all(found.get(each) in FINAL for each in ids)

        eventually(over, timeout, lambda: f"not over: {self.states(ids)}\n{self.tail()}")
        return self.states(ids)

    def tail(self) -> str:
        return "\n".join(
            f"--- {each.path.name}\n{each.log()[-3000:]}" for each in self.crews
        )

    def job(self, task_id: str) -> dict[str, Any]:
        """What is known of a job that is over."""
        names = "state, attempt, retries, crashes, lost, status, result, traceback, errors, worker"
        cursor = self.connection.execute(
            f"select {names} from pgtasks.finished_jobs where task_id = %s", [task_id]
        )
        row = cursor.fetchone()
        assert row is not None, f"{task_id} is not over: {self.state(task_id)}"
        return dict(zip(names.split(", "), row, strict=True))

    def events(self, task_id: str) -> list[str]:
        """What the job has written down, in order."""
        rows = self.query(
            "select event from witness where task_id = %s order by seq", task_id
        )
        return [event for (event,) in rows]

    def await_event(self, task_id: str, event: str, times: int = 1) -> None:
        eventually(
            lambda: self.events(task_id).count(event) >= times,
            20,
            lambda: f"no {event!r} of {task_id}: {self.state(task_id)}\n{self.tail()}",
        )

    def open_gate(self, task_id: str, run: int | None = None) -> None:
        """Let a task end that waits for this word; all its runs, or one."""
        word = "go" if run is None else f"go {run}"
        self.query("insert into witness (task_id, event) values (%s, %s)", task_id, word)

    def beat_of(self, crew: Crew) -> int:
        """How often a worker's heart has beaten."""
        [(beat,)] = self.query(
            "select beat from pgtasks.workers where name = %s and dead_at is null",
            crew.name,
        )
        return beat

    # ── the invariant ───────────────────────────────────────────────────────────────────

    @contextmanager
    def undisturbed(
        self, *, crew: Crew | None = None, together: bool = False
    ) -> Iterator[list[str]]:
        """Whatever happens inside, the worker lives on and its neighbours are in time.

        Args:
            crew: The worker; the first by default.
            together: What is inside commits in one transaction with the neighbours, so
                that all of them are claimed together.
        """
        crew = crew or self.crew
        pid, mark = crew.pid, len(crew.log().encode(errors="surrogateescape"))
        good: list[str] = []
        if together:
            with self.connection.transaction():
                good += self.neighbours(5)
                yield good
                good += self.neighbours(5)
            # Until the commit nobody could see them, which is not the worker's delay.
            [(visible,)] = self.query("select clock_timestamp()")
            self.wait(*good)
        else:
            visible = None
            good += self.neighbours(5)
            yield good
            good += self.neighbours(5)
            self.wait(*good)
        self.check(crew, pid, mark, good, visible)

    def check(
        self, crew: Crew, pid: int, mark: int, good: list[str], visible: datetime | None
    ) -> None:
        log = crew.log(mark)
        assert crew.process.poll() is None, f"the worker has ended:\n{self.tail()}"
        assert crew.pid == pid
        rows = self.query(
            "select state::text, attempt, "
            "extract(epoch from finished_at - greatest(scheduled_at, %s))::float8 "
            "from pgtasks.finished_jobs where task_id = any(%s)",
            visible,
            good,
        )
        assert {(state, attempt) for state, attempt, _ in rows} == {("completed", 1)}
        latest = max(delay for _, _, delay in rows)
        assert "cannot go on without" not in log
        check_log(log)
        if latest > LATEST:
            raise Late(f"a neighbour was late by {latest:.2f} s\n{log[-5000:]}")


class Late(AssertionError):
    """A neighbour was: because of the bad input, or of somebody else on this machine."""


def in_time(play: Callable[[], None], tries: int = 3) -> None:
    """Repeat what made neighbours late: it is to blame if they are so each time."""
    for _ in range(tries - 1):
        try:
            return play()
        except Late:
            continue
    return play()


def check_log(log: str) -> None:
    """No secret, no forged line, no bell, nothing endless, no trouble of logging's own."""
    assert SECRET not in log
    assert "Logging error" not in log
    assert max(map(len, log.splitlines()), default=0) <= LONGEST_LINE
    assert not set(log) & FORBIDDEN


FORBIDDEN = {chr(code) for code in (*range(32), 127, 0x202E)} - {"\n", "\t"}


def pgtasks(url: str, *words: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run one command of the command line to its end."""
    return subprocess.run(
        [sys.executable, "-m", "pgtasks", "-A", "behaviour", *words],
        cwd=HERE,
        env={**os.environ, "BAD_INPUTS_URL": with_secret(url)},
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=timeout,
        check=False,
    )
