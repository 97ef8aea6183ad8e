"""Reads the commands that are meant for this worker, does them, and replies."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from pgtasks import serialization
from pgtasks.storage import mailbox
from pgtasks.storage.errors import StorageError
from pgtasks.utils.saferepr import saferepr
from pgtasks.utils.serialization import jsonify
from pgtasks.worker.control import Panel, State
from pgtasks.worker.panel import CommandRefused
from pgtasks.worker.service import Service

if TYPE_CHECKING:
    from pgtasks.storage.mailbox import Command
    from pgtasks.worker.worker import Worker

__all__ = ["Mailbox"]

logger = logging.getLogger("celery.worker.control")

POLL = 1.0
"""Seconds between two looks when nobody rings."""

POLL_LISTENING = 5.0
"""The same while notifications come: only a lost one would be late."""

POLL_WATCHED = 60.0
"""The same while somebody else looks around, too."""

MEMORY = 60.0
"""Seconds that the id of a command that was done is remembered. One with a lower id that
becomes visible only later would be a statement of more than 60 s: there is none."""

LARGEST = 4_000_000
"""Bytes of a reply; a longer one says so instead."""


class Mailbox(Service):
    """The worker's ear for ``app.control`` and ``inspect``.

    A notification only rings: what it says is in the rows, each of which is read once.
    Without notifications it looks every second.

    Args:
        worker: The worker that the commands are for.
        watched: Whether somebody looks around who would tell of commands.
    """

    name = "mailbox"

    def __init__(self, worker: Worker, watched: Callable[[], bool] = lambda: False) -> None:
        super().__init__()
        self._watched = watched
        self._worker = worker
        self._database = worker.app.database
        self._notifier = worker.app.notifier
        self._state = State(worker.app, worker.hostname, worker)
        self._lifetime = float(worker.app.conf.control_queue_expires or 10.0)
        self._since: str | None = None
        self._mark = 0
        self._answered: dict[int, float] = {}
        self._unsubscribe: Callable[[], None] = lambda: None
        self._looking = threading.RLock()

    def start(self) -> None:
        """Begin, listening as well."""
        self._unsubscribe = self._notifier.subscribe(
            "pgtasks.control", lambda payload: self.wakeup.set()
        )
        super().start()

    def stop(self) -> None:
        """Ask it to end."""
        self._unsubscribe()
        super().stop()

    def run(self) -> None:
        """Read, do, reply; wait for the bell."""
        failing = False
        while not self.stopping:
            try:
                while self.look() and not self.stopping:
                    pass
                failing = False
            except StorageError as error:
                if not failing:
                    logger.warning("Cannot read commands from remote: %s", error)
                failing = True
            self.wakeup.wait(self._pause())
            self.wakeup.clear()

    def _pause(self) -> float:
        if not self._notifier.listening:
            return POLL
        return POLL_WATCHED if self._watched() else POLL_LISTENING

    @property
    def position(self) -> tuple[int, list[int]]:
        """What has been read: all commands up to an id, and some above it."""
        return self._mark, list(self._answered)

    def look(self) -> int:
        """Do what has come; the answer is how many commands that were."""
        with self._looking:
            return self._look()

    def hear(self) -> None:
        """Do what had come before this was called, for a thread that needs to be sure."""
        try:
            while self.look():
                pass
        except StorageError as error:
            logger.warning("Cannot read commands from remote: %s", error)

    def _look(self) -> int:
        if self._since is None:
            began = mailbox.began(self._worker.begun.worker)
            self._since = self._database.run(began, retry=True)
        commands = self._database.run(
            mailbox.hear(
                self._worker.hostname,
                since=self._since,
                mark=self._mark,
                answered=self._answered,
            )
        )
        for command in commands:
            # Before it is done: what was done twice is worse than what was not.
            self._answered[command.id] = time.monotonic()
            reply = self._do(command)
            if command.wants_reply:
                self._reply(command.key, reply)
        self._forget()
        return len(commands)

    def _do(self, command: Command) -> Any:
        handler = Panel.data.get(command.command)
        if handler is None:
            near = get_close_matches(command.command, Panel.data, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            answer = f"This worker knows no command {command.command!r}.{hint}"
            if not command.wants_reply:
                # Else nobody would hear of it.
                logger.error("%s It came from %s.", answer, command.sender)
            return {"error": answer}
        logger.debug("Command %s from %s", command.command, command.sender)
        try:
            arguments = serialization.loads(command.arguments)
            return handler(self._state, **arguments)
        except SystemExit as request:
            # Celery's way to have a command stop the worker: raise WorkerShutdown.
            code = request.code if isinstance(request.code, int) else None
            threading.Thread(
                target=self._worker.stop, kwargs={"exitcode": code}, daemon=True
            ).start()
            return {"ok": "shutdown"}
        except CommandRefused as error:
            logger.warning("%s: %s", command.command, error)
            return {"error": str(error)}
        except Exception as error:
            logger.exception("The command %s from remote failed.", command.command)
            return {"error": repr(error)}

    def _reply(self, key: str, reply: Any) -> None:
        self._database.run(
            mailbox.answer(
                _text(reply),
                key=key,
                worker=self._worker.begun.worker,
                name=self._worker.hostname,
                lifetime=self._lifetime,
            )
        )

    def _forget(self) -> None:
        now = time.monotonic()
        for id, answered_at in list(self._answered.items()):
            if now - answered_at > MEMORY:
                self._mark = max(self._mark, id)
                del self._answered[id]


def _text(reply: Any) -> str:
    """The reply as JSON, whatever a command has returned."""
    try:
        text = serialization.dumps(reply)
    except Exception:
        try:
            text = serialization.dumps(jsonify(reply, unknown_type_filter=saferepr))
        except Exception as error:
            text = serialization.dumps({"error": f"The reply cannot be sent: {error!r}"})
    if len(text) > LARGEST:
        why = f"The reply takes {len(text):,} bytes, more than the {LARGEST:,} that fit."
        return serialization.dumps({"error": why})
    return text
