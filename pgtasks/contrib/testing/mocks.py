"""Messages as a broker would deliver them, and other things that tests make up."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from unittest.mock import Mock

from pgtasks.utils import uuid

__all__ = ["ContextMock", "TaskMessage", "TaskMessage1", "task_message_from_sig"]


def TaskMessage(
    name: str,
    id: str | None = None,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    callbacks: Sequence[Any] | None = None,
    errbacks: Sequence[Any] | None = None,
    chain: Sequence[Any] | None = None,
    shadow: str | None = None,
    utc: bool | None = None,
    **options: Any,
) -> Any:
    """A message that asks for a task, in Celery's protocol 2: options are headers."""
    id = id or uuid()
    embed = {"callbacks": callbacks, "errbacks": errbacks, "chain": chain}
    payload = (args, kwargs or {}, embed)
    message = _message(id, payload)
    message.headers = {"id": id, "task": name, "shadow": shadow, **options}
    return message


def TaskMessage1(
    name: str,
    id: str | None = None,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    callbacks: Sequence[Any] | None = None,
    errbacks: Sequence[Any] | None = None,
    chain: Sequence[Any] | None = None,
    **options: Any,
) -> Any:
    """A message that asks for a task, in Celery's protocol 1: all is in the body."""
    id = id or uuid()
    payload = {
        "task": name,
        "id": id,
        "args": args,
        "kwargs": kwargs or {},
        "callbacks": callbacks,
        "errbacks": errbacks,
        **options,
    }
    message = _message(id, payload)
    message.headers = {}
    return message


def task_message_from_sig(
    app: Any, sig: Any, utc: bool = True, TaskMessage: Callable[..., Any] = TaskMessage
) -> Any:
    """The message that a signature would be sent as."""
    sig.freeze()
    options = sig.options
    links = {
        name: [dict(each) for each in signatures] if signatures else None
        for name, signatures in (
            ("callbacks", options.pop("link", None)),
            ("errbacks", options.pop("link_error", None)),
        )
    }
    countdown = options.pop("countdown", None)
    # As in Celery, an eta beside a countdown stays among the options.
    due = app.now() + timedelta(seconds=countdown) if countdown else None
    eta = due or options.pop("eta", None)
    expires = options.pop("expires", None)
    if expires and isinstance(expires, numbers.Real):
        expires = app.now() + timedelta(seconds=float(expires))
    return TaskMessage(
        sig.task,
        id=sig.id,
        args=sig.args,
        kwargs=sig.kwargs,
        eta=_iso(eta),
        expires=_iso(expires),
        utc=utc,
        **links,
        **options,
    )


class _ContextMock(Mock):
    # `with` looks these up on the class, where a Mock has none.

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc_info: Any) -> None:
        pass


def ContextMock(*args: Any, **kwargs: Any) -> Any:
    """A mock that can stand in a ``with`` statement, and lets exceptions through."""
    mock = _ContextMock(*args, **kwargs)
    for name, value in (("__enter__", mock), ("__exit__", None)):
        mock.attach_mock(_ContextMock(), name)
        getattr(mock, name).return_value = value
    return mock


def _message(id: str, payload: Any) -> Any:
    from kombu.serialization import dumps

    message = Mock(name=f"TaskMessage-{id}")
    encoded = dumps(payload, serializer="json")
    message.content_type, message.content_encoding, message.body = encoded
    message.payload = payload
    return message


def _iso(moment: Any) -> Any:
    return moment.isoformat() if isinstance(moment, datetime) else moment
