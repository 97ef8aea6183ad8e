"""The servers under the systems: a PostgreSQL for us, Redis and RabbitMQ for Celery.

Each is our own, started for the run on a free port with its data in a folder that goes
with it. Where Redis or RabbitMQ is not installed, one that listens on the usual port of
this machine serves as well.
"""

from __future__ import annotations

import ctypes
import glob
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench import machine

if TYPE_CHECKING:
    from pgtasks.dev import postgres as postgres_server

__all__ = [
    "Missing",
    "Postgres",
    "Server",
    "end",
    "end_with_us",
    "postgres",
    "rabbitmq",
    "redis",
]

#: As a small server in production has it; the rest is PostgreSQL's default, durability
#: included, and not what the embedded server sets for development.
SETTINGS = {
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "synchronous_commit": "on",
    "wal_level": "replica",
    "max_wal_senders": "10",
    "jit": "on",
}
_LOCAL = "127.0.0.1"


class Missing(Exception):
    """Something to compare with is not here; the message says what to do."""


@dataclass(frozen=True)
class Server:
    """A Redis or a RabbitMQ."""

    name: str
    version: str
    port: int
    own: bool
    pid: int | None

    @property
    def described(self) -> str:
        """Its version, and whose it is."""
        whose = "of the run" if self.own else f"of this machine, port {self.port}"
        return f"{self.version} ({whose})"


# ── PostgreSQL ──────────────────────────────────────────────────────────────────────────


