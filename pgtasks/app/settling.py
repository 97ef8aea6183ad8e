"""A job that settles itself: its end on the connection on which it has worked.

`OwnEnd` is one run of a transactional task from the moment its body returns; `Doubt` asks
what became of a transaction whose end nobody was told of.
"""

from __future__ import annotations

import inspect
import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from pgtasks import states
from pgtasks.app.ends import may_run_again
from pgtasks.app.outcome import Ending, error_of
from pgtasks.app.traceinfo import printable
from pgtasks.exceptions import (
    Ignore,
    ImproperlyConfigured,
    Reject,
    Superseded,
    TaskPredicate,
)
from pgtasks.storage import borrowed, settling
from pgtasks.storage import jobs as storage
from pgtasks.storage.errors import StorageBusy, StorageError, StorageUnavailable
from pgtasks.storage.jobs import Acked, Settlement

__all__ = [
    "OwnEnd", "check_connection", "elsewhere", "has_no_tables", "is_standing", "kind_of",
    "part_of", "superseded", "was_written",
]  # fmt: skip

logger = logging.getLogger("celery.worker")


class OwnEnd:
    """The end of a transactional run, written by itself.

    Args:
        app: The application.
        ending: Takes down what becomes of the job.
        conclude: Gathers the end that a returned value makes of it.
        verify: Whether the transaction may have ended without a commit although nothing
            was raised: it is not one of ours.
    """

    def __init__(
        self,
        app: Any,
        ending: Ending,
        conclude: Callable[[Any], tuple[Any, ...]],
        *,
        verify: bool,
    ) -> None:
        self._app = app
        self._ending = ending
        self._conclude = conclude
        self._verify = verify
        self._value: Any = None
        self._concluded: tuple[Any, ...] | None = None
        self._ignored: Ignore | None = None
        self._settlement: Settlement | None = None
        self._queues: list[str] = []
        #: Everything is done but the commit.
        self._committing = False
        #: The body has begun; the connection went away under it.
        self._begun = self._lost = False

    @property
    def has_ended(self) -> bool:
        """Whether the body has returned."""
        return self._settlement is not None

    # ── within the transaction ──────────────────────────────────────────────────────────

    @contextmanager
    def watching(self, connection: Any) -> Iterator[None]:
        """Notice if the connection goes away meanwhile; afterwards nobody can tell."""
        below = borrowed.below(borrowed.holder(connection))
        self._begun = True
        try:
            yield
        except Exception as error:
            # The server's last word can be there before the end of the line is seen.
            with suppress(Exception):
                schema = self._app.conf.database_schema
                borrowed.run(settling.mark(), on=connection, schema=schema)
            said = settling.sqlstate(error) in _LAST_WORDS and _is_async(below)
            self._lost = said or (below is not None and borrowed.is_lost(below))
            raise

    def returned(self, value: Any) -> None:
        """The body has returned ``value``."""
        self._value = value
        self._settlement = self._gather(lambda: self._conclude(value))

    def ignored(self, exc: Ignore) -> None:
        """The body has raised `Ignore`: an end like a return if it was replaced."""
        if self._ending.replacement is None:
            raise exc
        self._ignored = exc
        self._settlement = self._gather(lambda: None)

    def _gather(self, conclude: Callable[[], Any]) -> Settlement:
        ending = self._ending
        try:
            self._concluded = conclude()
            made = ending.finish(None)
        except BaseException:
            ending.start_over()
            raise
        return storage.settle(made, ending.task_id)

    def settle(self, connection: Any) -> None:
        """Write the end on ``connection``; all that is left is the commit.

        Raises:
            Superseded: There is nothing to write: the job is not ours any more.
        """
        settlement = self._made()
        schema = self._app.conf.database_schema
        borrowed.run(settling.hasten(), on=connection, schema=schema)
        try:
            acked = borrowed.run(settling.settle(settlement), on=connection, schema=schema)
            taken = settlement.id in acked.ids or (
                settlement.state in storage.FINAL_STATES
                and borrowed.run(settling.salvage(settlement), on=connection, schema=schema)
            )
        except Exception as error:
            self._explain(error)
            raise
        self._accept(acked, taken)

    async def asettle(self, connection: Any) -> None:
        """`settle` for coroutines."""
        settlement = self._made()
        schema = self._app.conf.database_schema
        await borrowed.arun(settling.hasten(), on=connection, schema=schema)
        try:
            acked = await borrowed.arun(
                settling.settle(settlement), on=connection, schema=schema
            )
            taken = settlement.id in acked.ids or (
                settlement.state in storage.FINAL_STATES
                and await borrowed.arun(
                    settling.salvage(settlement), on=connection, schema=schema
                )
            )
        except Exception as error:
            self._explain(error)
            raise
        self._accept(acked, taken)

    def _made(self) -> Settlement:
        assert self._settlement is not None  # It follows `returned` or `ignored`.
        return self._settlement

    def _explain(self, error: Exception) -> None:
        if has_no_tables(error):
            raise ImproperlyConfigured(elsewhere(self._app, self._ending.job)) from error

    def _accept(self, acked: Acked, taken: bool) -> None:
        settlement = self._made()
        if not taken:
            if is_standing(self._app, settlement):
                raise ImproperlyConfigured(elsewhere(self._app, self._ending.job))
            raise superseded(self._ending)
        self._queues = sorted(acked.queues)
        self._committing = True

    # ── behind it ───────────────────────────────────────────────────────────────────────

    def came_about(self, error: BaseException) -> bool:
        """Whether the job is settled although ending the transaction has raised ``error``.

        If not, the error is the body's: then nothing has been, and the job may run again.
        """
        if self._committing and not is_standing(self._app, self._made()):
            if not was_written(self._app, self._made()):
                raise superseded(self._ending) from error
            logger.error(
                "%s is settled, but behind its commit came an error: %r",
                _named(self._ending),
                error,
                exc_info=error,
            )
            return True
        if self._settlement is not None and not isinstance(error, Superseded):
            self._ending.start_over()
        return False

    def run_again_if_lost(self, task: Any, error: Exception) -> None:
        """Have the job run again, as after a crash, if its connection went away under it.

        All that it did is undone, and it has done nothing wrong. Up to
        ``worker_max_crashes`` times, for it may be the job that takes the server down.
        """
        code = settling.sqlstate(error)
        behind = self._committing and (code is None or code[:2] in ("08", "57"))
        job = self._ending.job
        # Without a transaction nothing was begun.
        before = not self._begun and _is_out_of_reach(error)
        if not (self._lost or behind or before) or isinstance(error, TaskPredicate):
            return
        # Attempts, where they are counted, are retries with their own pauses.
        if job.max_attempts is not None or not may_run_again(self._app, task, job):
            return
        self._ending.outcome.crashed = True
        self._ending.outcome.error = error_of(error, None)
        raise Reject(error, requeue=True)

    def over(self) -> None:
        """The transaction has ended, without an error."""
        if not self._committing:
            raise ImproperlyConfigured(
                f"The transaction of {_named(self._ending)} was ended from inside, as by "
                f"psycopg.Rollback, and the job not settled: raise an error to have all "
                f"rolled back, or Discard to have the job end."
            )
        if self._verify and is_standing(self._app, self._made()):
            self._ending.start_over()
            raise ImproperlyConfigured(
                f"What transactional= of {self._ending.job.task} answers did not commit at "
                f"its end, so that nothing was written. Give something that does, such as "
                f"engine.begin, sessionmaker.begin or psycopg_pool's pool.connection."
            )
        self._ending.outcome.written = self._queues

    def answer(self) -> tuple[Any, tuple[Any, ...] | None]:
        """What the body has returned, and what became of it.

        Raises:
            Ignore: The body has raised it: another task took its place.
        """
        if self._ignored is not None:
            raise self._ignored
        return self._value, self._concluded


