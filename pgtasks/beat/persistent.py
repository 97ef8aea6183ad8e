"""Keeps the moments of the last runs in a file, so that a restart neither repeats nor skips."""

from __future__ import annotations

import contextlib
import dbm
import errno
import os
import pickle
from typing import Any

import pgtasks.beat as beat
from pgtasks import __version__
from pgtasks.beat import shelf
from pgtasks.beat.importing import Run
from pgtasks.beat.scheduler import Scheduler
from pgtasks.exceptions import ImproperlyConfigured

__all__ = ["PersistentScheduler"]

UNREADABLE = (
    *(KeyError, TypeError, ValueError, EOFError, pickle.UnpicklingError),
    # A class of the program's, or of a library's, that is no longer where it was.
    *(ImportError, AttributeError),
)
CORRUPT = (KeyError, UnicodeDecodeError, *dbm.error, pickle.UnpicklingError)


class PersistentScheduler(Scheduler):
    """A scheduler with a file; the setting ``beat_schedule_filename`` names it.

    The file may be one that Celery's beat has left: its last runs are taken over.

    Args:
        *args: As `Scheduler`'s.
        **kwargs: As `Scheduler`'s; ``schedule_filename`` is the file.
    """

    #: What opens the file.
    persistence: Any = shelf
    #: What its name may end with, by the library that writes it.
    known_suffixes = ("", ".db", ".dat", ".bak", ".dir")

    _store: Any = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.schedule_filename = kwargs.get("schedule_filename")
        super().__init__(*args, **kwargs)

    def get_schedule(self) -> Any:
        """The entries by name, as the file has them."""
        return self._store["entries"]

    def set_schedule(self, schedule: Any) -> None:
        """Replace them."""
        self._store["entries"] = schedule

    schedule = property(
        lambda self: self.get_schedule(),
        lambda self, schedule: self.set_schedule(schedule),
        doc="The entries by name.",
    )

    def setup_schedule(self) -> None:
        """Open the file and bring it up to date."""
        try:
            self._store = self._open_schedule()
            # Some libraries find out only now that they cannot read it.
            self._store.keys()
        except Exception as error:
            _refuse_to_share(self.schedule_filename, error)
            self._store = self._destroy_open_corrupted_schedule(error)
        salvaged = self._create_schedule()
        conf = self.app.conf
        self._forget_if_changed("tz", conf.timezone, "Timezone")
        self._forget_if_changed("utc_enabled", conf.enable_utc, "UTC")
        self._store.setdefault("entries", {})
        self.merge_inplace(conf.beat_schedule)
        self.install_default_entries(self.schedule)
        for name, (last, count) in salvaged.items():
            if name in self.schedule:
                entry = self.schedule[name]
                entry.last_run_at, entry.total_run_count = last, count
        if getattr(self._store, "was_celerys", False):
            beat.info(
                "beat: Took over the last runs of %d entries from Celery's file %s",
                sum(entry.total_run_count > 0 for entry in self.schedule.values()),
                self.schedule_filename,
            )
        self._store.update(
            {
                "__version__": __version__,
                "tz": conf.timezone,
                "utc_enabled": conf.enable_utc,
            }
        )
        self.sync()
        beat.debug("Current schedule:\n%s", "\n".join(map(repr, self.schedule.values())))

    def sync(self) -> None:
        """Write what has changed."""
        if self._store is not None:
            self._store.sync()

    def close(self) -> None:
        """Write it, and close the file."""
        try:
            self.sync()
        finally:
            if self._store is not None:
                self._store.close()

    @property
    def info(self) -> str:
        """A line for the banner."""
        return f"    . db -> {self.schedule_filename}"

    def _forget_if_changed(self, key: str, now: Any, title: str) -> None:
        # Moments of last runs mean another thing in another zone.
        stored = self._store.get(key)
        if stored is not None and stored != now:
            beat.warning("Reset: %s changed from %r to %r", title, stored, now)
            self._store.clear()

    # ── the file ────────────────────────────────────────────────────────────────────────

    def _open_schedule(self) -> Any:
        return self.persistence.open(self.schedule_filename, writeback=True)

    def _create_schedule(self) -> dict[str, Run]:
        """Make sure that there are entries which can be read.

        Returns:
            The last runs of those that could not.
        """
        salvaged: dict[str, Run] = {}
        for _ in range(2):
            try:
                self._store["entries"]
            except UNREADABLE as unreadable:
                if not isinstance(unreadable, KeyError):
                    salvaged = self._salvage()
                    beat.warning(
                        "Reset: cannot read the stored entries: %r. Kept the last runs of "
                        "%d of them.",
                        unreadable,
                        len(salvaged),
                    )
                try:
                    self._store["entries"] = {}
                except CORRUPT as corrupt:
                    self._store = self._destroy_open_corrupted_schedule(corrupt)
                    continue
            else:
                for key in ("__version__", "tz", "utc_enabled"):
                    if key not in self._store:
                        beat.warning("DB Reset: Account for new %s field", key)
                        self._store.clear()
                        break
            break
        return salvaged

    def _salvage(self) -> dict[str, Run]:
        if not hasattr(self._store, "last_runs"):
            return {}  # opened by something else
        try:
            runs: dict[str, Run] = self._store.last_runs()
        except Exception:
            return {}  # it is not only that a class is missing
        return runs

    def _destroy_open_corrupted_schedule(self, error: Exception) -> Any:
        beat.error(
            "Removing corrupted schedule file %r: %r",
            self.schedule_filename,
            error,
            exc_info=True,
        )
        self._remove_db()
        return self._open_schedule()

    def _remove_db(self) -> None:
        for suffix in self.known_suffixes:
            with contextlib.suppress(FileNotFoundError):
                try:
                    os.remove(f"{self.schedule_filename}{suffix}")
                except OSError as error:
                    if error.errno != 2:  # as raised by hand, it may not know its class
                        raise


def _refuse_to_share(path: Any, error: Exception) -> None:
    """Leave a file alone that another process has open: it is not corrupt."""
    if getattr(error, "errno", None) in (errno.EAGAIN, errno.EWOULDBLOCK):
        raise ImproperlyConfigured(
            f"The schedule file {path!r} is in use by another process. Stop the beat that "
            f"has it open, Celery's or pgtasks', or give this one another file (-s, "
            f"beat_schedule_filename)."
        ) from error
