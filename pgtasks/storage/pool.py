"""The connections of one process to one database, lent to whoever runs a statement."""

from __future__ import annotations

import os
import threading
import time
import weakref

from pgtasks.storage.connections import Endpoint, Session
from pgtasks.storage.errors import StorageBusy

__all__ = ["MAX_AGE", "MAX_IDLE", "PATIENCE", "Pool", "patience"]

# Connections that nobody missed for this long, or that are this old, are closed when
# another one comes back: a burst of threads shall not cost the server for ever, and the
# memory that a backend gathers for its plans is given back once an hour.
MAX_IDLE = 300.0
MAX_AGE = 3600.0
# How long to wait for one of them when all are in use, and to try again with `retry`.
PATIENCE = 30.0


def patience(timeout: float | None, most: float | None) -> float:
    """Seconds to wait for a connection when all are in use.

    Args:
        timeout: The seconds that there are for everything, if anybody has said so.
        most: How long to wait at most; None waits for ``timeout``, else `PATIENCE`.
    """
    if most is None:
        return PATIENCE if timeout is None else timeout
    return most if timeout is None else min(timeout, most)


class Pool:
    """The connections of one process: last in, first out, opened when none is idle.

    Taking and giving back an idle one needs no lock (a list's pop and append are
    atomic), so that a signal handler may call ``delay()`` in the middle of another.
    """

    def __init__(
        self, endpoint: Endpoint, size: int, patience: float | None = None
    ) -> None:
        self.pid = os.getpid()
        self._endpoint = endpoint
        self._size = size
        self._patience = patience
        self._idle: list[Session] = []
        self._freed = threading.Condition(threading.Lock())
        self._waiting = 0
        self._opening = 0
        # Weak, so that a connection lost to an exception between two lines (time limits
        # are raised anywhere) is not counted for ever.
        self._open: weakref.WeakSet[Session] = weakref.WeakSet()
        self._closed = False

    def take(self, timeout: float | None) -> Session:
        """An idle connection, or a new one; waits for one when there are enough.

        Args:
            timeout: Seconds to wait and to connect.

        Raises:
            StorageError: None came free, or none can be opened.
        """
        deadline: float | None = None
        while True:
            try:
                session = self._idle.pop()
            except IndexError:
                if deadline is None:
                    deadline = time.monotonic() + patience(timeout, self._patience)
                if self._reserve(deadline):
                    return self._connect(timeout)
            else:
                if session.line.is_alive():
                    return session
                session.close()
                self.give_back(session)

    def give_back(self, session: Session) -> None:
        """Take back what `take` lent, be it closed or not."""
        line = session.line
        line.used = now = time.monotonic()
        if self._closed or now - line.opened > MAX_AGE:
            session.close()
        if session.closed:
            with self._freed:
                self._open.discard(session)
        else:
            self._idle.append(session)
            oldest = next(iter(self._idle), session)
            if now - oldest.line.used > MAX_IDLE:
                self._close_stale()
        if self._waiting:
            with self._freed:
                self._freed.notify()

    def renew(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._close_stale()

    def close(self) -> None:
        """Close every connection: idle ones now, the others when they are given back."""
        self._closed = True
        self.renew()

    def _close_stale(self) -> None:
        try:
            session = self._idle.pop(0)
        except IndexError:  # another thread was faster
            return
        session.close()
        with self._freed:
            self._open.discard(session)

    def _reserve(self, deadline: float) -> bool:
        """True: there is room for one more, and it is ours. False: one may be idle now."""
        with self._freed:
            # Counted before looking: who gives back appends first and then reads this.
            self._waiting += 1
            try:
                while not self._idle:
                    if len(self._open) + self._opening < self._size:
                        self._opening += 1
                        return True
                    remaining = deadline - time.monotonic()
                    if remaining <= 0:
                        raise StorageBusy(
                            f"All {self._size} connections of this process to PostgreSQL "
                            f"at {self._endpoint.address} are in use. Raise "
                            f"'broker_pool_limit', or run fewer threads.",
                            not_run=True,
                        )
                    # In slices, as nobody announces a connection that was lost.
                    self._freed.wait(min(remaining, 0.5))
                return False
            finally:
                self._waiting -= 1

    def _connect(self, timeout: float | None) -> Session:
        session = None
        try:
            session = self._endpoint.connect(timeout=timeout)
            session.prepare_threshold = None if self._endpoint.pooled else 0
            return session
        finally:
            with self._freed:
                self._opening -= 1
                if session is None:
                    self._freed.notify()
                else:
                    self._open.add(session)
