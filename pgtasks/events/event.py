"""Makes an event, which is a dict, and names the exchange that Celery's travel through."""

from __future__ import annotations

import time
from typing import Any

__all__ = ["EVENT_EXCHANGE_NAME", "Event", "event_exchange", "get_exchange", "group_from"]

EVENT_EXCHANGE_NAME = "celeryev"


def Event(
    type: str,
    _fields: dict[str, Any] | None = None,
    __dict__: Any = dict,
    __now__: Any = time.time,
    **fields: Any,
) -> dict[str, Any]:
    """An event of a type, with the moment of its making.

    Args:
        type: ``group-subject``, such as ``task-received``.
        _fields: Fields that have been gathered before; changed in place.
        __dict__: Makes the event.
        __now__: Gives the moment.
        **fields: What it tells.
    """
    event: dict[str, Any] = __dict__(_fields or {}, **fields, type=type)
    event.setdefault("timestamp", __now__())
    return event


def group_from(type: str) -> str:
    """The group of an event's type: ``task`` of ``task-sent``."""
    return type.partition("-")[0]


def get_exchange(conn: Any, name: str = EVENT_EXCHANGE_NAME) -> Any:
    """The exchange that Celery sends events through, for programs that read them there.

    Args:
        conn: A kombu connection.
        name: The exchange's name.
    """
    from kombu import Exchange

    # Redis has no topics that several readers may share.
    kind = "fanout" if conn.transport.driver_type == "redis" else "topic"
    return Exchange(name, type=kind)


def event_exchange(channel: Any) -> Any:
    """The same exchange, of type topic, on a channel."""
    from kombu import Exchange

    return Exchange(EVENT_EXCHANGE_NAME, type="topic")(channel)
