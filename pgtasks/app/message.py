"""A task as the message that Celery would send, protocol 2.

Nothing of ours is sent in this form; it is what bridges to a broker, test suites and
receivers of ``before_task_publish`` know a task by.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple

from pgtasks.utils.nodenames import anon_nodename
from pgtasks.utils.saferepr import saferepr
from pgtasks.utils.time import add_seconds_to_datetime, maybe_make_aware

if TYPE_CHECKING:
    from pgtasks.app.base import Celery

__all__ = ["TaskMessage", "as_task_v2", "options_of"]

#: Seconds below which Celery takes a countdown for a mistake.
_EARLIEST = -(2**31)


class TaskMessage(NamedTuple):
    """The parts of a message."""

    headers: dict[str, Any]
    properties: dict[str, Any]
    body: Any
    sent_event: dict[str, Any] | None


def as_task_v2(
    app: Celery,
    task_id: str,
    name: str,
    args: Any = None,
    kwargs: Any = None,
    countdown: float | None = None,
    eta: datetime | str | None = None,
    group_id: str | None = None,
    group_index: int | None = None,
    expires: float | datetime | str | None = None,
    retries: int = 0,
    chord: Any = None,
    callbacks: Any = None,
    errbacks: Any = None,
    reply_to: str | None = None,
    time_limit: float | None = None,
    soft_time_limit: float | None = None,
    create_sent_event: bool = False,
    root_id: str | None = None,
    parent_id: str | None = None,
    shadow: str | None = None,
    chain: Any = None,
    now: datetime | None = None,
    timezone: Any = None,
    origin: str | None = None,
    ignore_result: bool | None = False,
    argsrepr: str | None = None,
    kwargsrepr: str | None = None,
    stamped_headers: list[str] | None = None,
    replaced_task_nesting: int = 0,
    **options: Any,
) -> TaskMessage:
    """Make the message of a call; the arguments are those of Celery's ``as_task_v2``.

    Raises:
        TypeError: ``args`` is no list or tuple, or ``kwargs`` no mapping.
        ValueError: ``countdown`` or ``expires`` is before all time.
    """
    args, kwargs = args or (), kwargs or {}
    if not isinstance(args, (list, tuple)):
        raise TypeError(f"task args must be a list or tuple, not {type(args).__name__}")
    if not isinstance(kwargs, Mapping):
        raise TypeError(
            f"task keyword arguments must be a mapping, not {type(kwargs).__name__}"
        )

    def moment(given: Any, what: str) -> Any:
        # Elapsed time, also across a change of the clocks: hence not `now + timedelta`.
        if isinstance(given, Real):
            seconds = float(given)
            if seconds < _EARLIEST:
                raise ValueError(
                    f"{what}={given!r} is out of range: give seconds from now."
                )
            later = add_seconds_to_datetime(now or app.now(), seconds)
            given = maybe_make_aware(later, tz=timezone or app.timezone)
        return given.isoformat() if isinstance(given, datetime) else given

    conf, amqp = app.conf, app.amqp
    depth = conf.task_repr_maxlevels
    if argsrepr is None:
        argsrepr = saferepr(args, amqp.argsrepr_maxsize, maxlevels=depth)
    if kwargsrepr is None:
        kwargsrepr = saferepr(kwargs, amqp.kwargsrepr_maxsize, maxlevels=depth)
    root_id = root_id or task_id
    headers = {
        "lang": "py",
        "task": name,
        "id": task_id,
        "shadow": shadow,
        "eta": moment(countdown or eta, "countdown"),
        "expires": moment(expires, "expires"),
        "group": group_id,
        "group_index": group_index,
        "retries": retries,
        "timelimit": [time_limit, soft_time_limit],
        "root_id": root_id,
        "parent_id": parent_id,
        "argsrepr": argsrepr,
        "kwargsrepr": kwargsrepr,
        "origin": origin or anon_nodename(),
        "ignore_result": ignore_result,
        "replaced_task_nesting": replaced_task_nesting,
        "stamped_headers": stamped_headers,
        "stamps": {header: options[header] for header in stamped_headers or ()},
    }
    event = {
        "uuid": task_id,
        "root_id": root_id,
        "parent_id": parent_id,
        "name": name,
        "args": argsrepr,
        "kwargs": kwargsrepr,
        "retries": retries,
        "eta": headers["eta"],
        "expires": headers["expires"],
    }
    embed = {"callbacks": callbacks, "errbacks": errbacks, "chain": chain, "chord": chord}
    return TaskMessage(
        headers,
        {"correlation_id": task_id, "reply_to": reply_to or ""},
        (args, kwargs, embed),
        event if create_sent_event else None,
    )


def options_of(message: TaskMessage) -> tuple[Any, Any, dict[str, Any]]:
    """The call that a message stands for: its arguments, and options of ``send_task``."""
    headers, properties, (args, kwargs, embed), _ = message
    limits = headers.get("timelimit") or (None, None)
    given = {
        "task_id": headers["id"],
        "eta": headers.get("eta"),
        "expires": headers.get("expires"),
        "group_id": headers.get("group"),
        "group_index": headers.get("group_index"),
        "retries": headers.get("retries"),
        "time_limit": limits[0],
        "soft_time_limit": limits[1],
        "root_id": headers.get("root_id"),
        "parent_id": headers.get("parent_id"),
        "shadow": headers.get("shadow"),
        "ignore_result": headers.get("ignore_result"),
        "argsrepr": headers.get("argsrepr"),
        "kwargsrepr": headers.get("kwargsrepr"),
        "reply_to": properties.get("reply_to"),
        "link": embed.get("callbacks"),
        "link_error": embed.get("errbacks"),
        "chain": embed.get("chain"),
        "chord": embed.get("chord"),
        "stamped_headers": headers.get("stamped_headers"),
        **(headers.get("stamps") or {}),
    }
    return args, kwargs, {key: value for key, value in given.items() if value is not None}
