"""A periodic task of django-celery-beat's, as an entry of a schedule."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db.models import F

from pgtasks.app import app_or_default
from pgtasks.beat import ScheduleEntry
from pgtasks.contrib.django.kinds import NEVER, present
from pgtasks.contrib.django.rows import moment_of, schedule_of, stored
from pgtasks.schedules import maybe_schedule, schedstate

__all__ = ["ModelEntry"]

#: An entry that was never sent counts from when it was made. One with a ``start_time``
#: counts from so long before that it is due as soon as that has come.
LONG_AGO = timedelta(days=365 * 30)


class ModelEntry(ScheduleEntry):
    """An entry that a row of ``django_celery_beat_periodictask`` describes.

    Args:
        model: The row.
        app: The application.

    Attributes:
        model: The row, shared with the entries that follow this one.

    Raises:
        ValueError: The row cannot be understood.
    """

    def __init__(self, model: Any, app: Any = None) -> None:
        self.app = app_or_default(app)
        self.model = model
        self.name = model.name
        self.task = model.task
        self.schedule = maybe_schedule(schedule_of(model), app=self.app)
        self.args = _read(model, "args", list)
        self.kwargs = _read(model, "kwargs", dict)
        self.options = _options_of(model)
        self.total_run_count = model.total_run_count
        self.last_run_at = self._last_run()

    def _last_run(self) -> datetime:
        row = self.model
        if row.last_run_at is not None:
            return moment_of(row.last_run_at)
        made = moment_of(row.date_changed) if row.date_changed else present()
        return made - LONG_AGO if row.start_time else made

    def default_now(self) -> datetime:
        """The present moment."""
        return present()

    def is_due(self) -> schedstate:
        """Whether it is to be sent, and the seconds until it should be asked again."""
        row = self.model
        if not row.enabled:
            return schedstate(False, NEVER)
        now = present()
        if row.start_time is not None:
            until = (moment_of(row.start_time) - now).total_seconds()
            if until > 0:
                return schedstate(False, until)
        if row.expires is not None and now >= moment_of(row.expires):
            self._write(enabled=False, last_run_at=None)
            return schedstate(False, NEVER)
        if self._runs_once and row.total_run_count > 0:
            # It was sent by django-celery-beat's own scheduler, which ends it afterwards.
            self._write(**_OVER)
            return schedstate(False, NEVER)
        due: schedstate = self.schedule.is_due(self.last_run_at)
        return due

    def next(self, last_run_at: datetime | None = None) -> ModelEntry:
        """The entry after this one was sent."""
        following = object.__new__(type(self))
        vars(following).update(vars(self))
        following.last_run_at = last_run_at or present()
        following.total_run_count += 1
        return following

    __next__ = next

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.model,)

    # ── the row ─────────────────────────────────────────────────────────────────────────

    @property
    def _runs_once(self) -> bool:
        return bool(self.model.one_off or self.model.clocked_id)

    def claim(self, moment: datetime) -> bool:
        """Write down that it is sent now, unless somebody has done so since it was read.

        The row is the referee: of all beats that find the same last run in it, one
        changes it. One that runs once is over with this run, also if the process dies.

        Args:
            moment: Its new last run.

        Returns:
            Whether this is for us to send.
        """
        row = self.model
        run = {"last_run_at": stored(moment), "total_run_count": F("total_run_count") + 1}
        there = self._rows().filter(enabled=True, last_run_at=row.last_run_at)
        return bool(there.update(**_OVER if self._runs_once else run))

    def claimed(self, moment: datetime) -> None:
        """Have the row in memory say what was written, once that is committed."""
        run = {
            "last_run_at": stored(moment),
            "total_run_count": self.model.total_run_count + 1,
        }
        vars(self.model).update(_OVER if self._runs_once else run)

    def reread(self) -> None:
        """Take over what others have written about its runs."""
        row = self.model
        names = "enabled", "last_run_at", "total_run_count"
        found = self._rows().values(*names).first()
        vars(row).update(found or {"enabled": False})
        self.total_run_count = row.total_run_count
        self.last_run_at = self._last_run()

    def save(self) -> None:
        """Write the last run down, whatever is there."""
        run = {"last_run_at": self.last_run_at, "total_run_count": self.total_run_count}
        self._write(**run)

    def _write(self, **values: Any) -> None:
        # An update makes no signals, by which other beats would read everything again.
        self._rows().update(**{**values, **_stored(values)})
        vars(self.model).update({**values, **_stored(values)})

    def _rows(self) -> Any:
        return type(self.model)._default_manager.filter(pk=self.model.pk)


#: What is written of a task that was to run once and has: as django-celery-beat does, so
#: that it runs again if it is enabled again.
_OVER: dict[str, Any] = {"enabled": False, "total_run_count": 0, "last_run_at": None}


def _stored(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: stored(each) for name, each in values.items() if isinstance(each, datetime)
    }


def _options_of(row: Any) -> dict[str, Any]:
    names = "queue", "exchange", "routing_key", "priority"
    options = {name: value for name in names if (value := getattr(row, name)) is not None}
    expires = moment_of(row.expires) if row.expires else row.expire_seconds
    if expires:
        options["expires"] = expires
    headers = _read(row, "headers", dict)
    options["headers"] = {**headers, "periodic_task_name": row.name}
    return options


def _read(row: Any, field: str, kind: type) -> Any:
    from kombu.utils.json import loads

    text = getattr(row, field)
    if not text:
        return kind()
    try:
        value = loads(text)
    except ValueError as error:
        raise ValueError(f"its {field} are no JSON ({error}): {text!r}") from error
    if not isinstance(value, kind):
        what = "a list" if kind is list else "an object"
        raise ValueError(f"its {field} must be {what} in JSON, not {text!r}")
    return value
