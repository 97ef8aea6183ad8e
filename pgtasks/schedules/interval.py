"""Every so many seconds."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from pgtasks.schedules.base import BaseSchedule, schedstate
from pgtasks.utils.time import humanize_seconds, maybe_timedelta, remaining

__all__ = ["maybe_schedule", "schedule"]


class schedule(BaseSchedule):
    """Run a task every ``run_every``.

    Args:
        run_every: Seconds or a timedelta.
        relative: Run on round times, by the unit of the interval: a task that
            runs every two hours runs at full hours, a daily one at midnight. A
            late run does not put off the next one.
        nowfun: Tells the time instead of the app's clock.
        app: The app; see `BaseSchedule`.
    """

    relative = False

    def __init__(
        self,
        run_every: float | timedelta | None = None,
        relative: bool = False,
        nowfun: Callable[[], datetime] | None = None,
        app: Any = None,
    ) -> None:
        self.run_every: timedelta = maybe_timedelta(run_every)
        self.relative = relative
        super().__init__(nowfun=nowfun, app=app)

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        """Time until the interval that began at ``last_run_at`` ends."""
        return remaining(
            self.maybe_make_aware(last_run_at),
            self.run_every,
            self.maybe_make_aware(self.now()),
            self.relative,
        )

    def is_due(self, last_run_at: datetime) -> schedstate:
        """Say whether the interval is over; see `BaseSchedule.is_due`."""
        last_run_at = self.maybe_make_aware(last_run_at)
        left = self._seconds_left(last_run_at)
        if left > 0:
            return schedstate(False, left)
        if self.relative:
            # The next round time may be nearer than an interval away: this run
            # was late, or the day is a short one.
            now = self.maybe_make_aware(self.now()).astimezone(last_run_at.tzinfo)
            left = self._seconds_left(now)
        # Otherwise an interval from now. Also if no round time lies ahead, as
        # with intervals below a second.
        return schedstate(True, left if left > 0 else self.seconds)

    @property
    def seconds(self) -> float:
        """The interval in seconds."""
        return max(self.run_every.total_seconds(), 0)

    @property
    def human_seconds(self) -> str:
        """The interval in the unit that suits it."""
        return humanize_seconds(self.seconds)

    def __repr__(self) -> str:
        return f"<freq: {self.human_seconds}>"

    def __eq__(self, other: object) -> bool:
        return self.run_every == (other.run_every if isinstance(other, schedule) else other)

    __hash__ = None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.run_every, self.relative, self.nowfun)


def maybe_schedule(s: Any, relative: bool = False, app: Any = None) -> Any:
    """Make a schedule of seconds or a timedelta; give a ready one the app."""
    if s is None:
        return None
    if isinstance(s, (numbers.Real, timedelta)):
        interval: Any = s
        return schedule(interval, relative, app=app)
    s.app = app
    return s
