"""Events about tasks and workers: what they are made of, and the picture that they add up to.

Workers here send none yet: the view ``pgtasks.all_jobs`` has what a monitor would gather.
What does not depend on where events come from is whole: `Event`, the cluster's `State`,
snapshots of it.
"""

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
