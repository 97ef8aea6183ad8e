"""Sends tasks: rows go into the table, results come back to the caller."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

from pgtasks import serialization, signals
from pgtasks.app import batch as batches
from pgtasks.app import divert, eager, modes, outcome, transactions
from pgtasks.app.compose import Request, lent
from pgtasks.app.moulds import MouldingComposer
from pgtasks.app.options import OMITTED
from pgtasks.job import NewJob

__all__ = [
    "Sender",
    "abatch",
    "asend_task",
    "batch",
    "round_trip",
    "send_task",
    "sender",
]


def send_task(
    app: Any, name: str, args: Any = None, kwargs: Any = None, **given: Any
) -> Any:
    """Send the task ``name``, registered here or not, and return its result.

    Args:
        app: The application.
        name: Name of the task.
        args: Positional arguments.
        kwargs: Keyword arguments.
        **given: Options of `Task.apply_async`.
    """
    if modes.is_inline(app, given.get("task_id")):
        return eager.send(app, name, args, kwargs, given)
    own = sender(app)
    together = batches.current(app)
    diverted = divert.replacement(app)
    if diverted is not None:
        request = own.compose(name, args, kwargs, given)
        if batches.awaited() is None:
            # The body of a chord is no message until its header has ended.
            divert.hand_over(own, diverted, request.job, args, kwargs, given)
        return _result_of(app, request, None)
    if together is not None:
        request, together.mould = own.compose_like(
            together.mould, name, args, kwargs, given
        )
        result = _result_of(app, request, None)
        _collect(app, together, request)
        together.results.append(result)
        return result
    request = own.compose_one(name, args, kwargs, given)
    return _result_of(app, request, own.insert(request))


async def asend_task(
    app: Any, name: str, args: Any = None, kwargs: Any = None, **given: Any
) -> Any:
    """`send_task` for coroutines."""
    if modes.is_inline(app, given.get("task_id")):
        return eager.send(app, name, args, kwargs, given)
    own = sender(app)
    request = own.compose(name, args, kwargs, given)
    inserted = await own.ainsert(request)
    return _result_of(app, request, inserted)


@contextmanager
def batch(app: Any) -> Iterator[None]:
    """Send what is sent meanwhile by one statement: all of it, or nothing if this raises.

    Within another batch, and where a job's end collects what it leads to, it goes along
    with that.

    Args:
        app: The application.
    """
    together = _new_batch(app)
    if together is None:
        yield
        return
    with batches.collecting(together):
        yield
    if together.requests:
        own, on = sender(app), together.connection
        own.send_chunk(together.requests, together.results, on)


@asynccontextmanager
async def abatch(app: Any) -> AsyncIterator[None]:
    """`batch` for coroutines: what is sent meanwhile blocks nothing, for nothing is sent.

    Args:
        app: The application.
    """
    together = _new_batch(app)
    if together is None:
        yield
        return
    with batches.collecting(together):
        yield
    if together.requests:
        own, on = sender(app), together.connection
        await own.asend_chunk(together.requests, together.results, on)


def _new_batch(app: Any) -> batches.Batch | None:
    """A batch, unless what is sent is collected or kept in memory anyway."""
    ending = outcome.current()
    collected = ending is not None and ending.gathering
    if collected or batches.current(app) is not None or sender(app).is_in_memory():
        return None
    return batches.Batch(app)


def _collect(app: Any, together: batches.Batch, request: Request) -> None:
    """Add to a batch: it goes by what its first one chose, or the first that was lent."""
    named = together.connection is None and request.connection is not OMITTED
    if named or not together.requests:
        together.connection = transactions.chosen(app, request.connection)
    together.requests.append(request)


def round_trip(app: Any, args: Any, kwargs: Any, serializer: str | None) -> tuple[Any, Any]:
    """The arguments as a worker would get them."""
    name = serializer or app.conf.task_serializer
    payload = serialization.dump_arguments(args or (), kwargs or {}, name)
    return serialization.load_arguments(
        payload.args,
        payload.kwargs,
        payload.body,
        payload.content_type,
        payload.content_encoding,
        (payload.content_type,),
    )


def sender(app: Any) -> Sender:
    """The sender of ``app``."""
    own: Sender | None = app.__dict__.get("_sender")
    if own is None or own.conf is not app.conf:
        own = app.__dict__["_sender"] = Sender(app)
    return own


def _result_of(app: Any, request: Request, inserted: Any) -> Any:
    job = request.job
    result = (request.result_cls or app.AsyncResult)(job.task_id)
    # Not by the constructor: a result class of one's own may not know it.
    result.ignored = request.ignored
    if inserted is not None and inserted.conflict:
        _lead(result, inserted)
    if request.parent is not None and request.add_to_parent:
        request.parent.add_trail(result)
    return result


def _lead(result: Any, inserted: Any) -> None:
    """Have a result be that of the job that was there before."""
    result.conflict = True
    if result.id != inserted.task_id:
        result.id = inserted.task_id


class Sender(MouldingComposer):
    """Makes rows of calls, and inserts them.

    Args:
        app: The application.
    """

    def connection_for(self, requests: Sequence[Request], given: Any = OMITTED) -> Any:
        """The connection that all of these go by; None is our own.

        Args:
            requests: What is sent; the first that names one decides, if the call does not.
            given: What the call says.
        """
        if self.in_memory:
            return None
        given = lent(given)
        for request in requests:
            if given is not OMITTED:
                break
            given = request.connection
        return transactions.chosen(self.app, given)

    def insert(self, request: Request) -> Any:
        """Insert one job; None where it became part of the outcome of the job that runs."""
        ending = outcome.current()
        if ending is not None and ending.takes(request.job):
            inserted = None
        else:
            on = self.connection_for([request])
            (inserted,) = self._insert([request.job], request, on, durable=request.durable)
            if self.sends_events:
                _announce(self.app, [request], [inserted], on)
        _tell(request)
        return inserted

    def send_chunk(
        self, requests: Sequence[Request], results: Sequence[Any] | None, on: Any
    ) -> list[Any]:
        """Insert jobs by one statement, and return their results.

        Args:
            requests: What to insert.
            results: The results, if they have been made already.
            on: A connection that is lent, or None.
        """
        ending = outcome.current()
        jobs = [request.job for request in requests]
        if ending is not None and ending.gathering:
            inserted: Any = [None for job in jobs if ending.takes(job)]
        else:
            durable = any(each.durable for each in requests)
            inserted = self._insert(jobs, requests[0], on, durable=durable)
            if self.sends_events:
                _announce(self.app, requests, inserted, on)
        return self._results_of(requests, results, inserted)

    async def asend_chunk(
        self, requests: Sequence[Request], results: Sequence[Any] | None, on: Any
    ) -> list[Any]:
        """`send_chunk` for coroutines."""
        jobs = [request.job for request in requests]
        durable = any(each.durable for each in requests)
        inserted = await self._ainsert(jobs, requests[0], on, durable=durable)
        if self.sends_events:
            await _aannounce(self.app, requests, inserted, on)
        return self._results_of(requests, results, inserted)

    def _results_of(
        self, requests: Sequence[Request], results: Sequence[Any] | None, inserted: Any
    ) -> list[Any]:
        if results is None:
            results = [_result_of(self.app, request, None) for request in requests]
        for request, answer, result in zip(requests, inserted, results, strict=True):
            _tell(request)
            if answer is not None and answer.conflict:
                _lead(result, answer)
        return list(results)

    def _insert(
        self, jobs: list[NewJob], request: Request, on: Any, *, durable: bool
    ) -> Any:
        if self.in_memory:
            from pgtasks.app.memory import queue_of

            return queue_of(self.app).put(jobs)
        from pgtasks.storage import jobs as storage
        from pgtasks.storage import uniques

        keyed = uniques.concern(jobs)
        if on is not None:
            from pgtasks.storage import borrowed, lending

            lend = partial(borrowed.run, on=on, schema=self.conf.database_schema)
            with transactions.lending(on, [job.task_id for job in jobs]):
                if keyed:
                    return uniques.answer(uniques.insertion(jobs, wake="always"), lend)
                return lend(lending.insert(jobs))
        from pgtasks.storage.errors import StorageBusy, StorageUnavailable

        database = self.app.database
        again = False
        for pause in (*request.patience, None):
            try:
                # Whoever asks again has the ids of the first time: an insert whose
                # answer was lost is not made twice (R2).
                if keyed:
                    rounds = uniques.insertion(jobs, again=again, durable=durable)
                    return uniques.answer(rounds, database.run)
                query = storage.insert(jobs, again=again, durable=durable)
                inserted = database.run(query)
            except (StorageUnavailable, StorageBusy) as error:
                if pause is None:
                    raise _unreachable(error, len(request.patience)) from error
                again = again or not error.not_run
                time.sleep(pause)
            else:
                # What is there already is what the first try has left.
                return (
                    [each._replace(conflict=False) for each in inserted]
                    if again
                    else inserted
                )
        raise AssertionError("unreachable")

    async def ainsert(self, request: Request) -> Any:
        """`insert` for coroutines."""
        ending = outcome.current()
        if ending is not None and ending.takes(request.job):
            inserted = None
        else:
            on = self.connection_for([request])
            (inserted,) = await self._ainsert(
                [request.job], request, on, durable=request.durable
            )
            if self.sends_events:
                await _aannounce(self.app, [request], [inserted], on)
        _tell(request)
        return inserted

    async def _ainsert(
        self, jobs: list[NewJob], request: Request, on: Any, *, durable: bool
    ) -> Any:
        if self.in_memory:
            from pgtasks.app.memory import queue_of

            return queue_of(self.app).put(jobs)
        import asyncio

        from pgtasks.storage import jobs as storage
        from pgtasks.storage import uniques

        keyed = uniques.concern(jobs)
        if on is not None:
            from pgtasks.storage import borrowed, lending

            lend = partial(borrowed.arun, on=on, schema=self.conf.database_schema)
            with transactions.lending(on, [job.task_id for job in jobs]):
                if keyed:
                    rounds = uniques.insertion(jobs, wake="always")
                    return await uniques.aanswer(rounds, lend)
                return await lend(lending.insert(jobs))
        from pgtasks.storage.errors import StorageBusy, StorageUnavailable

        database = self.app.async_database
        again = False
        for pause in (*request.patience, None):
            try:
                if keyed:
                    rounds = uniques.insertion(jobs, again=again, durable=durable)
                    return await uniques.aanswer(rounds, database.run)
                query = storage.insert(jobs, again=again, durable=durable)
                inserted = await database.run(query)
            except (StorageUnavailable, StorageBusy) as error:
                if pause is None:
                    raise _unreachable(error, len(request.patience)) from error
                again = again or not error.not_run
                await asyncio.sleep(pause)
            else:
                # What is there already is what the first try has left.
                return (
                    [each._replace(conflict=False) for each in inserted]
                    if again
                    else inserted
                )
        raise AssertionError("unreachable")


def _unreachable(error: Exception, retries: int) -> Exception:
    from pgtasks.exceptions import OperationalError

    tries = f", tried {retries + 1} times" if retries else ""
    failed: Exception = OperationalError(f"The job could not be sent{tries}: {error}")
    return failed


def _announce(
    app: Any, requests: Sequence[Request], inserted: Sequence[Any], on: Any
) -> None:
    """Send the events ``task-sent`` of those that were not there before."""
    # Most programs have no use for it.
    from pgtasks.app import sent

    jobs = _new(requests, inserted)
    if jobs:
        sent.tell(app, jobs, on)


async def _aannounce(
    app: Any, requests: Sequence[Request], inserted: Sequence[Any], on: Any
) -> None:
    from pgtasks.app import sent

    jobs = _new(requests, inserted)
    if jobs:
        await sent.atell(app, jobs, on)


def _new(requests: Sequence[Request], inserted: Sequence[Any]) -> list[NewJob]:
    """The jobs that were not there before."""
    return [
        request.job
        for request, answer in zip(requests, inserted, strict=True)
        if answer is None or not answer.conflict
    ]


def _tell(request: Request) -> None:
    told = request.told
    if told is None:
        return
    headers, body = told["headers"], told["body"]
    signals.after_task_publish.send(
        sender=request.job.task,
        body=body,
        headers=headers,
        exchange=told["exchange"],
        routing_key=told["routing_key"],
    )
    signals.task_sent.send(
        sender=request.job.task,
        task_id=headers["id"],
        task=request.job.task,
        args=body[0],
        kwargs=body[1],
        eta=headers["eta"],
        taskset=headers["group"],
    )
