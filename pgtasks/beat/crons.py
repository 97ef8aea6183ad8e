"""``app.crons``: entries of the schedule that are made by hand, and how all of them do.

An entry that is made here is a row. The leader of the schedule sees it within a moment, and
no program has to be started again.
"""

from __future__ import annotations

import builtins
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

from pgtasks import serialization
from pgtasks.app.connection import keeps_jobs_in_memory
from pgtasks.beat import ticks
from pgtasks.beat.expressions import written
from pgtasks.beat.lines import Line, line_of_fields, when
from pgtasks.beat.reading import line_of_row, lines_of
from pgtasks.exceptions import CronNotFound, ImproperlyConfigured
from pgtasks.storage import crons
from pgtasks.utils.nodenames import anon_nodename
from pgtasks.utils.time import maybe_make_aware

if TYPE_CHECKING:
    from pgtasks.storage.query import Query

__all__ = ["Cron", "Crons"]


class Cron(NamedTuple):
    """An entry of the schedule, and how it does.

    Attributes:
        name: Its name.
        source: ``code`` for one of a program, ``table`` for one made by hand.
        task: Name of the task.
        schedule: When, as text.
        timezone: Zone of its hours; None is the application's.
        args: Positional arguments.
        kwargs: Keyword arguments.
        options: Of ``apply_async``.
        catch_up: What becomes of ticks that were missed.
        overlap: What becomes of a tick while the job before is not over.
        jitter: Seconds by which jobs are put off at random.
        deadline: Seconds that a tick may be late.
        next: When it is due next, in UTC; None if that cannot be told, or it is paused.
        last: Its last tick that was dealt with; None where nobody has begun with it.
        last_task_id: Task id of the job that was sent last.
        runs: How many ticks were sent.
        error: What is wrong with it.
        paused_since: Since when it is paused.
        paused_by: By whom.
        led: Whether anybody sends it at present; of one in the table that depends on there
            being a worker.
    """

    name: str
    source: str
    task: str
    schedule: str
    timezone: str | None
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    options: dict[str, Any]
    catch_up: str
    overlap: str
    jitter: float
    deadline: float | None
    next: datetime | None
    last: datetime | None
    last_task_id: str | None
    runs: int
    error: str | None
    paused_since: datetime | None
    paused_by: str | None
    led: bool


