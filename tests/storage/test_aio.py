import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest

from helpers import eventually
from pgtasks.dev.postgres import Server
from pgtasks.storage import borrowed
from pgtasks.storage.aio import AsyncDatabase
from pgtasks.storage.database import Database
from pgtasks.storage.errors import (
    BadData,
    StorageBusy,
    StorageMisconfigured,
    StorageUnavailable,
)
from pgtasks.storage.query import Query

Admin = psycopg.Connection[tuple[Any, ...]]


def ask(statement: str, **params: object) -> Query[Any]:
    """A query for one value."""
    return Query(statement, params, lambda rows: rows[0][0] if rows else None)


PID = ask("select pg_backend_pid()")


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[AsyncDatabase]:
    database = AsyncDatabase(url, **options)
    try:
        yield database
    finally:
        await database.close()


def test_a_query_is_run_and_read(database_url: str) -> None:
    async def main() -> tuple[int, str, list[object]]:
        async with opened(database_url) as database:
            number = await database.run(ask("select %(number)s::integer", number=5))
            limit = await database.run(ask("select current_setting('lock_timeout')"))
            nothing = await database.run(Query("set jit = off", {}, list))
            return number, limit, nothing

    assert asyncio.run(main()) == (5, "3s", [])


def test_it_shares_the_settings_of_a_database(database_url: str) -> None:
    database = Database(database_url, schema="elsewhere", application_name="shared")

    async def main() -> tuple[str, str]:
        aio = AsyncDatabase(database)
        query = Query(
            "select current_setting('search_path'), current_setting('application_name')",
            {},
            lambda rows: rows[0],
        )
        answer = await aio.run(query)
        await aio.close()
        return answer  # type: ignore[return-value]

    assert asyncio.run(main()) == ("elsewhere,pg_catalog,pg_temp", "shared")


def test_one_after_the_other_uses_one_connection_and_many_at_once_a_few(
    database_url: str,
) -> None:
    async def main() -> tuple[int, int, list[int]]:
        async with opened(database_url, pool_size=3) as database:
            alone = {await database.run(PID) for _ in range(5)}
            query = Query(
                "select pg_backend_pid(), %(n)s::integer, pg_sleep(0.001)", {}, list
            )

            async def work(number: int) -> tuple[int, int]:
                asked = Query(query.statement, {"n": number}, lambda rows: rows[0][:2])
                return await database.run(asked)  # type: ignore[return-value]

            answers = await asyncio.gather(*(work(number) for number in range(60)))
            pids = {pid for pid, _ in answers}
            return len(alone), len(pids), [number for _, number in answers]

    assert asyncio.run(main()) == (1, 3, list(range(60)))


def test_each_loop_has_connections_of_its_own_and_closes_its_predecessors(
    database_url: str, admin: Admin
) -> None:
    database = AsyncDatabase(database_url, application_name="loops")

    async def main() -> int:
        return int(await database.run(PID))

    async def last() -> int:
        pid = await main()
        await database.close()
        return pid

    pids = {asyncio.run(main()), asyncio.run(main()), asyncio.run(last())}

    assert len(pids) == 3
    ours = "select 1 from pg_stat_activity where application_name = 'loops'"
    eventually(lambda: admin.execute(ours).fetchone() is None)


def test_the_pool_has_a_bound_and_says_so(database_url: str) -> None:
    async def main() -> None:
        async with opened(database_url, pool_size=1) as database:
            slow = asyncio.create_task(database.run(ask("select pg_sleep(20)")))
            await asyncio.sleep(0)
            with pytest.raises(StorageBusy, match="All 1 connections of this event loop"):
                await database.run(PID, timeout=0.05)
            slow.cancel()
            with pytest.raises(asyncio.CancelledError):
                await slow

    asyncio.run(main())