class Postgres:
    """A private, durable PostgreSQL that gives each measurement a database of its own."""

    def __init__(self, server: postgres_server.Server) -> None:
        assert server.pid is not None
        self._server = server
        self._database = ""
        self.version = server.version
        self.pid = server.pid
        self.disk = machine.disk(server.folder)
        from pgtasks.storage import schema

        self._execute("create database bench_template")
        schema.apply(server.url_of("bench_template"))

    @property
    def url(self) -> str:
        """The address of the present database."""
        return self._server.url_of(self._database)

    def renew(self) -> None:
        """Put an empty database in the place of the present one."""
        if self._database:
            self._execute(f"drop database {self._database} with (force)")
        self._database = f"bench_{uuid.uuid4().hex[:8]}"
        self._execute(f"create database {self._database} template bench_template")

    def _execute(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(self._server.url, autocommit=True) as connection:
            connection.execute(statement)


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Run a PostgreSQL for the time of the ``with``."""
    from pgtasks.dev.postgres import private_server

    with private_server(durable=True, settings=SETTINGS) as server:
        yield Postgres(server)


# ── Redis ───────────────────────────────────────────────────────────────────────────────


@contextmanager
def redis(folder: Path) -> Iterator[Server]:
    """Run a Redis without persistence, or use the one that listens on port 6379."""
    program = shutil.which("redis-server")
    if program is None:
        yield _found("Redis", 6379, _redis_version, "redis-server")
        return
    port = _free_port()
    command = [program, "--port", str(port), "--bind", _LOCAL, "--dir", str(folder)]
    command += ["--save", "", "--appendonly", "no"]
    with _running(command, folder / "redis.log") as process:
        version = _wait_for(lambda: _redis_version(port), process, folder / "redis.log")
        yield Server("Redis", version, port, own=True, pid=process.pid)


def ask_redis(port: int, *commands: str) -> str:
    """Send Redis some commands, as one would by telnet, and return all that it says."""
    with closing(socket.create_connection((_LOCAL, port), timeout=10)) as connection:
        connection.sendall("".join(f"{each}\r\n" for each in (*commands, "QUIT")).encode())
        return b"".join(iter(lambda: connection.recv(65536), b"")).decode(errors="replace")


def _redis_version(port: int) -> str:
    answer = ask_redis(port, "INFO server")
    version = re.search(r"^redis_version:(\S+)", answer, re.M)
    if version is None:
        raise OSError(f"it answers {answer[:60]!r} to INFO")
    return version[1]


# ── RabbitMQ ────────────────────────────────────────────────────────────────────────────


@contextmanager
def rabbitmq(folder: Path) -> Iterator[Server]:
    """Run a RabbitMQ, or use the one that listens on port 5672."""
    program, names_program = _rabbitmq_program(), shutil.which("epmd")
    if program is None or names_program is None:
        yield _found("RabbitMQ", 5672, _rabbitmq_version, "rabbitmq-server")
        return
    port = _free_port()
    for name in ("plugins", "config"):
        (folder / name).write_text("[].\n" if name == "plugins" else "")
    environment = {
        "HOME": str(folder),  # where Erlang keeps the cookie of its nodes
        "RABBITMQ_NODENAME": f"pgtasks-bench-{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": _LOCAL,
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(_free_port()),
        "ERL_EPMD_ADDRESS": _LOCAL,
        "ERL_EPMD_PORT": str(_free_port()),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_CONFIG_FILE": str(folder / "config"),
        "RABBITMQ_CONF_ENV_FILE": str(folder / "config"),
    }
    log = folder / "rabbitmq.log"
    # The name server of Erlang's nodes: where the node must start it, it outlives the node.
    with (
        _running([names_program], folder / "epmd.log", environment),
        _running([program], log, environment) as process,
    ):
        version = _wait_for(lambda: _rabbitmq_version(port), process, log)
        yield Server("RabbitMQ", version, port, own=True, pid=process.pid)


def _rabbitmq_program() -> str | None:
    # Debian's /usr/sbin/rabbitmq-server is a wrapper that serves the system's node only.
    real = glob.glob("/usr/lib/rabbitmq/bin/rabbitmq-server")
    found = shutil.which("rabbitmq-server")
    return next(iter(real), None if found and found.startswith("/usr/sbin") else found)


def _rabbitmq_version(port: int) -> str:
    with closing(socket.create_connection((_LOCAL, port), timeout=10)) as connection:
        connection.sendall(b"AMQP\x00\x00\x09\x01")
        # Its first frame, Connection.Start, tells; strings carry their length in front.
        greeting = b""
        while (version := re.search(rb"\x07versionS(.{4})", greeting, re.S)) is None:
            part = connection.recv(65536)
            if not part:
                raise OSError("it does not speak AMQP 0-9-1")
            greeting += part
    end = version.end()
    return greeting[end : end + int.from_bytes(version[1], "big")].decode()


# ── processes ───────────────────────────────────────────────────────────────────────────


def end_with_us(number: int = signal.SIGTERM) -> None:
    """Have the kernel send this process a signal when the harness dies, be it of SIGKILL."""
    parent_death_signal = 1
    ctypes.CDLL(None).prctl(parent_death_signal, number)


def end(process: subprocess.Popen[bytes], patience: float = 20.0) -> None:
    """End a process as a supervisor would: ask, wait, then kill it and its descendants."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(patience)
    if process.poll() is None:
        for pid in machine.processes(process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


@contextmanager
def _running(
    command: list[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command,
            env={**os.environ, **(environment or {})},
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=end_with_us,
        )
    try:
        yield process
    finally:
        end(process)


def _wait_for(
    version: Callable[[], str], process: subprocess.Popen[bytes], log: Path
) -> str:
    deadline = time.monotonic() + 60
    while True:
        try:
            return version()
        except OSError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                said = log.read_text(errors="replace")[-600:].strip()
                raise Missing(f"it does not start ({error}); it says:\n{said}") from error
        time.sleep(0.05)


def _found(name: str, port: int, version: Callable[[int], str], package: str) -> Server:
    try:
        return Server(name, version(port), port, own=False, pid=machine.listener(port))
    except OSError as error:
        raise Missing(
            f"{name} is not installed, and none on port {port} can be used ({error}). "
            f"To compare with it: apt-get install {package}"
        ) from error


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind((_LOCAL, 0))
        return int(probe.getsockname()[1])
