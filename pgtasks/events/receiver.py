"""The receiving side of events, which there is none of: a clear word in its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pgtasks.exceptions import ImproperlyConfigured

__all__ = ["CLIENT_CLOCK_SKEW", "EventReceiver"]

CLIENT_CLOCK_SKEW = -1
"""How much earlier on the logical clock a client's event counts than its worker's answer."""


class EventReceiver:
    """Would capture the events that workers send; making one says what to do instead.

    Args:
        channel: Celery's.
        handlers: What to call, by type of event.
        routing_key: Celery's.
        node_id: Celery's.
        app: The application.
        queue_prefix: Celery's.
        accept: Celery's.
        queue_ttl: Celery's.
        queue_expires: Celery's.
        queue_exclusive: Celery's.
        queue_durable: Celery's.

    Raises:
        ImproperlyConfigured: Always.
    """

    __absent__ = True
    app: Any = None

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
        raise ImproperlyConfigured(
            "There is nothing for an EventReceiver to receive: workers send no events yet. "
            "Read the view pgtasks.all_jobs, which has every job with its state and times, "
            "or connect the signals of pgtasks.signals in the worker."
        )
