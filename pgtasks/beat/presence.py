"""Tells the fleet that a scheduler of somebody's own sends the schedule."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from pgtasks.app.connection import keeps_jobs_in_memory

__all__ = ["office", "presence"]

logger = logging.getLogger("celery.beat")

LEASE = 15.0
"""Seconds that a sign of life is good for."""


def office(app: str) -> str:
    """What is held by programs that send the schedule of an application by themselves."""
    return f"beat:{app}"


@contextmanager
def presence(app: Any, node: str) -> Iterator[None]:
    """Say for the time of a block that workers need not send the schedule.

    Several may say so: who holds the office is nobody's business, only that it is held.
    Nothing depends on it here, so what goes wrong with it is not raised.

    Args:
        app: The application.
        node: A name for people.
    """
    if keeps_jobs_in_memory(app):
        yield
        return
    ended = threading.Event()
    thread = threading.Thread(
        target=_hold, args=(app, node, ended), name="pgtasks-presence", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        ended.set()


def _hold(app: Any, node: str, ended: threading.Event) -> None:
    from pgtasks.storage import leaders
    from pgtasks.storage.errors import StorageError

    name = office(app.main or "")
    holder = str(uuid4())
    seat: leaders.Seat | None = None
    while True:
        try:
            run = app.database.run
            if seat is None or not run(leaders.renew(seat)):
                stood = run(leaders.stand(name, holder=holder, node=node, lease=LEASE))
                seat = None if stood is None else stood.seat
        except StorageError as error:
            logger.debug("Could not tell that a scheduler runs here: %s", error)
        except Exception:
            logger.exception("Could not tell that a scheduler runs here.")
            return
        if ended.wait(LEASE / 3):
            return
