"""The systems that are compared: how each is installed, addressed, emptied and run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tests.bench import machine, servers
from tests.bench.board import READY, VARIABLE, Board
from tests.bench.servers import Missing

__all__ = ["COROUTINES", "NAMES", "WORKER", "Field", "System", "Worker", "field_of"]

ROOT = Path(__file__).parents[2]
CELERY = "5.7"
NAMES = {
    "pgtasks": "pgtasks",
    "redis": "Celery on Redis",
    "rabbitmq": "Celery on RabbitMQ",
}
WORKER = "worker --pool prefork --concurrency 2 --loglevel WARNING"
COROUTINES = "--pool asyncio --concurrency 500"
# At once: the servers end too, and Celery would wait for them to come back.
_DIES_WITH_US = partial(servers.end_with_us, signal.SIGKILL)
_SPARE = 16  # places on each board for the jobs that warm a worker up
# Databases of a Redis that may be somebody else's: far from the usual 0.
_QUEUES, _RESULTS = 13, 14


@dataclass(frozen=True)
class System:
    """A task queue with its servers.

    Attributes:
        name: Key of `NAMES`.
        python: The interpreter that it is installed for.
        environment: What `tests.bench.program` needs to know.
        servers: Root processes of its servers, None where we may not look.
        empty: Throws away what waits and what is kept.
        folder: For logs and boards.
    """

    name: str
    python: str
    environment: Callable[[], dict[str, str]]
    servers: dict[str, int | None]
    empty: Callable[[System], None]
    folder: Path

    @property
    def ours(self) -> bool:
        """Whether it is the one that the others are compared with."""
        return self.name == "pgtasks"

    def server_cpu(self) -> float | None:
        """Processor seconds that its servers have used; None where one does not tell."""
        if None in self.servers.values():
            return None
        return sum(machine.cpu(pid) for pid in self.servers.values() if pid is not None)

    def client(self, operation: str, **params: Any) -> dict[str, Any]:
        """Run an operation of `tests.bench.client` and return what it found."""
        done = subprocess.run(
            self._client_command(operation, params),
            env=self._variables(),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=900,
            preexec_fn=_DIES_WITH_US,
        )
        return self._answer(operation, done.returncode, done.stdout, done.stderr)

    @contextmanager
    def board(self, places: int) -> Iterator[Board]:
        """A board for ``places`` tasks, some spare places behind them, and the worker's."""
        with tempfile.NamedTemporaryFile(dir=self.folder, suffix=".board") as file:
            path = Path(file.name)
        board = Board(places + _SPARE + 1, path)
        try:
            yield board
        finally:
            board.close()

    @contextmanager
    def worker(
        self, board: Board, *, warm: bool = True, options: Sequence[str] = ()
    ) -> Iterator[Worker]:
        """Run a worker, as its user would, with two processes for tasks.

        Args:
            board: Where its tasks note their start.
            warm: Wait until it has run a few jobs. A drain does not: its jobs wait already.
            options: Further words of its command line.
        """
        log = self.folder / f"worker-{self.name}.log"
        program = "pgtasks" if self.ours else "celery"
        words = [*WORKER.split(), *options]
        places = {VARIABLE: str(board.path), READY: str(board.places - 1)}
        began = time.time()
        with open(log, "wb") as output:
            process = subprocess.Popen(
                [self.python, "-m", program, "-A", "tests.bench.program", *words],
                env={**self._variables(), **places},
                cwd=ROOT,
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=_DIES_WITH_US,
            )
        worker = Worker(self, process, log, began)
        try:
            if warm:
                spare = board.places - 1 - _SPARE
                self.client("send", first=spare, count=_SPARE)
                worker.wait(lambda: board.started(spare, _SPARE), _SPARE)
            yield worker
        finally:
            servers.end(process)

    def _client_command(self, operation: str, params: dict[str, Any]) -> list[str]:
        return [self.python, "-m", "tests.bench.client", operation, json.dumps(params)]

    def _variables(self) -> dict[str, str]:
        own = {"BENCH_SYSTEM": self.name, "PYTHONPATH": str(ROOT), **self.environment()}
        # The caller's settings must reach neither our database nor Celery's broker.
        foreign = ("PGTASKS_", "CELERY_", "DJANGO_", "PG")
        return {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(foreign)
        } | own

    def _answer(
        self, operation: str, code: int, output: str, errors: str
    ) -> dict[str, Any]:
        if code != 0:
            raise RuntimeError(
                f"{NAMES[self.name]}: the client's {operation!r} failed: {errors[-2000:]}"
            )
        answer: dict[str, Any] = json.loads(output.splitlines()[-1])
        return answer


@dataclass(frozen=True)
class Worker:
    """A worker that runs."""

    system: System
    process: subprocess.Popen[bytes]
    log: Path
    began: float

    def wait_until_ready(self, board: Board) -> float:
        """Wait until it takes jobs; the answer is how many seconds that took."""
        place = board.places - 1
        self.wait(lambda: board.started(place, 1), 1, poll=0.001)
        return board.times(place, 1)[0] - self.began

    def cpu(self) -> float:
        """Processor seconds that its processes have used."""
        return machine.cpu(self.process.pid)

    def memory(self) -> machine.Memory:
        """Memory of its processes."""
        return machine.memory(self.process.pid)

    def wait(
        self,
        count: Callable[[], int],
        wanted: int,
        *,
        poll: float = 0.01,
        stall: float = 30.0,
    ) -> None:
        """Wait until ``count()`` is at ``wanted``; fail where it does not move for long."""
        last, moved = -1, time.monotonic()
        while (now := count()) < wanted:
            if now != last:
                last, moved = now, time.monotonic()
            if self.process.poll() is not None:
                raise self._failure(f"has ended with exit code {self.process.returncode}")
            if time.monotonic() - moved > stall:
                raise self._failure(f"has run {now} of {wanted} jobs and stands still")
            time.sleep(poll)

    def _failure(self, what: str) -> RuntimeError:
        said = self.log.read_text(errors="replace")[-800:].strip()
        return RuntimeError(
            f"{NAMES[self.system.name]}: the worker {what}. It says:\n{said}"
        )


