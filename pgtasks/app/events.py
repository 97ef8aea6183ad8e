"""``app.events``: the classes of events, which know their application."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

__all__ = ["Events"]


class Events:
    """Makes dispatchers, receivers and pictures of the cluster.

    Args:
        app: The application.
    """

    receiver_cls = "pgtasks.events.receiver:EventReceiver"
    dispatcher_cls = "pgtasks.events.dispatcher:EventDispatcher"
    state_cls = "pgtasks.events.state:State"

    def __init__(self, app: Any = None) -> None:
        self.app = app

    @cached_property
    def Receiver(self) -> Any:
        """Class of what receives events."""
        return self.app.subclass_with_self(self.receiver_cls, reverse="events.Receiver")

    @cached_property
    def Dispatcher(self) -> Any:
        """Class of what sends them."""
        return self.app.subclass_with_self(self.dispatcher_cls, reverse="events.Dispatcher")

    @cached_property
    def State(self) -> Any:
        """Class of what they add up to."""
        return self.app.subclass_with_self(self.state_cls, reverse="events.State")

    @contextmanager
    def default_dispatcher(
        self,
        hostname: str | None = None,
        enabled: bool = True,
        buffer_while_offline: bool = False,
    ) -> Iterator[Any]:
        """A dispatcher for a block.

        Args:
            hostname: Who sends.
            enabled: As `EventDispatcher`'s.
            buffer_while_offline: Likewise.
        """
        with self.Dispatcher(
            self.app.connection_for_write(),
            hostname,
            enabled,
            buffer_while_offline=buffer_while_offline,
        ) as dispatcher:
            yield dispatcher
