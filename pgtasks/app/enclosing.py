"""Runs the bodies of transactional tasks: see `pgtasks.app.transactional`."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from typing import Any, TypeAlias

from pgtasks.app import outcome, settling, transactional, transactions
from pgtasks.app.connection import keeps_jobs_in_memory
from pgtasks.exceptions import Ignore, ImproperlyConfigured

__all__ = ["Enclosed"]

#: What a body has returned, and the end that it made of its job, if there is one.
Ended: TypeAlias = "tuple[Any, tuple[Any, ...] | None]"


class Enclosed:
    """Runs the body of a task in a transaction, and settles the job in it.

    Args:
        app: The application.
        task: The task.
        fun: Its body.
        given: Its option.
    """

    def __init__(self, app: Any, task: Any, fun: Callable[..., Any], given: Any) -> None:
        self._app = app
        self._task = task
        self._fun = fun
        self._given = given
        self._is_async = inspect.iscoroutinefunction(task.run)
        # A context of the program's own may end without a commit; ours do not.
        self._is_foreign = given is not True and given not in transactional.NAMES
        self._in_memory = keeps_jobs_in_memory(app)

    def __call__(
        self, args: Any, kwargs: Any, conclude: Callable[[Any], tuple[Any, ...]]
    ) -> Ended | Coroutine[Any, Any, Ended]:
        """Run the body.

        Args:
            args: Its positional arguments.
            kwargs: Its keyword arguments.
            conclude: Gathers the end that a returned value makes of the job.

        Returns:
            What the body has returned, and what ``conclude`` has answered: None if there is
            no job to settle, in an eager run or a test. Of a coroutine, one that does so.

        Raises:
            Superseded: The job is not ours any more.
            Exception: What the body has raised, or the driver; all is rolled back.
        """
        if self._is_async:
            return self._arun(args, kwargs, conclude)
        run = self._own_end(conclude)
        if run is None:
            return self._unsettled(args, kwargs), None
        try:
            self._settled(run, args, kwargs)
        except Exception as error:
            self._failed(run, error)
            raise
        return run.answer()

    async def _arun(
        self, args: Any, kwargs: Any, conclude: Callable[[Any], tuple[Any, ...]]
    ) -> Ended:
        run = self._own_end(conclude)
        if run is None:
            return await self._aunsettled(args, kwargs), None
        try:
            await self._asettled(run, args, kwargs)
        except Exception as error:
            self._failed(run, error)
            raise
        return run.answer()

    def _own_end(
        self, conclude: Callable[[Any], tuple[Any, ...]]
    ) -> settling.OwnEnd | None:
        ending = outcome.current()
        if ending is None or not ending.settles or self._in_memory:
            return None
        return settling.OwnEnd(self._app, ending, conclude, verify=self._is_foreign)

    def _failed(self, run: settling.OwnEnd, error: Exception) -> None:
        # `autoretry_for` looks at the body, and this may have come behind it.
        again = getattr(self._task, "_retry_later", None)
        if run.has_ended and again is not None:
            again(error)
        run.run_again_if_lost(self._task, error)

    def _settled(self, run: settling.OwnEnd, args: Any, kwargs: Any) -> None:
        try:
            with (
                self._open() as connection,
                self._within(connection),
                run.watching(connection),
            ):
                try:
                    run.returned(self._fun(*args, **kwargs))
                except Ignore as exc:
                    run.ignored(exc)
                run.settle(connection)
        except BaseException as error:
            if not run.came_about(error):
                raise
        run.over()

    async def _asettled(self, run: settling.OwnEnd, args: Any, kwargs: Any) -> None:
        try:
            async with self._aopen() as connection:
                with self._within(connection), run.watching(connection):
                    try:
                        run.returned(await self._fun(*args, **kwargs))
                    except Ignore as exc:
                        run.ignored(exc)
                    await run.asettle(connection)
        except BaseException as error:
            if not run.came_about(error):
                raise
        run.over()

    def _unsettled(self, args: Any, kwargs: Any) -> Any:
        """Run the body where there is no row: in a transaction all the same.

        In one that jobs sent now would join it is a part of that, and ends with it.
        """
        joined = self._joined()
        opened = self._open() if joined is None else settling.part_of(self._app, joined)
        with opened as connection, self._within(connection):
            return self._fun(*args, **kwargs)

    async def _aunsettled(self, args: Any, kwargs: Any) -> Any:
        async with self._aopen() as connection:
            with self._within(connection):
                return await self._fun(*args, **kwargs)

    @contextmanager
    def _within(self, connection: Any) -> Iterator[None]:
        """Have jobs sent meanwhile join the transaction, and ``self.connection`` be it."""
        token = transactional.running.set(connection)
        try:
            with transactions.using(connection):
                yield
        finally:
            transactional.running.reset(token)

    def _joined(self) -> Any:
        # Django nests by itself, and what others have made is only theirs to nest.
        if self._is_foreign or self._given == "django" or self._in_memory:
            return None
        found = transactions.current(self._app)
        kind = None if found is None else settling.kind_of(found)
        if kind is None or kind == "django":
            return None
        return found if self._given is True or kind == self._given else None

    # ── opening ─────────────────────────────────────────────────────────────────────────

    def _open(self) -> AbstractContextManager[Any]:
        opened = self._begin()
        if not hasattr(opened, "__enter__"):
            raise ImproperlyConfigured(
                f"transactional= of {self._task.name} answers {opened!r}, which only a "
                f"coroutine can enter, and the task is none. Write it as 'async def', or "
                f"give an engine or sessions that are not asyncio's."
            )
        # In memory nothing is settled on it, so that it may lead to any database.
        return opened if self._in_memory else _checked(self._task, opened)

    def _aopen(self) -> AbstractAsyncContextManager[Any]:
        opened: Any = self._begin()
        if not hasattr(opened, "__aenter__"):
            opened = _as_async(opened)
        return opened if self._in_memory else _achecked(self._task, opened)

    def _begin(self) -> Any:
        given = self._given
        if self._is_foreign:
            begin = transactional.beginning_of(given) or given
            return begin()
        if given != "psycopg":
            for name, begin in transactional.offers(self._app):
                if given is True or given == name:
                    opened = begin(self._is_async)
                    if opened is not None:
                        return opened
            if given is not True:
                raise ImproperlyConfigured(_missing(self._task, given, self._is_async))
        if self._in_memory and not self._app.conf.database_url:
            raise ImproperlyConfigured(
                f"{self._task.name} is transactional, and with broker_url 'memory://' there "
                f"is no database to have a transaction on. Name one, by the setting "
                f"database_url, or run the test on PostgreSQL."
            )
        bodies = self._app.database.bodies
        return bodies.abegin() if self._is_async else bodies.begin()


def _missing(task: Any, given: str, is_async: bool) -> str:
    what = f"transactional={given!r} of task {task.name!r}: "
    if given == "django" and is_async:
        return f"{what}Django has no transactions for coroutines. Write it as 'def'."
    if given == "django":
        return (
            f"{what}none of Django's databases is the application's own. Name that one in "
            f"DATABASES, with the same host, port and name, and set DJANGO_SETTINGS_MODULE."
        )
    sort = "async_sessionmaker" if is_async else "sessionmaker or scoped_session"
    return (
        f"{what}no {sort} that leads to the application's database is registered. Call "
        f"pgtasks.contrib.sqlalchemy.join(app, Session), or give the sessions themselves."
    )


@contextmanager
def _checked(task: Any, opened: AbstractContextManager[Any]) -> Iterator[Any]:
    with opened as connection:
        settling.check_connection(task, connection)
        yield connection


@asynccontextmanager
async def _achecked(
    task: Any, opened: AbstractAsyncContextManager[Any]
) -> AsyncIterator[Any]:
    async with opened as connection:
        settling.check_connection(task, connection)
        yield connection


@asynccontextmanager
async def _as_async(opened: AbstractContextManager[Any]) -> AsyncIterator[Any]:
    with opened as connection:
        yield connection
