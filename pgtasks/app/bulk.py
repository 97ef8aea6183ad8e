"""Sends thousands of tasks in one statement."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pgtasks.app import eager, modes
from pgtasks.app.compose import Request
from pgtasks.app.options import OMITTED
from pgtasks.app.publish import sender

__all__ = ["CHUNK", "arguments_of", "asend_many", "send_many", "send_tasks"]

#: Jobs in one statement of a bulk insert: far beyond where larger ones still gain, and
#: small enough to leave others their turn.
CHUNK = 2000


def send_many(
    app: Any,
    calls: Iterable[tuple[str, Any, Any, dict[str, Any]]],
    *,
    task_type: Any = None,
    atomic: bool = False,
    connection: Any = OMITTED,
) -> list[Any]:
    """Send many tasks, thousands in one statement, and return their results in order.

    Args:
        app: The application.
        calls: For each its name, its arguments and its options.
        task_type: The task, if all of them are of it.
        atomic: All of them or none, in one transaction; otherwise each statement is one.
        connection: A connection whose transaction all of them are to be part of; None is
            our own.
    """
    if modes.is_inline(app):
        return [eager.send(app, *each) for each in calls]
    own = sender(app)
    results: list[Any] = []
    for chunk in _chunks(own.compose_many(calls, task_type), atomic):
        on = own.connection_for(chunk, connection)
        results.extend(own.send_chunk(chunk, None, on))
    return results


async def asend_many(
    app: Any,
    calls: Iterable[tuple[str, Any, Any, dict[str, Any]]],
    *,
    task_type: Any = None,
    atomic: bool = False,
    connection: Any = OMITTED,
) -> list[Any]:
    """`send_many` for coroutines."""
    if modes.is_inline(app):
        return [eager.send(app, *each) for each in calls]
    own = sender(app)
    results: list[Any] = []
    for chunk in _chunks(own.compose_many(calls, task_type), atomic):
        on = own.connection_for(chunk, connection)
        results.extend(await own.asend_chunk(chunk, None, on))
    return results


def _chunks(requests: Iterable[Request], atomic: bool) -> Iterator[list[Request]]:
    chunk: list[Request] = []
    for request in requests:
        chunk.append(request)
        if len(chunk) >= CHUNK and not atomic:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def send_tasks(
    app: Any, calls: Iterable[Any], *, atomic: bool = False, connection: Any = OMITTED
) -> list[Any]:
    """Send tasks of any kinds in bulk.

    Args:
        app: The application.
        calls: Signatures, or tuples of name, args, kwargs and options, of which the later
            ones may be left out.
        atomic: All of them or none.
        connection: As of `send_many`.
    """

    def spread() -> Iterator[tuple[str, Any, Any, dict[str, Any]]]:
        for call in calls:
            if isinstance(call, Mapping):
                yield call["task"], call["args"], call["kwargs"], dict(call["options"])
            else:
                name, args, kwargs, given = (*call, None, None, None)[:4]
                yield name, args, kwargs, dict(given or {})

    return send_many(app, spread(), atomic=atomic, connection=connection)


def arguments_of(call: Any) -> tuple[Any, Any, dict[str, Any]]:
    """The args, kwargs and options of one item of a bulk call."""
    if isinstance(call, (tuple, list)):
        return call, None, {}
    if isinstance(call, Mapping):
        if "task" in call and "options" in call:
            return call["args"], call["kwargs"], dict(call["options"])
        return None, call, {}
    raise TypeError(
        f"{call!r} is no call: give a tuple of positional arguments, a dict of keyword "
        f"arguments, or a signature."
    )
