"""A message that Celery has sent to a broker, as the job that it stands for here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from pgtasks.app.connection import runs_high_priority_first
from pgtasks.app.embed import chord_of
from pgtasks.app.message import TaskMessage, options_of
from pgtasks.app.options import Draft
from pgtasks.app.publish import sender
from pgtasks.app.values import RESERVED, check_name

if TYPE_CHECKING:
    from pgtasks.app.base import Celery
    from pgtasks.job import NewJob

__all__ = ["Call", "Refused", "call_of", "job_of"]

#: Headers that the way through a broker has left, and that mean nothing behind it.
_BROKERS = frozenset({"compression", "redelivered", "CC", "BCC", "delay"})

#: Tasks that serve Celery's own count of chords, which goes on where it is.
_UNLOCK = "celery.chord_unlock"


class Refused(Exception):
    """A message that is no job, or cannot be one here; the text says why."""


class Call(NamedTuple):
    """What a message asks for: a task, its arguments, and options of ``apply_async``."""

    name: str
    args: Any
    kwargs: Any
    options: dict[str, Any]


def job_of(app: Celery, call: Call, queue: str, *, high_first: bool | None) -> NewJob:
    """The row of a call that was sent elsewhere.

    Args:
        app: The application that it goes to; its limits hold, its defaults do not.
        call: The call.
        queue: The queue that it goes into.
        high_first: Whether a larger priority runs sooner where it comes from; None takes
            it for a number of this application's.

    Raises:
        Refused: It has a value that no job can have.
    """
    options = {**call.options, "queue": queue}
    priority = options.get("priority")
    if priority is not None and high_first not in (None, runs_high_priority_first(app)):
        options["priority"] = 9 - min(max(priority, 0), 9)
    try:
        return _adopted(app, call, {k: v for k, v in options.items() if v is not None})
    except Exception as error:
        raise Refused(f"{type(error).__name__}: {error}") from error


def _adopted(app: Any, call: Call, options: dict[str, Any]) -> NewJob:
    """The row; the call has its defaults and its route, and its signals were sent there."""
    check_name(call.name)
    task = app._tasks.get(call.name)
    attempts = getattr(task, "max_attempts", None)
    if attempts is not None:
        options["max_attempts"] = attempts
    composer = sender(app)
    composer.is_in_memory()  # which reads the settings
    priority = options.pop("priority", None)
    draft = Draft(call.name, call.args, call.kwargs, options, composer.naive_zone)
    job = composer.row(draft, priority)
    limits = getattr(task, "limits", None)
    if limits is not None:
        job.limits = limits.gates(draft.args, draft.kwargs)
    return job


def call_of(
    headers: Mapping[str, Any] | None, properties: Mapping[str, Any] | None, body: Any
) -> Call:
    """Read a message.

    Args:
        headers: Its headers.
        properties: Its properties, of which the priority counts.
        body: What was in it, deserialized.

    Raises:
        Refused: It is no task, or one that only Celery can end.
    """
    headers, properties = dict(headers or {}), dict(properties or {})
    try:
        if "task" in headers:
            call = _second_protocol(headers, properties, body)
        elif isinstance(body, Mapping) and "task" in body:
            call = _first_protocol(headers, body)
        else:
            raise Refused("it is no task of Celery's")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Refused(f"it cannot be read: {type(error).__name__}: {error}") from error
    _refuse_chords(call)
    priority = properties.get("priority")
    if isinstance(priority, int):
        call.options["priority"] = priority
    # Results come back by the row: nobody is to be replied to.
    call.options.pop("reply_to", None)
    return call


def _second_protocol(
    headers: dict[str, Any], properties: dict[str, Any], body: Any
) -> Call:
    args, kwargs, embed = body
    message = TaskMessage(headers, properties, (args, kwargs, embed or {}), None)
    args, kwargs, options = options_of(message)
    options["origin"] = headers.get("origin")
    options["replaced_task_nesting"] = headers.get("replaced_task_nesting") or 0
    stamps = headers.get("stamps") or {}
    options["headers"] = _custom(headers, {*RESERVED, *stamps})
    correlation = properties.get("correlation_id")
    if correlation not in (None, headers["id"]):
        options["correlation_id"] = correlation
    return Call(headers["task"], args, kwargs, options)


def _first_protocol(headers: dict[str, Any], body: Mapping[str, Any]) -> Call:
    limits = body.get("timelimit") or (None, None)
    options = {
        "task_id": body["id"],
        "eta": body.get("eta"),
        "expires": body.get("expires"),
        "group_id": body.get("group") or body.get("taskset"),
        "group_index": body.get("group_index"),
        "retries": body.get("retries"),
        "time_limit": limits[0],
        "soft_time_limit": limits[1],
        "root_id": body.get("root_id"),
        "parent_id": body.get("parent_id"),
        "link": body.get("callbacks"),
        "link_error": body.get("errbacks"),
        "chain": body.get("chain"),
        "chord": body.get("chord"),
        "headers": _custom(headers, RESERVED),
    }
    return Call(body["task"], body.get("args"), body.get("kwargs"), options)


def _custom(headers: Mapping[str, Any], known: Any) -> dict[str, Any] | None:
    """The headers that the caller has given."""
    return {
        name: value
        for name, value in headers.items()
        if name not in known and name not in _BROKERS and not name.startswith("x-")
    } or None


def _refuse_chords(call: Call) -> None:
    chain = call.options.get("chain")
    if call.name == _UNLOCK or call.options.get("chord") or (chain and chord_of(chain[0])):
        raise Refused(
            "it belongs to a chord, whose members Celery counts in its own result store"
        )
