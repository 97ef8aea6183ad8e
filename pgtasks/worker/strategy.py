"""How a message of Celery's becomes a request, for programs that receive messages themselves.

The worker claims rows and has no use for this. It is here for consumers and gateways that take
Celery's messages from elsewhere and run them with `task.start_strategy`, as they did with
``celery.worker.strategy``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from typing import Any, NamedTuple

from pgtasks import signals
from pgtasks.app import traceinfo
from pgtasks.exceptions import InvalidTaskError
from pgtasks.utils.saferepr import saferepr
from pgtasks.worker import state
from pgtasks.worker.binding import create_request_cls
from pgtasks.worker.request import Request

__all__ = ["Read", "default", "hybrid_to_proto2", "proto1_to_proto2"]

logger = logging.getLogger("celery.worker.strategy")

_HEADERS = (
    "lang", "task", "id", "root_id", "parent_id", "group", "meth", "shadow", "eta", "expires",
    "argsrepr", "kwargsrepr", "origin",
)  # fmt: skip


class Read(NamedTuple):
    """A message in the terms of the second protocol.

    Attributes:
        body: Arguments, keyword arguments and what is embedded.
        headers: What the request is to know.
        decoded: Whether ``body`` has been deserialized.
        utc: Whether dates without a zone are UTC.
    """

    body: Any
    headers: dict[str, Any]
    decoded: bool
    utc: bool


def hybrid_to_proto2(message: Any, body: Mapping[str, Any]) -> Read:
    """Read a body of the first protocol whose message may have headers of the second.

    Raises:
        InvalidTaskError: Its keyword arguments are no mapping.
    """
    said = {name: body.get(name) for name in _HEADERS}
    said["retries"] = body.get("retries", 0)
    said["timelimit"] = body.get("timelimit", (None, None))
    return Read(_body(body), {**said, **(message.headers or {})}, True, _utc(body))


def proto1_to_proto2(message: Any, body: dict[str, Any]) -> Read:
    """Read a body of the first protocol, where all is said in it.

    Raises:
        InvalidTaskError: Its keyword arguments are no mapping.
    """
    read = _body(body)
    body["argsrepr"], body["kwargsrepr"] = saferepr(read[0]), saferepr(read[1])
    body["headers"] = message.headers
    if "taskset" in body:
        body["group"] = body["taskset"]
    return Read(read, body, True, _utc(body))


def default(
    task: Any,
    app: Any,
    consumer: Any,
    info: Callable[..., Any] = logger.info,
    error: Callable[..., Any] = logger.error,
    task_reserved: Callable[[Any], Any] = state.task_reserved,
    **options: Any,
) -> Callable[..., Any]:
    """What handles the messages of a task.

    A request that may not run any more is dropped. One for later is given to the consumer's
    timer with ``consumer.apply_eta_task``; any other to ``consumer.on_task_request``.

    Args:
        task: The task.
        app: The application.
        consumer: Who receives: has ``hostname``, ``pool``, ``event_dispatcher``, ``timer``,
            ``connection_errors`` and the two functions above.
        info: Logs that a task was received.
        error: Logs that the date of one cannot be kept.
        task_reserved: Told of each request that is about to run.
        **options: Celery's, unused.

    Returns:
        A function of a message, its body if it is decoded, what acknowledges it, what rejects
        it, and callbacks for its request.
    """
    eventer = consumer.event_dispatcher
    request_class = create_request_cls(
        task.Request, task, consumer.pool, consumer.hostname, eventer, app=app
    )
    logs = logger.isEnabledFor(logging.INFO)

    def handle(
        message: Any,
        body: Any,
        ack: Callable[..., Any],
        reject: Callable[..., Any],
        callbacks: Iterable[Callable[[Any], Any]] | None = None,
        **more: Any,
    ) -> None:
        read = _read(app, message, body)
        request = request_class(
            message,
            on_ack=ack,
            on_reject=reject,
            connection_errors=consumer.connection_errors,
            body=read.body,
            headers=read.headers,
            decoded=read.decoded,
            utc=read.utc,
        )
        if logs:
            _log(info, request)
        if request.revoked():
            return
        signals.task_received.send(sender=consumer, request=request)
        _tell(request)
        if request.eta is not None and request.eta > datetime.now(timezone.utc):
            _put_off(consumer, request, error)
            return
        task_reserved(request)
        for callback in callbacks or ():
            callback(request)
        consumer.on_task_request(request)

    return handle


def _read(app: Any, message: Any, body: Any) -> Read:
    payload = message.payload
    if isinstance(payload, Mapping) and "args" in payload:
        return hybrid_to_proto2(message, payload)
    if body is None:
        return Read(message.body, message.headers, False, app.uses_utc_timezone())
    return proto1_to_proto2(message, body)


def _body(body: Mapping[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
    kwargs = body.get("kwargs", {})
    if not isinstance(kwargs, Mapping):
        raise InvalidTaskError(f"The keyword arguments {kwargs!r} are no mapping.")
    embed = {name: body.get(name) for name in ("callbacks", "errbacks", "chord")}
    return body.get("args", ()), kwargs, {**embed, "chain": None}


def _utc(body: Mapping[str, Any]) -> bool:
    return bool(body.get("utc", True))


def _log(info: Callable[..., Any], request: Request) -> None:
    told = {
        "id": request.id,
        "name": request.name,
        "args": request.argsrepr,
        "kwargs": request.kwargsrepr,
        "eta": request.eta,
    }
    # Looked up now: programs put a text of their own in its place.
    from pgtasks.app import trace

    info(getattr(trace, "LOG_RECEIVED", traceinfo.LOG_RECEIVED), told, extra={"data": told})


def _tell(request: Request) -> None:
    told = request.request_dict
    request.send_event(
        "task-received",
        name=request.name,
        args=request.argsrepr,
        kwargs=request.kwargsrepr,
        root_id=request.root_id,
        parent_id=request.parent_id,
        retries=told.get("retries", 0),
        eta=request.eta and request.eta.isoformat(),
        expires=request.expires and request.expires.isoformat(),
    )


def _put_off(consumer: Any, request: Request, error: Callable[..., Any]) -> None:
    try:
        moment = request.eta.timestamp()
    except (OverflowError, ValueError, OSError) as problem:
        error("The date %r of %s cannot be kept: %r", request.eta, request, problem)
        request.reject(requeue=False)
        return
    state.task_scheduled(request)
    consumer.timer.call_at(moment, consumer.apply_eta_task, (request,), priority=6)
