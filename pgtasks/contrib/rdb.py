"""A debugger for tasks, to be talked to over the network.

A worker's children have no terminal. Where a task calls `set_trace`, it waits for
somebody to connect, and that is then in Python's debugger:

    from pgtasks.contrib import rdb

    @app.task
    def add(x, y):
        rdb.set_trace()
        return x + y

    $ telnet 127.0.0.1 6899

The worker's log has the port. ``CELERY_RDB_HOST`` and ``CELERY_RDB_PORT`` say where to
listen; whoever can connect there can run anything in the task.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from multiprocessing import current_process
from pdb import Pdb
from types import FrameType
from typing import Any

__all__ = [
    "CELERY_RDB_HOST",
    "CELERY_RDB_PORT",
    "DEFAULT_PORT",
    "Rdb",
    "debugger",
    "set_trace",
]

DEFAULT_PORT = 6899

CELERY_RDB_HOST = os.environ.get("CELERY_RDB_HOST") or "127.0.0.1"
CELERY_RDB_PORT = int(os.environ.get("CELERY_RDB_PORT") or DEFAULT_PORT)

NO_AVAILABLE_PORT = (
    "{self.me}: Couldn't find an available port. Choose another first one, with the "
    "environment variable CELERY_RDB_PORT."
)

BANNER = """\
{self.ident}: Ready to connect: telnet {self.host} {self.port}

Type `exit` in session to continue.

{self.ident}: Waiting for client...
"""

SESSION_STARTED = "{self.ident}: Now in session with {self.remote_addr}."
SESSION_ENDED = "{self.ident}: Session with {self.remote_addr} ended."

#: The debugger of this process, once there is one.
_current: list[Any] = [None]

_frame = sys._getframe


class Rdb(Pdb):
    """A debugger that listens, and waits for somebody to connect.

    Args:
        host: Address to listen at.
        port: The first port to try. A child adds its number, so that each has its own.
        port_search_limit: How many to try.
        port_skew: To add to the port.
        out: Where to tell of it; the worker's standard output is its log.
    """

    me = "Remote Debugger"

    _sock: Any = None

    def __init__(
        self,
        host: str = CELERY_RDB_HOST,
        port: int = CELERY_RDB_PORT,
        port_search_limit: int = 100,
        port_skew: int = 0,
        out: Any = None,
    ) -> None:
        self.active = True
        self.out = sys.stdout if out is None else out
        self._previous = sys.stdin, sys.stdout
        self._sock, self.port = self.get_avail_port(
            host, port, port_search_limit, port_skew
        )
        self._sock.setblocking(True)
        self._sock.listen(1)
        self.host = host
        self.ident = f"{self.me}:{self.port}"
        self.say(BANNER.format(self=self))
        self._client, address = self._sock.accept()
        self._client.setblocking(True)
        self.remote_addr = ":".join(map(str, address))
        self.say(SESSION_STARTED.format(self=self))
        # Two files: one for both forgets what it has read ahead whenever it writes, and
        # with it commands that were pasted together.
        self._handle: Any = self._client.makefile("r")
        self._output: Any = self._client.makefile("w")
        # What the task prints, and asks, goes there as well.
        sys.stdin, sys.stdout = self._handle, self._output
        super().__init__(completekey="tab", stdin=self._handle, stdout=self._output)

    def get_avail_port(
        self, host: str, port: int, search_limit: int = 100, skew: int = 0
    ) -> tuple[Any, int]:
        """Find a free port, and answer a socket that is bound to it.

        Raises:
            Exception: There is none.
        """
        # Processes that multiprocessing has made are called ForkPoolWorker-3.
        number = current_process().name.rpartition("-")[2]
        skew = int(number) if number.isdigit() else skew
        for candidate in range(port + skew, port + skew + search_limit):
            listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((host, candidate))
            except OSError as error:
                listener.close()
                if error.errno not in (errno.EADDRINUSE, errno.EINVAL):
                    raise
            else:
                return listener, candidate
        raise Exception(NO_AVAILABLE_PORT.format(self=self))

    def say(self, m: str) -> None:
        """Tell something to whoever reads the log."""
        print(m, file=self.out)

    def __enter__(self) -> Rdb:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._close_session()

    def _close_session(self) -> None:
        self.stdin, self.stdout = sys.stdin, sys.stdout = self._previous
        if not self.active:
            return
        for part in (self._output, self._handle, self._client, self._sock):
            if part is not None:
                part.close()
        self.active = False
        self.say(SESSION_ENDED.format(self=self))

    # ── commands ────────────────────────────────────────────────────────────────────────

    def do_continue(self, arg: Any) -> bool:
        """Let the task go on, and hang up."""
        self._close_session()
        self.set_continue()
        return True

    do_c = do_cont = do_continue

    def do_quit(self, arg: Any) -> bool:
        """The same: there is no program to leave, but a worker."""
        self._close_session()
        self.set_quit()
        return True

    do_q = do_exit = do_quit

    def set_quit(self) -> None:
        """Trace no more. Python's own would raise an exception through the task."""
        sys.settrace(None)


def debugger() -> Any:
    """The debugger of this process; one that has been left is made anew."""
    rdb = _current[0]
    if rdb is None or not rdb.active:
        rdb = _current[0] = Rdb()
    return rdb


def set_trace(frame: FrameType | None = None) -> Any:
    """Wait for somebody to connect, and stop there.

    Args:
        frame: Where to stop; the caller by default.
    """
    if frame is None:
        frame = _frame().f_back
    return debugger().set_trace(frame)