#: What the server says to a session that it ends.
_LAST_WORDS = frozenset({"57P01", "57P02", "57P03"})


def _is_async(below: Any) -> bool:
    return below is None or inspect.iscoroutinefunction(getattr(below, "execute", None))


def _is_out_of_reach(error: Exception) -> bool:
    """Whether a driver, or we, could not begin because there is no line to the server."""
    if isinstance(error, StorageError):
        return isinstance(error, StorageUnavailable)
    code = settling.sqlstate(error)
    if code is None:
        return type(error).__name__ in ("OperationalError", "InterfaceError")
    return code[:2] in ("08", "57")


def superseded(ending: Ending) -> Superseded:
    """Leave a job alone that is not ours any more; the answer is to be raised."""
    logger.warning(
        "%s is no longer ours: its row was taken over, changed or deleted while it ran. "
        "What it did here in its transaction is rolled back.",
        _named(ending),
    )
    ending.start_over()
    ending.outcome.state = states.AVAILABLE
    ending.outcome.written = []
    return Superseded(f"{_named(ending)} is no longer ours")


def _named(ending: Ending) -> str:
    return f"{printable(ending.job.task)}[{printable(ending.task_id)}]"


# ── what became of it ───────────────────────────────────────────────────────────────────


def is_standing(app: Any, settlement: Settlement, *, give_up_if: Any = None) -> bool:
    """Whether a job is as it was before it settled itself, and still ours.

    Asks for as long as the database does not answer: nothing may run or be written before.

    Args:
        app: The application.
        settlement: What was written, or was not.
        give_up_if: Asked when the row stays locked: whether nobody is going to end the
            transaction that holds it. Then the answer is true.
    """
    query = settling.standing(settlement)

    def stuck(error: StorageError) -> bool:
        return give_up_if is not None and isinstance(error, StorageBusy) and give_up_if()

    found: bool = _ask(app, query, settlement, stuck)
    return found


