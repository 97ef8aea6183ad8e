"""What a file of Celery's `PersistentScheduler` tells of last runs, read without Celery.

The pickles in such a file name classes of Celery's, of the program's, of libraries for
time zones. To learn when an entry was last sent none of them is needed, so none is
imported: what is not a moment is read as a thing that nobody looks into. It follows
that a file can be read wherever it was written, and that reading it runs no code of its.
"""

from __future__ import annotations

import dbm
import io
import os
import pickle
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

import pgtasks.beat as beat

__all__ = ["Run", "last_runs", "skim"]

#: When an entry was last sent, in UTC, and how often it was.
Run: TypeAlias = "tuple[datetime, int]"


def last_runs(path: str | os.PathLike[str]) -> dict[str, Run]:
    """When the entries of a schedule file were last sent, and how often.

    The file is Celery's or pgtasks' own, and is not changed. One that cannot be read is
    reported in the log and tells nothing, as a scheduler would begin it anew.

    Args:
        path: Name of the file as in ``beat_schedule_filename``: without the suffix that
            the library behind it may have added.

    Returns:
        By the names of the entries; empty if there is no such file.
    """
    path = os.fspath(path)
    kind = dbm.whichdb(path)
    if kind is None:
        return {}
    try:
        # The library that wrote it may not be there; an empty name is that of none.
        with dbm.open(path, "r") as file:
            return skim(file[b"entries"])
    except KeyError:
        return {}  # begun, and never written to
    except Exception as error:
        beat.error(
            "Cannot read the last runs from %r (%s): %r. Entries count as new: those that "
            "became due while no beat ran are not made up for.",
            path,
            kind or "of no kind that this Python knows",
            error,
        )
        return {}


def skim(pickled: bytes) -> dict[str, Run]:
    """The last runs in the pickle of a schedule's entries."""
    entries = _Skimmer(io.BytesIO(pickled)).load()
    found = ((name, _run_of(entry)) for name, entry in dict(entries).items())
    return {name: run for name, run in found if run is not None}


def _run_of(entry: Any) -> Run | None:
    if not isinstance(entry, _Opaque):
        return None
    if entry.state is not None:
        last, count = (entry.state.get(key) for key in ("last_run_at", "total_run_count"))
    elif len(entry.args) >= 4:
        last, count = entry.args[2:4]  # as Celery's entries are made again
    else:
        return None
    if not isinstance(last, datetime):
        return None
    try:
        moment = last if last.utcoffset() is not None else last.replace(tzinfo=timezone.utc)
    except NotImplementedError:  # in a zone of a kind that we do not know
        return None
    return moment.astimezone(timezone.utc), int(count or 0)


# ── reading without importing ───────────────────────────────────────────────────────────


class _Opaque(tzinfo):
    """Stands for an object of any class. A zone, for moments take nothing else as theirs."""

    args: tuple[Any, ...] = ()
    state: Any = None

    def __new__(cls, *args: Any, **kwargs: Any) -> _Opaque:
        made = super().__new__(cls)
        made.args = args
        return made

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, dict) else None

    # What it was may have been a list or a dict, and get its members one by one.

    def append(self, member: Any) -> None:
        pass

    def extend(self, members: Iterable[Any]) -> None:
        pass

    def __setitem__(self, key: Any, member: Any) -> None:
        pass


class _Skimmer(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return _KNOWN.get((module, name)) or type(name.rpartition(".")[2], (_Opaque,), {})


def _attribute(owner: Any, name: str) -> Any:
    """``getattr`` for pickles, which makes zones by a method of their class."""
    return getattr(owner, name) if owner is ZoneInfo and name == "_unpickle" else _Opaque


def _zone_of_pytz(name: str, seconds: int | None = None, *rest: Any) -> tzinfo:
    return ZoneInfo(name) if seconds is None else timezone(timedelta(seconds=seconds))


_KNOWN: dict[tuple[str, str], Any] = {
    **{("datetime", each.__name__): each for each in (datetime, timedelta, timezone)},
    **{("builtins", each.__name__): each for each in (dict, list, set, frozenset, tuple)},
    **{(module, "ZoneInfo"): ZoneInfo for module in ("zoneinfo", "backports.zoneinfo")},
    **{
        (module, "ZoneInfo._unpickle"): ZoneInfo._unpickle  # type: ignore[attr-defined]
        for module in ("zoneinfo", "backports.zoneinfo")
    },
    ("builtins", "getattr"): _attribute,
    # Celery used pytz until 5.3.
    ("pytz", "_UTC"): lambda: timezone.utc,
    ("pytz", "_p"): _zone_of_pytz,
}
