"""Makes rows of calls: the task's defaults, its route and the call's options."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from pgtasks import serialization, signals
from pgtasks.app import batch, options, values
from pgtasks.app.connection import keeps_jobs_in_memory, runs_high_priority_first
from pgtasks.app.embed import seal
from pgtasks.app.priority import stored as stored_priority
from pgtasks.exceptions import AlwaysEagerIgnored, PayloadTooLarge
from pgtasks.job import NewJob
from pgtasks.utils.nodenames import anon_nodename

__all__ = ["Composer", "Request", "lent", "pauses_of"]

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
        self.accept = values.accepted(conf.accept_content)
        self.body_max_size = conf.task_body_max_size
        self.body_warn_size = conf.task_body_warn_size
        #: From here on there is something to say about the size of a call.
        self.noted_size = min(self.body_max_size or 2**62, self.body_warn_size or 2**62)
        self.naive_zone = None if conf.enable_utc else self.app.timezone
        self.durable = values.is_durable(conf.task_default_delivery_mode)
        self.retry = conf.task_publish_retry
        self.policy = dict(conf.task_publish_retry_policy or {})
        self.pauses = pauses_of(self.policy) if self.retry else ()
        self.sends_events = bool(conf.task_send_sent_event)
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
            from pgtasks.app.unique_key import key_of

            key = key_of(
                rule, task_type, name, draft.args, draft.kwargs, draft.queue, draft.meta
            )
            if rule.document is None:
                draft.alone = key
        job = self.row(draft, priority)
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
            pauses = pauses_of({**self.policy, **(policy or {})})
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

    def is_in_memory(self) -> bool:
        """Whether jobs are kept in this process."""
        if not self._read:
            self._read_settings()
        return bool(self.in_memory)

    def row(self, draft: options.Draft, priority: Any) -> NewJob:
        """Write what has been checked and completed as a row; the settings must be read."""
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


_ABOUT_UNIQUENESS = frozenset(("unique", "replace", "replace_args"))


def _rule(task: Any, given: dict[str, Any]) -> Any:
    """What makes a call the same as another; most are the same as none."""
    if (
        _ABOUT_UNIQUENESS.isdisjoint(given)
        and getattr(task, "unique", None) is None
        and getattr(task, "unique_replace", None) is None
        and getattr(task, "replace_args", None) is None
    ):
        return None
    from pgtasks.app.unique import rule_for

    return rule_for(task, given)


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


def pauses_of(policy: Mapping[str, Any]) -> tuple[float, ...]:
    """The waits between tries that a retry policy of kombu's stands for."""
    tries = policy.get("max_retries", 3)
    # Celery reads None as "for ever"; a request that hangs for ever helps nobody.
    count = 100 if tries is None else int(tries)
    start = float(policy.get("interval_start", 0) or 0)
    step = float(policy.get("interval_step", 0.2) or 0)
    most = float(policy.get("interval_max", 1) or 0)
    return tuple(min(start + step * number, most) for number in range(count))
