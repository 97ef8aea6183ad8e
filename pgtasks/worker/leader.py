"""Holds an office that only one process has at a time, or stands for it."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pgtasks.storage import leaders
from pgtasks.storage.errors import StorageError
from pgtasks.telemetry import registry as telemetry
from pgtasks.worker.identity import boottime
from pgtasks.worker.service import Service

if TYPE_CHECKING:
    from pgtasks.storage.database import Database
    from pgtasks.storage.leaders import Seat
    from pgtasks.storage.notifier import Notifier

__all__ = ["Leader"]

logger = logging.getLogger("celery.worker")


class Leader(Service):
    """Leads while its term lasts, and stands for office when nobody's does.

    What it believes is a hint that it may pay to try: each statement of a leader carries the
    term, and does nothing once that is over. So a leader that was stopped or cut off, and
    does not know yet, does no harm.

    Args:
        database: Where the offices are.
        notifier: Tells of leaders that resign.
        office: What is to be led.
        holder: Gives the id of the present incarnation; a new one has to stand anew.
        node: Our name.
        lease: Seconds that a renewal is good for.
        on_change: Called when we have been elected, or lead no longer.
    """

    name = "leader"

    def __init__(
        self,
        database: Database,
        notifier: Notifier,
        *,
        office: str,
        holder: Callable[[], str],
        node: str,
        lease: float,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self._database = database
        self._notifier = notifier
        self._office = office
        self._holder = holder
        self._node = node
        self._lease = lease
        self._on_change = on_change
        self._seat: Seat | None = None
        self._good_until = 0.0
        self._unsubscribe: Callable[[], None] = lambda: None

    @property
    def seat(self) -> Seat | None:
        """What to carry into the statements of a leader; None if we are none.

        A renewal counts from when it was asked for (R22), on a clock that also counts while
        the machine sleeps.
        """
        seat = self._seat
        return seat if seat is not None and boottime() < self._good_until else None

    def start(self) -> None:
        """Begin, listening as well."""
        self._unsubscribe = self._notifier.subscribe("pgtasks.leaders", self._on_news)
        super().start()

    def stop(self) -> None:
        """Ask it to end, which hands the office over."""
        self._unsubscribe()
        super().stop()

    def run(self) -> None:
        """Renew, or stand, in time; resign at the end."""
        failing = False
        while not self.stopping:
            try:
                pause = self._round()
                failing = False
            except StorageError as error:
                if not failing:
                    logger.warning("Cannot see who leads %s: %s", self._office, error)
                failing = True
                pause = random.uniform(0.1, 0.25) * self._lease
                if self.seat is None:
                    self._set(None)
            self.wakeup.wait(pause)
            self.wakeup.clear()
        self._resign()

    def _round(self) -> float:
        """Renew or stand once; the answer is how long to wait until the next."""
        seat, asked = self._seat, boottime()
        known: dict[str, Any] = {"office": self._office, "node": self._node}
        with telemetry.span("pgtasks.peer.election", known) as told:
            told["was_leader"] = seat is not None
            if seat is not None and self._renew(seat, asked):
                told.update(leader=True, term=seat.term, elected=self._node)
                return self._lease * random.uniform(0.5, 0.6)
            stood = self._database.run(
                leaders.stand(
                    self._office,
                    holder=self._holder(),
                    node=self._node,
                    lease=self._lease,
                )
            )
            elected = None if stood is None else stood.seat
            told.update(
                leader=elected is not None,
                term=stood and stood.term,
                elected=stood and stood.node,
            )
            if elected is not None:
                self._good_until = asked + self._lease
            self._set(elected)
        if elected is not None:
            return self._lease * random.uniform(0.5, 0.6)
        # Not all at the same moment, and not long after it: nobody leads then.
        remaining = 0.0 if stood is None else max(0.0, stood.remaining)
        return remaining + random.uniform(0.01, 0.05) * self._lease

    def _renew(self, seat: Seat, asked: float) -> bool:
        if seat.holder != self._holder() or not self._database.run(leaders.renew(seat)):
            return False
        lapsed = asked >= self._good_until
        self._good_until = asked + self._lease
        if lapsed:
            self._on_change()
        return True

    def _set(self, seat: Seat | None) -> None:
        before, self._seat = self._seat, seat
        if seat is not None:
            logger.info("This worker leads %s now (term %d).", seat.office, seat.term)
        elif before is not None:
            logger.warning(
                "This worker leads %s no longer: its term %d is over.",
                before.office,
                before.term,
            )
        if before is not seat:
            self._on_change()

    def _resign(self) -> None:
        seat, self._seat = self._seat, None
        if seat is None:
            return
        self._on_change()
        try:
            self._database.run(leaders.resign(seat), timeout=2.0)
        except StorageError as error:
            logger.warning("Could not hand over %s: %s", self._office, error)

    def _on_news(self, office: str | None) -> None:
        # Somebody has resigned, or may have while nobody listened (R26). Who leads has no
        # need to look.
        if office in (None, self._office) and self._seat is None:
            self.wakeup.set()
