"""Which jobs are meant: the filters of ``app.jobs``, checked, and as the statements take them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from difflib import get_close_matches
from numbers import Real
from typing import Any

from pgtasks import serialization, states
from pgtasks.app import values
from pgtasks.app.priority import stored
from pgtasks.exceptions import JobStateError
from pgtasks.utils.functional import maybe_list

__all__ = ["JobFilter", "filter_of"]


@dataclass
class JobFilter:
    """What jobs must be; everything that is None they may be.

    A list means any of its values.

    Attributes:
        state: Oban's words: ``available``, ``discarded`` …
        queue: Names of queues.
        task: Names of tasks; ``*`` and ``?`` stand for anything, as in file names.
        worker: Names or ids of workers; ``*`` and ``?`` likewise.
        tags: All of these labels.
        meta: The metadata have these keys with these values.
        args: The positional arguments have these values among them.
        kwargs: The parameters of these names have these values. Of tasks that are
            registered here they are also found where they were given by their place.
        priority: Numbers.
        group: Ids of groups and chords: their members.
        root: Ids of the first tasks of work-flows: all that belongs to those.
        error: The last error, ``TimeoutError: no answer``, matches this SQL pattern: ``%`` stands
            for anything, ``_`` for one character.
        held: Whether a person holds it.
        older_than: Inserted longer ago than that: a number of seconds, or a timedelta.
        inserted_after: Since then: a date, or how long ago as seconds or a timedelta.
        inserted_before: Before then; likewise all that follow.
        scheduled_after: Due since then.
        scheduled_before: Due before then.
        finished_after: Over since then.
        finished_before: Over before then.
    """

    state: Any = None
    queue: Any = None
    task: Any = None
    worker: Any = None
    tags: Any = None
    meta: Mapping[str, Any] | None = None
    args: Any = None
    kwargs: Mapping[str, Any] | None = None
    priority: Any = None
    group: Any = None
    root: Any = None
    error: Any = None
    held: bool | None = None
    older_than: Any = None
    inserted_after: Any = None
    inserted_before: Any = None
    scheduled_after: Any = None
    scheduled_before: Any = None
    finished_after: Any = None
    finished_before: Any = None

    def __bool__(self) -> bool:
        return any(getattr(self, each.name) is not None for each in fields(self))

    def text(
        self,
        app: Any,
        only: Iterable[str] | None = None,
        *,
        doing: str = "",
        within: float | None = None,
    ) -> str:
        """The filter as the statements take it.

        Args:
            app: The application: its time zone, its order of priorities, its tasks.
            only: The states that are possible at all.
            doing: What for: ``retried``.
            within: Of what is over, only what has ended within so many seconds.

        Raises:
            JobStateError: The states that are asked for are not among the possible ones.
            TypeError: A value is of the wrong type.
            ValueError: A value cannot be.
        """
        wanted = _texts("state", self.state)
        for each in wanted or ():
            if each not in states.JOB_STATES:
                near = get_close_matches(each, sorted(states.JOB_STATES), 1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise ValueError(
                    f"There is no state {each!r}.{hint} There are "
                    f"{', '.join(sorted(states.JOB_STATES))}."
                )
        if only is not None:
            possible = set(only) if wanted is None else set(only) & set(wanted)
            if not possible:
                raise JobStateError(
                    f"Jobs that are {' or '.join(wanted or ())} cannot be {doing}; those that "
                    f"are {', '.join(sorted(only))} can.",
                    state=",".join(wanted or ()),
                )
            wanted = sorted(possible)
        document = {
            "states": wanted,
            "queues": _texts("queue", self.queue),
            "tasks": _globs("task", self.task),
            "workers": _globs("worker", self.worker),
            "tags": values.as_tags(self.tags),
            "meta": _mapping("meta", self.meta),
            "args": None if self.args is None else list(maybe_list(self.args)),
            "kwargs": _mapping("kwargs", self.kwargs),
            "places": self._places(app) if self.kwargs else None,
            "priorities": self._priorities(app),
            "groups": _texts("group", self.group),
            "roots": _texts("root", self.root),
            "errors": [_pattern(each) for each in _texts("error", self.error) or ()]
            or None,
            "held": self.held,
            "finished_within": within,
            **self._moments(app),
        }
        return serialization.dumps(
            {name: value for name, value in document.items() if value is not None}
        )

    def _priorities(self, app: Any) -> list[int] | None:
        from pgtasks.app.connection import runs_high_priority_first

        if self.priority is None:
            return None
        high_first = runs_high_priority_first(app)
        return [stored(each, high_first=high_first) for each in maybe_list(self.priority)]

    def _moments(self, app: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in (
            "inserted_after", "inserted_before", "scheduled_after", "scheduled_before",
            "finished_after", "finished_before",
        ):  # fmt: skip
            found.update(_bound(name, name, getattr(self, name), app))
        if self.older_than is not None:
            if self.inserted_before is not None:
                raise TypeError("older_than and inserted_before say the same: give one.")
            found.update(_bound("older_than", "inserted_before", self.older_than, app))
        return found

    def _places(self, app: Any) -> dict[str, dict[str, int]]:
        """Of the tasks that are registered here, where the wanted parameters stand."""
        import inspect

        found: dict[str, dict[str, int]] = {}
        for name, task in app.tasks.items():
            try:
                parameters = list(inspect.signature(task.run).parameters)
            except (TypeError, ValueError):
                continue
            places = {
                each: parameters.index(each)
                for each in self.kwargs or ()
                if each in parameters
            }
            if places:
                found[name] = places
        return found


def filter_of(given: Mapping[str, Any]) -> JobFilter:
    """The filters that are ``given`` by name.

    Raises:
        TypeError: There is no filter of that name.
    """
    known = [each.name for each in fields(JobFilter)]
    for name in given:
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise TypeError(
                f"Jobs cannot be looked for by {name!r}.{hint} They can by {', '.join(known)}."
            )
    return JobFilter(**given)


def _texts(what: str, given: Any) -> list[str] | None:
    if given is None:
        return None
    listed: list[Any] = list(maybe_list(given))
    for each in listed:
        if not isinstance(each, str):
            raise TypeError(f"{what}={given!r}: give a text, or a list of texts.")
        values.check_text(what, each, 10_000)
    return listed


def _globs(what: str, given: Any) -> list[str] | None:
    patterns = _texts(what, given)
    return None if patterns is None else [_like(each) for each in patterns]


def _like(pattern: str) -> str:
    escaped = pattern.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped.replace("*", "%").replace("?", "_")


def _pattern(text: str) -> str:
    # PostgreSQL refuses a pattern that ends in the middle of an escape.
    slashes = len(text) - len(text.rstrip("\\"))
    return text + "\\" if slashes % 2 else text


def _mapping(what: str, given: Any) -> dict[str, Any] | None:
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise TypeError(f"{what}={given!r}: give a dict.")
    return dict(given)


def _bound(what: str, column: str, given: Any, app: Any) -> dict[str, Any]:
    if given is None:
        return {}
    if isinstance(given, timedelta):
        given = given.total_seconds()
    if isinstance(given, Real):
        # As an interval: the clock of the database is the only one that counts.
        seconds = values.as_seconds(what, given)
        if seconds > 1e11:
            raise ValueError(f"{what}={given!r} is out of range: it is in seconds.")
        return {f"{column}_ago": seconds}
    naive_zone = None if app.conf.enable_utc else app.timezone
    moment: datetime = values.as_moment(what, given, naive_zone)
    return {column: moment.isoformat()}
