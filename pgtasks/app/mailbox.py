"""Carries commands to workers and replies back, as rows."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pgtasks import serialization
from pgtasks.app.connection import keeps_jobs_in_memory
from pgtasks.exceptions import PayloadTooLarge
from pgtasks.utils.nodenames import gethostname

if TYPE_CHECKING:
    from pgtasks.app.base import Celery

__all__ = ["Callback", "Mailbox", "matching"]

LARGEST = 1_000_000
"""Bytes that the arguments of a command may take: every worker reads them."""

Callback = Callable[[dict[str, Any]], object]


class Mailbox:
    """Carries commands to workers and replies back, as rows.

    Args:
        namespace: Accepted: the mailboxes of different programs are different schemas.
        app: The application.
        accept: Accepted: commands and replies are JSON.
        serializer: Accepted.
        queue_ttl: Seconds that a command waits for workers that do not listen now.
        queue_expires: Seconds that replies are waited for when no time is given.
        queue_exclusive: Accepted: there are no queues.
        queue_durable: Accepted.
    """

    def __init__(
        self,
        namespace: str,
        *,
        app: Celery,
        accept: Any = None,
        serializer: Any = None,
        queue_ttl: float | None = None,
        queue_expires: float | None = None,
        queue_exclusive: bool = False,
        queue_durable: bool = False,
    ) -> None:
        self.namespace = namespace
        self.accept = accept
        self.serializer = serializer
        self.queue_ttl = queue_ttl
        self.queue_expires = queue_expires
        self.queue_exclusive = queue_exclusive
        self.queue_durable = queue_durable
        self._app = app

    def __call__(self, connection: Any = None) -> Mailbox:
        """Answer itself: kombu's mailboxes are bound to a connection, ours need none."""
        return self

    def _broadcast(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        destination: Any = None,
        reply: bool = False,
        timeout: float | None = 1.0,
        limit: int | None = None,
        callback: Callback | None = None,
        channel: Any = None,
        pattern: str | None = None,
        matcher: str | None = None,
    ) -> list[dict[str, Any]] | None:
        if keeps_jobs_in_memory(self._app):
            # Nobody but this process can have jobs there.
            return [] if reply else None
        from pgtasks.storage import mailbox

        database = self._app.database
        if isinstance(destination, str):
            destination = [destination]
        if pattern:
            matches = matching(pattern, matcher)
            alive = database.run(mailbox.names(), retry=True)
            destination = [name for name in alive if matches(name)]
            if not destination:
                return [] if reply else None
        text = serialization.dumps(dict(arguments or {}))
        if len(text) > LARGEST:
            raise PayloadTooLarge(
                f"The arguments of the command {command!r} take {len(text):,} bytes, more "
                f"than the {LARGEST:,} that every worker can be asked to read."
            )
        key = str(uuid.uuid4())
        patience = float((self.queue_expires or 10.0) if timeout is None else timeout)
        expected = database.run(
            mailbox.send(
                command,
                text,
                key=key,
                destination=destination or None,
                wants_reply=reply,
                sender=f"{os.getpid()}@{gethostname()}",
                lifetime=float(self.queue_ttl or 300.0),
            ),
            timeout=max(patience, 1.0),
            retry=True,
        )
        if not reply:
            return None
        return list(self._collect(key, expected, patience, limit, callback))

    def _collect(
        self,
        key: str,
        expected: set[str],
        timeout: float,
        limit: int | None,
        callback: Callback | None,
    ) -> Iterator[dict[str, Any]]:
        from pgtasks.storage import mailbox
        from pgtasks.storage.errors import StorageError

        database, notifier = self._app.database, self._app.notifier
        bell = threading.Event()
        deadline = time.monotonic() + timeout
        missing, known = set(expected), set[int]()
        unsubscribe = notifier.subscribe("pgtasks.replies", lambda payload: bell.set())
        pause = 0.01
        try:
            while True:
                bell.clear()
                remaining = deadline - time.monotonic()
                query = mailbox.collect(key, known=known)
                for each in database.run(query, timeout=max(remaining, 1.0), retry=True):
                    known.add(each.id)
                    missing.discard(each.worker)
                    answer = {each.name: serialization.loads(each.reply)}
                    if callback is not None:
                        callback(answer)
                    yield answer
                    if limit is not None and len(known) >= limit:
                        return
                remaining = deadline - time.monotonic()
                # With nobody alive the whole time is waited out, as there may be workers
                # that a busy server has kept from their heartbeat.
                if remaining <= 0 or (known and not missing):
                    return
                bell.wait(min(remaining, pause))
                pause = min(pause * 2, 0.5 if notifier.listening else 0.05)
        finally:
            unsubscribe()
            # They expire anyway.
            with contextlib.suppress(StorageError):
                database.run(mailbox.discard(key))


def matching(pattern: str, matcher: str | None) -> Callable[[str], bool]:
    """Make a function that says whether a name matches."""
    if matcher in (None, "glob"):
        return lambda name: fnmatch.fnmatchcase(name, pattern)
    if matcher == "pcre":
        expression = re.compile(pattern)
        return lambda name: expression.match(name) is not None
    raise ValueError(f"There is no matcher {matcher!r}; choose 'glob' or 'pcre'.")
