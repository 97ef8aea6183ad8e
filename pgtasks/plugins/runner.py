"""Runs the schedule of an application: elected, on the database's clock, each tick once.

`Runner.step` does what there is to do now and says how long to wait; whoever has a thread
to spare calls it: the plugin in a worker, or a beat.
"""

from __future__ import annotations

import heapq
import logging
import random
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from pgtasks.beat import presence, ticks
from pgtasks.beat.expressions import reboot
from pgtasks.beat.lines import Line, fingerprint
from pgtasks.beat.reading import Code, code_of, line_of_row
from pgtasks.plugins.clock import EPOCH, DatabaseClock, boottime
from pgtasks.plugins.firing import Order, send
from pgtasks.storage import crons, leaders
from pgtasks.storage.errors import StorageError
from pgtasks.telemetry import registry as telemetry

__all__ = ["LEASE", "Runner"]

logger = logging.getLogger("celery.beat")

LEASE = 6.0
"""Seconds after which another one sends what a leader that vanished would have sent."""

AWAY = 60.0
"""Seconds without a leader after which the next one begins something new."""

MOST = 200
"""Entries of one transaction: of thousands that are due at once none waits for all others."""

AHEAD = timedelta(hours=1)
"""A last tick further in the future than this was made by a clock that went wrong. Hours that
come again within it, as the clock was set back, are not sent again."""

SOON = timedelta(seconds=1)
"""The same for an interval, which has no hours: it goes on."""

REPAIR = 60.0
"""Seconds after which a schedule that raises is asked again."""

RESPECT = 86400.0
"""Seconds for which a scheduler of somebody's own that has vanished keeps its schedule."""

CALM = 10.0
"""Seconds between two tries to get what others send."""


def office_of(app: str, lines: Mapping[str, Line]) -> str:
    """What is led by those who have the same schedule."""
    return f"cron:{app}:{fingerprint(lines.values()) if lines else ''}"


class _Charge:
    """An entry that we send, and where it stands."""

    __slots__ = ("deaf", "follows", "id", "last", "line", "next", "said", "unsure")

    def __init__(self, row: crons.Entry, said: Any, line: Line) -> None:
        self.id = row.id
        #: By which a change is noticed: what the program has, or the revision of the row.
        self.said = said
        self.line = line
        self.follows = row.last_tick
        self.last = self.next = EPOCH + timedelta(seconds=row.last_at)
        #: It is not known whether what was under way has been committed.
        self.unsure = False
        #: Of what is due once only, and was.
        self.deaf = False


def _is_as_before(old: _Charge, row: crons.Entry, said: Any) -> bool:
    """Whether we are where we were, for ten thousand take half a second to begin with."""
    same = old.said is said or (row.source == "table" and old.said == said)
    return same and old.follows == row.last_tick and not old.unsure


