"""How a chord is sent, and the chords that its body may be.

A chain of groups is a chord whose body is a chord, and so on. They are made ready one
after the other and sent from the last to the first, so that nothing runs before what waits
for it is there; never one within the other, so that there may be any number of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, NamedTuple

from pgtasks import canvas as package
from pgtasks._state import current_app
from pgtasks.canvas.basics import DELAYS, app_of
from pgtasks.canvas.chord_bodies import (
    _strip_chord_header_links,
    body_options,
    with_callbacks,
)

__all__ = ["Level", "app_behind", "level", "send", "without_delay"]


class Level(NamedTuple):
    """A chord that is ready to be sent.

    Attributes:
        header: The header, a group of frozen members.
        frozen: Its id, and the results of its members.
        body: The body, frozen.
        args: Arguments that go in front of those of each member.
        kwargs: Keyword arguments for each member.
        options: Options of each member.
    """

    header: Any
    frozen: tuple[str, list[Any]]
    body: Any
    args: Any
    kwargs: Mapping[str, Any] | None
    options: dict[str, Any]


def without_delay(
    options: Mapping[str, Any], given: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of a chord without what only its header has, and the delay of that.

    Args:
        options: The options.
        given: A delay that comes before theirs.
    """
    left, delay = dict(options), dict(given or {})
    for key in DELAYS:
        value = left.pop(key, None)
        if value is not None:
            delay.setdefault(key, value)
    left.pop("task_id", None)
    return left, delay


def level(
    header: Any,
    body: Any,
    group_id: str,
    root_id: str | None,
    args: Any,
    kwargs: Mapping[str, Any] | None,
    options: Mapping[str, Any],
) -> Level:
    """Freeze the header of a chord whose body is frozen.

    Args:
        header: The header, a group; its members are replaced by frozen copies.
        body: The body.
        group_id: Id of the header.
        root_id: Id of the first task of the work-flow.
        args: Arguments that go in front of those of each member.
        kwargs: Keyword arguments for each member.
        options: Options of the chord, and those of each member.
    """
    header.options["task_id"] = group_id
    frozen = header._freeze_group_tasks(group_id=group_id, chord=body, root_id=root_id)
    # What follows the body, and the chord in whose header it is, are not the members'.
    own = {key: value for key, value in options.items() if key not in ("chain", "chord")}
    return Level(header, frozen, body, args, kwargs, own)


def send(first: Level, app: Any, **polling: Any) -> Any:
    """Send a chord, and those that its body is made of.

    Args:
        first: The chord.
        app: The application.
        **polling: What Celery's stores want to know that look again and again.

    Returns:
        The result of the header.
    """
    # Here, for the application's modules stand above.
    from pgtasks.app.batch import HeaderResults, awaiting

    levels = [first]
    awaited: list[Any] = [None]
    while _is_sent_here(levels[-1], app):
        before = levels[-1].frozen
        awaited.append(HeaderResults(before[0], len(before[1])))
        levels.append(_next(levels[-1], awaited[-1], app))
    result: Any = None
    for each, results in zip(reversed(levels), reversed(awaited), strict=True):
        with nullcontext() if results is None else awaiting(results):
            if each is levels[-1]:
                _send_body(each, app, polling)
            result = _send_header(each, app)
    return result


def _is_sent_here(outer: Level, app: Any) -> bool:
    """Whether the body is a chord with nothing peculiar about how it is sent."""
    from pgtasks.backends.groups import GroupMixin

    body = outer.body
    if type(body) is not package.chord or not outer.header.tasks:
        return False
    # A store of one's own may want to hear of each chord.
    told = getattr(app.backend.apply_chord, "__func__", None)
    return (
        told is GroupMixin.apply_chord
        and bool(body.tasks.tasks)
        and body.body is not None
        and body.app is app
    )


def _next(outer: Level, results: Any, app: Any) -> Level:
    """The chord that is the body of ``outer``, which is our copy and frozen."""
    chord, body = outer.body, outer.body.body
    header = chord._header(app)
    group_id = header.options.get("task_id") or package.uuid()
    args = chord.args if chord.immutable else (results, *chord.args)
    nested = type(body) is package.chord
    if not nested:
        body = body.clone()
    root_id = body.options.get("root_id")
    options, delay = without_delay(chord.options)
    if options:
        body = with_callbacks(body, options, copy=not nested)
        body.options.update(body_options(options))
    if not nested:
        if isinstance(body, package._chain):
            body._unroll_chords(app)
        body.freeze(chord.options.get("task_id"), group_id=group_id, root_id=root_id)
        _strip_chord_header_links(body)
    options.update(delay)
    if "connection" in outer.options:
        options["connection"] = outer.options["connection"]
    given = chord.kwargs.get("kwargs") or {}
    return level(header, body, group_id, root_id, args, given, options)


def _send_body(last: Level, app: Any, polling: Mapping[str, Any]) -> None:
    if not last.header.tasks:
        # Nobody would ever come to call it.
        last.body.delay([])
        return
    lent = {key: last.options[key] for key in ("connection",) if key in last.options}
    app.backend.apply_chord(last.frozen, last.body, **polling, **lent)


def _send_header(each: Level, app: Any) -> Any:
    header, (group_id, results) = each.header, each.frozen
    if not header.tasks:
        return app.GroupResult(group_id, results)
    header._sends = results
    return header.apply_async(each.args, each.kwargs, task_id=group_id, **each.options)


def app_behind(chord: Any, body: Any) -> Any:
    """The app that sends a chord: its own, its header's, or that of ``body``.

    Args:
        chord: The chord.
        body: Its body, or the one that it is going to have; None if it has none.
    """
    asked: list[Any] = []
    app = chord._app
    while app is None:
        tasks = getattr(chord.tasks, "tasks", chord.tasks)
        try:
            app = app_of(tasks[0])
        except LookupError:
            pass  # An empty header.
        if app is not None or body is None:
            break
        if type(body) is not package.chord or "app" in body.__dict__:
            app = app_of(body)
            break
        # Bodies remember the answer, or each would ask all that are behind it.
        asked.append(body)
        chord, body = body, body.body
        app = chord._app
    app = current_app if app is None else app
    for each in asked:
        each.app = app
    return app
