"""Runs the same queries on an event loop, on a few connections per loop."""

from __future__ import annotations

import asyncio
import os
import time
import weakref
from collections.abc import Mapping
from typing import Any, TypeVar

import psycopg

from pgtasks.storage import operations
from pgtasks.storage.connections import (
    PROBE,
    AsyncSession,
    Endpoint,
    adopt,
    forget_inherited,
    is_idle,
)
from pgtasks.storage.database import (
    FOREIGN_STATEMENT,
    SET_LOCAL,
    Database,
    compiled,
    full_jitter,
)
from pgtasks.storage.errors import StorageBusy, StorageUnavailable, classify
from pgtasks.storage.exchange import ask
from pgtasks.storage.pool import MAX_AGE, MAX_IDLE, PATIENCE, patience
from pgtasks.storage.query import Query, Row
from pgtasks.telemetry.registry import HANDLERS

__all__ = ["AsyncDatabase", "connect"]

T = TypeVar("T")


class AsyncDatabase:
    """What `Database` is to threads, for coroutines; native, with no thread in between.

    Each running loop has connections of its own, opened on first use. Those of a loop
    that is over (``asyncio.run`` makes one per call) are closed when the next one comes.

    Args:
        database: Whose settings, and whose knowledge of a pooler, to share; or a URL.
        options: With a URL, the keyword arguments of `Database`.
    """

    def __init__(self, database: Database | str, **options: Any) -> None:
        if isinstance(database, str):
            database = Database(database, **options)
        self.url = database.url
        self.schema = database.schema
        self.pool_size = database.pool_size
        self.pool_timeout = database.pool_timeout
        self.endpoint = database.endpoint
        self._pools: dict[int, _Pool] = {}

    def __repr__(self) -> str:
        return f"<AsyncDatabase {self.endpoint.address} schema={self.schema}>"

    async def run(
        self, query: Query[T], *, timeout: float | None = None, retry: bool = False
    ) -> T:
        """Run ``query`` and return what it reads; see `Database.run`."""
        if HANDLERS:
            with operations.told(query, self.endpoint.address) as known:
                known["result"] = answer = await self._answer(query, timeout, retry)
            return answer
        return await self._answer(query, timeout, retry)

    async def _answer(self, query: Query[T], timeout: float | None, retry: bool) -> T:
        statement, names = compiled(query.statement, self.schema)
        given = query.params
        params = [given[name] for name in names]
        if retry:
            rows = await self._persist(statement, params, timeout)
        else:
            rows = await self._run(statement, params, timeout)
        return query.read(rows)

    async def close(self) -> None:
        """Close the running loop's connections; one at work, when it is done."""
        pool = self._pools.pop(id(asyncio.get_running_loop()), None)
        if pool is not None:
            pool.close()

    async def _persist(
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
                return await self._run(statement, params, remaining)
            except (StorageUnavailable, StorageBusy) as error:
                pause = next(pauses)
                spent = time.monotonic() - begun
                if spent + pause >= limit:
                    raise error.after(attempts, spent)
            await asyncio.sleep(pause)

    async def _run(
        self, statement: bytes, params: list[Any], timeout: float | None
    ) -> list[Row]:
        try:
            return await self._once(statement, params, timeout)
        except StorageUnavailable as error:
            if not error.not_run or error.sqlstate is None:
                raise
        self._own_pool().renew()
        return await self._once(statement, params, timeout)

    async def _once(
        self, statement: bytes, params: list[Any], timeout: float | None
    ) -> list[Row]:
        pool = self._own_pool()
        session = await pool.take(timeout)
        try:
            if timeout is None and not self.endpoint.pooled:
                return await session.wait(ask(session, statement, params))
            local = self.endpoint.local_settings(timeout)
            return await _fetch_under(local, session, statement, params)
        except (psycopg.Error, UnicodeEncodeError) as error:
            found = classify(error, self.endpoint.address)
            if found.sqlstate in FOREIGN_STATEMENT:
                self.endpoint.pooled = True
            if isinstance(found, StorageUnavailable):
                session.pgconn.finish()
            raise found from error
        finally:
            # A cancelled statement may leave an answer on its way, which must not
            # become the answer to the next one.
            if not is_idle(session):
                session.pgconn.finish()
            pool.give_back(session)

    def _own_pool(self) -> _Pool:
        loop = asyncio.get_running_loop()
        pool = self._pools.get(id(loop))
        if pool is None or pool.is_orphaned():
            for key, each in list(self._pools.items()):
                if each.is_orphaned():
                    self._pools.pop(key, None)
                    each.close()
            forget_inherited()
            pool = self._pools[id(loop)] = _Pool(
                self.endpoint, self.pool_size, self.pool_timeout, loop
            )
        return pool


async def _fetch_under(
    local: Mapping[str, str], session: AsyncSession, statement: bytes, params: list[Any]
) -> list[Row]:
    cursor: psycopg.AsyncRawCursor[Row] = psycopg.AsyncRawCursor(session)
    settings = [list(local), list(local.values())]
    async with session.pipeline():
        await psycopg.AsyncRawCursor(session).execute(SET_LOCAL, settings)
        await cursor.execute(statement, params)
    result = cursor.pgresult
    return await cursor.fetchall() if result is not None and result.nfields else []


class _Pool:
    """The connections of one loop in one process: last in, first out."""

    def __init__(
        self,
        endpoint: Endpoint,
        size: int,
        patience: float | None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._endpoint = endpoint
        self._size = size
        self._patience = patience
        self._loop = weakref.ref(loop)
        self._pid = os.getpid()
        self._idle: list[AsyncSession] = []
        # One for each that is at work. As a new one is opened only when none is idle,
        # this bounds them all.
        self._permits = asyncio.Semaphore(size)
        self._closed = False

    def is_orphaned(self) -> bool:
        loop = self._loop()
        return loop is None or loop.is_closed() or self._pid != os.getpid()

    async def take(self, timeout: float | None) -> AsyncSession:
        await self._acquire(patience(timeout, self._patience))
        try:
            while self._idle:
                session = self._idle.pop()
                if session.line.is_alive():
                    return session
                session.pgconn.finish()
            return await connect(self._endpoint, timeout)
        except BaseException:
            self._permits.release()
            raise

    def give_back(self, session: AsyncSession) -> None:
        line = session.line
        line.used = now = time.monotonic()
        if self._closed or now - line.opened > MAX_AGE:
            session.pgconn.finish()
        if not session.closed:
            self._idle.append(session)
            if now - self._idle[0].line.used > MAX_IDLE:
                self._idle.pop(0).pgconn.finish()
        self._permits.release()

    def renew(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().pgconn.finish()

    def close(self) -> None:
        self._closed = True
        self.renew()

    async def _acquire(self, seconds: float) -> None:
        if not self._permits.locked():
            await self._permits.acquire()
            return
        try:
            await asyncio.wait_for(self._permits.acquire(), seconds)
        except asyncio.TimeoutError:
            raise StorageBusy(
                f"All {self._size} connections of this event loop to PostgreSQL at "
                f"{self._endpoint.address} are in use. Raise 'broker_pool_limit', or run "
                f"fewer coroutines at a time.",
                not_run=True,
            ) from None


async def connect(endpoint: Endpoint, timeout: float | None) -> AsyncSession:
    """Open an autocommit session on the running loop; see `Endpoint.connect`."""
    while True:
        offered = endpoint.offer()
        try:
            session = await AsyncSession.connect(
                **endpoint.parameters(timeout=timeout),
                autocommit=True,
                prepare_threshold=None,
            )
            adopt(session)
            if endpoint.pooled is None:
                answer = await session.execute(PROBE)
                endpoint.learn(session, await answer.fetchall())
        except psycopg.Error as error:
            if not endpoint.concede(error, offered):
                raise endpoint.explain(error) from error
        else:
            session.prepare_threshold = None if endpoint.pooled else 0
            return session
