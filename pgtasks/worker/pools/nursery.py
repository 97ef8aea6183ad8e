"""Starts child processes from a template that has no threads and no connections.

Forking the worker itself would copy locks that some thread holds and sockets that
PostgreSQL believes to be ours alone. So the worker forks once, at its very start, and
that copy forks the children: the application is imported once and its memory shared.
"""

from __future__ import annotations

import contextlib
import gc
import marshal
import os
import select
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable

from pgtasks.worker.identity import NOT_OURS, die_with_parent

__all__ = ["Nursery"]


class Nursery:
    """The worker's end of the template process.

    Args:
        run_child: What a child does: called in it with its socket and its slot.
        before_fork: Called in the process that is about to be copied, each time: in the
            worker before the template is made, in that before each child.
    """

    def __init__(
        self,
        run_child: Callable[[socket.socket, int], None],
        before_fork: Callable[[], object] = lambda: None,
    ) -> None:
        # In a test the worker itself is in a thread.
        mine = threading.main_thread(), threading.current_thread()
        others = [each.name for each in threading.enumerate() if each not in mine]
        if others:
            warnings.warn(
                f"The application started threads while it was imported ({', '.join(others)}). "
                f"They do not exist in the processes that run its jobs. Start them on the "
                f"signal worker_process_init instead.",
                RuntimeWarning,
                stacklevel=2,
            )
        self._ends: list[tuple[int, int]] = []
        before_fork()
        self.control, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # The application's objects are for ever. A collection writes to each that it looks
        # at, and so to a page of its own of every process: done in each child, this was
        # 10 MB apiece.
        gc.collect()
        gc.freeze()
        sys.stdout.flush()
        sys.stderr.flush()
        with warnings.catch_warnings():
            # Python warns of forking with threads; the one above says what to do.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if not self.pid:
            code = 1
            try:
                self.control.close()
                _Template(far, run_child, before_fork).run()
                code = 0
            finally:
                os._exit(code)
        far.close()

    def spawn(self, slot: int, far: socket.socket) -> int:
        """Start a child that talks through ``far``; the answer is its pid."""
        socket.send_fds(self.control, [marshal.dumps(("spawn", slot))], [far.fileno()])
        # Its end is news that comes through the same socket, and may come first.
        while True:
            news = self.read()
            if news is None:
                raise ChildProcessError("The template of the worker's processes is gone.")
            if news[0] == "born":
                return int(news[1])
            self._ends.append((int(news[1]), int(news[2])))

    def read(self) -> tuple[str, int, int] | None:
        """The next piece of news, or None when the template is gone."""
        message = self.control.recv(256)
        return marshal.loads(message) if message else None

    @property
    def has_kept_news(self) -> bool:
        """Whether `spawn` has read of ends, of which the socket tells nobody any more."""
        return bool(self._ends)

    def ended(self) -> list[tuple[int, int]] | None:
        """Pids and wait statuses of children that ended; None when the template did."""
        ends, self._ends = list(self._ends), []
        while select.select([self.control.fileno()], [], [], 0)[0]:
            news = self.read()
            if news is None:
                return None
            ends.append((int(news[1]), int(news[2])))
        return ends

    def stop(self) -> None:
        """End the template; what children are left die with it."""
        self.control.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


class _Template:
    """The process that children are copied from: one thread, one duty."""

    def __init__(
        self,
        control: socket.socket,
        run_child: Callable[[socket.socket, int], None],
        before_fork: Callable[[], object],
    ) -> None:
        self._before_fork = before_fork
        self._control = control
        self._run_child = run_child
        self._children: set[int] = set()

    def run(self) -> None:
        die_with_parent()
        bell, ringer = os.pipe()
        os.set_blocking(ringer, False)
        signal.set_wakeup_fd(ringer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in NOT_OURS:
            signal.signal(number, signal.SIG_IGN)
        while True:
            ready, _, _ = select.select([self._control.fileno(), bell], [], [])
            if bell in ready:
                os.read(bell, 4096)
                self._reap()
            if self._control.fileno() in ready:
                message, descriptors, _, _ = socket.recv_fds(self._control, 4096, 1)
                if not message:
                    break
                _, slot = marshal.loads(message)
                self._fork(slot, socket.socket(fileno=descriptors[0]))
        for pid in self._children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _fork(self, slot: int, connection: socket.socket) -> None:
        self._before_fork()
        pid = os.fork()
        if pid:
            self._children.add(pid)
            connection.close()
            self._control.send(marshal.dumps(("born", pid, 0)))
            return
        code = 1
        try:
            die_with_parent()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._control.close()
            self._run_child(connection, slot)
            code = 0
        except SystemExit as request:
            code = request.code if isinstance(request.code, int) else 1
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid in self._children:
                self._children.discard(pid)
                self._control.send(marshal.dumps(("end", pid, status)))
