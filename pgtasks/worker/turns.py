"""Jobs of which one runs at a time: who may begin, and who is next."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from pgtasks.app.turns import key_of_turn
from pgtasks.storage import uniques
from pgtasks.storage.errors import StorageError

if TYPE_CHECKING:
    from pgtasks.job import Job
    from pgtasks.storage.database import Database

__all__ = ["Turns"]

logger = logging.getLogger("celery.worker")


class Turns:
    """Stands between the claim and the pool, and lets pass whose turn it is.

    Jobs without such a key cost a look at whether they have one. The others are put back by
    the statement that finds their turn taken, at no cost of theirs, and come again when the
    one that has it has ended: nobody asks in vain meanwhile.

    Args:
        database: Answers where the jobs are.
        unbegun: Hands back a job that was not begun.
        on_runnable: Told the queues in which there is a job now.
    """

    def __init__(
        self,
        database: Callable[[], Database],
        unbegun: Callable[[Job], None],
        on_runnable: Callable[[set[str]], None],
    ) -> None:
        self._database = database
        self._unbegun = unbegun
        self._on_runnable = on_runnable

    def admit(self, jobs: list[Job]) -> list[Job]:
        """Those of ``jobs``, which were just claimed, that may begin."""
        asking = [(job, key) for job in jobs if (key := key_of_turn(job.headers))]
        if not asking:
            return jobs
        ours = {job.id for job, _ in asking}
        try:
            mine = self._database().run(uniques.take_turns(asking))
        except StorageError as error:
            # Their acknowledgement is repeated until the database takes it.
            logger.warning("Cannot ask whose turn it is, and hand jobs back: %s", error)
            for job, _ in asking:
                self._unbegun(job)
            mine = set()
        else:
            # The turn may have ended between the question and their return to the table,
            # and then nobody has told them.
            self.over(key for job, key in asking if job.id not in mine)
        return [job for job in jobs if job.id not in ours or job.id in mine]

    def over(self, keys: Iterable[str]) -> None:
        """Turns may be over: have the next ones run."""
        wanted = list(keys)
        if not wanted:
            return
        try:
            queues = self._database().run(uniques.pass_on(wanted))
        except StorageError as error:
            logger.warning(
                "Cannot tell whose turn is next: they will find out by themselves within "
                "half a minute: %s",
                error,
            )
            return
        if queues:
            self._on_runnable(queues)
