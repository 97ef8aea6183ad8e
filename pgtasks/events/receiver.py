"""The receiving side of events: calls handlers with what workers and clients tell."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from operator import itemgetter
from typing import Any

from pgtasks.app import app_or_default
from pgtasks.app.connection import keeps_jobs_in_memory
from pgtasks.events.event import get_exchange
from pgtasks.exceptions import ImproperlyConfigured
from pgtasks.utils.time import adjust_timestamp

__all__ = ["CLIENT_CLOCK_SKEW", "EventReceiver"]

CLIENT_CLOCK_SKEW = -1
"""How much earlier on the logical clock a client's event counts than its worker's answer."""

_TZGETTER = itemgetter("utcoffset", "timestamp")

TURN = 1.0
"""Seconds after which a receiver looks whether it is to stop."""


class EventQueue:
    """What Celery's receivers have as a queue of their own: here a name.

    Args:
        name: The name.
        declare: Begins to listen.
        exclusive: Shown, as it would be of a queue.
        durable: Likewise.
    """

    def __init__(
        self,
        name: str,
        declare: Callable[[], None],
        *,
        exclusive: bool = False,
        durable: bool = False,
    ) -> None:
        self.name = name
        self.exclusive, self.durable = exclusive, durable
        self.auto_delete = not durable
        self._declare = declare

    def __call__(self, channel: Any) -> EventQueue:
        """Itself: there is nothing to be bound to."""
        return self

    def declare(self, **options: Any) -> str:
        """Have events kept from now on, before they are captured."""
        self._declare()
        return self.name


class EventReceiver:
    """Captures events.

    From the moment that it begins to, all events are kept for it, and for any other one, so
    that it goes on where it was when the connection is lost, when a handler raises, and
    when `capture` is called again within ``queue_expires`` seconds::

        with app.connection() as connection:
            receiver = app.events.Receiver(connection, handlers={"task-failed": tell})
            receiver.capture()

    Args:
        channel: A connection, or what one gives as a channel; it leads to the
            application's database.
        handlers: What to call with each event, by its type; ``*`` is called for the types
            that are not named.
        routing_key: Which types are wanted: ``task.#``, ``worker.*``, ``#`` for all.
        node_id: Its name; a random one by default.
        app: The application.
        queue_prefix: Goes before the name; the setting ``event_queue_prefix`` by default.
        accept: Accepted: events are JSON.
        queue_ttl: Accepted: events that nobody reads are kept for ``queue_expires``.
        queue_expires: Seconds that events are kept while it does not read; the setting
            ``event_queue_expires`` by default.
        queue_exclusive: Accepted from Celery.
        queue_durable: Accepted from Celery.

    Raises:
        ImproperlyConfigured: Both ``queue_exclusive`` and ``queue_durable`` are wanted.
    """

    app: Any = None
    #: Set it to have `capture` return within a second.
    should_stop = False

    def __init__(
        self,
        channel: Any,
        handlers: Mapping[str, Callable[..., Any]] | None = None,
        routing_key: str = "#",
        node_id: str | None = None,
        app: Any = None,
        queue_prefix: str | None = None,
        accept: Any = None,
        queue_ttl: float | None = None,
        queue_expires: float | None = None,
        queue_exclusive: bool | None = None,
        queue_durable: bool | None = None,
    ) -> None:
        from pgtasks.utils import uuid

        self.app = app_or_default(app or self.app)
        conf = self.app.conf
        if queue_exclusive is None:
            queue_exclusive = bool(conf.event_queue_exclusive)
        if queue_durable is None:
            queue_durable = bool(conf.event_queue_durable)
        if queue_exclusive and queue_durable:
            raise ImproperlyConfigured(
                "A receiver's queue cannot be both exclusive and durable: leave one away "
                "(event_queue_exclusive, event_queue_durable)."
            )
        self.channel = channel
        self.handlers: Any = {} if handlers is None else handlers
        self.routing_key = routing_key
        self.node_id = node_id or uuid()
        self.queue_prefix = queue_prefix or conf.event_queue_prefix
        self.accept = {conf.event_serializer, "json"} if accept is None else accept
        if queue_expires is None:
            queue_expires = conf.event_queue_expires
        self._lifetime = float(queue_expires or 60.0)
        self.queue = EventQueue(
            f"{self.queue_prefix}.{self.node_id}",
            self._join,
            exclusive=queue_exclusive,
            durable=queue_durable,
        )
        self.clock = self.app.clock
        self.adjust_clock = self.clock.adjust
        self.forward_clock = self.clock.forward
        self._wants = _chooser(routing_key)
        #: Read, and not yet handled.
        self._waiting: deque[dict[str, Any]] = deque()
        if keeps_jobs_in_memory(self.app):
            # It costs nothing to keep events from here on.
            self._join()

    @property
    def connection(self) -> Any:
        """What was given as a connection."""
        return self.channel

    @cached_property
    def exchange(self) -> Any:
        """The exchange that Celery's events travel through."""
        connection = self.channel or self.app.connection_for_write()
        return get_exchange(connection, name=self.app.conf.event_exchange)

    @cached_property
    def _feed(self) -> Any:
        if keeps_jobs_in_memory(self.app):
            from pgtasks.events.memory import MemoryFeed

            return MemoryFeed(self.app)
        from pgtasks.events.feed import Feed

        return Feed(self.app, name=self.queue.name, lifetime=self._lifetime)

    @property
    def behind(self) -> float:
        """Seconds that the last events had waited when they were read."""
        return float(self._feed.behind)

    def _join(self) -> None:
        self._feed.join("")

    # ── capturing ───────────────────────────────────────────────────────────────────────

    def capture(
        self, limit: int | None = None, timeout: float | None = None, wakeup: bool = True
    ) -> None:
        """Call the handlers with events, until told to stop.

        A lost connection is waited for. What a handler raises comes out of here; the next
        call goes on behind that event.

        Args:
            limit: Return after so many events.
            timeout: Seconds without any after which it is given up.
            wakeup: Ask the workers for a heartbeat first.

        Raises:
            TimeoutError: Nothing came for ``timeout`` seconds.
            OperationalError: The database is away when it begins.
        """
        for _ in self.consume(limit=limit, timeout=timeout, wakeup=wakeup):
            pass

    def itercapture(
        self, limit: int | None = None, timeout: float | None = None, wakeup: bool = True
    ) -> Iterator[None]:
        """`capture` as an iterator, which goes on by one event at a time."""
        return self.consume(limit=limit, timeout=timeout, wakeup=wakeup)

    def consume(
        self,
        limit: int | None = None,
        timeout: float | None = None,
        safety_interval: float = TURN,
        wakeup: bool = True,
        **kwargs: Any,
    ) -> Iterator[None]:
        """See `itercapture`.

        Args:
            limit: As of `capture`.
            timeout: As of `capture`.
            safety_interval: Seconds between looks at ``should_stop``.
            wakeup: As of `capture`.
            **kwargs: Handed to `on_consume_ready`.
        """
        self._join()
        self.on_consume_ready(self.connection, self.channel, [], wakeup=wakeup, **kwargs)
        taken, heard_at = 0, time.monotonic()
        try:
            while not self.should_stop and (not limit or taken < limit):
                self.on_iteration()
                if not self._waiting:
                    pause = (
                        safety_interval
                        if timeout is None
                        else min(safety_interval, timeout)
                    )
                    self._waiting += self._feed.read(pause)
                if not self._waiting:
                    if timeout and time.monotonic() - heard_at >= timeout:
                        # Python's TimeoutError, by the name that Celery's users catch.
                        raise TimeoutError("timed out")
                    continue
                self._feed.renew()
                event = self._waiting.popleft()
                if self._wants(event.get("type", "")):
                    self._receive(event, None)
                    heard_at = time.monotonic()
                    taken += 1
                    yield
        finally:
            self._feed.rest()

    def on_iteration(self) -> None:
        """Called before each event; for subclasses."""

    def on_consume_ready(
        self,
        connection: Any,
        channel: Any,
        consumers: Any,
        wakeup: bool = True,
        **kwargs: Any,
    ) -> None:
        """Called when events are kept from now on."""
        if wakeup:
            self.wakeup_workers(channel=channel)

    def wakeup_workers(self, channel: Any = None) -> None:
        """Ask the workers for a heartbeat."""
        self._feed.wake("heartbeat")

    def close(self) -> None:
        """Have no more events kept. Not called, they are for ``queue_expires`` seconds."""
        self._feed.leave()

    # ── handling ────────────────────────────────────────────────────────────────────────

    def process(self, type: str, event: Any) -> None:
        """Call the handler of an event."""
        handler = self.handlers.get(type) or self.handlers.get("*")
        if handler:
            handler(event)

    def event_from_message(
        self,
        body: dict[str, Any],
        localize: bool = True,
        now: Callable[[], float] = time.time,
        tzfields: Callable[..., Any] = _TZGETTER,
        adjust_timestamp: Callable[..., float] = adjust_timestamp,
        CLIENT_CLOCK_SKEW: int = CLIENT_CLOCK_SKEW,
    ) -> tuple[str, dict[str, Any]]:
        """Bring an event's clock in line with ours; the answer has its type.

        Args:
            body: The event; it is changed.
            localize: Accepted: its moment is one whatever the time zones of machines are.
            now: Gives the moment of its arrival.
            tzfields: Accepted.
            adjust_timestamp: Accepted.
            CLIENT_CLOCK_SKEW: Where a client's event stands in the order.
        """
        type = body["type"]
        if type == "task-sent":
            # It is to come before all that is told of the task.
            clock = body["clock"] = (self.clock.value or 1) + CLIENT_CLOCK_SKEW
            self.adjust_clock(clock)
        elif body.get("clock") is None:
            body["clock"] = self.forward_clock()
        else:
            self.adjust_clock(body["clock"])
        body["local_received"] = now()
        return type, body

    def _receive(self, body: Any, message: Any) -> None:
        for event in body if isinstance(body, list) else [body]:
            self.process(*self.event_from_message(event))


def _chooser(routing_key: str) -> Callable[[str], bool]:
    """Tells by the type of an event whether a routing key of topics means it."""
    if routing_key == "#":
        return lambda type: True
    words = re.escape(routing_key).replace(r"\#", "#").replace(r"\*", "[^.]*")
    words = words.replace(r"\.#", r"(\..*)?").replace("#", ".*")
    pattern = re.compile(words)
    return lambda type: pattern.fullmatch(type.replace("-", ".")) is not None
