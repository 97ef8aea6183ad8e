"""Who wants to hear of which event, and telling them."""

from __future__ import annotations

import inspect
import logging
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from difflib import get_close_matches
from typing import Any, NamedTuple, TypeAlias
from uuid import uuid4

from pgtasks.telemetry.events import EVENTS

__all__ = [
    "HANDLERS",
    "Handler",
    "attach",
    "attach_many",
    "detach",
    "execute",
    "failure",
    "list_handlers",
    "span",
]

logger = logging.getLogger("pgtasks.telemetry")

EventName: TypeAlias = "str | Iterable[str]"
Function: TypeAlias = Callable[[str, dict[str, Any], dict[str, Any], Any], object]


class Handler(NamedTuple):
    """One attached function.

    Attributes:
        id: Its name, by which it is detached.
        event: The event that it hears.
        function: Called with the event, the measurements, the metadata and the config.
        config: Passed to it.
    """

    id: str
    event: str
    function: Function
    config: Any


#: The handlers by event; empty while nobody is attached. Each tuple is replaced as a
#: whole, so that nothing has to be locked to call what is in it.
HANDLERS: dict[str, tuple[Handler, ...]] = {}
_lock = threading.Lock()
# A handler that sends a job would be told of that, and of what it does about it …
_calling: ContextVar[frozenset[str]] = ContextVar("pgtasks.telemetry", default=frozenset())


def attach(
    handler_id: EventName,
    event: Any,
    handler: Function | None = None,
    config: Any = None,
) -> str:
    """Have a function called whenever an event happens.

    ``attach(event, handler)`` is enough; ``attach(id, event, handler, config)`` gives it a
    name to `detach` it by. The function takes ``(event, measurements, metadata, config)``.
    It is called where the event happens, which waits for it: it should be quick. One that
    raises is detached, with an error in the log, and harms nothing else.

    Args:
        handler_id: A name that no other handler has; or the event, with two arguments.
        event: The event, ``"pgtasks.job.stop"`` or ``("pgtasks", "job", "stop")``; or the
            function, with two arguments.
        handler: The function.
        config: Passed to it.

    Returns:
        The name of the handler.

    Raises:
        ValueError: The name is taken, or there is no such event.
        TypeError: The handler is no function, or a coroutine function.
    """
    if handler is None:
        handler_id, event, handler = _name_for(event), handler_id, event
    return attach_many(str(handler_id), [event], handler, config)


def attach_many(
    handler_id: str, events: Iterable[EventName], handler: Function, config: Any = None
) -> str:
    """`attach` one function to several events, under one name."""
    _check(handler)
    names = [_known(_joined(event)) for event in events]
    with _lock:
        if any(each.id == handler_id for each in _everything()):
            raise ValueError(
                f"A handler {handler_id!r} is attached already: detach it first, or "
                f"choose another name."
            )
        for name in dict.fromkeys(names):
            added = Handler(handler_id, name, handler, config)
            HANDLERS[name] = (*HANDLERS.get(name, ()), added)
    return handler_id


def detach(handler_id: str) -> bool:
    """Have a handler called no more; the answer is whether there was one of that name."""
    found = False
    with _lock:
        for name, handlers in list(HANDLERS.items()):
            kept = tuple(each for each in handlers if each.id != handler_id)
            found = found or len(kept) < len(handlers)
            if kept:
                HANDLERS[name] = kept
            else:
                del HANDLERS[name]
    return found


def list_handlers(prefix: EventName = "") -> list[Handler]:
    """The handlers of the events whose names begin with ``prefix``; of all by default."""
    wanted = _joined(prefix)
    return [
        each
        for each in _everything()
        if not wanted or each.event == wanted or each.event.startswith(f"{wanted}.")
    ]


