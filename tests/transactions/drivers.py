"""The ways to have a transaction: each driver opens one, writes in it, and ends it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NamedTuple

import asyncpg
import psycopg
import psycopg2
import psycopg2.extras
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import (
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import NullPool

ORDER = "insert into public.orders values (1)"


class Open(NamedTuple):
    """An open transaction, in which an order has been written by the driver's own means."""

    lend: Any
    commit: Callable[[], Any]
    rollback: Callable[[], Any]


def sqlalchemy_url(url: str, driver: str) -> str:
    return url.replace("postgresql://", f"postgresql+{driver}://", 1)


# ── threads ─────────────────────────────────────────────────────────────────────────────


@contextmanager
def psycopg_connection(url: str) -> Iterator[Open]:
    with psycopg.connect(url, row_factory=psycopg.rows.dict_row) as connection:
        connection.execute(ORDER)
        yield Open(connection, connection.commit, connection.rollback)


@contextmanager
def psycopg_cursor(url: str) -> Iterator[Open]:
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(ORDER)
        yield Open(cursor, connection.commit, connection.rollback)


@contextmanager
def psycopg2_connection(url: str) -> Iterator[Open]:
    connection = psycopg2.connect(url, cursor_factory=psycopg2.extras.RealDictCursor)
    connection.cursor().execute(ORDER)
    yield Open(connection, connection.commit, connection.rollback)
    connection.close()


@contextmanager
def psycopg2_cursor(url: str) -> Iterator[Open]:
    connection = psycopg2.connect(url)
    cursor = connection.cursor()
    cursor.execute(ORDER)
    yield Open(cursor, connection.commit, connection.rollback)
    connection.close()


def sqlalchemy_connection(driver: str) -> Any:
    @contextmanager
    def opened(url: str) -> Iterator[Open]:
        engine = create_engine(sqlalchemy_url(url, driver), poolclass=NullPool)
        with engine.connect() as connection:
            connection.execute(text(ORDER))
            yield Open(connection, connection.commit, connection.rollback)

    return opened


def sqlalchemy_session(driver: str) -> Any:
    @contextmanager
    def opened(url: str) -> Iterator[Open]:
        engine = create_engine(sqlalchemy_url(url, driver), poolclass=NullPool)
        with Session(engine) as session:
            session.execute(text(ORDER))
            yield Open(session, session.commit, session.rollback)

    return opened


def sqlalchemy_registry(driver: str) -> Any:
    @contextmanager
    def opened(url: str) -> Iterator[Open]:
        engine = create_engine(sqlalchemy_url(url, driver), poolclass=NullPool)
        session = scoped_session(sessionmaker(engine))
        session.execute(text(ORDER))
        yield Open(session, session.commit, session.rollback)
        session.remove()

    return opened


DRIVERS = {
    "psycopg connection": psycopg_connection,
    "psycopg cursor": psycopg_cursor,
    "psycopg2 connection": psycopg2_connection,
    "psycopg2 cursor": psycopg2_cursor,
    **{
        f"sqlalchemy {name} on {driver}": opened(driver)
        for driver in ("psycopg", "psycopg2")
        for name, opened in {
            "connection": sqlalchemy_connection,
            "session": sqlalchemy_session,
            "scoped_session": sqlalchemy_registry,
        }.items()
    },
}


# ── event loops ─────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def async_psycopg_connection(url: str) -> AsyncIterator[Open]:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute(ORDER)
        yield Open(connection, connection.commit, connection.rollback)


@asynccontextmanager
async def async_psycopg_cursor(url: str) -> AsyncIterator[Open]:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        cursor = connection.cursor()
        await cursor.execute(ORDER)
        yield Open(cursor, connection.commit, connection.rollback)


@asynccontextmanager
async def asyncpg_connection(url: str) -> AsyncIterator[Open]:
    connection = await asyncpg.connect(url)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(ORDER)
    yield Open(connection, transaction.commit, transaction.rollback)
    await connection.close()


@asynccontextmanager
async def asyncpg_pool(url: str) -> AsyncIterator[Open]:
    async with (
        asyncpg.create_pool(url, min_size=1, max_size=2) as pool,
        pool.acquire() as connection,
    ):
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(ORDER)
        yield Open(connection, transaction.commit, transaction.rollback)


def sqlalchemy_async_connection(driver: str) -> Any:
    @asynccontextmanager
    async def opened(url: str) -> AsyncIterator[Open]:
        engine = create_async_engine(sqlalchemy_url(url, driver), poolclass=NullPool)
        async with engine.connect() as connection:
            await connection.execute(text(ORDER))
            yield Open(connection, connection.commit, connection.rollback)
        await engine.dispose()

    return opened


def sqlalchemy_async_session(driver: str) -> Any:
    @asynccontextmanager
    async def opened(url: str) -> AsyncIterator[Open]:
        engine = create_async_engine(sqlalchemy_url(url, driver), poolclass=NullPool)
        async with AsyncSession(engine) as session:
            await session.execute(text(ORDER))
            yield Open(session, session.commit, session.rollback)
        await engine.dispose()

    return opened


def sqlalchemy_async_registry(driver: str) -> Any:
    @asynccontextmanager
    async def opened(url: str) -> AsyncIterator[Open]:
        engine = create_async_engine(sqlalchemy_url(url, driver), poolclass=NullPool)
        session = async_scoped_session(async_sessionmaker(engine), scopefunc=lambda: 1)
        await session.execute(text(ORDER))
        yield Open(session, session.commit, session.rollback)
        await session.remove()
        await engine.dispose()

    return opened


ASYNC_DRIVERS = {
    "psycopg connection": async_psycopg_connection,
    "psycopg cursor": async_psycopg_cursor,
    "asyncpg connection": asyncpg_connection,
    "asyncpg pool": asyncpg_pool,
    **{
        f"sqlalchemy {name} on {driver}": opened(driver)
        for driver in ("psycopg", "asyncpg")
        for name, opened in {
            "connection": sqlalchemy_async_connection,
            "session": sqlalchemy_async_session,
            "scoped_session": sqlalchemy_async_registry,
        }.items()
    },
}
