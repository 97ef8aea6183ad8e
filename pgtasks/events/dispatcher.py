"""The sending side of events: as with Celery on a SQL transport, it is there and disabled."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from pgtasks.utils.nodenames import anon_nodename

__all__ = ["EventDispatcher"]

logger = logging.getLogger("celery.events")


class EventDispatcher:
    """Takes events and sends none: `enabled` is false, and enabling it says why.

    Code that sends events of its own runs on unharmed, as it does with Celery where the
    transport cannot carry events.

    Args:
        connection: Celery's.
        hostname: Who sends.
        enabled: Asked for.
        channel: Celery's.
        buffer_while_offline: Celery's.
        app: The application.
        serializer: Celery's.
        groups: Event groups that would be sent.
        delivery_mode: Celery's.
        buffer_group: Celery's.
        buffer_limit: Celery's.
        on_send_buffered: Celery's.
    """

    #: Transports that carry no events.
    DISABLED_TRANSPORTS = {"postgresql", "sql"}

    app: Any = None
    on_enabled: set[Callable[[], Any]]
    """Called when it is enabled."""
    on_disabled: set[Callable[[], Any]]
    """Called when it is disabled."""
    enabled = False
    producer = publisher = None

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
        self.app = app or self.app
        self.connection = connection
        self.channel = channel
        self.hostname = hostname or anon_nodename()
        self.serializer = serializer
        self.groups = set(groups or ())
        self.delivery_mode = delivery_mode
        self.buffer_while_offline = buffer_while_offline
        self.buffer_group = frozenset(buffer_group or ())
        self.buffer_limit = buffer_limit
        self.on_send_buffered = on_send_buffered
        self.on_enabled, self.on_disabled = set(), set()
        self._outbound_buffer: deque[Any] = deque()

    def __enter__(self) -> EventDispatcher:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def enable(self) -> None:
        """Say why that cannot be."""
        logger.warning(
            "Events are not sent: the view pgtasks.all_jobs has what they would tell, and "
            "the signals of pgtasks.signals tell it inside of the processes."
        )

    def disable(self) -> None:
        """Tell those who want to know; it has been all along."""
        for callback in self.on_disabled:
            callback()

    def send(
        self,
        type: str,
        blind: bool = False,
        utcoffset: Any = None,
        retry: bool = False,
        retry_policy: Any = None,
        Event: Any = None,
        **fields: Any,
    ) -> None:
        """Send nothing: disabled, as `enabled` says."""

    def publish(
        self,
        type: str,
        fields: Any,
        producer: Any,
        blind: bool = False,
        Event: Any = None,
        **kwargs: Any,
    ) -> None:
        """Send nothing, likewise."""

    def flush(self, errors: bool = True, groups: bool = True) -> None:
        """Send what was kept back, which is nothing."""

    def extend_buffer(self, other: EventDispatcher) -> None:
        """Take over what another one has kept back."""
        self._outbound_buffer.extend(other._outbound_buffer)

    def close(self) -> None:
        """Be done."""
