"""What a caller says about one job: checked, completed, and brought into a row's terms."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from numbers import Real
from typing import Any

from pgtasks import serialization, signals
from pgtasks.app import values
from pgtasks.app.batch import HeaderResults, starts_with_results
from pgtasks.app.embed import Links, chord_of, slim, stub, write
from pgtasks.utils.functional import maybe_list
from pgtasks.utils.saferepr import saferepr

__all__ = ["OMITTED", "Draft"]

#: Stands for an option that was not given, where None means something.
OMITTED: Any = type("_Omitted", (), {"__repr__": lambda self: "<not given>"})()

#: How a broker is to be told, which has no meaning for a row.
_BROKERS = (
    "exchange", "exchange_type", "routing_key", "delivery_mode", "declare", "immediate",
    "mandatory", "expiration",
)  # fmt: skip


class Draft:
    """One call, while its row is being made.

    Args:
        name: Name of the task.
        args: Positional arguments.
        kwargs: Keyword arguments.
        given: Options that are not None, with the queue's name among them.
        naive_zone: The zone of dates that have none; None is UTC.

    Raises:
        TypeError: Something is of the wrong type.
        ValueError: Something is out of range.
    """

    # What most calls do not say costs nothing.
    delay: float | None = None
    eta: str | None = None
    expires_in: float | None = None
    expires: str | None = None
    retries: int = 0
    max_attempts: int | None = None
    time_limit: float | None = None
    soft_time_limit: float | None = None
    group_id: str | None = None
    group_index: int | None = None
    origin: str | None = None
    link: Any = None
    errbacks: Any = None
    chain: Any = None
    chord: Any = None
    headers: dict[str, Any] | None = None
    shadow: str | None = None
    argsrepr: str | None = None
    kwargsrepr: str | None = None
    reply_to: str | None = None
    correlation_id: str | None = None
    replaced_task_nesting: int = 0
    stamped_headers: Any = None
    stamps: dict[str, Any] | None = None
    meta: Any = None
    tags: list[str] | None = None
    retry_policy: dict[str, Any] | None = None
    awaits: str | None = None
    header: dict[str, Any] | None = None
    alone: str | None = None

    def __init__(
        self, name: str, args: Any, kwargs: Any, given: dict[str, Any], naive_zone: Any
    ) -> None:
        self.name = name
        self.args = args or ()
        self.kwargs = kwargs or {}
        values.check_arguments(self.args, self.kwargs)
        take = given.pop
        self.task_id = values.as_task_id(take("task_id", None))
        self.queue = values.as_queue(take("queue"))
        self.ignore_result = take("ignore_result", None)
        for key in _BROKERS:
            given.pop(key, None)
        self.serializer = take("serializer", None)
        self.compression = take("compression", None)
        self.root_id = take("root_id", None)
        self.parent_id = take("parent_id", None)
        self.properties = given
        if given:
            self._take_the_rest(given, naive_zone)

    def _take_the_rest(self, given: dict[str, Any], naive_zone: Any) -> None:
        """Read the rarer options; what is left over is the caller's own."""
        take = given.pop
        self._set_due(
            _one_of(given, "countdown", "schedule_in"),
            _one_of(given, "eta", "scheduled_at"),
            naive_zone,
        )
        expires = take("expires", None)
        if expires is not None:
            self._set_expiry(expires, naive_zone)
        self.retries = values.as_count("retries", take("retries", 0), least=0)
        attempts = take("max_attempts", None)
        if attempts is not None:
            self.max_attempts = values.as_count("max_attempts", attempts, least=1)
        self.time_limit = values.as_limit("time_limit", take("time_limit", None))
        self.soft_time_limit = values.as_limit(
            "soft_time_limit", take("soft_time_limit", None)
        )
        if (
            self.time_limit
            and self.soft_time_limit
            and self.soft_time_limit > self.time_limit
        ):
            warnings.warn(
                f"soft_time_limit={self.soft_time_limit} is longer than "
                f"time_limit={self.time_limit}, so that it never comes to it.",
                stacklevel=6,
            )
        self.shadow = take("shadow", None)
        self.origin = take("origin", None)
        self.group_id = take("group_id", None)
        self.group_index = take("group_index", None)
        self.link = maybe_list(take("link", None)) or None
        self.errbacks = maybe_list(take("link_error", None)) or None
        self.chain = take("chain", None) or None
        self.chord = take("chord", None) or None
        self.headers = values.as_headers(take("headers", None))
        self.argsrepr = take("argsrepr", None)
        self.kwargsrepr = take("kwargsrepr", None)
        self.reply_to = take("reply_to", None) or None
        self.correlation_id = take("correlation_id", None)
        self.replaced_task_nesting = take("replaced_task_nesting", 0)
        self.meta = take("meta", None)
        self.tags = values.as_tags(take("tags", None))
        self.stamped_headers = take("stamped_headers", None)
        if self.stamped_headers is not None:
            stamped = maybe_list(self.stamped_headers)
            self.stamps = {key: take(key) for key in stamped if key in given}

    # ── work-flows ──────────────────────────────────────────────────────────────────────

    def wait_for(self, header: HeaderResults) -> None:
        """Run when all members of a chord have ended, and be given what they return."""
        self.awaits = header.chord
        taken = starts_with_results(self.args)
        if taken:
            self.args = list(self.args)[1:]
        self.header = {"size": header.size, "taken": taken}

    def counts_in(self) -> str | None:
        """The column ``chord``: where this job's end counts, or that of what follows it."""
        if self.chord:
            return self.group_id
        return chord_of(self.chain[0]) if self.chain else None

    # ── when ────────────────────────────────────────────────────────────────────────────

    def _set_due(self, countdown: Any, eta: Any, naive_zone: Any) -> None:
        if isinstance(countdown, timedelta):
            countdown = countdown.total_seconds()
        if countdown is not None:
            seconds = values.as_seconds("countdown", countdown)
            if seconds:
                # As an interval, never as a time of this machine: the clock of the
                # database is the only one that counts.
                self.delay = seconds if seconds > 0 else None
                return
        if eta is not None:
            self.eta = values.as_moment("eta", eta, naive_zone).isoformat()

    def _set_expiry(self, expires: Any, naive_zone: Any) -> None:
        if isinstance(expires, timedelta):
            expires = expires.total_seconds()
        if isinstance(expires, Real):
            self.expires_in = values.as_seconds("expires", expires)
        else:
            self.expires = values.as_moment("expires", expires, naive_zone).isoformat()

    # ── as JSON ─────────────────────────────────────────────────────────────────────────

    def headers_text(self) -> str | None:
        """The column ``headers``: the caller's, and Celery's rarer ones."""
        found: dict[str, Any] = {}
        if self.headers:
            found["headers"] = self.headers
        if self.properties:
            found["properties"] = self.properties
        for name in (
            "shadow", "argsrepr", "kwargsrepr", "reply_to", "correlation_id",
            "replaced_task_nesting", "stamped_headers", "stamps", "alone",
        ):  # fmt: skip
            value = getattr(self, name)
            if value:
                found[name] = value
        return serialization.dumps(found) if found else None

    def embed_text(self) -> str | None:
        """The column ``embed``: what the job leads to."""
        found: dict[str, Any] = {}
        if self.link:
            found["callbacks"] = slim(self.link)
        if self.errbacks:
            found["errbacks"] = slim(self.errbacks)
        if self.chord:
            found["chord"] = stub(self.chord)
        if self.header:
            found["header"] = self.header
        return write(found, self.chain) if found or self.chain else None

    def meta_text(self) -> str | None:
        """The column ``meta``."""
        if self.meta is None:
            return None
        if not isinstance(self.meta, Mapping):
            raise TypeError(f"meta={self.meta!r}: it must be a dict.")
        return serialization.dumps(self.meta)

    # ── as Celery's message, for signals ────────────────────────────────────────────────

    def as_told(self, origin: str) -> dict[str, Any]:
        """The arguments of the publishing signals."""
        eta = self.eta
        now = datetime.now(timezone.utc)
        if self.delay is not None:
            eta = (now + timedelta(seconds=self.delay)).isoformat()
        expires = self.expires
        if self.expires_in is not None:
            expires = (now + timedelta(seconds=self.expires_in)).isoformat()
        headers = {
            "lang": "py",
            "task": self.name,
            "id": self.task_id,
            "shadow": self.shadow,
            "eta": eta,
            "expires": expires,
            "group": self.group_id,
            "group_index": self.group_index,
            "retries": self.retries,
            "timelimit": [self.time_limit, self.soft_time_limit],
            "root_id": self.root_id or self.task_id,
            "parent_id": self.parent_id,
            "argsrepr": self.argsrepr or saferepr(self.args, 1024),
            "kwargsrepr": self.kwargsrepr or saferepr(self.kwargs, 1024),
            "origin": self.origin or origin,
            "ignore_result": self.ignore_result,
            "replaced_task_nesting": self.replaced_task_nesting,
            "stamped_headers": self.stamped_headers,
            "stamps": self.stamps or {},
            **(self.headers or {}),
        }
        embed = {
            "callbacks": self.link,
            "errbacks": self.errbacks,
            "chain": self.chain.read() if isinstance(self.chain, Links) else self.chain,
            "chord": self.chord,
        }
        return {
            "body": (self.args, self.kwargs, embed),
            "exchange": "",
            "routing_key": self.queue,
            "headers": headers,
            "properties": {
                "correlation_id": self.correlation_id or self.task_id,
                "reply_to": self.reply_to or "",
                **self.properties,
            },
            "declare": [],
        }

    def tell(
        self, priority: Any, origin: str, policy: dict[str, Any] | None
    ) -> dict[str, Any]:
        """Send ``before_task_publish``, and take over what its receivers change."""
        told = self.as_told(origin)
        self.retry_policy = dict(policy or {})
        headers, properties = told["headers"], told["properties"]
        before = dict(headers)
        properties["priority"] = priority
        signals.before_task_publish.send(
            sender=self.name, **told, retry_policy=self.retry_policy
        )
        self.args, self.kwargs, embed = told["body"]
        self.link, self.errbacks = embed.get("callbacks"), embed.get("errbacks")
        self.chain, self.chord = embed.get("chain"), embed.get("chord")
        self.headers = {
            key: value for key, value in headers.items() if key not in values.RESERVED
        } or None
        self.properties = {
            key: value
            for key, value in properties.items()
            if key not in ("correlation_id", "reply_to", "priority") and value is not None
        }
        changed = {key for key in values.RESERVED if headers.get(key) != before.get(key)}
        if "eta" in changed:
            self._set_due(None, headers["eta"], None)
            self.delay = None
        if "expires" in changed:
            self.expires_in = self.expires = None
            if headers["expires"] is not None:
                self._set_expiry(headers["expires"], None)
        if "timelimit" in changed:
            self.time_limit, self.soft_time_limit = headers["timelimit"] or (None, None)
        for key in changed & _TAKEN_AS_THEY_ARE:
            setattr(self, key, headers[key])
        return told


_TAKEN_AS_THEY_ARE = {
    "shadow", "retries", "root_id", "parent_id", "argsrepr", "kwargsrepr", "ignore_result",
    "replaced_task_nesting", "stamped_headers", "stamps",
}  # fmt: skip


def _one_of(given: dict[str, Any], name: str, other: str) -> Any:
    """Take an option that has two names: Celery's and Oban's.

    Raises:
        TypeError: Both are given, and they differ.
    """
    value, again = given.pop(name, None), given.pop(other, None)
    if again is None or value == again:
        return value
    if value is not None:
        raise TypeError(
            f"{name}={value!r} and {other}={again!r} say the same thing in two ways: give "
            f"one of them."
        )
    return again
