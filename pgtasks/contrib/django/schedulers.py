"""Sends the periodic tasks of django-celery-beat's tables, once however many beats run.

The tables stay as they are, and so does the admin that people know them from. What is
different is who sends: a run is written into the row of its task by the transaction that
inserts the job, and only if the row says what it said when it was read. Of ten beats that
find a task due one succeeds, and a beat that dies in the middle has done neither.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.apps import apps
from django.db import (
    Error,
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
    ProgrammingError,
    router,
    transaction,
)
from django.db import close_old_connections as close_broken_connections
from django.utils.timezone import now

import pgtasks.beat as beat
from pgtasks.beat import Scheduler, SchedulingError
from pgtasks.contrib.django.entries import ModelEntry
from pgtasks.contrib.django.rows import KINDS, row_for
from pgtasks.contrib.django.tables import LABEL, Tables, tables
from pgtasks.exceptions import ImproperlyConfigured
from pgtasks.storage.errors import BadData, StorageError

__all__ = ["DatabaseScheduler", "ModelEntry"]

#: A database that is away is asked again after one second, two, four … up to these.
LONGEST_WAIT = 30.0

#: What says that the database cannot be used now; others are about a value in a statement.
AWAY = (OperationalError, InterfaceError, InternalError, ProgrammingError)

#: The options of an entry that the tables have columns for.
STORED = {
    *("queue", "exchange", "routing_key", "priority"),
    *("headers", "expires", "expire_seconds"),
}


class Unsent(Exception):
    """A run that was not made, since the job could not be inserted now."""


class DatabaseScheduler(Scheduler):
    """A scheduler whose entries are rows of django-celery-beat's tables.

    Entries of ``beat_schedule`` are written into the tables at the start; what people
    change there of a task's ``enabled`` stays.

    Args:
        *args: As `Scheduler`'s.
        **kwargs: As `Scheduler`'s.

    Raises:
        ImproperlyConfigured: There is no Django project, or it has no such tables.
    """

    Entry: Any = ModelEntry
    max_interval = 2.0
    #: Seconds between two looks at the row that tells of changes.
    look_every = 1.0
    #: Seconds after which everything is read again, also what was changed past the admin.
    read_every = 300.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if not apps.ready:
            raise ImproperlyConfigured(
                "DatabaseScheduler reads the tables of a Django project, and none is set "
                "up: set DJANGO_SETTINGS_MODULE before the application is made, or call "
                "django.setup()."
            )
        self.tables: Tables = tables()
        self._schedule: dict[str, Any] | None = None
        self._marker: datetime | None = None
        self._looked = self._read_at = 0.0
        self._fresh = False  # entries were read since the heap was made
        self._told: dict[Any, str] = {}  # what was said of rows that are broken
        self._failures = 0
        self._is_set_up = False
        self._unsent: BaseException | None = None
        super().__init__(*args, **kwargs)

    @property
    def _database(self) -> str:
        alias: str = router.db_for_write(self.tables.PeriodicTask)
        return alias

    # ── the schedule ────────────────────────────────────────────────────────────────────

    def setup_schedule(self) -> None:
        """Write the entries of the settings into the tables, and read what is there."""
        try:
            self._set_up()
        except ProgrammingError as error:
            raise ImproperlyConfigured(
                f"django-celery-beat's tables cannot be used in the database "
                f"{self._database!r}: {error}. Make them with 'manage.py migrate {LABEL}', "
                f"or take DatabaseScheduler out of beat_scheduler."
            ) from error
        except Error as error:
            self._bear(error)  # the first tick tries again

    def _set_up(self) -> None:
        self.install_default_entries({})
        self.update_from_dict(self.app.conf.beat_schedule)
        self._read()
        self._is_set_up = True

    def update_from_dict(self, dict_: Mapping[str, Any]) -> None:
        """Write entries into the tables, as far as they are not there already."""
        for name, fields in dict_.items():
            try:
                with transaction.atomic(using=self._database):
                    self._write_entry(name, **fields)
            except Exception as error:
                if isinstance(error, AWAY):
                    raise
                if isinstance(error, IntegrityError) and self._has(name):
                    continue  # another beat was quicker
                beat.error(
                    "Cannot write the entry %r of beat_schedule into the table %s: %s. The "
                    "others go on; correct it in the settings.",
                    name,
                    self.tables.PeriodicTask._meta.db_table,
                    error,
                )

    def _has(self, name: str) -> bool:
        return bool(self.tables.PeriodicTask._default_manager.filter(name=name).exists())

    def _write_entry(
        self,
        name: str,
        schedule: Any,
        args: Any = None,
        kwargs: Any = None,
        relative: bool = False,
        options: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> None:
        from kombu.utils.json import dumps

        if not fields.get("task"):
            raise ValueError("it has no task; name one")
        given = dict(options or {})
        if lost := sorted(given.keys() - STORED):
            beat.warning(
                "The entry %r of beat_schedule goes without its options %s: there is no column "
                "for them in django-celery-beat's tables. Set them on the task itself.",
                name,
                ", ".join(lost),
            )
        expires: Any = given.get("expire_seconds", given.get("expires"))
        if isinstance(expires, timedelta):
            expires = expires.total_seconds()
        kind, row = row_for(schedule, self.tables, str(self.app.timezone))
        wanted = {
            **fields,
            **{f"{each}_id": None for each in KINDS},
            f"{kind}_id": row.pk,
            "args": dumps(list(args or ())),
            "kwargs": dumps(dict(kwargs or {})),
            "headers": dumps(given.get("headers") or {}),
            **{
                each: given.get(each)
                for each in ("queue", "exchange", "routing_key", "priority")
            },
            "expire_seconds": int(expires) if isinstance(expires, (int, float)) else None,
        }
        model = self.tables.PeriodicTask
        found = model._default_manager.filter(name=name).first() or model(name=name)
        if found.pk and all(_same(getattr(found, key), wanted[key]) for key in wanted):
            return  # other beats need not read everything again
        for key, value in wanted.items():
            setattr(found, key, value)
        found.save()
        self._tell_of_change()

    def _tell_of_change(self) -> None:
        # django-celery-beat's own models do it by signals; others must do it themselves.
        self.tables.PeriodicTasks._default_manager.update_or_create(
            ident=1, defaults={"last_update": now()}
        )

    def get_schedule(self) -> Any:
        """The entries by name, read again if somebody has changed the tables."""
        if self._schedule is None or self._has_changed():
            self._read()
        return self._schedule

    def set_schedule(self, schedule: Any) -> None:
        """Replace the entries in memory."""
        self._schedule, self._fresh = schedule, True

    schedule = property(
        lambda self: self.get_schedule(),
        lambda self, schedule: self.set_schedule(schedule),
        doc="The entries by name.",
    )

    def _has_changed(self) -> bool:
        moment = time.monotonic()
        if moment - self._looked < self.look_every:
            return False
        self._looked = moment
        return moment - self._read_at > self.read_every or self._mark() != self._marker

    def _mark(self) -> datetime | None:
        row = self.tables.PeriodicTasks._default_manager.filter(ident=1)
        mark: datetime | None = row.values_list("last_update", flat=True).first()
        return mark

    def _read(self) -> None:
        # The mark first: a change that comes in between is then read once more.
        marker = self._mark()
        rows = self.tables.PeriodicTask._default_manager.filter(enabled=True)
        entries = {}
        for row in rows.select_related(*KINDS):
            try:
                entries[row.name] = self.Entry(row, app=self.app)
            except Exception as error:
                self._tell_of_broken(row, error)
            else:
                self._told.pop(row.pk, None)
        self._looked = self._read_at = time.monotonic()
        self._schedule, self._marker, self._fresh = entries, marker, True
        beat.debug("Current schedule:\n%s", "\n".join(map(repr, entries.values())))

    def _tell_of_broken(self, row: Any, error: Exception) -> None:
        said = f"{type(error).__name__}: {error}"
        if self._told.get(row.pk) == said:
            return
        self._told[row.pk] = said
        beat.error(
            "The periodic task %r is not sent: %s. The others go on; correct it in the "
            "admin (row %s of %s).",
            row.name,
            error,
            row.pk,
            row._meta.db_table,
        )

    def schedules_equal(self, old_schedules: Any, new_schedules: Any) -> bool:
        """Whether the heap is still that of the schedule."""
        if self._fresh or old_schedules is None or new_schedules is None:
            return False
        return bool(old_schedules.keys() == new_schedules.keys())

    def populate_heap(self, *args: Any, **kwargs: Any) -> None:
        """Put every entry onto the heap anew."""
        self._fresh = False
        super().populate_heap(*args, **kwargs)

    # ── sending ─────────────────────────────────────────────────────────────────────────

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Send what is due. A database that is away is waited for; nothing is skipped."""
        try:
            if not self._is_set_up:
                self._set_up()
            wait = super().tick(*args, **kwargs)
        except (Error, Unsent) as error:
            return self._bear(error)
        if self._failures:
            beat.info("beat: The schedule is at work again.")
            self._failures = 0
        return wait

    def _bear(self, error: Exception) -> float:
        self._failures += 1
        wait = min(2.0 ** (self._failures - 1), LONGEST_WAIT) * random.uniform(0.8, 1)
        if self._failures == 1:
            beat.error(
                "Cannot use the schedule in the database %r: %s. What is due is sent as "
                "soon as it can be.",
                self._database,
                error,
            )
        close_broken_connections()
        # What is in memory may be a run ahead of the table.
        self._schedule = self._heap = None
        return wait

    def reserve(self, entry: Any) -> Any:
        """Count a run in memory; `apply_entry` does so in the table."""
        following = next(entry)
        if self._schedule is not None:
            self._schedule[entry.name] = following
        return following

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        """Write the run of an entry down and send its task, in one transaction.

        Raises:
            Unsent: The job could not be inserted now; neither was done.
        """
        following = (self._schedule or {}).get(entry.name, entry)
        self._unsent = None
        with transaction.atomic(using=self._database):
            ours = entry.claim(following.last_run_at)
            if ours:
                super().apply_entry(entry, producer=producer)
            if self._unsent is not None:
                raise Unsent(str(self._unsent)) from self._unsent
        if ours:
            entry.claimed(following.last_run_at)
        else:
            beat.debug("%s was sent by another beat, or has been changed.", entry.name)
            following.reread()

    def apply_async(
        self, entry: Any, producer: Any = None, advance: bool = True, **kwargs: Any
    ) -> Any:
        """Send the task of an entry, due or not.

        Args:
            entry: The entry.
            producer: Celery's.
            advance: Count a run, and write it down whoever has sent it meanwhile.
            **kwargs: For subclasses.

        Raises:
            SchedulingError: It cannot be sent.
        """
        try:
            # Something that is wrong with this job leaves the transaction usable, and its
            # run counts as made: the same would be wrong with it a second later.
            with transaction.atomic(using=self._database):
                if advance:
                    entry = self.reserve(entry)
                    entry.save()
                return super().apply_async(entry, producer, advance=False, **kwargs)
        except SchedulingError as failed:
            cause = failed.__cause__
            if isinstance(cause, (StorageError, *AWAY)) and not isinstance(cause, BadData):
                self._unsent = failed
            raise
        except AWAY as failed:  # the transaction itself
            self._unsent = failed
            raise

    @property
    def info(self) -> str:
        """A line for the banner."""
        return f"    . db -> {self.tables.PeriodicTask._meta.db_table}@{self._database}"


def _same(there: Any, wanted: Any) -> bool:
    # django-celery-beat stores an empty text as none at all.
    empty = ("", None)
    return bool(there == wanted) or (there in empty and wanted in empty)
