"""A worker in the background: how it is started, and how it says that it is ready."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import IO, NamedTuple

from pgtasks.cli.invocation import Failure, started_in

__all__ = ["Detached", "Started", "detach"]

PATIENCE = 20.0
"""Seconds that a worker in the background has to become ready, before nobody watches."""

TICK = 0.05
"""Seconds after which an early end is noticed."""

_CHANNEL = "PGTASKS_DETACHED"
_LAST_WORDS = 2000

logger = logging.getLogger("celery.worker")


class Started(NamedTuple):
    """What is known of a worker in the background.

    Attributes:
        pid: Its process id.
        ready: Whether it takes jobs; otherwise it is still about to.
        words: What it has said, if it is not ready.
    """

    pid: int
    ready: bool
    words: str


# ── whoever starts it ───────────────────────────────────────────────────────────────────


def detach(
    words: Sequence[str],
    *,
    executable: str | None = None,
    patience: float = PATIENCE,
    what: str = "worker",
) -> Started:
    """Start the same command in the background, and wait until it is ready.

    Args:
        words: The command line, without the program's name.
        executable: The Python to run; this one by default.
        patience: Seconds after which it is left to itself, ready or not.
        what: What it is called in messages.

    Raises:
        Failure: It has ended instead: the message has its last words, and the exit status
            is its own; or there is no such program.
    """
    # Its words go to a file: a pipe would break when we end, and others that inherit it
    # could keep it open. It says in a channel of its own that it is ready.
    near, far = socket.socketpair()
    with near, far, tempfile.TemporaryFile() as said:
        process = _launch(
            [executable or sys.executable, "-m", "pgtasks", *words], said, far
        )
        far.close()
        ready = _await(process, near, patience)
        last = "" if ready else _end_of(said)
    if process.returncode is not None:
        raise _failure(process.returncode, last, what)
    # It goes on without us, which is what was asked for.
    process.returncode = 0
    return Started(process.pid, ready, last)


def _launch(
    command: list[str], said: IO[bytes], channel: socket.socket
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,
            # The same words say where to go from there.
            cwd=started_in(),
            pass_fds=[channel.fileno()],
            env={**os.environ, _CHANNEL: str(channel.fileno())},
        )
    except OSError as error:
        raise Failure(
            f"Cannot start {command[0]}: {error.strerror}. Name a Python that has pgtasks "
            f"with --executable."
        ) from error


def _failure(status: int, last: str, what: str) -> Failure:
    fate = (
        f"was ended by signal {-status} while it started"
        if status < 0
        else f"ended while it started, with status {status}"
    )
    return Failure(
        f"The {what} in the background {fate}. Its last words:\n\n{last or '(none)'}",
        128 - status if status < 0 else status or 1,
    )


def _await(
    process: subprocess.Popen[bytes], channel: socket.socket, patience: float
) -> bool:
    """Whether it says that it is ready, before it ends or patience does."""
    deadline = time.monotonic() + patience
    watched = [channel]
    # The end of the channel alone tells nothing: a process that it forked may hold it, and
    # a program that stands in for Python may have closed it.
    while process.poll() is None and (left := deadline - time.monotonic()) > 0:
        if select.select(watched, [], [], min(TICK, left))[0]:
            if channel.recv(1):
                return True
            watched = []
    return False


def _end_of(file: IO[bytes]) -> str:
    # Its own end of the file has the same position, so that is not to be moved.
    size = os.fstat(file.fileno()).st_size
    start = max(0, size - 4 * _LAST_WORDS)
    text = os.pread(file.fileno(), size - start, start).decode(errors="replace")
    return text.strip()[-_LAST_WORDS:]


# ── the worker itself ───────────────────────────────────────────────────────────────────


class Detached:
    """The start of a worker as the process sees it that `detach` has started.

    Until it is ready its standard error is for whoever waits; from then on that is its log
    file, and nothing where it has none. Processes forked meanwhile never write there: they
    may outlive the start, and what they write would fill a disk unseen.
    """

    def __init__(self, channel: socket.socket) -> None:
        self._channel: socket.socket | None = channel
        self._words = os.fstat(2)
        self._log: str | None = None
        channel.set_inheritable(False)
        os.register_at_fork(after_in_child=self._let_go)

    @classmethod
    def of_environment(cls) -> Detached | None:
        """The one that this process is; None if it has been started otherwise."""
        number = os.environ.pop(_CHANNEL, None)
        if number is None:
            return None
        try:
            return cls(socket.socket(fileno=int(number)))
        except (OSError, ValueError):
            # A program in between has closed it: nobody can be told, and nobody waits long.
            return cls(socket.socketpair()[0])

    def log_to(self, path: str | None) -> None:
        """Note where the log is, for what comes by standard error later."""
        self._log = os.path.abspath(path) if path else None

    def stay(self) -> None:
        """Have the program that this process becomes know that it is in the background."""
        os.environ[_CHANNEL] = "nobody"

    def ready(self) -> None:
        """Tell whoever waits, if anybody does, and speak to nobody from here on."""
        channel = self._channel
        if channel is None:
            return
        # Pointed elsewhere first: who hears that it is ready may look at once.
        self._turn_away()
        with contextlib.suppress(OSError):
            # Who was to hear it may be gone, and a program may have made SIGPIPE deadly.
            channel.send(b"!", getattr(socket, "MSG_NOSIGNAL", 0))
        self._close()

    @contextlib.contextmanager
    def starting(self) -> Iterator[None]:
        """Have the words of a start that fails heard, also if prints are logged by then."""
        try:
            yield
        except Exception as error:
            if self._channel is not None and self._log:
                logger.critical("Could not start: %s", error)
            raise
        finally:
            if self._channel is not None:
                sys.stderr = sys.__stderr__
                if self._log and os.path.exists(self._log):
                    print(f"Its log is {self._log}", file=sys.stderr, flush=True)

    def _let_go(self) -> None:
        if self._channel is not None:
            self._turn_away()
            self._close()

    def _turn_away(self) -> None:
        with contextlib.suppress(OSError):
            if not os.path.samestat(os.fstat(2), self._words):
                return  # somebody has already chosen another place
            target = self._open()
            os.dup2(target, 2)
            os.close(target)

    def _open(self) -> int:
        with contextlib.suppress(OSError):
            if self._log:
                # Not created: a receiver of setup_logging may log somewhere else.
                return os.open(self._log, os.O_WRONLY | os.O_APPEND)
        return os.open(os.devnull, os.O_WRONLY)

    def _close(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()
