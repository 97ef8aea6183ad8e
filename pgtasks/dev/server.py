"""A server as its user holds it: the lock that keeps it alive, its address, and the end."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Literal
from urllib.parse import quote

from pgtasks.dev import EmbeddedPostgresError
from pgtasks.dev.launch import Wish, launch
from pgtasks.dev.places import Place, occupy, own, write
from pgtasks.dev.processes import end_leftovers
from pgtasks.dev.wire import NAME, PORT, SOCKET, accepts, socket_folder

__all__ = ["How", "Server", "remove"]

How = Literal["fast", "immediate", "kill"]

_LAUNCHES = 3
_POLL = 0.005


class Server:
    """A running embedded PostgreSQL, held by this process.

    The hold lasts until :meth:`close` or the end of the process, not only as long as this
    object: who only took :attr:`url` from it must not lose the server to the garbage
    collector. Children forked meanwhile hold it too, each for itself.
    """

    def __init__(self, place: Place, wish: Wish) -> None:
        self._place = place
        self._wish = wish
        self._owner = os.getpid()
        self._sockets = socket_folder(str(place.folder), place.uid)
        self._lock: int | None = None
        self._locked: os.stat_result | None = None
        try:
            self._join()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<PostgreSQL {self.version or 'stopped'} in {self.folder}>"

    @property
    def url(self) -> str:
        """The address of the database ``pgtasks``, for psycopg and everything on libpq.

        It stays the same after a restart, also one by another process.
        """
        return self.url_of(NAME)

    def url_of(self, database: str) -> str:
        """The address of another database of this server."""
        # The port is named because PGPORT would change it, and with it the socket's name.
        return (
            f"postgresql://{NAME}@/{quote(database, safe='')}"
            f"?host={quote(self._sockets, safe='')}&port={PORT}"
        )

    @property
    def folder(self) -> Path:
        """Where data, log and locks are."""
        return self._place.folder

    @property
    def log(self) -> Path:
        """The file that PostgreSQL writes its log to."""
        return self._place.log

    @property
    def version(self) -> str:
        """PostgreSQL's version, such as ``"18.6"``."""
        return str(self._status().get("version", ""))

    @property
    def pid(self) -> int | None:
        """The process id of PostgreSQL's first process, the postmaster, while it runs."""
        return self._status().get("postmaster") if self._supervised() else None

    @property
    def supervisor_pid(self) -> int | None:
        """The process id of the supervisor, which starts and ends the postmaster."""
        return self._status().get("supervisor") if self._supervised() else None

    def stop(self, mode: How = "fast") -> None:
        """Stop PostgreSQL until :meth:`start`; when this returns, it is gone.

        Args:
            mode: ``"fast"`` disconnects clients and shuts down properly, ``"immediate"``
                ends as a crash would, ``"kill"`` sends SIGKILL to the postmaster.
        """
        if self._supervised():
            self._request("stop", mode)

    def start(self) -> None:
        """Bring the server up when it is down, be it stopped or its supervisor killed."""
        if self._supervised() and self._status().get("state") == "held":
            self._request("start", "fast")
        self._join()

    def restart(self, mode: How = "fast") -> None:
        """Stop as :meth:`stop` does and start again."""
        if self._supervised():
            self._request("restart", mode)
        self._join()

    def close(self) -> None:
        """Let go of the server.

        A shared one runs on for its other users; a private one ends and leaves nothing. In
        a forked child it only ends the child's own hold.
        """
        if self._wish.temporary and os.getpid() == self._owner:
            self._end()
        lock, locked = self._lock, self._locked
        self._lock = self._locked = None
        if lock is not None and locked is not None:
            # A daemon that closed all its files may have given the number to another one.
            with contextlib.suppress(OSError):
                if os.path.samestat(os.fstat(lock), locked):
                    os.close(lock)

    # ── joining ─────────────────────────────────────────────────────────────────────────

    def _join(self) -> None:
        """Return when the server accepts connections; start it if nobody else does.

        Whoever holds the users' lock cannot lose the server to a supervisor that thinks
        itself alone: hold first, look then.
        """
        deadline = time.monotonic() + self._wish.timeout
        former = self._status().get("token")
        launches, said = 0, ""
        while True:
            self._hold(deadline)
            if self._supervised():
                up = self._status().get("state") == "ready"
                if up and accepts(os.path.join(self._sockets, SOCKET)):
                    return
            else:
                status = self._status()
                if status.get("state") == "failed" and status["token"] != former:
                    raise self._failure(status["message"])
                if launches == _LAUNCHES:
                    raise self._failure(said or "its supervisor ends without a word")
                with self._turn() as mine:
                    if mine and not self._supervised():
                        said = launch(self._place, self._wish)
                        launches += 1
                        continue
            if time.monotonic() > deadline:
                state = self._status().get("state", "unknown")
                raise self._failure(
                    f"after {self._wish.timeout:g} s its state is {state!r}"
                )
            time.sleep(_POLL)

    def _hold(self, deadline: float) -> None:
        path = self._place.users_lock
        while self._locked is None or not _is_at(self._locked, path):
            if not self.folder.exists():
                if self._wish.temporary:
                    raise self._failure("its folder has been removed")
                # Removed under a running program: begin anew at the same address.
                self._place = occupy(self.folder)
            lock = _open(path)
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                # A supervisor is on its way out; its server must be gone before the next.
                os.close(lock)
                if time.monotonic() > deadline:
                    raise self._failure("its former supervisor does not end") from None
                time.sleep(_POLL)
            except OSError as error:
                os.close(lock)
                raise EmbeddedPostgresError(
                    f"Cannot lock {path}: {error.strerror}. Set PGTASKS_DATA_DIR to a "
                    f"folder on a local disk."
                ) from error
            else:
                if self._lock is not None:
                    os.close(self._lock)
                self._lock, self._locked = lock, os.fstat(lock)

    def _supervised(self) -> bool:
        try:
            probe = os.open(self._place.supervisor_lock, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(probe, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(probe)
        return False

    @contextlib.contextmanager
    def _turn(self) -> Iterator[bool]:
        """Let one process of several launch; the others look again."""
        descriptor = _open(self.folder / "start.lock")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = True
        except BlockingIOError:
            mine = False
        try:
            yield mine
        finally:
            os.close(descriptor)

    # ── talking to the supervisor ───────────────────────────────────────────────────────

    def _status(self) -> dict[str, Any]:
        try:
            status: dict[str, Any] = json.loads(self._place.status.read_text("utf-8"))
        except FileNotFoundError:
            return {}
        return status

    def _request(self, action: str, mode: str) -> None:
        """Ask for something in a file, and wait until the supervisor has removed it."""
        if mode not in ("fast", "immediate", "kill"):
            raise ValueError(f"Unknown mode {mode!r}: use 'fast', 'immediate' or 'kill'.")
        path = self.folder / f"request-{time.time_ns()}-{uuid.uuid4().hex[:8]}"
        write(path, f"{action} {mode}")
        deadline = time.monotonic() + self._wish.timeout
        while path.exists() and self._supervised():
            if time.monotonic() > deadline:
                raise self._failure(f"it did not {action} within {self._wish.timeout:g} s")
            time.sleep(_POLL)

    def _end(self) -> None:
        if self._supervised():
            with contextlib.suppress(FileNotFoundError):
                self._request("end", "immediate")
            deadline = time.monotonic() + self._wish.timeout
            while self._supervised() and time.monotonic() < deadline:
                time.sleep(_POLL)
        remove(self.folder, self._sockets)

    def _failure(self, reason: str) -> EmbeddedPostgresError:
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            lines = []
        end = "".join(f"\n    {line}" for line in lines[-12:]) or " it is empty"
        return EmbeddedPostgresError(
            f"The embedded PostgreSQL in {self.folder} is not to be had: {reason}.\n"
            f"The end of its log, {self.log}:{end}\n"
            f"If that does not help, remove the folder to begin with an empty database, or "
            f"set PGTASKS_DATABASE_URL to a PostgreSQL that runs already."
        )


def remove(folder: Path, sockets: str) -> None:
    """Remove what the supervisor of a private server would have, had it not been killed."""
    if folder.exists():
        end_leftovers(str(folder / "data"), patience=3)
        shutil.rmtree(folder, ignore_errors=True)
        if sockets != str(folder):
            shutil.rmtree(sockets, ignore_errors=True)


def _open(lock: Path) -> int:
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    own(descriptor, lock.parent)
    return descriptor


def _is_at(identity: os.stat_result, path: Path) -> bool:
    try:
        return os.path.samestat(identity, path.stat())
    except FileNotFoundError:
        return False
