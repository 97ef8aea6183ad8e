"""What a worker says to the world, and workers to each other: events, greetings, elections."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_OID, uuid5

from pgtasks.storage import mailbox
from pgtasks.utils.saferepr import saferepr
from pgtasks.worker import state as process
from pgtasks.worker.panel import State, control_command, inspect_command, nok, ok

if TYPE_CHECKING:
    from pgtasks.worker.worker import Worker

__all__ = [
    "Elections",
    "clock",
    "disable_events",
    "election",
    "enable_events",
    "heartbeat",
    "hello",
]

logger = logging.getLogger("celery.worker.control")

TERM = 600.0
"""Seconds for which it is remembered that an election was held: longer than its call waits
for workers."""


# ── events ──────────────────────────────────────────────────────────────────────────────


@control_command()
def enable_events(state: State, **kwargs: Any) -> Any:
    """Send events of tasks."""
    dispatcher = _dispatcher(state)
    if dispatcher is None:
        return _no_dispatcher()
    if _tells_tasks(dispatcher):
        return ok("task events already enabled")
    if dispatcher.groups:
        dispatcher.groups.add("task")
    if not dispatcher.enabled:
        dispatcher.enable()
    logger.info("Events of group {task} enabled by remote.")
    return ok("task events enabled")


@control_command()
def disable_events(state: State, **kwargs: Any) -> Any:
    """Send no events of tasks any more."""
    dispatcher = _dispatcher(state)
    if dispatcher is None:
        return _no_dispatcher()
    if not _tells_tasks(dispatcher):
        return ok("task events already disabled")
    # No group at all means each of them.
    dispatcher.groups = set(dispatcher.groups) - {"task"} or {"worker"}
    logger.info("Events of group {task} disabled by remote.")
    return ok("task events disabled")


def _tells_tasks(dispatcher: Any) -> bool:
    return dispatcher.enabled and (not dispatcher.groups or "task" in dispatcher.groups)


def _dispatcher(state: State) -> Any:
    return getattr(state.consumer, "event_dispatcher", None)


def _no_dispatcher() -> dict[str, object]:
    return nok("events are unavailable: this worker has no event dispatcher")


@control_command()
def heartbeat(state: State, **kwargs: Any) -> None:
    """Say now that the worker is alive."""
    wakeup = getattr(getattr(state.worker, "heart", None), "wakeup", None)
    if wakeup is not None:
        # Else it is a process that renews the lease by itself.
        wakeup.set()
    reporter = getattr(state.worker, "reporter", None)
    if reporter is not None:
        reporter.beat_soon()


# ── workers among each other ────────────────────────────────────────────────────────────


@inspect_command()
def clock(state: State, **kwargs: Any) -> Any:
    """The logical clock."""
    return {"clock": state.app.clock.forward()}


@inspect_command(visible=False)
def hello(
    state: State, from_node: str, revoked: Iterable[str] | None = None, **kwargs: Any
) -> Any:
    """Answer to another worker's greeting; nothing to one's own."""
    if from_node == state.hostname:
        return None
    logger.info("sync with %s", from_node)
    process.merge_revoked(revoked)
    process.revoked.purge()
    return {"revoked": process.revoked.as_dict(), "clock": state.app.clock.forward()}


@control_command()
def election(state: State, id: str, topic: str, action: Any = None, **kwargs: Any) -> None:
    """Elect one of the workers, which does something."""
    state.consumer.gossip.election(id, topic, action)


class Elections:
    """Has one of the workers that are called do something: the first to write its name down.

    Args:
        worker: Who stands.

    Attributes:
        election_handlers: What is done, by topic: called with the ``action``.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self.election_handlers: dict[str, Callable[[Any], Any]] = {"task": self.call_task}

    def election(self, id: str, topic: str, action: Any = None) -> bool:
        """Stand, and do it if elected; whether that was so.

        Args:
            id: Of the election.
            topic: What for, one of `election_handlers`.
            action: What the elected one does.
        """
        handler = self.election_handlers.get(topic)
        if handler is None:
            logger.error("No handler for the election topic %s", saferepr(topic))
            return False
        name = self._worker.hostname
        key = str(uuid5(NAMESPACE_OID, f"pgtasks.election:{id}"))
        if not self._worker.app.database.run(mailbox.elect(key, name, lifetime=TERM)):
            return False
        logger.info("I won the election %s", saferepr(id))
        handler(action)
        return True

    def call_task(self, task: Any) -> None:
        """Send a task.

        Args:
            task: Its signature.
        """
        self._worker.app.signature(task).apply_async()
