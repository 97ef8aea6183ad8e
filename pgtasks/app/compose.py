"""Makes rows of calls: the task's defaults, its route and the call's options."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, timedelta
from functools import cache
from typing import Any, NamedTuple

from pgtasks import serialization, signals
from pgtasks.app import batch, options, values
from pgtasks.app.connection import keeps_jobs_in_memory, runs_high_priority_first
from pgtasks.app.embed import seal
from pgtasks.app.priority import stored as stored_priority
from pgtasks.exceptions import AlwaysEagerIgnored, PayloadTooLarge
from pgtasks.job import NewJob, is_keyed
from pgtasks.utils.nodenames import anon_nodename

__all__ = ["Composer", "Mould", "Request", "lent"]

logger = logging.getLogger("celery.app.publish")

_SPECIAL = (
    "router", "route_name", "result_cls", "task_type", "producer", "publisher",
    "connection", "event_dispatcher", "add_to_parent", "retry", "retry_policy", "timeout",
    "confirm_timeout",
)  # fmt: skip


class Request(NamedTuple):
    """One task to send, in two parts: the job, and what is done about it."""

    job: NewJob
    result_cls: Any
    ignored: bool | None
    parent: Any
    add_to_parent: bool
    #: As it was given: a connection, None for our own, OMITTED for what holds here.
    connection: Any
    patience: tuple[float, ...]
    durable: bool
    #: Arguments of ``after_task_publish``, if anybody hears them.
    told: dict[str, Any] | None
    #: What makes it the same as another, if that matters.
    rule: Any = None


class Mould(NamedTuple):
    """A call that the next ones may differ from in their arguments, ids and places only."""

    name: str
    given: dict[str, Any]
    header: Any
    request: Request
    serializer: str
    compression: str | None
    fixed: int
    room: int
    upto_index: tuple[Any, ...]
    behind_index: tuple[Any, ...]

    def cast(
        self, payload: serialization.Payload, task_id: str | None, index: int | None
    ) -> Request:
        """The same call with other arguments."""
        first = self.request.job
        fields: tuple[Any, ...] = (
            self.name,
            values.as_task_id(task_id),
            first.queue,
            first.priority,
            payload.args,
            payload.kwargs,
            payload.body,
            payload.content_type,
            payload.content_encoding,
            *self.upto_index,
            index,
            *self.behind_index,
        )
        return self.request._replace(job=NewJob(*fields))


class Composer:
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
        self._last: Mould | None = None
        app.conf.bind_to(self._settings_changed)

    def _settings_changed(self, changed: Any) -> None:
        self._read = False
        self._last = None

    def _read_settings(self) -> None:
        conf = self.conf
        self.in_memory = keeps_jobs_in_memory(self.app)
        self.high_first = runs_high_priority_first(self.app)
        self.inherits_priority = conf.task_inherit_parent_priority
        self.always_eager = conf.task_always_eager
        self.serializer = conf.task_serializer
        self.compression = conf.task_compression
        self.accept = values.accepted(conf.accept_content)
        self.body_max_size = conf.task_body_max_size
        self.body_warn_size = conf.task_body_warn_size
        #: From here on there is something to say about the size of a call.
        self.noted_size = min(self.body_max_size or 2**62, self.body_warn_size or 2**62)
        self.naive_zone = None if conf.enable_utc else self.app.timezone
        self.durable = values.is_durable(conf.task_default_delivery_mode)
        self.retry = conf.task_publish_retry
        self.policy = dict(conf.task_publish_retry_policy or {})
        self.pauses = _pauses(self.policy) if self.retry else ()
        self._read = True

    def compose(
        self, name: str, args: Any, kwargs: Any, given: Mapping[str, Any]
    ) -> Request:
        """Make the row of one call."""
        if not self._read:
            self._read_settings()
        app = self.app
        values.check_name(name)
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
        rule = _rule(task_type, left)
        attempts = getattr(task_type, "max_attempts", None)
        if attempts is not None:
            left.setdefault("max_attempts", attempts)
        router = special.get("router") or app.amqp.router
        left = router.destination(
            left, special.get("route_name") or name, args, kwargs, task_type
        )

        mode = left.get("delivery_mode")
        parent = app.current_worker_task
        priority = left.pop("priority", None)
        if parent is not None:
            inherited = parent.request
            left.setdefault("root_id", inherited.root_id or inherited.id)
            left.setdefault("parent_id", inherited.id)
            if priority is None and self.inherits_priority:
                priority = (inherited.delivery_info or {}).get("priority")

        if left.get("reply_to") == app.thread_oid:
            # This thread reads results from their rows; no message says where to send them.
            del left["reply_to"]
        draft = options.Draft(name, args, kwargs, left, self.naive_zone)
        waits_for = batch.awaited()
        if waits_for is not None:
            draft.wait_for(waits_for)
        told = None
        policy = special.get("retry_policy")
        if signals.before_task_publish.receivers or signals.after_task_publish.receivers:
            policy = {**self.policy, **(policy or {})}
            told = draft.tell(priority, self.origin, policy)
            if draft.retry_policy != policy:
                policy = draft.retry_policy
        elif signals.task_sent.receivers:
            told = draft.as_told(self.origin)
        key = None
        if rule is not None:
            key = _unique().key_of(
                rule, task_type, name, draft.args, draft.kwargs, draft.queue, draft.meta
            )
            if rule.document is None:
                draft.alone = key
        job = self._row(draft, priority)
        if rule is not None and rule.document is not None:
            _make_unique(job, key, rule, others_wait=bool(draft.chain or draft.chord))
        limits = getattr(task_type, "limits", None)
        if limits is not None:
            # The results that the body of a chord begins with are still to come.
            taken = draft.header is not None and draft.header["taken"]
            job.limits = limits.gates(
                [None, *draft.args] if taken else draft.args, draft.kwargs
            )

        retry = special.get("retry")
        pauses = self.pauses
        if retry is False:
            pauses = ()
        elif policy or (retry and not self.retry):
            pauses = _pauses({**self.policy, **(policy or {})})
        return Request(
            job,
            special.get("result_cls"),
            draft.ignore_result,
            parent,
            special.get("add_to_parent", True),
            lent(given.get("connection", options.OMITTED)),
            pauses,
            self.durable if mode is None else values.is_durable(mode),
            told,
            rule,
        )

    def compose_one(
        self, name: str, args: Any, kwargs: Any, given: dict[str, Any]
    ) -> Request:
        """`compose`, by the mould of the call before if this one is of its kind.

        Programs send the same task with the same options again and again. Of the 60 µs
        that a row takes to be made, the mould saves 40.
        """
        if (
            # Of a task that is sent by its name, the options may change meanwhile; what
            # the task that runs here passes on is not among them at all.
            given.get("task_type") is None
            or self.app.current_worker_task is not None
            or not self._repeats()
        ):
            return self.compose(name, args, kwargs, given)
        if self._last is not None and self._pid != os.getpid():
            self._last = None  # A row says which process has sent it.
        request, self._last = self.compose_like(self._last, name, args, kwargs, given)
        return request

    def compose_many(
        self, calls: Iterable[tuple[str, Any, Any, dict[str, Any]]], task_type: Any
    ) -> Iterator[Request]:
        """Make the rows of many calls."""
        mould: Mould | None = None
        like: dict[str, Any] = {}
        for name, args, kwargs, given in calls:
            # Most callers give the same options, or none, a hundred thousand times.
            if mould is not None and mould.name == name and like == given:
                yield self._cast(mould, args, kwargs, None, None)
                continue
            request, mould = self.compose_like(
                mould, name, args, kwargs, {"task_type": task_type, **given}
            )
            yield request
            like = dict(given)
            if "task_id" in given or "group_index" in given:
                like = {"": None}  # which is like nothing

    def compose_like(
        self, mould: Mould | None, name: str, args: Any, kwargs: Any, given: dict[str, Any]
    ) -> tuple[Request, Mould | None]:
        """Make the row of a call, by the mould of the one before if it is of that kind.

        Returns:
            The row, and the mould for the next.
        """
        fixed = dict(given)
        # An attribute of the task that is not among the options.
        fixed["max_attempts of the task"] = getattr(
            given.get("task_type"), "max_attempts", None
        )
        task_id, index = fixed.pop("task_id", None), fixed.pop("group_index", None)
        if fixed.get("unique"):
            fixed["unique"] = repr(fixed["unique"])
        if task_id is options.OMITTED:
            task_id = None
        if (
            mould is not None
            and mould.name == name
            and mould.given == fixed
            and mould.header is batch.awaited()
            and not batch.starts_with_results(args)
        ):
            return self._cast(mould, args, kwargs, task_id, index), mould
        request = self.compose(name, args, kwargs, given)
        repeats = (
            _is_fixed(fixed)
            and self._repeats()
            # What the arguments decide is no part of a mould.
            and not is_keyed(request.job.limits)
            # A signature is for one id.
            and not serialization.is_signed(request.job.content_type)
            # Its headers hold a key.
            and not (request.rule is not None and request.rule.document is None)
        )
        return request, self._mould(name, fixed, request) if repeats else None

    def _cast(
        self, mould: Mould, args: Any, kwargs: Any, task_id: str | None, index: int | None
    ) -> Request:
        args, kwargs = args or (), kwargs or {}
        values.check_arguments(args, kwargs)
        payload = serialization.dump_arguments(
            args, kwargs, mould.serializer, mould.compression
        )
        if payload.size > mould.room:
            self._check_size(mould.name, payload.size + mould.fixed)
        request = mould.cast(payload, task_id, index)
        if request.rule is not None:
            job, task = request.job, mould.given.get("task_type")
            task = task or self.app._tasks.get(mould.name)
            job.unique_key = _unique().key_of(
                request.rule, task, mould.name, args, kwargs, job.queue, None
            )
        return request

    def _mould(self, name: str, fixed: dict[str, Any], request: Request) -> Mould:
        job = request.job
        size = len(job.headers or "") + len(job.embed or "")
        serializer, compression = fixed.get("serializer"), fixed.get("compression")
        return Mould(
            name,
            fixed,
            batch.awaited(),
            request,
            serializer if isinstance(serializer, str) else self.serializer,
            compression if isinstance(compression, str) else self.compression,
            size,
            self.noted_size - size,
            tuple(getattr(job, field) for field in _UPTO_INDEX),
            tuple(getattr(job, field) for field in _BEHIND_INDEX),
        )

    def _repeats(self) -> bool:
        """Whether the same name and options always make the same row but for arguments."""
        heard = (
            signals.before_task_publish.receivers
            or signals.after_task_publish.receivers
            or signals.task_sent.receivers
        )
        # Routers may look at the arguments; what has no effect on an eager app is said
        # each time.
        return not (heard or self.app.amqp.router.routes or self.app.conf.task_always_eager)

    def is_in_memory(self) -> bool:
        """Whether jobs are kept in this process."""
        if not self._read:
            self._read_settings()
        return bool(self.in_memory)

    def _row(self, draft: options.Draft, priority: Any) -> NewJob:
        name = draft.name
        serializer = draft.serializer or self.serializer
        headers, embed = draft.headers_text(), draft.embed_text()
        payload = serialization.dump_arguments(
            draft.args,
            draft.kwargs,
            serializer,
            draft.compression or self.compression,
            seal(name, draft.task_id, embed)
            if serialization.is_signed(serializer)
            else None,
        )
        if payload.content_type not in self.accept:
            values.check_accepted(payload.content_type, self.accept, serializer)
        size = payload.size + len(headers or "") + len(embed or "")
        if size > self.noted_size:
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
            chord=draft.counts_in(),
            awaits=draft.awaits,
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


#: Fields of a `NewJob` behind its payload, before the place in a group and after it.
_UPTO_INDEX = (
    "delay", "eta", "expires_in", "expires", "max_attempts", "retries", "time_limit",
    "soft_time_limit", "ignore_result", "root_id", "parent_id", "group_id",
)  # fmt: skip
_BEHIND_INDEX = (
    "origin", "headers", "embed", "meta", "tags", "unique_key", "chord", "awaits",
    "uniqueness",
    "limits",
)  # fmt: skip


_ABOUT_UNIQUENESS = frozenset(("unique", "replace", "replace_args"))


@cache
def _unique() -> Any:
    # For those who use it.
    return importlib.import_module("pgtasks.app.unique")


def _rule(task: Any, given: dict[str, Any]) -> Any:
    """What makes a call the same as another; most are the same as none."""
    if (
        _ABOUT_UNIQUENESS.isdisjoint(given)
        and getattr(task, "unique", None) is None
        and getattr(task, "unique_replace", None) is None
        and getattr(task, "replace_args", None) is None
    ):
        return None
    return _unique().rule_for(task, given)


def _make_unique(job: NewJob, key: str | None, rule: Any, *, others_wait: bool) -> None:
    """Give a job its key.

    What others wait for goes in whoever has the key: a chord whose member is missing, or a
    chain that has lost a link, could not go on.
    """
    document = rule.document
    if others_wait or job.chord is not None or job.awaits is not None:
        document = {**document, "forced": True}
    if "replaces" in document and serialization.is_signed(job.content_type):
        raise ValueError(
            f"A call of {job.task} is signed for its own id, and cannot replace anything of "
            f"another: leave replace= and replace_args= away, or send it unsigned."
        )
    job.unique_key = key
    job.uniqueness = document


#: Of these, equal is the same for ever. A dict of headers may be another one by the next
#: call and yet be the very object, and a connection must not be held.
_FIXED = (type(None), str, int, float, bytes, date, timedelta, type(options.OMITTED))
_OURS = frozenset(("task_type", "result_cls", "chord"))


def _is_fixed(given: Mapping[str, Any]) -> bool:
    """Whether options that are equal to these mean the same."""
    return all(isinstance(value, _FIXED) or key in _OURS for key, value in given.items())


def _with_defaults_of(task: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Lay the options of a registered task under those of ``send_task``.

    An option that was given as None clears the task's.
    """
    get_options = getattr(task, "_get_exec_options", None)
    if get_options is None:
        return dict(given)
    own = {key: value for key, value in get_options().items() if value is not None}
    return {**own, **given}


def lent(connection: Any) -> Any:
    """A connection to insert the job on; kombu's, which Celery takes here, is none."""
    stands_for_broker = ("kombu.", "pgtasks.app.broker")
    if type(connection).__module__.startswith(stands_for_broker):
        return options.OMITTED
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
