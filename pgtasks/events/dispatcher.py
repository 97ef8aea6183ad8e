"""The sending side of events."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any

from pgtasks.app import app_or_default
from pgtasks.events.event import Event, get_exchange, group_from
from pgtasks.events.publisher import Publisher
from pgtasks.utils.nodenames import anon_nodename
from pgtasks.utils.time import utcoffset

__all__ = ["EventDispatcher"]

logger = logging.getLogger("celery.events")

MOST_KEPT = 10_000
"""Events that are kept back while they cannot be sent."""


class EventDispatcher:
    """Sends events to whoever listens.

    For example::

        with app.events.default_dispatcher() as dispatcher:
            dispatcher.send("disk-full", volume="/srv")

    Args:
        connection: A connection, which leads to the application's database.
        hostname: Who sends; by default this process.
        enabled: Send, until `disable` is called.
        channel: In place of ``connection``.
        buffer_while_offline: Keep what cannot be sent, and send it before the next event,
            or with `flush`; otherwise `send` raises.
        app: The application.
        serializer: Accepted: events are JSON.
        groups: Send events of these groups only; none means all.
        delivery_mode: Accepted: events are never written to disk before they are read.
        buffer_group: Collect the events of these groups, and send many at once …
        buffer_limit: … namely so many, or those that there are with `flush`.
        on_send_buffered: Called when one was collected.
    """

    #: Transports that carry no events.
    DISABLED_TRANSPORTS = {"sql"}

    app: Any = None
    on_enabled: set[Callable[[], Any]]
    """Called when it is enabled."""
    on_disabled: set[Callable[[], Any]]
    """Called when it is disabled."""

    def __init__(
        self,
        connection: Any = None,
        hostname: str | None = None,
        enabled: bool = True,
        channel: Any = None,
        buffer_while_offline: bool = True,
        app: Any = None,
        serializer: str | None = None,
        groups: Iterable[str] | None = None,
        delivery_mode: int = 1,
        buffer_group: Iterable[str] | None = None,
        buffer_limit: int = 24,
        on_send_buffered: Callable[[], Any] | None = None,
    ) -> None:
        self.app = app_or_default(app or self.app)
        self.channel = channel
        if not connection and channel:
            connection = channel.connection.client
        self.connection = connection
        self.hostname = hostname or anon_nodename()
        self.pid = os.getpid()
        self.clock = self.app.clock
        self.serializer = serializer or self.app.conf.event_serializer
        self.groups = set(groups or ())
        self.delivery_mode = delivery_mode
        self.buffer_while_offline = buffer_while_offline
        self.buffer_group = frozenset(buffer_group or ())
        self.buffer_limit = buffer_limit
        self.on_send_buffered = on_send_buffered
        self.on_enabled, self.on_disabled = set(), set()
        self.headers = {"hostname": self.hostname}
        self.tzoffset = [-time.timezone, -time.altzone]
        self.mutex = threading.RLock()
        self.producer: Any = None
        self._closed = False
        #: Events that could not be sent, and their routing keys.
        self._outbound_buffer: deque[Any] = deque(maxlen=MOST_KEPT)
        self._group_buffer: defaultdict[str, list[Any]] = defaultdict(list)
        leads_to = self.connection or self.app.connection_for_write()
        self.enabled = enabled and (
            leads_to.transport.driver_type not in self.DISABLED_TRANSPORTS
        )
        if self.enabled:
            self.enable()

    def __enter__(self) -> EventDispatcher:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @cached_property
    def exchange(self) -> Any:
        """The exchange that Celery's events travel through."""
        connection = self.connection or self.app.connection_for_write()
        return get_exchange(connection, name=self.app.conf.event_exchange)

    @property
    def publisher(self) -> Any:
        """What it sends with, by its old name."""
        return self.producer

    @publisher.setter
    def publisher(self, publisher: Any) -> None:
        self.producer = publisher

    def enable(self) -> None:
        """Send from now on."""
        channel = self.channel
        if channel is None and self.connection is not None:
            channel = self.connection.default_channel
        self.producer = Publisher(self.app, channel, self.serializer)
        self.enabled, self._closed = True, False
        for callback in self.on_enabled:
            callback()

    def disable(self) -> None:
        """Send no more."""
        if self.enabled:
            self.enabled = False
            self.close()
            for callback in self.on_disabled:
                callback()

    # ── sending ─────────────────────────────────────────────────────────────────────────

    def send(
        self,
        type: str,
        blind: bool = False,
        utcoffset: Callable[[], float] = utcoffset,
        retry: bool = False,
        retry_policy: Mapping[str, Any] | None = None,
        Event: Callable[..., Any] = Event,
        **fields: Any,
    ) -> None:
        """Send an event, if this is enabled and its group wanted.

        Args:
            type: ``group-subject``, such as ``disk-full``.
            blind: Leave the logical clock alone.
            utcoffset: Gives the hours that this machine's clock is west of UTC.
            retry: Try again if the database is away.
            retry_policy: How often, as in ``task_publish_retry_policy``.
            Event: Makes the event.
            **fields: What it tells, in words of JSON.

        Raises:
            OperationalError: It could not be sent, and is not to be kept.
            EncodeError: A field is nothing that JSON could say.
        """
        group = group_from(type)
        if not self.enabled or (self.groups and group not in self.groups):
            return
        collects = group in self.buffer_group
        event = self._event(type, fields, blind and not collects, Event, utcoffset)
        if collects:
            self._collect(group, event)
            return
        with self.mutex:
            # Closed since, by somebody who waits for no more than this.
            if not self._closed and self.producer is not None:
                self._send(event, type.replace("-", "."), retry, retry_policy)

    def _collect(self, group: str, event: Any) -> None:
        with self.mutex:
            collected = self._group_buffer[group]
            collected.append(event)
            is_full = len(collected) >= self.buffer_limit
        if is_full:
            self.flush()
        elif self.on_send_buffered:
            self.on_send_buffered()

    def _send(self, event: Any, routing_key: str, retry: bool, policy: Any) -> None:
        """Send an event, behind those that are kept back."""
        while self._outbound_buffer and self.buffer_while_offline:
            kept, key = self._outbound_buffer[0]
            try:
                self.producer.publish(kept, routing_key=key)
            except Exception:
                # Each try may take long, and the next would fail too.
                self._outbound_buffer.append((event, routing_key))
                return
            self._outbound_buffer.popleft()
        self._publish(event, self.producer, routing_key, retry, policy)

    def publish(
        self,
        type: str,
        fields: Mapping[str, Any],
        producer: Any,
        blind: bool = False,
        Event: Callable[..., Any] = Event,
        utcoffset: Callable[[], float] = utcoffset,
        **kwargs: Any,
    ) -> None:
        """Send an event with a producer, whether this is enabled or not.

        Args:
            type: As of `send`.
            fields: What it tells.
            producer: Its method ``publish`` is called.
            blind: As of `send`.
            Event: As of `send`.
            utcoffset: As of `send`.
            **kwargs: ``retry`` and ``retry_policy`` as of `send`.
        """
        event = self._event(type, fields, blind, Event, utcoffset)
        with self.mutex:
            self._publish(event, producer, routing_key=type.replace("-", "."), **kwargs)

    def _event(
        self,
        type: str,
        fields: Mapping[str, Any],
        blind: bool,
        Event: Callable[..., Any],
        utcoffset: Callable[[], float],
    ) -> Any:
        return Event(
            type,
            hostname=self.hostname,
            utcoffset=utcoffset(),
            pid=self.pid,
            clock=None if blind else self.clock.forward(),
            **fields,
        )

    def _publish(
        self,
        event: Any,
        producer: Any,
        routing_key: str,
        retry: bool = False,
        retry_policy: Mapping[str, Any] | None = None,
    ) -> None:
        try:
            producer.publish(
                event, routing_key=routing_key, retry=retry, retry_policy=retry_policy
            )
        except Exception:
            if not self.buffer_while_offline:
                raise
            self._outbound_buffer.append((event, routing_key))

    def flush(self, errors: bool = True, groups: bool = True) -> None:
        """Send what was kept back.

        Args:
            errors: What could not be sent before.
            groups: What was collected.
        """
        with self.mutex:
            if self._closed:
                return
            if errors:
                kept = list(self._outbound_buffer)
                self._outbound_buffer.clear()
                for event, routing_key in kept:
                    self._publish(event, self.producer, routing_key)
            if groups:
                for group, events in self._group_buffer.items():
                    batch = list(events)
                    if batch:
                        self._publish(batch, self.producer, f"{group}.multi")
                        # Not those that have come meanwhile.
                        del events[: len(batch)]

    def extend_buffer(self, other: EventDispatcher) -> None:
        """Take over what another one has kept back."""
        self._outbound_buffer.extend(other._outbound_buffer)

    def close(self) -> None:
        """Send no more, once what is being sent is; what is kept back waits for `enable`."""
        with self.mutex:
            self._closed = True
            self.producer = None