class Crons:
    """The schedule of an application.

    Args:
        app: The application.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._scope = app.main or ""

    # ── making entries ──────────────────────────────────────────────────────────────────

    def add(
        self,
        name: str,
        schedule: Any,
        task: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        timezone: Any = None,
        options: Mapping[str, Any] | None = None,
        catch_up: str = "last",
        overlap: str = "allow",
        jitter: float = 0.0,
        deadline: float | None = None,
        paused: bool = False,
    ) -> None:
        """Make an entry; it counts from now.

        Args:
            name: Its name; that of no other.
            schedule: A line of cron (``0 3 * * *``), a nickname (``@daily``, ``@reboot``),
                ``@every 30s``; or a number of seconds, a timedelta, a crontab or a solar.
            task: A task, or its name.
            args: Positional arguments, as JSON has them.
            kwargs: Keyword arguments.
            timezone: Zone of its hours; the application's by default.
            options: Of ``apply_async``: ``queue``, ``priority``, ``expires`` …
            catch_up: What becomes of ticks that nobody could send in time: ``last`` sends
                the newest of them, ``all`` each, at most 100 a second, ``skip`` none.
            overlap: What becomes of a tick while the job before is not over: ``allow``
                sends it, ``skip`` does not, ``queue`` sends it to run afterwards.
            jitter: Seconds; jobs are put off at random by up to that.
            deadline: Seconds that a tick may be late; later ones are not sent.
            paused: Begin with it later, by `resume`.

        Raises:
            ValueError: There is one of that name, or a value is not possible.
            TypeError: A value is of the wrong type.
        """
        fields = self._fields(
            name, schedule=schedule, task=task, args=args, kwargs=kwargs,
            timezone=timezone, options=options, catch_up=catch_up, overlap=overlap,
            jitter=jitter, deadline=deadline,
        )  # fmt: skip
        if name in self._code():
            raise ValueError(
                f"There is an entry {name!r} in the program's beat_schedule. Choose another "
                f"name."
            )
        by = anon_nodename() if paused else None
        if not self._run(crons.add(self._scope, name, paused=paused, by=by, **fields)):
            raise ValueError(
                f"There is an entry {name!r} already: change it by app.crons.update(), or "
                f"choose another name."
            )

    def update(self, name: str, **changes: Any) -> None:
        """Change an entry that was made by `add`; where its hours change, it counts from now.

        Args:
            name: Its name.
            **changes: Arguments of `add`; what is not named stays.

        Raises:
            CronNotFound: There is none that was made by hand.
            ValueError: A value is not possible.
            TypeError: A value is of the wrong type, or there is no such argument.
        """
        row = self._row(name, "table")
        if row is None:
            raise self._missing(name, "changed")
        unknown = set(changes) - _ARGUMENTS
        if unknown:
            raise TypeError(
                f"An entry has no {', '.join(sorted(unknown))}: there are "
                f"{', '.join(sorted(_ARGUMENTS))}."
            )
        line = line_of_row(row, app=self._app)
        known = {
            **{key: getattr(line, key) for key in _ARGUMENTS},
            "schedule": row.schedule,
        }
        fields = self._fields(name, **{**known, **changes})
        if not self._run(crons.update(self._scope, name, **fields)):
            raise self._missing(name, "changed")

    def delete(self, name: str) -> None:
        """Delete an entry that was made by `add`; jobs that it has sent stay.

        Args:
            name: Its name.

        Raises:
            CronNotFound: There is none that was made by hand.
        """
        if not self._run(crons.delete(self._scope, name)):
            raise self._missing(name, "deleted")

    # ── any entry ───────────────────────────────────────────────────────────────────────

    def pause(self, name: str, *, by: str | None = None) -> None:
        """Send nothing of an entry, be it of a program or made by hand, until `resume`.

        It stays so through deploys. A tick under way may still be sent.

        Args:
            name: Its name.
            by: Who is shown to have paused it; this process by default.

        Raises:
            CronNotFound: There is no such entry.
        """
        known = name in self._code()
        by = by or anon_nodename()
        if not self._run(crons.pause(self._scope, name, by=by, known=known)):
            raise self._missing(name, "paused")

    def resume(self, name: str) -> None:
        """Send an entry again, from its next tick on.

        Args:
            name: Its name.

        Raises:
            CronNotFound: There is no such entry, or it was never paused.
        """
        if not self._run(crons.resume(self._scope, name)) and name not in self._code():
            raise self._missing(name, "resumed")

    def run(self, name: str) -> Any:
        """Send the task of an entry now, besides its ticks.

        Args:
            name: Its name.

        Returns:
            What ``apply_async`` returns.

        Raises:
            CronNotFound: There is no such entry, or it is another program's.
        """
        line = self._code().get(name)
        if line is None:
            row = self._row(name, "table")
            if row is None:
                raise self._missing(name, "run")
            line = line_of_row(row, app=self._app)
        args = [each() if hasattr(each, "delay") else each for each in line.args]
        task = self._app.tasks.get(line.task)
        if task is None:
            return self._app.send_task(line.task, args, dict(line.kwargs), **line.options)
        return task.apply_async(args, dict(line.kwargs), **line.options)

    def adopt(self, last_runs: Mapping[str, Any]) -> builtins.list[str]:
        """Take over when another scheduler has sent entries of this program.

        For the day of a move: what became due since is sent, what was sent before is not.
        Entries that have been sent from here meanwhile, or that the program has not, are
        passed over, so that it may be called at every start.

        Args:
            last_runs: By the name of an entry the moment at which it was last sent, or that
                and how often it was.

        Returns:
            The names of those of which that was news.
        """
        known = self._code()
        runs = []
        for name, said in last_runs.items():
            moment, count = said if isinstance(said, tuple) else (said, 1)
            if name in known:
                last = maybe_make_aware(moment).isoformat()
                runs.append({"name": name, "last": last, "runs": max(1, int(count))})
        return list(self._run(crons.adopt(self._scope, runs))) if runs else []

    # ── looking ─────────────────────────────────────────────────────────────────────────

    def list(self) -> builtins.list[Cron]:
        """All entries, by name: of this program, of others with its name, and of the table."""
        lines, broken = self._lines()
        now = datetime.now(timezone.utc)
        found: dict[str, Cron] = {}
        for row in self._run(crons.entries(self._scope)):
            line, error = lines.pop(row.name, None), row.error
            if row.source == "table":
                try:
                    line = line_of_row(row, app=self._app)
                except Exception as failed:
                    line, error = None, f"{type(failed).__name__}: {failed}"
            elif line is None and not row.led and row.name not in broken:
                continue  # of a program that is gone
            found[row.name] = _shown(row, line, error, now)
        for name, line in lines.items():
            found[name] = _shown(None, line, None, now, name=name)
        for name, wrong in broken.items():
            error = f"{type(wrong).__name__}: {wrong}"
            before = found.get(name)
            found[name] = (
                _shown(None, None, error, now, name=name)
                if before is None
                else before._replace(error=error, next=None)
            )
        return sorted(found.values(), key=lambda each: each.name)

    def next_runs(self, name: str, count: int = 5) -> builtins.list[datetime]:
        """When an entry is due next, in UTC.

        Args:
            name: Its name.
            count: How many times.

        Returns:
            Fewer where its schedule does not tell more; none if it is paused.

        Raises:
            CronNotFound: There is no such entry, or it is another program's.
        """
        row = self._row(name)
        line = self._code().get(name)
        if row is not None and row.source == "table":
            line = line_of_row(row, app=self._app)
        if line is None:
            raise self._missing(name, "looked at")
        if row is not None and row.paused_at is not None:
            return []
        now = datetime.now(timezone.utc)
        return _upcoming(line, row, now, count)

    # ── the rest ────────────────────────────────────────────────────────────────────────

    def _fields(self, name: str, *, schedule: Any, **given: Any) -> dict[str, Any]:
        """The columns of an entry, checked."""
        text = written(schedule)
        if given["timezone"] is None:
            given["timezone"] = getattr(schedule, "zone", None)
        line = line_of_fields(name, schedule=text, app=self._app, **given)
        payload = serialization.dump_arguments(line.args, line.kwargs, "json")
        if payload.args is None or payload.kwargs is None:
            raise TypeError("args and kwargs must be such as JSON has.")
        try:
            options = json.dumps(dict(line.options))
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"options must be such as JSON has: {error}. Times are seconds here."
            ) from error
        return {
            "task": line.task,
            "schedule": text,
            "timezone": line.timezone,
            "args": payload.args,
            "kwargs": payload.kwargs,
            "options": options,
            "catch_up": line.catch_up,
            "overlap": line.overlap,
            "jitter": line.jitter,
            "deadline": line.deadline,
        }

    def _lines(self) -> tuple[dict[str, Line], dict[str, Exception]]:
        self._app.finalize(auto=True)
        return lines_of(self._app)

    def _code(self) -> dict[str, Line]:
        return self._lines()[0]

    def _row(self, name: str, source: str | None = None) -> crons.Entry | None:
        for row in self._run(crons.entries(self._scope)):
            if row.name == name and source in (None, row.source):
                found: crons.Entry = row
                return found
        return None

    def _missing(self, name: str, what: str) -> CronNotFound:
        return CronNotFound(name, what, known=name in self._code())

    def _run(self, query: Query[Any]) -> Any:
        if keeps_jobs_in_memory(self._app):
            raise ImproperlyConfigured(
                "Entries made by hand need a database, and this application keeps its jobs "
                "in memory (broker_url). Name one: postgresql://user@host/name."
            )
        return self._app.database.run(query)


_ARGUMENTS = frozenset(
    (
        "schedule", "task", "args", "kwargs", "timezone", "options", "catch_up", "overlap",
        "jitter", "deadline",
    )
)  # fmt: skip


def _shown(
    row: crons.Entry | None,
    line: Line | None,
    error: str | None,
    now: datetime,
    *,
    name: str = "",
) -> Cron:
    paused = row is not None and row.paused_at is not None
    following: datetime | None = None
    if line is not None and not paused:
        try:
            following = next(iter(_upcoming(line, row, now, 1)), None)
        except Exception as failed:
            error = f"{type(failed).__name__}: {failed}"
    said = row if line is None else line
    return Cron(
        name=name if row is None else row.name,
        source="code" if row is None else row.source,
        task="" if said is None else said.task,
        schedule=when(line.schedule) if line is not None else row.schedule if row else "",
        timezone=None if said is None else said.timezone,
        args=() if line is None else tuple(line.args),
        kwargs={} if line is None else dict(line.kwargs),
        options={} if line is None else dict(line.options),
        catch_up="last" if said is None else said.catch_up,
        overlap="allow" if said is None else said.overlap,
        jitter=0.0 if said is None else said.jitter,
        deadline=None if said is None else said.deadline,
        next=following,
        last=None if row is None else _moment(row.last_at),
        last_task_id=None if row is None else row.last_task_id,
        runs=0 if row is None else row.runs,
        error=error,
        paused_since=_moment(row.paused_at) if row and row.paused_at is not None else None,
        paused_by=None if row is None else row.paused_by,
        led=row is not None and (row.led or row.source == "table"),
    )


def _upcoming(
    line: Line, row: crons.Entry | None, now: datetime, count: int
) -> builtins.list[datetime]:
    last = now if row is None else _moment(row.last_at)
    return list(ticks.upcoming(line.clocked(lambda: now), last, now, count))


def _moment(seconds: float) -> datetime:
    return datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=seconds)
