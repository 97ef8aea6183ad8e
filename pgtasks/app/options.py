"""What a caller says about one job: checked, completed, and brought into a row's terms."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Mapping
from datetime import date, datetime, timedelta, timezone
from numbers import Real
from typing import Any

from pgtasks import serialization, signals
from pgtasks.utils.functional import maybe_list
from pgtasks.utils.ids import time_ordered_uuid
from pgtasks.utils.saferepr import saferepr
from pgtasks.utils.time import maybe_iso8601

__all__ = ["OMITTED", "Draft", "accepted", "check_accepted", "check_name"]

#: Stands for an option that was not given, where None means something.
OMITTED: Any = type("_Omitted", (), {"__repr__": lambda self: "<not given>"})()

#: Keys of the headers of Celery's messages; a caller's headers cannot take their place.
RESERVED = frozenset(
    (
        "lang", "task", "id", "shadow", "eta", "expires", "group", "group_index", "retries",
        "timelimit", "root_id", "parent_id", "argsrepr", "kwargsrepr", "origin",
        "ignore_result", "replaced_task_nesting", "stamped_headers", "stamps",
    )
)  # fmt: skip

#: How a broker is to be told, which has no meaning for a row.
_BROKERS = (
    "exchange", "exchange_type", "routing_key", "delivery_mode", "declare", "immediate",
    "mandatory", "expiration",
)  # fmt: skip

#: Years that every part of the house can read; PostgreSQL's own go far beyond.
_FIRST_YEAR, _LAST_YEAR = 1, 9998


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

    def __init__(
        self, name: str, args: Any, kwargs: Any, given: dict[str, Any], naive_zone: Any
    ) -> None:
        self.name = name
        self.args = args or ()
        self.kwargs = kwargs or {}
        _check_arguments(self.args, self.kwargs)
        take = given.pop
        self.task_id = _task_id(take("task_id", None))
        self.queue = _queue(take("queue"))
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
        self._set_due(take("countdown", None), take("eta", None), naive_zone)
        expires = take("expires", None)
        if expires is not None:
            self._set_expiry(expires, naive_zone)
        self.retries = _count("retries", take("retries", 0), least=0)
        attempts = take("max_attempts", None)
        if attempts is not None:
            self.max_attempts = _count("max_attempts", attempts, least=1)
        self.time_limit = _limit("time_limit", take("time_limit", None))
        self.soft_time_limit = _limit("soft_time_limit", take("soft_time_limit", None))
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
        self.headers = _headers(take("headers", None))
        self.argsrepr = take("argsrepr", None)
        self.kwargsrepr = take("kwargsrepr", None)
        self.reply_to = take("reply_to", None) or None
        self.correlation_id = take("correlation_id", None)
        self.replaced_task_nesting = take("replaced_task_nesting", 0)
        self.meta = take("meta", None)
        self.tags = _tags(take("tags", None))
        self.stamped_headers = take("stamped_headers", None)
        if self.stamped_headers is not None:
            stamped = maybe_list(self.stamped_headers)
            self.stamps = {key: take(key) for key in stamped if key in given}

    # ── when ────────────────────────────────────────────────────────────────────────────

    def _set_due(self, countdown: Any, eta: Any, naive_zone: Any) -> None:
        if isinstance(countdown, timedelta):
            countdown = countdown.total_seconds()
        if countdown is not None:
            seconds = _seconds("countdown", countdown)
            if seconds:
                # As an interval, never as a time of this machine: the clock of the
                # database is the only one that counts.
                self.delay = seconds if seconds > 0 else None
                return
        if eta is not None:
            self.eta = _moment("eta", eta, naive_zone).isoformat()

    def _set_expiry(self, expires: Any, naive_zone: Any) -> None:
        if isinstance(expires, timedelta):
            expires = expires.total_seconds()
        if isinstance(expires, Real):
            self.expires_in = _seconds("expires", expires)
        else:
            self.expires = _moment("expires", expires, naive_zone).isoformat()

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
            "replaced_task_nesting", "stamped_headers", "stamps",
        ):  # fmt: skip
            value = getattr(self, name)
            if value:
                found[name] = value
        return serialization.dumps(found) if found else None

    def embed_text(self) -> str | None:
        """The column ``embed``: what the job leads to."""
        found: dict[str, Any] = {}
        if self.link:
            found["callbacks"] = self.link
        if self.errbacks:
            found["errbacks"] = self.errbacks
        if self.chain:
            found["chain"] = self.chain
        if self.chord:
            found["chord"] = self.chord
        return serialization.dumps(found) if found else None

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
            "chain": self.chain,
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
            key: value for key, value in headers.items() if key not in RESERVED
        } or None
        self.properties = {
            key: value
            for key, value in properties.items()
            if key not in ("correlation_id", "reply_to", "priority") and value is not None
        }
        changed = {key for key in RESERVED if headers.get(key) != before.get(key)}
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


# ── single values ───────────────────────────────────────────────────────────────────────


def _check_arguments(args: Any, kwargs: Any) -> None:
    if not isinstance(args, (list, tuple)):
        raise TypeError(f"task args must be a list or tuple, not {type(args).__name__}")
    if type(kwargs) is not dict and not isinstance(kwargs, Mapping):
        raise TypeError(
            f"task keyword arguments must be a mapping, not {type(kwargs).__name__}"
        )
    for key in kwargs:
        if not isinstance(key, str):
            raise TypeError(f"task keyword arguments must have text as keys, not {key!r}")


def check_name(name: Any) -> None:
    """Refuse what cannot be the name of a task."""
    if not isinstance(name, str):
        raise TypeError(f"The name of a task is a text, not {name!r}.")
    if not name:
        raise ValueError("A task needs a name, and '' is none.")
    _check_text("The name of a task", name, 255)


def _task_id(task_id: Any) -> str:
    if not task_id:
        return time_ordered_uuid()
    text = task_id if isinstance(task_id, str) else str(task_id)
    _check_text("A task_id", text, 255)
    return text


def _queue(queue: str) -> str:
    # Length in bytes: 128 of them fit into one notification with room to spare.
    if not queue.isascii() or len(queue) > 100 or not queue.isprintable():
        _check_text("The name of a queue", queue, 128)
    if not queue.strip():
        raise ValueError(f"queue={queue!r}: the name of a queue must not be blank.")
    return queue


def _check_text(what: str, text: str, most: int) -> None:
    if "\x00" in text:
        raise ValueError(f"{what} cannot contain a NUL character: {text!r}")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise ValueError(f"{what} must be valid Unicode, and {text!r} is not.") from None
    if size > most:
        raise ValueError(
            f"{what} may take {most} bytes at most, and {text[:60]!r}… takes {size}."
        )


def _seconds(what: str, value: Any) -> float:
    if not isinstance(value, Real):
        raise TypeError(
            f"{what}={value!r}: give a number of seconds, not {type(value).__name__}."
        )
    seconds = float(value)
    if not math.isfinite(seconds):
        raise ValueError(f"{what}={value!r}: it must be a finite number of seconds.")
    if abs(seconds) > 250_000_000_000 or _year_in(seconds) > _LAST_YEAR:
        raise ValueError(
            f"{what}={value!r} is out of range: it leads to a year beyond {_LAST_YEAR}. "
            f"It is in seconds, not in milliseconds."
        )
    return seconds


def _year_in(seconds: float) -> float:
    return date.today().year + seconds / 31_556_952 if seconds > 0 else _FIRST_YEAR


def _moment(what: str, given: Any, naive_zone: Any) -> datetime:
    value: datetime | str | None = given
    if isinstance(value, str):
        try:
            value = maybe_iso8601(value)
        except ValueError as error:
            raise ValueError(
                f"{what}={value!r} is no date: write it as ISO 8601, for instance "
                f"'2030-12-31T23:59:00+00:00'. ({error})"
            ) from error
    if not isinstance(value, datetime):
        raise TypeError(
            f"{what}={value!r}: give a datetime or its ISO 8601 text, not "
            f"{type(value).__name__}."
        )
    if value.tzinfo is None:
        value = value.replace(tzinfo=naive_zone or timezone.utc)
    if not _FIRST_YEAR < value.year <= _LAST_YEAR:
        raise ValueError(
            f"{what}={value} is out of range: years 2 to {_LAST_YEAR} can be used."
        )
    return value


def _count(what: str, value: Any, *, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{what}={value!r}: it must be a whole number.")
    if not least <= value < 2**31:
        raise ValueError(f"{what}={value!r} is out of range: it must be {least} or more.")
    return value


def _limit(what: str, value: Any) -> float | None:
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if value is None or value == 0:
        return None
    seconds = _seconds(what, value)
    if seconds < 0:
        raise ValueError(f"{what}={value!r}: it must be a positive number of seconds.")
    return seconds


def _headers(headers: Any) -> dict[str, Any] | None:
    if not headers:
        return None
    if not isinstance(headers, Mapping):
        raise TypeError(f"headers must be a mapping, not {type(headers).__name__}")
    return {
        str(key): value for key, value in headers.items() if key not in RESERVED
    } or None


def _tags(tags: Any) -> list[str] | None:
    if tags is None:
        return None
    listed: list[str] = list(maybe_list(tags))
    for tag in listed:
        if not isinstance(tag, str):
            raise TypeError(f"tags={tags!r}: they must be texts.")
    return listed


# ── what may be sent ────────────────────────────────────────────────────────────────────


def accepted(content: Collection[str] | None) -> frozenset[str]:
    """The MIME types that the setting ``accept_content`` lists, by name or MIME type."""
    names = set(content or ())
    if names <= {"json", serialization.JSON}:
        return frozenset({serialization.JSON}) if names else frozenset()
    from kombu.serialization import prepare_accept_content

    return frozenset(prepare_accept_content(names))


def check_accepted(content_type: str, accept: frozenset[str], serializer: str) -> None:
    """Refuse to send what this application refuses to read.

    Raises:
        ContentDisallowed: The content type is not among ``accept``.
    """
    if content_type in accept:
        return
    from pgtasks.exceptions import ContentDisallowed

    raise ContentDisallowed(
        f"serializer={serializer!r} writes {content_type}, which accept_content does not "
        f"list, so that workers would refuse the job. Add {serializer!r} to it, or choose "
        f"another serializer."
    )