def test_nobody_waits_for_a_connection_longer_than_the_pool_says(
    database_url: str,
) -> None:
    async def main() -> None:
        async with opened(database_url, pool_size=1, pool_timeout=0.05) as database:
            slow = asyncio.create_task(database.run(ask("select pg_sleep(20)")))
            await asyncio.sleep(0)
            for timeout in (None, 20.0):
                with pytest.raises(StorageBusy, match="All 1 connections"):
                    await database.run(PID, timeout=timeout)
            slow.cancel()
            with pytest.raises(asyncio.CancelledError):
                await slow

    asyncio.run(main())


def test_a_cancelled_query_does_not_shift_the_answers(database_url: str) -> None:
    async def main() -> int:
        async with opened(database_url, pool_size=1) as database:
            await database.run(PID)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(database.run(ask("select pg_sleep(20)")), 0.1)
            return int(await database.run(ask("select 7")))

    assert asyncio.run(main()) == 7


def test_who_is_cancelled_while_waiting_for_a_connection_leaves_it_to_others(
    database_url: str,
) -> None:
    async def main() -> int:
        async with opened(database_url, pool_size=1) as database:
            slow = asyncio.create_task(database.run(ask("select pg_sleep(0.2)")))
            await asyncio.sleep(0)
            waiting = [asyncio.create_task(database.run(PID)) for _ in range(3)]
            await asyncio.sleep(0)
            for task in waiting:
                task.cancel()
            await slow
            return int(await database.run(ask("select 8"), timeout=5))

    assert asyncio.run(main()) == 8


def test_a_connection_that_died_while_idle_is_noticed_before_it_is_used(
    database_url: str, admin: Admin
) -> None:
    async def main() -> tuple[int, int]:
        async with opened(database_url) as database:
            first = await database.run(PID)
            admin.execute("select pg_terminate_backend(%s, 5000)", [first])
            return first, await database.run(PID)

    first, second = asyncio.run(main())

    assert first != second


def test_a_connection_lost_at_work_is_reported_and_dropped(database_url: str) -> None:
    async def main() -> int:
        async with opened(database_url) as database:
            with pytest.raises(StorageUnavailable):
                await database.run(ask("select pg_terminate_backend(pg_backend_pid())"))
            return int(await database.run(ask("select 1")))

    assert asyncio.run(main()) == 1


def test_a_repeatable_query_outlives_a_restart(database_url: str, postgres: Any) -> None:
    if not isinstance(postgres, Server):
        pytest.skip("the server of PGTASKS_TEST_DSN is not ours to restart")

    async def main() -> int:
        async with opened(database_url) as database:
            await database.run(PID)
            await asyncio.to_thread(postgres.stop, "immediate")
            answer = asyncio.create_task(database.run(ask("select 42"), retry=True))
            await asyncio.to_thread(postgres.start)
            return int(await answer)

    assert asyncio.run(main()) == 42


def test_errors_are_sorted_the_same(database_url: str) -> None:
    async def main() -> None:
        async with opened(database_url) as database:
            with pytest.raises(BadData):
                await database.run(ask("select 'x'::integer"), retry=True)
            with pytest.raises(BadData):
                await database.run(ask("select %(text)s::text", text="a\0b"))
            with pytest.raises(StorageMisconfigured, match="pgtasks schema apply"):
                await database.run(ask("select 1 from pgtasks.nowhere"))
            with pytest.raises(StorageBusy):
                await database.run(ask("select pg_sleep(20)"), timeout=0.05)
            assert await database.run(ask("select 1")) == 1
        down = AsyncDatabase("postgresql://u:sEcret77@127.0.0.1:1/d")
        with pytest.raises(StorageUnavailable, match="Given up after") as caught:
            await down.run(PID, retry=True, timeout=0.5)
        assert "sEcret77" not in str(caught.value)

    asyncio.run(main())


