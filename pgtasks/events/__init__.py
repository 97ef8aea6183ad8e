"""Events about tasks and workers: sent, received, and added up to a picture of the cluster."""

from __future__ import annotations

from pgtasks.events.dispatcher import EventDispatcher
from pgtasks.events.event import Event, event_exchange, get_exchange, group_from
from pgtasks.events.receiver import EventReceiver

__all__ = [
    "Event",
    "EventDispatcher",
    "EventReceiver",
    "event_exchange",
    "get_exchange",
    "group_from",
]
