"""What all schedules share: a clock, a timezone, and the question whether it is time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from functools import cached_property
from typing import Any, NamedTuple

from pgtasks.utils.imports import symbol_by_name
from pgtasks.utils.time import maybe_make_aware, timezone

__all__ = ["BaseSchedule", "schedstate"]


class schedstate(NamedTuple):
    """Whether a task is due, and in how many seconds to ask again."""

    is_due: bool
    next: float


class BaseSchedule:
    """A schedule of your own: subclass it and define `remaining_estimate`.

    Args:
        nowfun: Tells the time instead of the app's clock.
        app: The app whose clock, timezone and settings count; by default the
            current one at the time of asking.
    """

    def __init__(
        self, nowfun: Callable[[], datetime] | None = None, app: Any = None
    ) -> None:
        self.nowfun = nowfun
        self._app = app

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        """Time until the next run after ``last_run_at``; negative when that has passed."""
        raise NotImplementedError(
            f"{type(self).__name__} does not say when to run: define "
            f"remaining_estimate(self, last_run_at) to return a timedelta"
        )

    def is_due(self, last_run_at: datetime) -> schedstate:
        """Say whether a task that ran at ``last_run_at`` is due.

        The second half of the answer spares the scheduler needless looks. It
        may look sooner: at the latest after ``beat_max_loop_interval``, so that
        a schedule that changes is noticed.

        Returns:
            ``(True, 20)``: run it now and ask again in 20 seconds.
            ``(False, 12.3)``: not yet, ask again in 12.3 seconds.
        """
        left = self._seconds_left(last_run_at)
        if left > 0:
            return schedstate(False, left)
        return schedstate(True, max(self._seconds_left(self.now()), 0))

    def now(self) -> datetime:
        """The present, as ``nowfun`` or the app tells it."""
        present: datetime = (self.nowfun or self.app.now)()
        return present

    @property
    def app(self) -> Any:
        """The app that was given, or the current one."""
        # By name: the current app lives two floors further up, and a schedule
        # needs it only if it was made without an app.
        return self._app or symbol_by_name("pgtasks._state:get_current_app")()

    @app.setter
    def app(self, app: Any) -> None:
        self._app = app

    @cached_property
    def tz(self) -> str | tzinfo:
        """The timezone that wall clock times of the schedule are in."""
        zone: str | tzinfo = self.app.timezone
        return zone

    @cached_property
    def utc_enabled(self) -> bool:
        """The app's ``enable_utc``."""
        return bool(self.app.conf.enable_utc)

    def to_local(self, dt: datetime) -> datetime:
        """Convert to the system's timezone if the app does without UTC."""
        return dt if self.utc_enabled else timezone.to_local_fallback(dt)

    def maybe_make_aware(self, dt: datetime, naive_as_utc: bool = True) -> datetime:
        """Give a naive datetime the schedule's timezone."""
        return maybe_make_aware(dt, self.tz, naive_as_utc=naive_as_utc)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, BaseSchedule):
            return other.nowfun == self.nowfun
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def _seconds_left(self, last_run_at: datetime) -> float:
        return self.remaining_estimate(last_run_at).total_seconds()
