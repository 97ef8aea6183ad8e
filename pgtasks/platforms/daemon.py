"""Daemons: processes of no terminal, of which there is one."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from pgtasks import platforms as package
from pgtasks.platforms.descriptors import number_of
from pgtasks.platforms.pidfile import Pidfile

__all__ = ["DaemonContext", "create_pidlock", "detached"]

#: Where a daemon is at home unless it is told otherwise.
DAEMON_WORKDIR = "/"

PIDLOCKED = (
    "ERROR: Pidfile ({0}) already exists. Process {1} runs already: stop it, or choose "
    "another file."
)


def create_pidlock(pidfile: str) -> Pidfile:
    """Write a pid file, which is removed when the program ends.

    One that is left from a process that is no more is replaced.

    Args:
        pidfile: Where.

    Raises:
        SystemExit: The process that it names runs.
    """
    lock = package._create_pidlock(pidfile)
    atexit.register(lock.release)
    return lock


def _create_pidlock(pidfile: str) -> Pidfile:
    lock: Pidfile = package.Pidfile(pidfile)
    if lock.is_locked() and not lock.remove_if_stale():
        print(PIDLOCKED.format(pidfile, lock.read_pid()), file=sys.stderr)
        raise SystemExit(package.EX_CANTCREAT)
    lock.acquire()
    return lock


class DaemonContext:
    """Makes this process a daemon: of no terminal, no directory and no open files.

    The process that enters the ``with`` statement ends there; another one goes on.

    Args:
        pidfile: Accepted from Celery.
        workdir: Directory to go to.
        umask: Permissions that new files are not given, as a number, or as text that is
            octal if it begins with 0.
        fake: Stay in the foreground, for debugging.
        after_chdir: Called in the directory, while errors can still be seen.
        after_forkers: Run what ``multiprocessing`` has to do after a fork.
        **kwargs: Accepted from Celery.
    """

    _is_open = False

    def __init__(
        self,
        pidfile: str | None = None,
        workdir: str | None = None,
        umask: str | int | None = None,
        fake: bool = False,
        after_chdir: Callable[[], Any] | None = None,
        after_forkers: bool = True,
        **kwargs: Any,
    ) -> None:
        if isinstance(umask, str):
            umask = int(umask, 8 if umask.startswith("0") else 10)
        self.workdir = workdir or DAEMON_WORKDIR
        self.umask = umask
        self.fake = fake
        self.after_chdir = after_chdir
        self.after_forkers = after_forkers
        self.stdfds: Sequence[Any] = (sys.stdin, sys.stdout, sys.stderr)

    def open(self) -> None:
        """Become a daemon."""
        if self._is_open:
            return
        if not self.fake:
            self._detach()
        os.chdir(self.workdir)
        if self.umask is not None:
            os.umask(self.umask)
        if self.after_chdir:
            self.after_chdir()
        if not self.fake:
            self._let_go()
        self._is_open = True

    __enter__ = open

    def close(self, *args: object) -> None:
        """End the ``with`` statement; a daemon remains one."""
        self._is_open = False

    __exit__ = close

    def redirect_to_null(self, fd: int | None) -> None:
        """Let a descriptor lead nowhere."""
        if fd is not None:
            os.dup2(os.open(os.devnull, os.O_RDWR), fd)

    def _let_go(self) -> None:
        # Modules that draw random numbers may have it open, and would not notice.
        package.close_open_fds([*self.stdfds, *package.fd_by_path(["/dev/urandom"])])
        for file in self.stdfds:
            self.redirect_to_null(number_of(file))
        if self.after_forkers and package.mputil is not None:
            package.mputil._run_after_forkers()

    def _detach(self) -> None:
        if os.fork():
            os._exit(0)
        else:
            # The leader of a session could get a terminal again, its child cannot.
            os.setsid()
            if os.fork():
                os._exit(0)


def detached(
    logfile: str | None = None,
    pidfile: str | None = None,
    uid: str | int | None = None,
    gid: str | int | None = None,
    umask: str | int | None = 0,
    workdir: str | None = None,
    fake: bool = False,
    **opts: Any,
) -> DaemonContext:
    """Answer a context in which this process is a daemon, of another user if need be.

    Args:
        logfile: A file that must be writable.
        pidfile: A file that must not name a process that runs. The daemon writes it.
        uid: User, by name or number.
        gid: Group, likewise.
        umask: As of `DaemonContext`.
        workdir: Directory to go to; by default the present one.
        fake: Stay in the foreground, for debugging.
        **opts: Accepted from Celery.

    Raises:
        RuntimeError: The system has no daemons.
    """
    if not package.resource:
        raise RuntimeError("This platform does not support detach: use a service manager.")
    workdir = os.getcwd() if workdir is None else workdir
    package.signals.reset("SIGCLD")
    package.maybe_drop_privileges(uid=uid, gid=gid)

    def try_files() -> None:
        if logfile:
            open(logfile, "a").close()
        if pidfile:
            package._create_pidlock(pidfile).release()

    return DaemonContext(umask=umask, workdir=workdir, fake=fake, after_chdir=try_files)
