"""Sends tasks: the task's defaults, its route and the call's options become a row."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pgtasks import serialization, signals
from pgtasks.app import options, outcome
from pgtasks.app.connection import keeps_jobs_in_memory, runs_high_priority_first
from pgtasks.app.priority import stored as stored_priority
from pgtasks.exceptions import AlwaysEagerIgnored, PayloadTooLarge
from pgtasks.job import NewJob
from pgtasks.utils.ids import time_ordered_uuid
from pgtasks.utils.nodenames import anon_nodename

__all__ = [
    "Sender",
    "arguments_of",
    "asend_task",
    "round_trip",
    "send_many",
    "send_task",
    "send_tasks",
    "sender",
]

logger = logging.getLogger("celery.app.publish")

#: Jobs in one statement of a bulk insert: far beyond where larger ones still gain, and
#: small enough to leave others their turn.
CHUNK = 2000

_SPECIAL = (
    "router", "route_name", "result_cls", "task_type", "producer", "publisher",
    "connection", "event_dispatcher", "add_to_parent", "retry", "retry_policy", "timeout",
    "confirm_timeout",
)  # fmt: skip


class _Request(NamedTuple):
    """One task to send, in two parts: the job, and what is done about it."""

    job: NewJob
    result_cls: Any
    ignored: bool | None
    parent: Any
    add_to_parent: bool
    connection: Any
    patience: tuple[float, ...]
    #: Arguments of ``after_task_publish``, if anybody hears them.
    told: dict[str, Any] | None


class _Mould(NamedTuple):
    """A call that the next ones differ from in their arguments only."""

    name: str
    given: dict[str, Any]
    request: _Request
    serializer: str
    compression: str | None
    fixed: int
    room: int
    rest: tuple[Any, ...]

    def cast(self, payload: serialization.Payload) -> _Request:
        """The same call with other arguments."""
        first = self.request.job
        job = NewJob(
            self.name,
            time_ordered_uuid(),
            first.queue,
            first.priority,
            payload.args,
            payload.kwargs,
            payload.body,
            payload.content_type,
            payload.content_encoding,
            *self.rest,
        )
        return self.request._replace(job=job)


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
    own = sender(app)
    request = own.compose(name, args, kwargs, given)
    inserted = own.insert(request)
    return _result_of(app, request, inserted)


async def asend_task(
    app: Any, name: str, args: Any = None, kwargs: Any = None, **given: Any
) -> Any:
    """`send_task` for coroutines."""
    own = sender(app)
    request = own.compose(name, args, kwargs, given)
    inserted = await own.ainsert(request)
    return _result_of(app, request, inserted)


def send_many(
    app: Any,
    calls: Iterable[tuple[str, Any, Any, dict[str, Any]]],
    *,
    task_type: Any = None,
    atomic: bool = False,
) -> list[Any]:
    """Send many tasks, thousands in one statement, and return their results in order.

    Args:
        app: The application.
        calls: For each its name, its arguments and its options.
        task_type: The task, if all of them are of it.
        atomic: All of them or none, in one transaction; otherwise each statement is one.
    """
    own = sender(app)
    results: list[Any] = []
    chunk: list[_Request] = []
    for request in own.compose_many(calls, task_type):
        chunk.append(request)
        if len(chunk) >= CHUNK and not atomic:
            results.extend(own.send_chunk(chunk))
            chunk = []
    if chunk:
        results.extend(own.send_chunk(chunk))
    return results


def send_tasks(app: Any, calls: Iterable[Any], *, atomic: bool = False) -> list[Any]:
    """Send tasks of any kinds in bulk.

    Args:
        app: The application.
        calls: Signatures, or tuples of name, args, kwargs and options, of which the later
            ones may be left out.
        atomic: All of them or none.
    """

    def spread() -> Iterator[tuple[str, Any, Any, dict[str, Any]]]:
        for call in calls:
            if isinstance(call, Mapping):
                yield call["task"], call["args"], call["kwargs"], dict(call["options"])
            else:
                name, args, kwargs, given = (*call, None, None, None)[:4]
                yield name, args, kwargs, dict(given or {})

    return send_many(app, spread(), atomic=atomic)


def arguments_of(call: Any) -> tuple[Any, Any, dict[str, Any]]:
    """The args, kwargs and options of one item of a bulk call."""
    if isinstance(call, (tuple, list)):
        return call, None, {}
    if isinstance(call, Mapping):
        if "task" in call and "options" in call:
            return call["args"], call["kwargs"], dict(call["options"])
        return None, call, {}
    raise TypeError(
        f"{call!r} is no call: give a tuple of positional arguments, a dict of keyword "
        f"arguments, or a signature."
    )


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


def _result_of(app: Any, request: _Request, inserted: Any) -> Any:
    job = request.job
    result = (request.result_cls or app.AsyncResult)(job.task_id)
    # Not by the constructor: a result class of one's own may not know it.
    result.ignored = request.ignored
    if inserted is not None and inserted.conflict:
        result.conflict = True
    if request.parent is not None and request.add_to_parent:
        request.parent.add_trail(result)
    return result


class Sender:
    """Makes rows of calls, by the settings of one app, which are read once per change.

    Args:
        app: The application.
    """

    def __init__(self, app: Any) -> None:
        self.app = app
        self.conf = app.conf
        self._pid = 0
        self._origin = ""
        self._read = False
        app.conf.bind_to(self._settings_changed)

    def _settings_changed(self, changed: Any) -> None:
        self._read = False

    def _read_settings(self) -> None:
        conf = self.conf
        self.in_memory = keeps_jobs_in_memory(self.app)
        self.high_first = runs_high_priority_first(self.app)
        self.inherits_priority = conf.task_inherit_parent_priority
        self.always_eager = conf.task_always_eager
        self.serializer = conf.task_serializer
        self.compression = conf.task_compression
        self.accept = options.accepted(conf.accept_content)
        self.body_max_size = conf.task_body_max_size
        self.body_warn_size = conf.task_body_warn_size
        self.naive_zone = None if conf.enable_utc else self.app.timezone
        self.retry = conf.task_publish_retry
        self.policy = dict(conf.task_publish_retry_policy or {})
        self.pauses = _pauses(self.policy) if self.retry else ()
        self._read = True

    # ── from a call to a row ────────────────────────────────────────────────────────────

    def compose(
        self, name: str, args: Any, kwargs: Any, given: Mapping[str, Any]
    ) -> _Request:
        """Make the row of one call."""
        if not self._read:
            self._read_settings()
        app = self.app
        options.check_name(name)
        given = {key: value for key, value in given.items() if value is not options.OMITTED}
        task_type = given.get("task_type")
        if self.always_eager and task_type is None:
            import warnings

            warnings.warn(
                AlwaysEagerIgnored("task_always_eager has no effect on send_task"),
                stacklevel=4,
            )
        if task_type is None:
            task_type = app._tasks.get(name)
            given = _with_defaults_of(task_type, given)
        # What is None has not been said; routes may say it.
        left = {key: value for key, value in given.items() if value is not None}
        special = {key: left.pop(key) for key in _SPECIAL if key in left}
        attempts = getattr(task_type, "max_attempts", None)
        if attempts is not None:
            left.setdefault("max_attempts", attempts)
        router = special.get("router") or app.amqp.router
        left = router.destination(
            left, special.get("route_name") or name, args, kwargs, task_type
        )

        parent = app.current_worker_task
        priority = left.pop("priority", None)
        if parent is not None:
            inherited = parent.request
            left.setdefault("root_id", inherited.root_id or inherited.id)
            left.setdefault("parent_id", inherited.id)
            if priority is None and self.inherits_priority:
                priority = (inherited.delivery_info or {}).get("priority")

        draft = options.Draft(name, args, kwargs, left, self.naive_zone)
        told = None
        policy = special.get("retry_policy")
        if signals.before_task_publish.receivers or signals.after_task_publish.receivers:
            policy = {**self.policy, **(policy or {})}
            told = draft.tell(priority, self.origin, policy)
            if draft.retry_policy != policy:
                policy = draft.retry_policy
        elif signals.task_sent.receivers:
            told = draft.as_told(self.origin)
        job = self._row(draft, priority)

        retry = special.get("retry")
        pauses = self.pauses
        if retry is False:
            pauses = ()
        elif policy or (retry and not self.retry):
            pauses = _pauses({**self.policy, **(policy or {})})
        return _Request(
            job,
            special.get("result_cls"),
            draft.ignore_result,
            parent,
            special.get("add_to_parent", True),
            _lent(special.get("connection")),
            pauses,
            told,
        )

    def compose_many(
        self, calls: Iterable[tuple[str, Any, Any, dict[str, Any]]], task_type: Any
    ) -> Iterator[_Request]:
        """Make the rows of many calls.

        Those that differ from the one before in their arguments only are made of it.
        """
        mould: _Mould | None = None
        for name, args, kwargs, given in calls:
            if mould is not None and mould.name == name and mould.given == given:
                payload = serialization.dump_arguments(
                    args, kwargs, mould.serializer, mould.compression
                )
                if payload.size > mould.room:
                    self._check_size(name, payload.size + mould.fixed)
                yield mould.cast(payload)
                continue
            request = self.compose(name, args, kwargs, {"task_type": task_type, **given})
            yield request
            mould = self._mould(name, given, request) if self._repeats(given) else None

    def _mould(self, name: str, given: dict[str, Any], request: _Request) -> _Mould:
        job = request.job
        fixed = len(job.headers or "") + len(job.embed or "")
        return _Mould(
            name,
            given,
            request,
            given.get("serializer") or self.serializer,
            given.get("compression") or self.compression,
            fixed,
            (self.body_warn_size or self.body_max_size or 2**62) - fixed,
            tuple(getattr(job, field) for field in _AFTER_PAYLOAD),
        )

    def _repeats(self, given: Mapping[str, Any]) -> bool:
        """Whether the same name and options always make the same row but for arguments."""
        heard = (
            signals.before_task_publish.receivers
            or signals.after_task_publish.receivers
            or signals.task_sent.receivers
        )
        # Routers may look at the arguments.
        return not (heard or given.get("task_id") or self.app.amqp.router.routes)

    def _row(self, draft: options.Draft, priority: Any) -> NewJob:
        name = draft.name
        serializer = draft.serializer or self.serializer
        payload = serialization.dump_arguments(
            draft.args, draft.kwargs, serializer, draft.compression or self.compression
        )
        if payload.content_type not in self.accept:
            options.check_accepted(payload.content_type, self.accept, serializer)
        headers, embed = draft.headers_text(), draft.embed_text()
        size = payload.size + len(headers or "") + len(embed or "")
        if size > (self.body_warn_size or size):
            self._check_size(name, size)
        return NewJob(
            name,
            draft.task_id,
            draft.queue,
            stored_priority(priority, high_first=self.high_first),
            payload.args,
            payload.kwargs,
            payload.body,
            payload.content_type,
            payload.content_encoding,
            draft.delay,
            draft.eta,
            draft.expires_in,
            draft.expires,
            draft.max_attempts,
            draft.retries,
            draft.time_limit,
            draft.soft_time_limit,
            draft.ignore_result,
            draft.root_id,
            draft.parent_id,
            draft.group_id,
            draft.group_index,
            draft.origin or self.origin,
            headers,
            embed,
            draft.meta_text(),
            draft.tags,
        )

    def _check_size(self, name: str, size: int) -> None:
        most = self.body_max_size
        if most and size > most:
            raise PayloadTooLarge(
                f"A call of {name} takes {size:,} bytes with its headers, more than "
                f"task_body_max_size = {most:,}. Put the data where the task can read it, "
                f"and send where that is."
            )
        if self.body_warn_size and size > self.body_warn_size:
            logger.warning(
                "A call of %s takes %s bytes, more than task_body_warn_size = %s: every "
                "look at the queue carries it. Better send where the data are.",
                name,
                f"{size:,}",
                f"{self.body_warn_size:,}",
            )

    @property
    def origin(self) -> str:
        """Which process sends: ``gen<pid>@<host>``."""
        pid = os.getpid()
        if pid != self._pid:
            self._pid, self._origin = pid, anon_nodename()
        return self._origin

    # ── from a row to the table ─────────────────────────────────────────────────────────

    def insert(self, request: _Request) -> Any:
        """Insert one job; None where it became part of the outcome of the job that runs."""
        ending = outcome.current()
        if ending is not None and ending.takes(request.job):
            inserted = None
        else:
            (inserted,) = self._insert([request.job], request)
        _tell(request)
        return inserted

    def send_chunk(self, requests: Sequence[_Request]) -> list[Any]:
        """Insert jobs by one statement, and return their results."""
        ending = outcome.current()
        jobs = [request.job for request in requests]
        if ending is not None and ending.gathering:
            inserted: Any = [None for job in jobs if ending.takes(job)]
        else:
            inserted = self._insert(jobs, requests[0])
        results = []
        for request, answer in zip(requests, inserted, strict=True):
            _tell(request)
            results.append(_result_of(self.app, request, answer))
        return results

    def _insert(self, jobs: list[NewJob], request: _Request) -> Any:
        if self.in_memory:
            from pgtasks.app.memory import queue_of

            return queue_of(self.app).put(jobs)
        from pgtasks.storage import jobs as storage

        if request.connection is not None:
            from pgtasks.storage import borrowed

            # Their transaction may stay open, and must not keep others from notifying.
            query = storage.insert(jobs, wake="always")
            schema = self.conf.database_schema
            return borrowed.run(query, on=request.connection, schema=schema)
        from pgtasks.storage.errors import StorageBusy, StorageUnavailable

        database = self.app.database
        again = False
        for pause in (*request.patience, None):
            try:
                # Whoever asks again has the ids of the first time: an insert whose
                # answer was lost is not made twice (R2).
                inserted = database.run(storage.insert(jobs, again=again))
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

    async def ainsert(self, request: _Request) -> Any:
        """`insert` for coroutines."""
        ending = outcome.current()
        if ending is not None and ending.takes(request.job):
            inserted = None
        else:
            (inserted,) = await self._ainsert([request.job], request)
        _tell(request)
        return inserted

    async def _ainsert(self, jobs: list[NewJob], request: _Request) -> Any:
        if self.in_memory:
            from pgtasks.app.memory import queue_of

            return queue_of(self.app).put(jobs)
        import asyncio

        from pgtasks.storage import jobs as storage

        if request.connection is not None:
            from pgtasks.storage import borrowed

            query = storage.insert(jobs, wake="always")
            schema = self.conf.database_schema
            return await borrowed.arun(query, on=request.connection, schema=schema)
        from pgtasks.storage.errors import StorageBusy, StorageUnavailable

        database = self.app.async_database
        again = False
        for pause in (*request.patience, None):
            try:
                inserted = await database.run(storage.insert(jobs, again=again))
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


#: Fields of a `NewJob` behind its payload.
_AFTER_PAYLOAD = (
    "delay", "eta", "expires_in", "expires", "max_attempts", "retries", "time_limit",
    "soft_time_limit", "ignore_result", "root_id", "parent_id", "group_id", "group_index",
    "origin", "headers", "embed", "meta", "tags", "unique_key",
)  # fmt: skip


def _with_defaults_of(task: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Lay the options of a registered task under those of ``send_task``.

    An option that was given as None clears the task's.
    """
    get_options = getattr(task, "_get_exec_options", None)
    if get_options is None:
        return dict(given)
    own = {key: value for key, value in get_options().items() if value is not None}
    return {**own, **given}


def _lent(connection: Any) -> Any:
    """A connection to insert the job on; kombu's, which Celery takes here, is none."""
    if type(connection).__module__.startswith("kombu."):
        return None
    return connection


def _pauses(policy: Mapping[str, Any]) -> tuple[float, ...]:
    """The waits between tries that a retry policy of kombu's stands for."""
    tries = policy.get("max_retries", 3)
    # Celery reads None as "for ever"; a request that hangs for ever helps nobody.
    count = 100 if tries is None else int(tries)
    start = float(policy.get("interval_start", 0) or 0)
    step = float(policy.get("interval_step", 0.2) or 0)
    most = float(policy.get("interval_max", 1) or 0)
    return tuple(min(start + step * number, most) for number in range(count))


def _unreachable(error: Exception, retries: int) -> Exception:
    from pgtasks.exceptions import OperationalError

    tries = f", tried {retries + 1} times" if retries else ""
    failed: Exception = OperationalError(f"The job could not be sent{tries}: {error}")
    return failed


def _tell(request: _Request) -> None:
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
