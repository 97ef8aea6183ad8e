"""Events of an application whose jobs are kept in memory: they stay in the process."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any
from weakref import WeakSet

from pgtasks.events import bundles

__all__ = ["Hub", "MemoryFeed", "hub_of"]

MOST = 10_000
"""Bundles that are kept for a reader who does not read."""


def hub_of(app: Any) -> Hub:
    """Where the events of ``app`` meet."""
    hub: Hub | None = app.__dict__.get("_event_hub")
    if hub is None:
        hub = app.__dict__.setdefault("_event_hub", Hub())
    return hub


class Hub:
    """Hands what is told to all who listen."""

    def __init__(self) -> None:
        self.feeds: WeakSet[MemoryFeed] = WeakSet()

    def tell(self, text: str) -> None:
        """Hand on a bundle."""
        for feed in list(self.feeds):
            feed.hear(text)


class MemoryFeed:
    """One who listens; see `pgtasks.events.feed.Feed`.

    Args:
        app: The application.
    """

    #: Seconds that the last events read had waited.
    behind = 0.0

    def __init__(self, app: Any) -> None:
        self._hub = hub_of(app)
        self._waiting: deque[str] = deque(maxlen=MOST)
        self._changed = threading.Condition()

    def hear(self, text: str) -> None:
        """Keep a bundle until it is read."""
        with self._changed:
            self._waiting.append(text)
            self._changed.notify_all()

    def join(self, word: str | None = None) -> None:
        """Listen from now on."""
        self._hub.feeds.add(self)

    def wake(self, word: str) -> None:
        """There are no workers that could hear it."""

    def read(self, timeout: float) -> list[dict[str, Any]]:
        """The next events; none if none come in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting, timeout)
            texts = list(self._waiting)
            self._waiting.clear()
        return [event for text in texts for event in bundles.load(text)]

    def renew(self) -> None:
        """What it has joined it is in."""

    def rest(self) -> None:
        """Do not read for a while."""

    def leave(self) -> None:
        """Listen no more."""
        self._hub.feeds.discard(self)
