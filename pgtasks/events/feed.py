"""The events of a database, read in order, each once, whatever happens to the connection."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from pgtasks.events import bundles
from pgtasks.storage import events
from pgtasks.storage.errors import StorageBusy, StorageError, StorageUnavailable

if TYPE_CHECKING:
    from pgtasks.storage.query import Query

__all__ = ["LIFETIME", "Feed"]

logger = logging.getLogger("celery.events")

LIFETIME = 60.0
"""Seconds that events are kept for one who does not read, or whose connection is lost."""

POLL = 1.0
"""Seconds between looks while notifications come, or would come …"""

POLL_DEAF = 0.2
"""… and while they do not."""

MOST_MISSED = 1000
"""Numbers that were left out and are looked for."""

SILENCE = 60.0
"""Seconds between two remarks about being too slow."""


class Feed:
    """One who listens to the workers of a database.

    Events are kept for it from the moment it joins, and it goes on where it was: after a
    lost connection, after a crash of the server, and if nothing was read for a while.

    Args:
        app: The application.
        name: Shown to people.
        lifetime: Seconds that events are kept for it.
    """

    def __init__(self, app: Any, *, name: str, lifetime: float = LIFETIME) -> None:
        self._app = app
        self._id = str(uuid4())
        self._name = name
        self._lifetime = lifetime
        self._mark: int | None = None
        #: Numbers below the mark that were not there, and since when: their transactions
        #: commit later, or never.
        self._missed: dict[int, float] = {}
        self._renew_at = 0.0
        self._bell = threading.Event()
        self._unsubscribe: Callable[[], None] | None = None
        self._failing = False
        self._silent_until = 0.0
        #: Seconds that the last events read had waited.
        self.behind = 0.0

    def join(self, word: str | None = None) -> None:
        """Listen from now on, or go on.

        Args:
            word: What workers are told, see `pgtasks.storage.events.join`.

        Raises:
            OperationalError: The database is away.
        """
        if self._unsubscribe is None:
            bell = self._bell
            self._unsubscribe = self._app.notifier.subscribe(
                "pgtasks.events", lambda payload: bell.set()
            )
        try:
            self._join(word)
        except (StorageUnavailable, StorageBusy) as error:
            from pgtasks.exceptions import OperationalError

            raise OperationalError(f"Cannot listen to events: {error}") from error

    def _join(self, word: str | None = None) -> None:
        position = None
        if self._mark is not None:
            # What was left out may still come.
            position = min(self._missed, default=self._mark + 1) - 1
        found = self._app.database.run(
            events.join(
                self._id,
                name=self._name,
                lifetime=self._lifetime,
                position=position,
                word=word,
            )
        )
        if self._mark is None:
            self._mark = found
        self._renew_at = time.monotonic() + self._lifetime / 12

    def wake(self, word: str) -> None:
        """Tell workers something, if that is possible now."""
        self._try(events.wake(word))

    def read(self, timeout: float) -> list[dict[str, Any]]:
        """The next events; none if none come in time, or if the database is away.

        Args:
            timeout: Seconds to wait for them.
        """
        deadline = time.monotonic() + timeout
        while True:
            self._bell.clear()
            found: list[dict[str, Any]] = []
            with self._patience():
                self._renew()
                found = self._look()
            if found:
                return found
            left = deadline - time.monotonic()
            if left <= 0:
                return []
            if self._failing:
                time.sleep(min(left, random.uniform(0.1, 1.0)))
            else:
                poll = POLL if self._app.notifier.listening else POLL_DEAF
                self._bell.wait(min(left, poll))

    def renew(self) -> None:
        """Say that it still listens, if that is due: between the events of a large bundle."""
        if time.monotonic() >= self._renew_at:
            # Not at once again if it fails.
            self._renew_at += 1.0
            with self._patience():
                self._renew(at_once=True)

    def _renew(self, *, at_once: bool = False) -> None:
        if at_once or time.monotonic() >= self._renew_at:
            self._join()
            self._app.database.run(events.prune(self._lifetime))

    @contextmanager
    def _patience(self) -> Iterator[None]:
        """Wait out that the database is away, and say so once."""
        try:
            yield
        except (StorageUnavailable, StorageBusy) as error:
            if not self._failing:
                logger.warning("Cannot read events, will go on trying: %s", error)
            self._failing = True
        else:
            if self._failing:
                logger.info("Listening to events again.")
            self._failing = False

    def _look(self) -> list[dict[str, Any]]:
        assert self._mark is not None  # It has joined.
        now = time.monotonic()
        for number, since in list(self._missed.items()):
            if now - since > self._lifetime:
                del self._missed[number]
        rows = self._app.database.run(events.read(self._mark, self._missed))
        found: list[dict[str, Any]] = []
        for row in rows:
            if row.id > self._mark:
                self._note_missed(range(self._mark + 1, row.id), row.age, now)
                self._mark = row.id
            else:
                self._missed.pop(row.id, None)
            found += self._load(row)
        self.behind = rows[-1].age if rows else 0.0
        return found

    def _load(self, row: events.Bundle) -> list[dict[str, Any]]:
        try:
            return bundles.load(row.text)
        except Exception as error:
            # Somebody else's, or of a version to come: no reason to hear nothing more.
            logger.warning("Cannot read the events in row %d: %r", row.id, error)
            return []

    def _note_missed(self, numbers: range, age: float, now: float) -> None:
        for number in numbers[-MOST_MISSED:]:
            self._missed[number] = now
        while len(self._missed) > MOST_MISSED:
            self._missed.pop(next(iter(self._missed)))
        if numbers and age > self._lifetime * 0.9 and now >= self._silent_until:
            self._silent_until = now + SILENCE
            logger.warning(
                "This receiver of events is %.0f s behind, and events are kept for %.0f s: "
                "it has missed some. Let its handlers do less, or raise event_queue_expires.",
                age,
                self._lifetime,
            )

    def rest(self) -> None:
        """Do not read for a while: events are kept for as long as said."""
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None

    def leave(self) -> None:
        """Listen no more."""
        self.rest()
        if self._mark is not None:
            self._try(events.leave(self._id))

    def _try(self, query: Query[Any]) -> None:
        try:
            self._app.database.run(query)
        except StorageError as error:
            logger.debug("While talking to workers: %s", error)
