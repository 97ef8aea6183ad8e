"""Rows of calls that repeat: made by the mould of the call before."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, timedelta
from typing import Any, NamedTuple

from pgtasks import serialization, signals
from pgtasks.app import batch, options, values
from pgtasks.app.compose import Composer, Request
from pgtasks.job import NewJob, is_keyed

__all__ = ["Mould", "MouldingComposer"]


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


class MouldingComposer(Composer):
    """A composer that remembers what the last call had in common with the one before."""

    def __init__(self, app: Any) -> None:
        self._last: Mould | None = None
        super().__init__(app)

    def _settings_changed(self, changed: Any) -> None:
        super()._settings_changed(changed)
        self._last = None

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
            from pgtasks.app.unique_key import key_of

            job, task = request.job, mould.given.get("task_type")
            task = task or self.app._tasks.get(mould.name)
            job.unique_key = key_of(
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


#: Of these, equal is the same for ever. A dict of headers may be another one by the next
#: call and yet be the very object, and a connection must not be held.
_FIXED = (type(None), str, int, float, bytes, date, timedelta, type(options.OMITTED))
_OURS = frozenset(("task_type", "result_cls", "chord"))


def _is_fixed(given: Mapping[str, Any]) -> bool:
    """Whether options that are equal to these mean the same."""
    return all(isinstance(value, _FIXED) or key in _OURS for key, value in given.items())
