"""Where entries come from: ``beat_schedule``, lines of the plugin, rows of the table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from pgtasks import serialization
from pgtasks.beat.lines import Line, line_of_crontab, line_of_entry, line_of_fields
from pgtasks.beat.scheduler import CLEANUP
from pgtasks.schedules import crontab

if TYPE_CHECKING:
    from pgtasks.storage.crons import Entry

__all__ = ["Code", "code_of", "is_stock", "line_of_row", "lines_of"]

#: Celery's own schedulers, in whichever spelling: what they do is done for the whole fleet.
_STOCK = frozenset(
    f"{package}.beat{sign}{name}"
    for package in ("pgtasks", "celery")
    for sign in ".:"
    for name in ("PersistentScheduler", "Scheduler", "SharedScheduler")
)


class Code(NamedTuple):
    """The schedule of a program.

    Attributes:
        lines: What could be read, by name.
        broken: What could not, by name.
        documents: The lines as rows of the table.
        seen: What it was read from, by which a change is noticed.
    """

    lines: dict[str, Line]
    broken: dict[str, Exception]
    documents: list[dict[str, Any]]
    seen: tuple[Any, ...]


def is_stock(scheduler: Any) -> bool:
    """Whether a scheduler is Celery's own, whose entries any leader may send."""
    if isinstance(scheduler, type):
        scheduler = f"{scheduler.__module__.partition('.')[0]}.beat.{scheduler.__name__}"
    return not scheduler or str(scheduler) in _STOCK


def code_of(app: Any, before: Code | None = None) -> Code:
    """Read the schedule of a program.

    Args:
        app: The application.
        before: What was read the last time, which is the answer if nothing has changed.
    """
    conf = app.conf
    schedule = conf.beat_schedule or {}
    own = is_stock(conf.beat_scheduler)
    seen = (dict(schedule) if own else None, _options(app), conf.timezone, conf.enable_utc)
    if before is not None and before.seen == seen:
        return before
    lines, broken = lines_of(app)
    documents = []
    for name in list(lines):
        try:
            documents.append(lines[name].document())
        except Exception as error:
            # What its arguments look like is code of the program's, too.
            broken[name] = error
            del lines[name]
    return Code(lines, broken, documents, seen)


def lines_of(app: Any) -> tuple[dict[str, Line], dict[str, Exception]]:
    """The entries of a program by name, and what is wrong with the others."""
    lines: dict[str, Line] = {}
    broken: dict[str, Exception] = {}
    conf = app.conf
    entries: dict[str, Any] = {}
    if is_stock(conf.beat_scheduler):
        entries.update(conf.beat_schedule or {})
        if _needs_cleanup(app):
            entries.setdefault(CLEANUP, _NIGHTLY)
    for name, entry in entries.items():
        try:
            lines[name] = line_of_entry(name, entry, app=app)
        except Exception as error:
            broken[str(name)] = error
    options = _options(app)
    for entry in options.get("crontab") or ():
        try:
            line = line_of_crontab(entry, timezone=options.get("timezone"), app=app)
        except Exception as error:
            broken[repr(entry)] = error
            continue
        if line.name in lines:
            broken[line.name] = ValueError("two entries have this name: give them others.")
            continue
        lines[line.name] = line
    return lines, broken


_NIGHTLY = {
    "task": CLEANUP,
    "schedule": crontab("0", "4", "*"),
    "options": {"expires": 12 * 3600},
}


def _needs_cleanup(app: Any) -> bool:
    """As `Scheduler.install_default_entries` has it."""
    return bool(app.conf.result_expires) and not app.backend.supports_autoexpire


def _options(app: Any) -> Mapping[str, Any]:
    plugins = app.conf.plugins
    given = plugins.get("cron") if isinstance(plugins, Mapping) else None
    return given if isinstance(given, Mapping) else {}


def line_of_row(row: Entry, *, app: Any) -> Line:
    """Read an entry that was made by hand.

    Raises:
        ValueError: A value is not possible.
        TypeError: It is of the wrong type.
    """
    args, kwargs = serialization.load_arguments(
        row.args, row.kwargs, None, "application/json", "utf-8", ("application/json",)
    )[:2]
    return line_of_fields(
        row.name,
        task=row.task,
        schedule=row.schedule,
        timezone=row.timezone,
        args=args,
        kwargs=kwargs,
        options=json.loads(row.options),
        catch_up=row.catch_up,
        overlap=row.overlap,
        jitter=row.jitter,
        deadline=row.deadline,
        app=app,
    )
