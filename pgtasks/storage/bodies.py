"""Connections for the bodies of tasks: the program's own statements, in transactions.

They are not those by which jobs are claimed and written. Those have settings for our
statements, which would make a report's query slow and end it after 30 s; these have what the
server, the role and the URL say.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import psycopg
from psycopg.rows import tuple_row

from pgtasks.storage.aio import connect
from pgtasks.storage.connections import AsyncSession, Endpoint, Session, is_idle
from pgtasks.storage.pool import Pool

__all__ = ["Bodies"]

_KEPT = (
    # Else a body on a machine that vanished keeps its locks for as long as TCP is patient.
    "tcp_user_timeout",
    "tcp_keepalives_idle",
    "tcp_keepalives_interval",
    "tcp_keepalives_count",
    "client_connection_check_interval",
)
PREPARE_AFTER = 5
"""Runs of a statement in a session before it is prepared: psycopg's own number."""


class Bodies:
    """The connections of one process for what tasks do in transactions.

    Args:
        endpoint: Where the jobs are.
        size: At most this many at a time.
    """

    def __init__(self, endpoint: Endpoint, size: int) -> None:
        own = Endpoint(
            endpoint.url,
            application_name=str(endpoint.client["application_name"]),
            pooled=endpoint.pooled,
        )
        own.settings = {
            name: value for name, value in own.settings.items() if name in _KEPT
        }
        own.takes_options = endpoint.takes_options
        self._endpoint = own
        self._pool = Pool(own, size)
        self.pid = self._pool.pid

    @contextmanager
    def begin(self) -> Iterator[Session]:
        """A connection in a transaction, which is committed, or rolled back on an error.

        `psycopg` lets nobody commit in between: it raises ProgrammingError.
        """
        session = self._pool.take(None)
        try:
            session.prepare_threshold = None if self._endpoint.pooled else PREPARE_AFTER
            with session.transaction():
                yield session
        finally:
            self._take_back(session)

    def _take_back(self, session: Session) -> None:
        # As the next one expects it, whatever the task has made of it.
        session.row_factory = tuple_row
        session.cursor_factory = psycopg.Cursor
        if not session.closed and (not is_idle(session) or not session.autocommit):
            session.close()
        self._pool.give_back(session)

    @asynccontextmanager
    async def abegin(self) -> AsyncIterator[AsyncSession]:
        """The same for a coroutine, whose loop does not outlive it: so a new one each time."""
        session = await connect(self._endpoint, None)
        try:
            async with session.transaction():
                yield session
        finally:
            await session.close()

    def close(self) -> None:
        """Close the connections; one that is at work, when it is done."""
        self._pool.close()