@dataclass
class Field:
    """Everybody who takes part, and why others do not."""

    postgres: servers.Postgres
    systems: list[System]
    versions: dict[str, str]
    absent: dict[str, str] = field(default_factory=dict)


@contextmanager
def field_of(wanted: list[str], folder: Path) -> Iterator[Field]:
    """Install and start what the ``wanted`` systems need; one that fails stays absent."""
    with ExitStack() as stack:
        postgres = stack.enter_context(servers.postgres())
        versions = {"PostgreSQL": postgres.version, "psycopg": _psycopg_version()}
        versions["its disk"] = postgres.disk
        ours = System(
            "pgtasks",
            sys.executable,
            lambda: {"BENCH_BROKER": postgres.url},
            {"PostgreSQL": postgres.pid},
            lambda _: postgres.renew(),
            folder,
        )
        everybody = Field(postgres, [ours], versions)
        celery: str | None = None
        redis: servers.Server | None = None
        for name in [name for name in wanted if name != "pgtasks"]:
            try:
                if celery is None:
                    celery = _celery(versions)
                if redis is None:  # keeps the results of both
                    redis = _start(stack, servers.redis, folder / "redis", versions)
                rabbitmq = None
                if name == "rabbitmq":
                    rabbitmq = _start(
                        stack, servers.rabbitmq, folder / "rabbitmq", versions
                    )
                peer = _peer(name, celery, redis, rabbitmq, folder)
                peer.empty(peer)  # can we log in?
                stack.callback(peer.empty, peer)
                everybody.systems.append(peer)
            except (Missing, RuntimeError) as error:
                everybody.absent[name] = str(error)
        yield everybody


def _start(
    stack: ExitStack, server: Callable[[Path], Any], folder: Path, versions: dict[str, str]
) -> servers.Server:
    folder.mkdir(exist_ok=True)
    started: servers.Server = stack.enter_context(server(folder))
    versions[started.name] = started.described
    return started


def _peer(
    name: str,
    python: str,
    redis: servers.Server,
    rabbitmq: servers.Server | None,
    folder: Path,
) -> System:
    results = f"redis://127.0.0.1:{redis.port}/{_RESULTS}"
    broker = f"redis://127.0.0.1:{redis.port}/{_QUEUES}"
    _check_unused(redis)
    pids = {redis.name: redis.pid}
    if rabbitmq is not None:
        broker = f"amqp://guest:guest@127.0.0.1:{rabbitmq.port}//"
        pids[rabbitmq.name] = rabbitmq.pid

    def empty(system: System) -> None:
        for database in (_QUEUES, _RESULTS):
            servers.ask_redis(redis.port, f"SELECT {database}", "FLUSHDB")
        if rabbitmq is not None:
            system.client("clear")

    environment = {"BENCH_BROKER": broker, "BENCH_BACKEND": results}
    return System(name, python, lambda: environment, pids, empty, folder)


def _check_unused(redis: servers.Server) -> None:
    for database in () if redis.own else (_QUEUES, _RESULTS):
        answer = servers.ask_redis(redis.port, f"SELECT {database}", "DBSIZE")
        if ":0\r\n" not in answer:
            raise Missing(
                f"the Redis on port {redis.port} is not ours, and its database {database}, "
                f"which would be emptied, does not answer DBSIZE with 0 but {answer!r}. "
                f"Install redis-server, and the run starts one of its own."
            )


def _celery(versions: dict[str, str]) -> str:
    """The interpreter of a virtual environment with Celery, outside of the project's."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "pgtasks" / f"bench-celery-{CELERY}-{sys.implementation.cache_tag}"
    python = folder / "bin" / "python"
    tell = "import celery, kombu, redis; print(celery.__version__, kombu.__version__)"
    try:
        said = subprocess.run([python, "-c", tell], capture_output=True, text=True)
    except OSError:
        said = None
    if said is None or said.returncode != 0:
        print(f"Installing Celery {CELERY} into {folder} …", file=sys.stderr)
        # Without pip: Debian's Python has no ensurepip, and our own pip can install there.
        make = [sys.executable, "-m", "venv", "--clear", "--without-pip", str(folder)]
        install = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q"]
        for command in (make, [*install, f"celery[redis]=={CELERY}.*"]):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                raise Missing(f"Celery cannot be installed: {done.stderr.strip()[-600:]}")
        said = subprocess.run(
            [python, "-c", tell], capture_output=True, text=True, check=True
        )
    versions["Celery"], versions["kombu"] = said.stdout.split()
    return str(python)


def _psycopg_version() -> str:
    import psycopg

    return f"{psycopg.__version__} ({psycopg.pq.__impl__})"
