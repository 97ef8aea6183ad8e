"""Where events are sent to: a row for those who listen."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from pgtasks.app import modes
from pgtasks.app.connection import keeps_jobs_in_memory
from pgtasks.events import bundles
from pgtasks.events.memory import hub_of

__all__ = ["Publisher"]


class Publisher:
    """Sends events, in place of a kombu ``Producer``.

    Args:
        app: The application.
        channel: Shown as ``channel``.
        serializer: Shown as ``serializer``: events are JSON.
    """

    def __init__(
        self, app: Any, channel: Any = None, serializer: str | None = None
    ) -> None:
        self.app = app
        self.channel = channel
        self.serializer = serializer

    @property
    def connection(self) -> Any:
        """What leads to the database."""
        return self.app.connection_for_write()

    def publish(
        self,
        body: Any,
        routing_key: str | None = None,
        retry: bool = False,
        retry_policy: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """Send an event, or a list of them; nothing is kept if nobody listens.

        Nor where tasks run eagerly: a test that calls one need have no database.

        Args:
            body: The event or the list.
            routing_key: Accepted: readers choose by the type.
            retry: Try again if the database is away.
            retry_policy: How often, as in ``task_publish_retry_policy``.
            **options: Accepted from kombu.

        Raises:
            OperationalError: The database is away.
            EncodeError: An event has something that JSON cannot say.
        """
        events = body if isinstance(body, list) else [body]
        if not events or modes.is_eager(self.app):
            return
        text = bundles.dump(events)
        if keeps_jobs_in_memory(self.app):
            hub_of(self.app).tell(text)
            return
        from pgtasks.app.compose import pauses_of
        from pgtasks.storage import events as storage
        from pgtasks.storage.errors import StorageBusy, StorageError, StorageUnavailable

        pauses = pauses_of(retry_policy or {}) if retry else ()
        for pause in (*pauses, None):
            try:
                self.app.database.run(storage.tell(text))
            except StorageError as error:
                passes = isinstance(error, (StorageUnavailable, StorageBusy))
                # What may have been told is not told again.
                if pause is None or not passes or not error.not_run:
                    from pgtasks.exceptions import OperationalError

                    raise OperationalError(
                        f"The event could not be sent: {error}"
                    ) from error
                time.sleep(pause)
            else:
                return

    def close(self) -> None:
        """Be done."""

    release = close

    def __enter__(self) -> Publisher:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