def was_written(app: Any, settlement: Settlement) -> bool:
    """Whether a job that is not standing any more has the end that it wrote itself.

    One that is to run again may have been claimed by others meanwhile; either way it is
    theirs, so that it counts as written.
    """
    # What was replaced is not in history: another one goes on under its id.
    if settlement.state not in storage.FINAL_STATES or '"replaced"' in settlement.document:
        return True
    return bool(_ask(app, storage.settled([settlement]), settlement, lambda error: False))


def _ask(app: Any, query: Any, settlement: Settlement, stuck: Any) -> Any:
    failing = False
    while True:
        try:
            return app.database.run(query)
        except StorageError as error:
            if stuck(error):
                return True
            if not failing:
                logger.warning(
                    "Whether job %s was settled is not known yet, will go on asking: %s",
                    printable(settlement.task_id),
                    error,
                )
            failing = True
            time.sleep(random.uniform(0.05, 0.5))


# ── connections ─────────────────────────────────────────────────────────────────────────


def kind_of(connection: Any) -> str | None:
    """The word for a connection's kind; None for one that nothing can be a part of here."""
    try:
        holder = borrowed.holder(connection)
        if borrowed.commits_at_once(holder):
            return None
    except TypeError:
        return None
    if isinstance(connection, str):
        return "django"
    for each in type(holder).__mro__:
        package = each.__module__.partition(".")[0]
        if package in ("psycopg", "psycopg2", "sqlalchemy", "django"):
            is_async = getattr(getattr(holder, "bind", None), "dialect", None)
            if each.__name__.startswith("Async") or getattr(is_async, "is_async", False):
                return None
            return package
    return None


@contextmanager
def part_of(app: Any, connection: Any) -> Iterator[Any]:
    """A part of an open transaction that is undone by itself if something is raised."""
    schema = app.conf.database_schema
    borrowed.run(settling.mark(), on=connection, schema=schema)
    try:
        yield connection
    except BaseException:
        borrowed.run(settling.undo(), on=connection, schema=schema)
        raise
    borrowed.run(settling.keep(), on=connection, schema=schema)


def check_connection(task: Any, connection: Any) -> None:
    """Refuse what no job can be settled on.

    Raises:
        ImproperlyConfigured: It is no connection, or does not wait for a commit.
    """
    try:
        holder = borrowed.holder(connection)
    except TypeError as error:
        hint = ""
        if connection is None:
            hint = " Of Django's atomic() write transactional='django'."
        raise ImproperlyConfigured(
            f"What transactional= of {task.name} answers is no connection: {error}{hint}"
        ) from error
    if borrowed.commits_at_once(holder):
        raise ImproperlyConfigured(
            f"The connection of {task.name} commits each statement at once: give one in a "
            f"transaction."
        )


def has_no_tables(error: Exception) -> bool:
    """Whether a driver says that our tables are not where it leads."""
    return settling.sqlstate(error) in settling.MISSING_TABLES


def elsewhere(app: Any, job: Any) -> str:
    """What is wrong with a connection that leads to another database."""
    return (
        f"The connection that was to settle {job.task}[{job.task_id}] leads to another "
        f"database than the application's own, {app.database.endpoint.address}: a "
        f"transaction cannot span two. Give one to that database, or settle the job as usual."
    )