def test_a_plan_older_than_a_migration_is_made_anew(
    database_url: str, admin: Admin
) -> None:
    admin.execute("create table public.shape (a integer)")
    query = Query("select * from public.shape", {}, len)

    async def main() -> int:
        async with opened(database_url) as database:
            await database.run(query)
            admin.execute("alter table public.shape add column b integer")
            return await database.run(query)

    assert asyncio.run(main()) == 0
    admin.execute("drop table public.shape")


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_a_pooler_is_noticed_and_everything_works(
    pgbouncer: Callable[..., str], mode: str
) -> None:
    url = pgbouncer(mode)

    async def main() -> tuple[list[int], str]:
        async with opened(url, pool_size=4) as database:
            answers = await asyncio.gather(
                *(database.run(ask("select %(n)s::integer", n=n)) for n in range(50))
            )
            limit = await database.run(ask("select current_setting('lock_timeout')"))
            return answers, limit

    assert asyncio.run(main()) == (list(range(50)), "3s")


def test_a_forked_child_leaves_its_parents_connections_alone(database_url: str) -> None:
    database = AsyncDatabase(database_url)
    loop = asyncio.new_event_loop()

    def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
        return loop.run_until_complete(coroutine)

    first = run(database.run(PID))
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            answer = repr(asyncio.run(database.run(PID)))
        except BaseException as error:
            answer = repr(error)
        os.write(writing, answer.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answers:
        in_child = answers.read()
    os.waitpid(pid, 0)

    assert in_child.isdigit()
    assert in_child != str(first)
    assert run(database.run(PID)) == first
    run(database.close())
    loop.close()


# ── the caller's own connection ────────────────────────────────────────────────────────


def test_a_query_joins_the_callers_transaction(database_url: str, admin: Admin) -> None:
    admin.execute("create table public.orders (a integer)")
    insert = Query(
        "insert into public.orders values (%(a)s::integer) returning a",
        {"a": 1},
        lambda rows: rows[0][0],
    )

    with psycopg.connect(database_url) as connection:
        answer = borrowed.run(insert, on=connection)
        seen = admin.execute("select count(*) from public.orders").fetchone()
        connection.rollback()

    assert (answer, seen) == (1, (0,))
    assert admin.execute("select count(*) from public.orders").fetchone() == (0,)
    admin.execute("drop table public.orders")


def test_a_lent_cursor_keeps_its_rows_and_its_ways(database_url: str) -> None:
    with psycopg.connect(
        database_url,
        row_factory=psycopg.rows.dict_row,
        cursor_factory=psycopg.ClientCursor,
    ) as connection:
        cursor = connection.execute("select n from generate_series(1, 3) as n")
        answer = borrowed.run(ask("select %(a)s::integer", a=4), on=cursor)

        assert answer == 4
        assert cursor.fetchall() == [{"n": 1}, {"n": 2}, {"n": 3}]


def test_on_a_lent_connection_errors_are_the_drivers_own(database_url: str) -> None:
    with (
        psycopg.connect(database_url) as connection,
        pytest.raises(psycopg.errors.InvalidTextRepresentation),
    ):
        borrowed.run(ask("select 'x'::integer"), on=connection)


def test_other_schemas_work_on_a_lent_connection(database_url: str) -> None:
    query = ask("select 'pgtasks.jobs'")

    with psycopg.connect(database_url) as connection:
        assert borrowed.run(query, on=connection, schema="mine") == "mine.jobs"


def test_an_async_connection_can_be_lent_too(database_url: str) -> None:
    async def main() -> tuple[int, int]:
        connection = await psycopg.AsyncConnection.connect(database_url)
        async with connection:
            with pytest.raises(TypeError, match="event loop"):
                borrowed.run(ask("select 1"), on=connection)
            return (
                await borrowed.arun(ask("select %(a)s::integer", a=1), on=connection),
                await borrowed.arun(ask("select 2"), on=connection.cursor()),
            )

    assert asyncio.run(main()) == (1, 2)


def test_what_cannot_be_lent_is_refused_with_advice() -> None:
    with pytest.raises(TypeError, match=r"builtins\.int.*driver_connection"):
        borrowed.run(ask("select 1"), on=3)
