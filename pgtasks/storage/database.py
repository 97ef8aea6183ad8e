"""Runs queries from threads, processes and greenlets, on a few connections of its own."""

from __future__ import annotations

import os
import random
import re
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg

from pgtasks.storage import operations
from pgtasks.storage.connections import Endpoint, Session, forget_inherited, is_idle
from pgtasks.storage.errors import StorageBusy, StorageUnavailable, classify
from pgtasks.storage.exchange import ask
from pgtasks.storage.pool import PATIENCE, Pool
from pgtasks.storage.query import Query, Row, in_schema
from pgtasks.telemetry.registry import HANDLERS

if TYPE_CHECKING:
    from pgtasks.storage.bodies import Bodies

__all__ = ["Database", "compiled", "full_jitter"]

T = TypeVar("T")


class Database:
    """One PostgreSQL database as pgtasks uses it.

    Nothing is opened before the first query, and there is no thread. A process that
    was forked begins with connections of its own.

    Args:
        url: ``postgresql://…``, also in SQLAlchemy's spelling, or a libpq DSN.
        schema: Where the tables are.
        pool_size: At most this many connections at a time in one process.
        pool_timeout: Seconds to wait for one of them when all are in use; None waits as
            long as there is for the query, else 30 s.
        application_name: Shown in ``pg_stat_activity``.
        statement_timeout: Seconds after which the server gives up on a statement.
        lock_timeout: Seconds that a statement waits for one lock.
        direct_url: The server behind a pooler, for what a pooler cannot do: LISTEN and
            migrations. Without it the ``url`` is used.
        pooled: Whether PgBouncer or its like stands between; found out if None.
        settings: Server settings of its sessions, over the usual ones.
    """

    def __init__(
        self,
        url: str,
        *,
        schema: str = "pgtasks",
        pool_size: int = 10,
        pool_timeout: float | None = None,
        application_name: str = "pgtasks",
        statement_timeout: float = 30.0,
        lock_timeout: float = 3.0,
        direct_url: str | None = None,
        pooled: bool | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.url = url
        self.schema = schema
        self.pool_size = pool_size
        self.pool_timeout = pool_timeout

        def endpoint(url: str, pooled: bool | None) -> Endpoint:
            return Endpoint(
                url,
                schema=schema,
                application_name=application_name,
                statement_timeout=statement_timeout,
                lock_timeout=lock_timeout,
                pooled=pooled,
            )

        self.endpoint = endpoint(url, pooled)
        self.endpoint.insist_on(settings or {})
        self.direct = self.endpoint if direct_url is None else endpoint(direct_url, None)
        self._pool = self._new_pool()
        self._bodies: Bodies | None = None
        self._again: dict[str, Any] = {
            "schema": schema,
            "pool_size": pool_size,
            "pool_timeout": pool_timeout,
            "application_name": application_name,
            "statement_timeout": statement_timeout,
            "lock_timeout": lock_timeout,
            "direct_url": direct_url,
        }
        _databases.add(self)

    def under(self, settings: Mapping[str, str]) -> Database:
        """The same database, in sessions of their own with other server settings."""
        return Database(
            self.url, **self._again, pooled=self.endpoint.pooled, settings=settings
        )

    def __repr__(self) -> str:
        return f"<Database {self.endpoint.address} schema={self.schema}>"

    def run(
        self, query: Query[T], *, timeout: float | None = None, retry: bool = False
    ) -> T:
        """Run ``query`` and return what it reads.

        Args:
            query: A value from one of the storage modules.
            timeout: Seconds for everything; None is the database's
                ``statement_timeout``, and 30 s of tries with ``retry``. Giving one costs
                a second statement in the same round trip.
            retry: The statement may be sent again although it may have run: it asks
                only, or it carries its own proof against running twice.

        Raises:
            StorageError: The subclass says what to do about it.
        """
        if HANDLERS:
            with operations.told(query, self.endpoint.address) as known:
                known["result"] = answer = self._answer(query, timeout, retry)
            return answer
        return self._answer(query, timeout, retry)

    def _answer(self, query: Query[T], timeout: float | None, retry: bool) -> T:
        statement, names = compiled(query.statement, self.schema)
        given = query.params
        params = [given[name] for name in names]
        if retry:
            rows = self._persist(statement, params, timeout)
        else:
            rows = self._run(statement, params, timeout)
        return query.read(rows)

    @contextmanager
    def connection(self, settings: Mapping[str, str] | None = None) -> Iterator[Session]:
        """Lend a connection of one's own, in autocommit, closed afterwards.

        For what needs a session (LISTEN) or a transaction (migrations). It leads to
        ``direct_url`` where there is one.

        Args:
            settings: Server settings for this session, over the usual ones.
        """
        session = self.direct.connect(settings)
        try:
            yield session
        except (psycopg.Error, UnicodeEncodeError) as error:
            raise classify(error, self.direct.address) from error
        finally:
            session.close()

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Lend one of the connections for a transaction, committed unless this raises.

        Run queries on it by `pgtasks.storage.borrowed`. The transaction should be short: the
        server ends one that is idle for 15 s.

        Raises:
            StorageError: The connection was lost. If that was at the commit, nobody knows
                what became of it.
        """
        pool = self._own_pool()
        session = pool.take(None)
        try:
            with session.transaction():
                local = self.endpoint.local_settings(None)
                if local:
                    values = [list(local), list(local.values())]
                    psycopg.RawCursor(session).execute(SET_LOCAL, values)
                yield session
        except (psycopg.Error, UnicodeEncodeError) as error:
            found = classify(error, self.endpoint.address)
            if isinstance(found, StorageUnavailable):
                session.close()
            raise found from error
        finally:
            if not is_idle(session):
                session.close()
            pool.give_back(session)

    @property
    def behind_pooler(self) -> bool:
        """Whether PgBouncer or its like stands between; connects to find out."""
        if self.endpoint.pooled is None:
            pool = self._own_pool()
            pool.give_back(pool.take(None))
        return bool(self.endpoint.pooled)

    def close(self) -> None:
        """Close the connections; one that is at work, when it is done.

        The next query opens new ones.
        """
        pool, self._pool = self._pool, self._new_pool()
        pool.close()
        bodies, self._bodies = self._bodies, None
        if bodies is not None:
            bodies.close()

    @property
    def bodies(self) -> Bodies:
        """Connections for what tasks do in transactions (``transactional=True``)."""
        found = self._bodies
        if found is None or found.pid != os.getpid():
            from pgtasks.storage.bodies import Bodies

            found = self._bodies = Bodies(self.endpoint, self.pool_size)
        return found

    def _persist(
        self, statement: bytes, params: list[Any], timeout: float | None
    ) -> list[Row]:
        begun = time.monotonic()
        limit = PATIENCE if timeout is None else timeout
        pauses = full_jitter()
        attempts = 0
        while True:
            attempts += 1
            spent = time.monotonic() - begun
            remaining = None if timeout is None else max(0.001, limit - spent)
            try:
                return self._run(statement, params, remaining)
            except (StorageUnavailable, StorageBusy) as error:
                pause = next(pauses)
                spent = time.monotonic() - begun
                if spent + pause >= limit:
                    raise error.after(attempts, spent)
            time.sleep(pause)

    def _run(self, statement: bytes, params: list[Any], timeout: float | None) -> list[Row]:
        try:
            return self._once(statement, params, timeout)
        except StorageUnavailable as error:
            # Not at connect: that is an outage, which only the caller can wait out.
            if not error.not_run or error.sqlstate is None:
                raise
        # It certainly did nothing, and what stood in its way (a plan older than the last
        # migration, a standby that was the primary) is common to all the connections kept.
        self._own_pool().renew()
        return self._once(statement, params, timeout)

    def _once(
        self, statement: bytes, params: list[Any], timeout: float | None
    ) -> list[Row]:
        pool = self._own_pool()
        session = pool.take(timeout)
        try:
            if timeout is None and not self.endpoint.pooled:
                rows = session.wait(ask(session, statement, params))
            else:
                local = self.endpoint.local_settings(timeout)
                rows = _fetch_under(local, session, statement, params)
        except (psycopg.Error, UnicodeEncodeError) as error:
            found = classify(error, self.endpoint.address)
            if found.sqlstate in FOREIGN_STATEMENT:
                # A pooler after all, one that passes the server's pid on.
                self.endpoint.pooled = True
                self.close()
            if isinstance(found, StorageUnavailable) or not is_idle(session):
                session.close()
            pool.give_back(session)
            raise found from error
        except BaseException:
            # A time limit or a gevent.Timeout struck in the middle: what the server
            # still answers must not become the answer to the next question.
            if not is_idle(session):
                session.close()
            pool.give_back(session)
            raise
        pool.give_back(session)
        return rows

    def _own_pool(self) -> Pool:
        # The hook below does this in time; but uWSGI forks without running hooks.
        if self._pool.pid != os.getpid():
            forget_inherited()
            self._pool = self._new_pool()
        return self._pool

    def _new_pool(self) -> Pool:
        return Pool(self.endpoint, self.pool_size, self.pool_timeout)


FOREIGN_STATEMENT = ("26000", "42P05")
_databases: weakref.WeakSet[Database] = weakref.WeakSet()


def _begin_anew() -> None:
    # A lock of the parent's may have been held when it forked: new pools, new locks.
    for database in list(_databases):
        database._pool = database._new_pool()


os.register_at_fork(after_in_child=_begin_anew)


SET_LOCAL = b"""
    select count(set_config(name, value, true))
    from unnest($1::text[], $2::text[]) as setting (name, value)
"""


def _fetch_under(
    local: Mapping[str, str], session: Session, statement: bytes, params: list[Any]
) -> list[Row]:
    cursor: psycopg.RawCursor[Row] = psycopg.RawCursor(session)
    # A pipeline is one transaction and one round trip: the settings end with it and
    # cannot leak to the next client of a pooled server.
    with session.pipeline():
        psycopg.RawCursor(session).execute(SET_LOCAL, [list(local), list(local.values())])
        cursor.execute(statement, params)
    result = cursor.pgresult
    return cursor.fetchall() if result is not None and result.nfields else []


_NAMED = re.compile(r"%(?:\((\w+)\)s|(%)|)")


@lru_cache(maxsize=1024)
def compiled(statement: str, schema: str) -> tuple[bytes, tuple[str, ...]]:
    """A statement as the server reads it, ``$1`` for ``%(name)s``, and the names in order.

    psycopg can do this itself, but does not remember it for statements of more than
    4096 bytes, which our longest are: 11 µs a call.
    """
    names: list[str] = []

    def numbered(match: re.Match[str]) -> str:
        name = match[1]
        if name is None:
            if match[2] is None:
                where = statement[match.start() : match.start() + 20]
                raise ValueError(f"A single % at {where!r}: write %(name)s or %%.")
            return "%"
        if name not in names:
            names.append(name)
        return f"${names.index(name) + 1}"

    text = _NAMED.sub(numbered, in_schema(statement, schema))
    return text.encode(), tuple(names)


def full_jitter(first: float = 0.1, most: float = 5.0) -> Iterator[float]:
    """Pauses between tries: anything from nothing to a bound that doubles.

    Those who were refused together must not come back together.
    """
    bound = first
    while True:
        yield random.uniform(0, bound)
        bound = min(most, bound * 2)