def execute(
    event: EventName,
    measurements: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Tell of an event; for programs that have events of their own, too.

    Args:
        event: Its name.
        measurements: Numbers.
        metadata: Whatever else is known.
    """
    name = event if isinstance(event, str) else _joined(event)
    for handler in HANDLERS.get(name, ()):
        _call(handler, dict(measurements or {}), dict(metadata or {}))


@contextmanager
def span(
    prefix: EventName, metadata: Mapping[str, Any] | None = None
) -> Iterator[dict[str, Any]]:
    """Tell of the beginning of a block and of its end, as ``….start`` and ``….stop``.

    If the block raises, the end is ``….exception``. The answer is a dict: what the block
    puts into it is metadata of the end.

    Args:
        prefix: Name of the events, without that last part.
        metadata: What is known of all of them.
    """
    more: dict[str, Any] = {}
    if not HANDLERS:
        yield more
        return
    name, known = _joined(prefix), dict(metadata or {})
    execute(f"{name}.start", {"system_time": time.time()}, known)
    began = time.monotonic()
    try:
        yield more
    except BaseException as error:
        told = {**known, **more, **failure(error)}
        execute(f"{name}.exception", _times(began), told)
        raise
    execute(f"{name}.stop", _times(began), {**known, **more})


def failure(error: BaseException | None, stacktrace: str | None = None) -> dict[str, Any]:
    """What is told of an exception.

    Args:
        error: The exception.
        stacktrace: Its traceback as text, where it is known better than from itself.
    """
    if stacktrace is None and error is not None:
        stacktrace = "".join(traceback.format_exception(error))
    return {
        "kind": "error" if error is None or isinstance(error, Exception) else "exit",
        "error": error,
        "reason": _shown(error),
        "stacktrace": stacktrace,
    }


def _shown(error: BaseException | None) -> str | None:
    if error is None:
        return None
    try:
        return repr(error)
    except Exception:
        return f"<{type(error).__name__}>"


def _times(began: float) -> dict[str, float]:
    return {"duration": time.monotonic() - began, "system_time": time.time()}


def _call(handler: Handler, measurements: dict[str, Any], metadata: dict[str, Any]) -> None:
    calling = _calling.get()
    if handler.id in calling:
        return
    token = _calling.set(calling | {handler.id})
    try:
        handler.function(handler.event, measurements, metadata, handler.config)
    except Exception:
        detach(handler.id)
        logger.exception(
            "The telemetry handler %r failed on %s and has been detached: it hears of "
            "nothing any more in this process.",
            handler.id,
            handler.event,
        )
    finally:
        _calling.reset(token)


def _everything() -> list[Handler]:
    return [each for handlers in list(HANDLERS.values()) for each in handlers]


def _name_for(handler: Any) -> str:
    name = getattr(handler, "__qualname__", type(handler).__name__)
    return f"{getattr(handler, '__module__', '')}.{name}-{uuid4().hex[:8]}"


def _check(handler: Any) -> None:
    if not callable(handler):
        raise TypeError(
            f"{handler!r} is no handler: give a function of (event, measurements, "
            f"metadata, config)."
        )
    if inspect.iscoroutinefunction(handler):
        raise TypeError(
            f"{handler!r} is a coroutine function: handlers are called where the event "
            f"happens, and nobody waits for a coroutine there. Have a function put what "
            f"it needs into a queue."
        )


def _joined(event: EventName) -> str:
    return event if isinstance(event, str) else ".".join(event)


def _known(name: str) -> str:
    """``name``, if it is an event of ours or of somebody else's.

    Raises:
        ValueError: It looks like ours, and is not.
    """
    if not name:
        raise ValueError("An event has a name, such as 'pgtasks.job.stop'.")
    if name.startswith("pgtasks.") and name not in EVENTS:
        near = get_close_matches(name, EVENTS, n=1)
        hint = f" Is it {near[0]!r}?" if near else ""
        raise ValueError(
            f"There is no event {name!r}.{hint} All of them are in pgtasks.telemetry.EVENTS."
        )
    return name
