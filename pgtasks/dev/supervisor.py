"""The process that owns an embedded PostgreSQL and ends it with its last user.

Run detached, by the first user of a server. Users hold a shared lock on ``users.lock``; the
kernel drops it however they die, and forked workers inherit it. When the supervisor can
lock it exclusively, nobody is left. The postmaster is the supervisor's own child: its death
is noticed (a zombie looks alive to everybody else) and it never outlives us.

It imports nothing but the standard library, and that at the start: as root it gives up its
rights first, and may not be able to read its own Python afterwards.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import json
import os
import select
import shutil
import signal
import subprocess
import time
import traceback
from dataclasses import dataclass

from pgtasks.dev.detached import detach
from pgtasks.dev.processes import (
    Prctl,
    adopt_orphans,
    children,
    end_leftovers,
    fate,
    find_prctl,
    read,
    same_file,
    tie_to_parent,
)
from pgtasks.dev.wire import (
    NAME,
    NO_DATABASE,
    PORT,
    SOCKET,
    TOO_MANY,
    Refused,
    ask,
    claim,
    login,
    socket_folder,
)

TICK = 0.1  # how soon the end of the last user and a request are noticed
_STARTS = 3  # attempts before giving up
_CRASHES = 10  # of a server that became ready, within a minute
_WAYS_TO_STOP = {
    # The next signal is sent when the patience with the former one is at its end.
    "fast": ((signal.SIGINT, 10.0), (signal.SIGQUIT, 6.0), (signal.SIGKILL, 9.0)),
    "immediate": ((signal.SIGQUIT, 6.0), (signal.SIGKILL, 9.0)),
    "kill": ((signal.SIGKILL, 9.0),),
}


@dataclass
class Order:
    """What a supervisor is told: handed to the script as JSON."""

    folder: str
    binaries: str
    version: str
    token: str
    settings: dict[str, str]
    linger: float
    timeout: float
    temporary: bool
    durable: bool
    uid: int | None = None
    gid: int | None = None
    hold: int | None = None


class _Failed(Exception):
    """The server cannot be had; the text goes to those who wait for it."""


class _Over(Exception):
    """Nobody wants the server any longer."""


class _Supervisor:
    def __init__(self, order: Order, wakeup: int, prctl: Prctl | None) -> None:
        self._order = order
        self._wakeup = wakeup
        self._folder = order.folder
        self._data = self._path("data")
        self._sockets = socket_folder(order.folder, os.geteuid())
        self._socket = os.path.join(self._sockets, SOCKET)
        self._postmaster: subprocess.Popen[bytes] | None = None
        self._users = os.open(self._path("users.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        self._idle_since: float | None = None
        self._wanted = True  # False between a request to stop and one to start
        self._terminated = False
        self._crashes: list[float] = []
        self._prctl = prctl

    def run(self) -> None:
        signal.signal(signal.SIGTERM, self._terminate)
        signal.signal(signal.SIGINT, self._terminate)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # only to wake us
        last = "stopped", "nobody uses it any longer"
        try:
            self._report("starting")
            self._prepare()
            while True:
                if self._wanted and self._postmaster is None:
                    self._start()
                self._pause(TICK)
                self._notice_death()
                self._obey()
        except _Over as over:
            last = "stopped", str(over)
        except _Failed as failed:
            last = "failed", str(failed)
        except Exception as error:
            traceback.print_exc()
            last = "failed", f"the supervisor broke down: {error!r}"
        finally:
            # Without its files a server can only break off: a checkpoint would panic.
            whole = not self._order.temporary and os.path.isdir(self._data)
            self._stop("fast" if whole else "immediate")
            if self._sockets != self._folder:
                shutil.rmtree(self._sockets, ignore_errors=True)
            if self._order.temporary and last[0] == "stopped":
                shutil.rmtree(self._folder, ignore_errors=True)
            else:  # the owner removes the folder of a failure, after a look at the log
                self._report(*last)

    # ── beginning ───────────────────────────────────────────────────────────────────────

    def _prepare(self) -> None:
        end_leftovers(self._data)
        if self._sockets != self._folder and not claim(self._sockets):
            raise _Failed(
                f"its socket needs {self._sockets}, which is somebody else's; remove it"
            )
        # What is left of a server that did not end well is ours to remove: we hold the
        # lock, and no process of it lives. PostgreSQL itself compares process ids only, and
        # those repeat after each start of a container.
        stale = [self._data + "/postmaster.pid", self._socket, self._socket + ".lock"]
        for path in stale + self._requests():
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        if not os.path.exists(self._data):
            self._make_cluster()

    def _make_cluster(self) -> None:
        # Made beside and renamed, so that a kill in the middle leaves no half cluster. Each
        # attempt has its own name: a killed one's last process may still be writing.
        for leftover in glob.glob(glob.escape(self._data) + ".new.*"):
            end_leftovers(leftover)
            shutil.rmtree(leftover, ignore_errors=True)
        scratch = f"{self._data}.new.{os.getpid()}"
        command = [os.path.join(self._order.binaries, "initdb"), "-D", scratch, "-U", NAME]
        command += ["--auth-local=trust", "--auth-host=reject", "-E", "UTF8", "--no-locale"]
        if not self._order.durable:
            command.append("--no-sync")
        initdb = self._spawn(command, signal.SIGKILL)
        try:
            while initdb.poll() is None:
                self._pause(TICK)
        finally:
            if initdb.poll() is None:
                initdb.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    initdb.wait(5)
                initdb.kill()
            # Its own children end by themselves; killed, they would leave shared memory.
            self._bury(grace=5)
        if initdb.returncode != 0:
            raise _Failed(f"initdb ended with {fate(initdb.returncode)}")
        os.rename(scratch, self._data)

    def _start(self) -> None:
        command = [os.path.join(self._order.binaries, "postgres"), "-D", self._data]
        settings = self._order.settings | {
            "unix_socket_directories": '"{}"'.format(self._sockets.replace('"', '""')),
            "unix_socket_permissions": "0700",
            "listen_addresses": "",
            "port": str(PORT),
        }
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        deadline = time.monotonic() + self._order.timeout
        for attempt in range(_STARTS):
            # Where orphans are not ours to reap (macOS), a dead server's backends may hold
            # its shared memory for a moment.
            self._pause(0.25 * attempt)
            self._report("starting")
            self._postmaster = self._spawn(
                command, signal.SIGINT if self._order.durable else signal.SIGQUIT
            )
            while self._postmaster.poll() is None:
                if self._ready():
                    self._report("ready")
                    return
                if time.monotonic() > deadline:
                    raise _Failed(f"it is not ready after {self._order.timeout:g} s")
                self._pause(0.01)
            ending = fate(self._postmaster.returncode)
            self._bury()
        raise _Failed(f"it ended {_STARTS} times while starting, with {ending}")

    def _ready(self) -> bool:
        try:
            with open(self._data + "/postmaster.pid", encoding="utf-8") as file:
                lines = file.read().splitlines()
            if len(lines) < 8 or lines[7].strip() != "ready":
                return False
            said = login(self._socket)
            if said == NO_DATABASE:
                ask(self._socket, "postgres", f"create database {NAME}", timeout=30)
                said = login(self._socket)
        except OSError:
            return False
        except Refused as refused:
            print(f"pgtasks: cannot make the database: {refused}", flush=True)
            return False
        return said in ("", TOO_MANY)

    # ── life ────────────────────────────────────────────────────────────────────────────

    def _pause(self, duration: float) -> None:
        """Wait for a signal or the time; the one place that finds out that it is over."""
        if select.select([self._wakeup], [], [], duration)[0]:
            os.read(self._wakeup, 4096)
        if self._terminated:
            raise _Over("the supervisor was told to end")
        if not same_file(self._users, self._path("users.lock")):
            raise _Over("its folder has been removed")
        if self._abandoned():
            raise _Over("nobody uses it any longer")

    def _abandoned(self) -> bool:
        try:
            fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._idle_since = None
            return False
        now = time.monotonic()
        if self._idle_since is None:
            self._idle_since = now
        if now - self._idle_since >= self._order.linger:
            if self._order.temporary or not self._has_guests():
                return True  # and keep the lock: a new user waits until we are gone
            self._idle_since = now
        fcntl.flock(self._users, fcntl.LOCK_UN)
        return False

    def _has_guests(self) -> bool:
        """Whether somebody is connected without a lock: psql, or a daemon.

        Programs that become daemons close all files, and with them their lock.
        """
        if self._postmaster is None:
            return False
        try:
            count = ask(
                self._socket,
                NAME,
                "select count(*) from pg_stat_activity"
                " where backend_type = 'client backend' and pid <> pg_backend_pid()",
            )
        except Refused as refused:
            return refused.code == TOO_MANY
        except OSError:
            return False
        return count != ["0"]

    def _notice_death(self) -> None:
        if self._postmaster is None or self._postmaster.poll() is None:
            return
        ending = fate(self._postmaster.returncode)
        print(f"pgtasks: PostgreSQL ended with {ending}; starting it again", flush=True)
        self._bury()
        now = time.monotonic()
        self._crashes = [moment for moment in self._crashes if now - moment < 60] + [now]
        if len(self._crashes) > _CRASHES:
            raise _Failed(f"it ended {_CRASHES} times in a minute, last with {ending}")

    def _obey(self) -> None:
        """Do what users asked for in files; a file's disappearance is the answer."""
        for request in self._requests():
            action, mode = read(request).split()
            if action in ("stop", "restart", "end"):
                self._stop(mode)
            if action == "end":
                raise _Over("its owner closed it")
            self._wanted = action != "stop"
            if self._wanted and self._postmaster is None:
                self._start()
            else:
                self._report("ready" if self._wanted else "held")
            os.unlink(request)

    def _requests(self) -> list[str]:
        names = sorted(os.listdir(self._folder))
        return [self._path(name) for name in names if name.startswith("request-")]

    # ── end ─────────────────────────────────────────────────────────────────────────────

    def _terminate(self, *_: object) -> None:
        self._terminated = True

    def _stop(self, mode: str) -> None:
        if self._postmaster is None:
            return
        self._report("stopping")
        for number, patience in _WAYS_TO_STOP[mode]:
            self._postmaster.send_signal(number)
            try:
                self._postmaster.wait(patience)
                break
            except subprocess.TimeoutExpired:
                continue
        self._bury()

    def _bury(self, grace: float = 0) -> None:
        """Forget a dead postmaster and end its orphans, which hold its shared memory.

        They are our children now (PR_SET_CHILD_SUBREAPER). One that is busy computing would
        not notice for long that its server is gone, and the next could not start.
        """
        self._postmaster = None
        beginning = time.monotonic()
        while (waited := time.monotonic() - beginning) < grace + 5:
            if waited >= grace:
                for orphan in children():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(orphan, signal.SIGKILL)
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    time.sleep(0.005)
            except ChildProcessError:
                return

    # ── means ───────────────────────────────────────────────────────────────────────────

    def _path(self, name: str) -> str:
        return os.path.join(self._folder, name)

    def _spawn(self, command: list[str], if_we_die: int) -> subprocess.Popen[bytes]:
        hold = self._order.hold
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            cwd=self._folder,
            # A server that outlives us for a moment still needs its programs.
            pass_fds=() if hold is None else (hold,),
            preexec_fn=tie_to_parent(self._prctl, if_we_die),
        )

    def _report(self, state: str, message: str = "") -> None:
        status = {
            "state": state,
            "message": message,
            "token": self._order.token,
            "version": self._order.version,
            "supervisor": os.getpid(),
            "postmaster": self._postmaster.pid if self._postmaster else None,
        }
        with contextlib.suppress(OSError):  # the folder may be gone
            with open(self._path(".status"), "w", encoding="utf-8") as file:
                json.dump(status, file)
            os.replace(self._path(".status"), self._path("status.json"))
        if message:
            print(f"pgtasks: {state}: {message}", flush=True)


def main(text: str) -> None:
    """Give up root's rights, detach from whoever started us, and serve."""
    order = Order(**json.loads(text))
    prctl = find_prctl()
    if not detach(order.folder, order.uid, order.gid):
        return  # another supervisor was faster
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    adopt_orphans(prctl)
    wakeup, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    _Supervisor(order, wakeup, prctl).run()
