"""The database's time, told without asking each time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone

__all__ = ["EPOCH", "DatabaseClock", "boottime"]

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

DRIFT = 2e-4
"""How many seconds in a second our clock may go wrong against the server's."""

STEP = 1.0
"""Seconds by which a clock must move for entries to be looked at anew."""


def boottime() -> float:
    """Seconds on a clock that goes on while the machine sleeps, where there is one."""
    which = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if which is None else time.clock_gettime(which)


class DatabaseClock:
    """Learns from answers what time it is there, and how sure that is.

    Args:
        ticking: Our clock, which only goes forward.
    """

    def __init__(self, ticking: Callable[[], float] = boottime) -> None:
        self._ticking = ticking
        self._offset = 0.0
        self._error = float("inf")
        self._learnt = 0.0
        #: How often the server's clock was set, by more than `STEP`.
        self.steps = 0

    @contextmanager
    def asking(self) -> Iterator[Callable[[float], None]]:
        """Around a statement; what it gives is told the time that the server has answered."""
        asked = self._ticking()

        def learn(said: float) -> None:
            heard = self._ticking()
            error = (heard - asked) / 2
            offset = said - (asked + heard) / 2
            unsure = self._error + (heard - self._learnt) * DRIFT
            # A quick answer is a better one. What both cannot be is a clock that was set.
            moved = abs(offset - self._offset) > error + unsure
            if error < unsure or moved:
                if moved and abs(offset - self._offset) > STEP:
                    self.steps += 1
                self._offset, self._error, self._learnt = offset, error, heard

        yield learn

    def seconds(self) -> float:
        """Now, in seconds since the epoch."""
        return self._ticking() + self._offset

    def now(self) -> datetime:
        """Now, in UTC."""
        return EPOCH + timedelta(seconds=self.seconds())
