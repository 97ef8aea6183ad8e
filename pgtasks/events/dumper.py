"""Writes events down as they come: a line each."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, TextIO

from pgtasks.app import app_or_default
from pgtasks.utils.functional import LRUCache

__all__ = ["Dumper", "evdump"]

#: What is known of tasks by their id: most events tell nothing else of theirs.
TASK_NAMES: Any = LRUCache(limit=4096)

HUMAN_TYPES = {
    "worker-offline": "shutdown",
    "worker-online": "started",
    "worker-heartbeat": "heartbeat",
}

_NAMING = ("task-received", "task-sent")


def humanize_type(type: str) -> str:
    """An event's type in words: ``task received``."""
    type = type.lower()
    return HUMAN_TYPES.get(type) or type.replace("-", " ")


class Dumper:
    """Writes lines.

    Args:
        out: Where to; standard output by default.
    """

    def __init__(self, out: TextIO | None = None) -> None:
        self.out = sys.stdout if out is None else out

    def say(self, msg: str) -> None:
        """Write a line, and have it seen at once."""
        print(msg, file=self.out, flush=True)

    def on_event(self, ev: dict[str, Any]) -> None:
        """Write an event down.

        Args:
            ev: The event; it is used up.
        """
        moment = datetime.fromtimestamp(ev.pop("timestamp"), timezone.utc)
        type, hostname = ev.pop("type").lower(), ev.pop("hostname", "?")
        task = ""
        if type.startswith("task-"):
            uuid = ev.pop("uuid", None)
            if type in _NAMING:
                name, args, kwargs = (
                    ev.pop(each, None) for each in ("name", "args", "kwargs")
                )
                TASK_NAMES[uuid] = f"{name}({uuid}) args={args} kwargs={kwargs}"
            # Of one that began before we listened, the id is all there is.
            task = TASK_NAMES.get(uuid) or str(uuid)
        self.format_task_event(hostname, moment, type, task, ev)

    def format_task_event(
        self,
        hostname: str,
        timestamp: datetime,
        type: str,
        task: str,
        event: Mapping[str, Any],
    ) -> None:
        """Write a line about an event.

        Args:
            hostname: Who has told.
            timestamp: When.
            type: Its type.
            task: What is known of the task.
            event: The other fields.
        """
        fields = ", ".join(f"{name}={event[name]}" for name in sorted(event))
        words = [f"{hostname} [{timestamp}] {humanize_type(type)}{':' if fields else ''}"]
        self.say(" ".join([*words, *(each for each in (task, fields) if each)]))


def evdump(app: Any = None, out: TextIO | None = None) -> None:
    """Write events down until interrupted.

    Args:
        app: The application.
        out: Where to; standard output by default.
    """
    app = app_or_default(app)
    dumper = Dumper(out=out)
    dumper.say("-> evdump: starting capture...")
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": dumper.on_event})
        try:
            receiver.capture()
        except (KeyboardInterrupt, SystemExit):
            pass
        finally:
            receiver.close()