class Runner:
    """Sends what is due while it leads, and stands for that while nobody does.

    Args:
        app: The application.
        node: Our name.
        lease: Seconds that a renewal of the term is good for.
        interval: Seconds between two looks at the table.
        longest: Longest time between two steps.
    """

    def __init__(
        self,
        app: Any,
        *,
        node: str,
        lease: float = LEASE,
        interval: float | None = None,
        longest: float = 60.0,
    ) -> None:
        self.app = app
        self.scope = app.main or ""
        self.node = node
        self.lease = lease
        self.interval = min(interval or lease / 3, lease / 2)
        self.longest = longest
        self.clock = DatabaseClock()
        self._holder = str(uuid4())
        self._code: Code | None = None
        self._office = ""
        self._seat: leaders.Seat | None = None
        self._good_until = 0.0
        self._sat_at: float | None = None
        self._any_in_table = False
        self._asked_at = float("-inf")
        self._look_at = 0.0
        self._claim_at: float | None = None
        self._fresh = False
        self._state = ""
        self._charges: dict[int, _Charge] = {}
        self._heap: list[tuple[datetime, int]] = []
        self._present = EPOCH
        self._hands_off = False
        self._told: dict[str, str] = {}
        self._stale = False

    # ── for whoever runs it ─────────────────────────────────────────────────────────────

    @property
    def office(self) -> str:
        """What it stands for."""
        return self._office

    @property
    def leads(self) -> bool:
        """Whether it believes to lead; what it sends is sent under its term anyway (R22)."""
        return self._seat is not None and boottime() < self._good_until

    def step(self) -> tuple[float, int]:
        """Do what there is to do now.

        Returns:
            Seconds until there is more, and how many ticks were sent.

        Raises:
            StorageError: The database cannot be had.
        """
        try:
            return self._step()
        except StorageError:
            # Whether it was done is for the table to say.
            self._stale = True
            raise

    def wake(self) -> None:
        """Look at the table at the next step."""
        self._look_at = self._asked_at = float("-inf")

    def close(self) -> None:
        """Let another one lead at once."""
        seat, self._seat = self._seat, None
        if seat is not None:
            self.app.database.run(leaders.resign(seat), timeout=2.0)

    # ── elections ───────────────────────────────────────────────────────────────────────

    def _step(self) -> tuple[float, int]:
        self._refresh_code()
        if self._seat is None:
            if not self._is_candidate():
                return self.longest, 0
            wait = self._stand()
            if wait > 0:
                return wait, 0
        if self._stale or boottime() >= self._look_at:
            wait = self._look()
            if wait > 0:
                return wait, 0
        sent = self._send_due()
        until = self._look_at - boottime()
        if self._heap:
            left = (self._heap[0][0] - EPOCH).total_seconds() - self.clock.seconds()
            until = min(until, left)
        return min(max(until, 0.0), self.longest), sent

    def _refresh_code(self) -> None:
        code = code_of(self.app, self._code)
        if code is self._code:
            return
        self._code = code
        for name, error in code.broken.items():
            self._report(name, error)
        office = office_of(self.scope, code.lines)
        if office != self._office:
            self._office, self._sat_at = office, None
            self.close()

    def _is_candidate(self) -> bool:
        """Whether there is anything to lead, as far as can be seen from here."""
        if self._code_lines():
            return True
        if boottime() - self._asked_at >= self.longest:
            self._any_in_table = self.app.database.run(crons.in_table(self.scope))
            self._asked_at = boottime()
        return self._any_in_table

    def _stand(self) -> float:
        """Be elected where nobody leads; else the seconds until it pays to try again."""
        run = self.app.database.run
        asked = boottime()
        if self._sat_at is None:
            lapsed = run(crons.lapsed(self._office, AWAY))
        else:
            lapsed = asked - self._sat_at > AWAY
        known: dict[str, Any] = {"office": self._office, "node": self.node}
        with telemetry.span("pgtasks.peer.election", known) as told:
            query = leaders.stand(
                self._office, holder=self._holder, node=self.node, lease=self.lease
            )
            stood = run(query)
            told.update(
                was_leader=False,
                leader=stood is not None and stood.seat is not None,
                term=stood and stood.term,
                elected=stood and stood.node,
            )
        if stood is not None and stood.seat is None:
            self._sat_at = asked + max(0.0, stood.remaining)
        if stood is None or stood.seat is None:
            remaining = 0.0 if stood is None else max(0.0, stood.remaining)
            return remaining + random.uniform(0.01, 0.05) * self.lease
        self._seat, self._good_until = stood.seat, asked + self.lease
        self._fresh = lapsed
        self._claim_at, self._state, self._stale = 0.0, "", True
        logger.info(
            "%s sends the schedule of %r now (%s, term %d).",
            self.node,
            self.scope,
            self._office,
            stood.seat.term,
        )
        return 0.0

    def _look(self) -> float:
        """Renew the term, and read what has changed; seconds to wait if we lead no longer."""
        seat = self._seat
        assert seat is not None
        asked, steps = boottime(), self.clock.steps
        with self.clock.asking() as learn:
            query = crons.look(seat, app=self.scope, other=presence.office(self.scope))
            seen = self.app.database.run(query)
            learn(seen.now)
        if self.clock.steps != steps:
            logger.warning("The clock of the database was set: %r looks again.", self.node)
            self._charges, self._stale = {}, True
        if not seen.leads:
            self._lose()
            return random.uniform(0.01, 0.05) * self.lease
        self._good_until = asked + self.lease
        self._look_at = asked + self.interval
        self._heed(seen.other)
        if self._claim_at is not None and asked >= self._claim_at:
            self._claim(seat)
        elif seen.state == self._state and not self._stale:
            return 0.0
        self._read()
        if self._code_lines() or self._any_in_table:
            return 0.0
        # What was made by hand is gone, and there was nothing else.
        self.close()
        return self.longest

    def _code_lines(self) -> Mapping[str, Line]:
        return {} if self._code is None else self._code.lines

    def _lose(self) -> None:
        logger.warning(
            "%s sends the schedule of %r no longer: its term is over.",
            self.node,
            self.scope,
        )
        self._seat = None
        self._sat_at = boottime()
        self._charges, self._heap = {}, []

    def _heed(self, since: float) -> None:
        """Leave the schedule to a scheduler of somebody's own, if one sends it."""
        hands_off = since < RESPECT
        if hands_off != self._hands_off:
            self._hands_off = hands_off
            self._stale = True
            if hands_off:
                logger.info(
                    "A beat with a scheduler of its own sends the schedule of %r: what is "
                    "in beat_schedule is left to it.",
                    self.scope,
                )
            elif since != float("inf"):
                logger.warning(
                    "The beat with a scheduler of its own that sent the schedule of %r has "
                    "not been seen for %.0f h: what is in beat_schedule is sent from here. "
                    "Set plugins = {'cron': False} if that is not wanted.",
                    self.scope,
                    since / 3600,
                )

    # ── entries ─────────────────────────────────────────────────────────────────────────

    def _claim(self, seat: leaders.Seat) -> None:
        """Become the one who sends the entries of our program."""
        assert self._code is not None
        documents = self._code.documents
        run = self.app.database.run
        known: dict[str, Any] = {"app": self.scope, "fresh": self._fresh}
        if documents and not self._hands_off:
            if pairs := self._renamed(run(crons.entries(self.scope))):
                run(crons.rename(seat, pairs, **known))
            run(crons.claim(seat, entries=documents, **known))
        pattern = f"cron:{self.scope}:%".replace("_", r"\_")
        run(crons.forget(seat, app=self.scope, pattern=pattern))
        self._claim_at = None

    def _renamed(self, rows: list[crons.Entry]) -> list[dict[str, Any]]:
        """Rows of entries that go under another name now, with that name."""
        assert self._code is not None
        names = {row.name for row in rows}
        lost: dict[str | None, list[int]] = {}
        for row in rows:
            if row.source == "code" and row.name not in self._code.lines:
                lost.setdefault(row.identity, []).append(row.id)
        return [
            {"id": lost[each["identity"]].pop(0), "name": each["name"]}
            for each in self._code.documents
            if each["name"] not in names and lost.get(each["identity"])
        ]

    def _read(self) -> None:
        """Take over what the table says, and keep in mind what was counted already."""
        assert self._code is not None
        rows = self.app.database.run(crons.entries(self.scope))
        before, self._charges = self._charges, {}
        self._present = self.clock.now()
        self._any_in_table = any(row.source == "table" for row in rows)
        missing = dict(self._code.lines)
        for row in rows:
            line: Line | None = None
            said: Any = row.revision
            if row.source == "table":
                if missing.pop(row.name, None) is not None:
                    self._report(
                        f"{row.name} (of the program)",
                        ValueError(
                            "beat_schedule has an entry of this name, and so has the table. "
                            "The one in the table is sent: rename or delete one of them."
                        ),
                    )
            elif row.office == self._office:
                said = line = missing.pop(row.name, None)
                if self._hands_off:
                    continue
            if row.paused_at is not None:
                continue
            old = before.get(row.id)
            if old is not None and _is_as_before(old, row, said):
                self._charges[row.id] = old
                continue
            if row.source == "table":
                line = self._line_of_row(row)
            if line is not None:
                charge = _Charge(row, said, line.clocked(self._now))
                self._charges[row.id] = charge
                self._begin(charge)
        if missing and not self._hands_off:
            # Others send them; or a row is gone.
            self._claim_at = boottime() + CALM
        self._state, self._stale = crons.Entry.state(rows), False
        self._heap = [(each.next, each.id) for each in self._charges.values()]
        heapq.heapify(self._heap)
        self._fresh = False

    def _line_of_row(self, row: crons.Entry) -> Line | None:
        try:
            return line_of_row(row, app=self.app)
        except Exception as error:
            self._report(row.name, error)
            return None

    def _begin(self, charge: _Charge) -> None:
        """When an entry is looked at first."""
        by_hours = charge.line.by_hours
        if charge.last > self._present + (AHEAD if by_hours else SOON):
            logger.warning(
                "The last tick of %r was at %s, which is still to come: a clock went wrong. "
                "It goes on from now.",
                charge.line.name,
                charge.last.isoformat(timespec="seconds"),
            )
            charge.last = self._present
        charge.next = self._present
        if isinstance(charge.line.schedule, reboot) and not self._fresh:
            charge.next = self._present + timedelta(days=3650)
            charge.deaf = True

    def _now(self) -> datetime:
        return self._present

    # ── ticks ───────────────────────────────────────────────────────────────────────────

    def _send_due(self) -> int:
        """Send what has come; the answer is how many ticks that were."""
        seat = self._seat
        assert seat is not None
        self._present = self.clock.now()
        deadline = self.app.conf.beat_cron_starting_deadline
        orders: list[Order] = []
        while self._heap and self._heap[0][0] <= self._present and len(orders) < MOST:
            _, id = heapq.heappop(self._heap)
            charge = self._charges.get(id)
            if charge is None:
                continue
            found = self._due(charge, deadline)
            if found is not None and found.ticks:
                charge.unsure = True
                orders.append(
                    Order(id, charge.line, charge.follows, found.last, found.ticks)
                )
            if found is not None:
                charge.last, charge.next = found.last, found.next
            heapq.heappush(self._heap, (charge.next, id))
        return self._send(seat, orders) if orders else 0

    def _due(self, charge: _Charge, deadline: float | None) -> ticks.Due | None:
        if isinstance(charge.line.schedule, reboot):
            charge.next = self._present + timedelta(days=3650)
            if charge.deaf:
                return None
            charge.deaf = True
            return ticks.Due([self._present], self._present, charge.next)
        try:
            return ticks.due(charge.line, charge.last, self._present, deadline)
        except Exception as error:
            self._report(charge.line.name, error)
            charge.next = self._present + timedelta(seconds=REPAIR)
            return None

    def _send(self, seat: leaders.Seat, orders: list[Order]) -> int:
        for order in orders:
            logger.info(
                "Scheduler: Sending due task %s (%s)", order.line.name, order.line.task
            )
        count = 0
        for sent in send(self.app, seat, orders):
            charge = self._charges[sent.order.id]
            if sent.last_tick is None:
                # Somebody else was faster, or it has changed; or our clock is ahead.
                self._stale = True
                self._look_at = 0.0
                continue
            charge.follows, charge.unsure = sent.last_tick, False
            count += sent.inserted
            self._after(charge, sent.error, sent.busy, sent.order)
        return count

    def _after(
        self, charge: _Charge, error: Exception | None, busy: bool, order: Order
    ) -> None:
        name = charge.line.name
        if error is not None:
            self._report(name, error)
        elif self._told.pop(name, None) is not None:
            logger.info("The entry %r could be sent again.", name)
        if busy:
            logger.info(
                "The entry %r was passed over at %s: the job before is not over.",
                name,
                order.ticks[-1].isoformat(timespec="seconds"),
            )
        elif len(order.ticks) > 1:
            logger.warning(
                "%d ticks of %r were late and are sent now.", len(order.ticks), name
            )

    def _report(self, name: str, error: Exception) -> None:
        """Say once what is wrong with an entry; the others go on."""
        said = f"{type(error).__name__}: {error}"
        if self._told.get(name) != said:
            self._told[name] = said
            logger.error(
                "The entry %r cannot be sent: %s. The others go on. Correct it, or take it "
                "out of the schedule ('pgtasks cron list' shows it).",
                name,
                said,
                exc_info=error,
            )
