"""A task and a worker, as far as events have told of them."""

from __future__ import annotations

import bisect
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from weakref import WeakSet

from pgtasks import states

__all__ = [
    "HEARTBEAT_DRIFT_MAX",
    "HEARTBEAT_EXPIRE_WINDOW",
    "TASK_EVENT_TO_STATE",
    "Task",
    "Worker",
    "heartbeat_expires",
]

HEARTBEAT_EXPIRE_WINDOW = 200
"""Percent of the time between heartbeats after which a worker counts as gone."""

HEARTBEAT_DRIFT_MAX = 16
"""Seconds that a worker's clock may differ from ours without a warning."""

TASK_EVENT_TO_STATE = {
    "sent": states.PENDING,
    "received": states.RECEIVED,
    "started": states.STARTED,
    "failed": states.FAILURE,
    "retried": states.RETRY,
    "succeeded": states.SUCCESS,
    "revoked": states.REVOKED,
    "rejected": states.REJECTED,
}


def heartbeat_expires(
    timestamp: float | Decimal,
    freq: float | Decimal = 60,
    expire_window: float = HEARTBEAT_EXPIRE_WINDOW,
    Decimal: type = Decimal,
    float: type = float,
    isinstance: Callable[..., bool] = isinstance,
) -> Any:
    """When a worker counts as gone that was last heard of at ``timestamp``.

    Args:
        timestamp: Seconds since the epoch.
        freq: Seconds between its heartbeats.
        expire_window: Percent of them to wait.
        Decimal: Numbers of this type, which some serializers make, are converted …
        float: … to this one.
        isinstance: Tells which they are.
    """
    # The last three are Celery's, and looked up here no faster than elsewhere.
    return float(timestamp) + float(freq or 60) * expire_window / 1e2


class Worker:
    """A worker.

    Args:
        hostname: Its name.
        pid: Its process.
        freq: Seconds between its heartbeats.
        heartbeats: When they came.
        clock: Its logical clock.
        active: How many tasks it runs.
        processed: How many it has run.
        loadavg: The load of its machine.
        sw_ident: Its software,
        sw_ver: with version
        sw_sys: and operating system.
    """

    #: How many heartbeats are kept.
    heartbeat_max = 4
    expire_window = HEARTBEAT_EXPIRE_WINDOW

    def __init__(
        self,
        hostname: str | None = None,
        pid: int | None = None,
        freq: float = 60,
        heartbeats: list[float] | None = None,
        clock: int = 0,
        active: int | None = None,
        processed: int | None = None,
        loadavg: Any = None,
        sw_ident: str | None = None,
        sw_ver: str | None = None,
        sw_sys: str | None = None,
    ) -> None:
        self.hostname = hostname
        self.pid = pid
        self.freq = freq
        self.heartbeats = [] if heartbeats is None else heartbeats
        self.clock = clock or 0
        self.active = active
        self.processed = processed
        self.loadavg = loadavg
        self.sw_ident = sw_ident
        self.sw_ver = sw_ver
        self.sw_sys = sw_sys

    def event(
        self,
        type_: str | None,
        timestamp: Any = None,
        local_received: Any = None,
        fields: Mapping[str, Any] | None = None,
    ) -> None:
        """Take in what an event tells.

        Args:
            type_: Its subject, ``heartbeat``; None where only its moment matters.
            timestamp: When it was sent.
            local_received: When it came.
            fields: What it tells besides.
        """
        for name, value in (fields or {}).items():
            setattr(self, name, value)
        if type_ == "offline":
            self.heartbeats = []
            return
        if not local_received or not timestamp:
            return
        if abs(int(local_received) - int(timestamp)) > HEARTBEAT_DRIFT_MAX:
            self._warn_of_drift(local_received, timestamp)
        bisect.insort(self.heartbeats, local_received)
        del self.heartbeats[: -self.heartbeat_max]

    def _warn_of_drift(self, ours: Any, theirs: Any) -> None:
        from pgtasks.events import state

        state.warn(
            "Substantial drift from %s: its clock and ours differ by %s seconds "
            "[ours: %s, its: %s]. Have both machines ask a time server.",
            self.hostname,
            abs(int(ours) - int(theirs)),
            datetime.fromtimestamp(float(ours)),
            datetime.fromtimestamp(float(theirs)),
        )

    def update(self, f: Mapping[str, Any], **kw: Any) -> None:
        """Set attributes."""
        for name, value in {**f, **kw}.items():
            setattr(self, name, value)

    @property
    def heartbeat_expires(self) -> float:
        """When it counts as gone."""
        return float(heartbeat_expires(self.heartbeats[-1], self.freq, self.expire_window))

    @property
    def alive(self) -> bool:
        """Whether it was heard of lately."""
        return bool(self.heartbeats and time.time() < self.heartbeat_expires)

    @property
    def status_string(self) -> str:
        """``ONLINE`` or ``OFFLINE``."""
        return "ONLINE" if self.alive else "OFFLINE"

    @property
    def id(self) -> str:
        """Its name and process."""
        return f"{self.hostname}.{self.pid}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Worker) and self.hostname == other.hostname

    def __hash__(self) -> int:
        return hash(self.hostname)

    def __repr__(self) -> str:
        return f"<Worker: {self.hostname} ({self.status_string})>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (
            self.hostname,
            self.pid,
            self.freq,
            self.heartbeats,
            self.clock,
            self.active,
            self.processed,
            self.loadavg,
            self.sw_ident,
            self.sw_ver,
            self.sw_sys,
        )


class Task:
    """A task.

    Args:
        uuid: Its id.
        cluster_state: The picture that it is part of.
        children: Tasks that it has sent.
        **kwargs: Fields that are known already.
    """

    name: Any = None
    args: Any = None
    kwargs: Any = None
    eta: Any = None
    expires: Any = None
    retries: Any = None
    worker: Any = None
    result: Any = None
    exception: Any = None
    traceback: Any = None
    runtime: Any = None
    exchange: Any = None
    routing_key: Any = None
    root_id: Any = None
    parent_id: Any = None
    client: Any = None
    timestamp: Any = None
    # When each of these events was sent.
    sent: Any = None
    received: Any = None
    started: Any = None
    succeeded: Any = None
    failed: Any = None
    retried: Any = None
    revoked: Any = None
    rejected: Any = None
    state: str = states.PENDING
    clock = 0

    _fields = (
        "uuid", "name", "state", "received", "sent", "started", "rejected", "succeeded",
        "failed", "retried", "revoked", "args", "kwargs", "eta", "expires", "retries",
        "worker", "result", "exception", "timestamp", "runtime", "traceback", "exchange",
        "routing_key", "clock", "client", "root", "root_id", "parent", "parent_id",
        "children",
    )  # fmt: skip
    _info_fields = (
        "args", "kwargs", "retries", "result", "eta", "runtime", "expires", "exception",
        "exchange", "routing_key", "root_id", "parent_id",
    )  # fmt: skip

    #: What is still taken from an event that comes after one which it went before.
    merge_rules = {
        states.RECEIVED: (
            "name", "args", "kwargs", "parent_id", "root_id", "retries", "eta", "expires",
        ),
    }  # fmt: skip

    def __init__(
        self,
        uuid: str | None = None,
        cluster_state: Any = None,
        children: Iterable[Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.uuid = uuid
        self.cluster_state = cluster_state
        known = getattr(cluster_state, "tasks", {})
        kept = (
            known.get(each) if isinstance(each, str) else each for each in children or ()
        )
        self.children: WeakSet[Task] = WeakSet(each for each in kept if each is not None)
        self.__dict__.update(kwargs)

    def event(
        self,
        type_: str,
        timestamp: Any = None,
        local_received: Any = None,
        fields: dict[str, Any] | None = None,
        precedence: Callable[[str], int] = states.precedence,
        setattr: Callable[..., Any] = setattr,
        task_event_to_state: Callable[[str], str | None] = TASK_EVENT_TO_STATE.get,
        RETRY: str = states.RETRY,
    ) -> None:
        """Take in what an event tells; they may come in any order.

        Args:
            type_: Its subject, ``started``.
            timestamp: When it was sent.
            local_received: When it came.
            fields: What it tells besides.
            precedence: Gives the rank of a state.
            setattr: Sets an attribute.
            task_event_to_state: Gives the state that a subject stands for.
            RETRY: The state that any other may follow.
        """
        told = dict(fields or {})
        known = task_event_to_state(type_)
        if known is not None:
            setattr(self, type_, timestamp)
        state = known or type_.upper()
        late = precedence(state) > precedence(self.state)
        if late and RETRY not in (state, self.state):
            # It went before what we know already.
            keep = self.merge_rules.get(state)
            if keep is not None:
                told = {name: told[name] for name in keep if name in told}
        else:
            told.update(state=state, timestamp=timestamp)
        self.__dict__.update(told)

    def info(
        self, fields: Iterable[str] | None = None, extra: Iterable[str] | None = None
    ) -> dict[str, Any]:
        """What is known of some fields.

        Args:
            fields: Which; those that people look for by default.
            extra: And these.
        """
        wanted = [*(self._info_fields if fields is None else fields), *(extra or ())]
        found = ((name, getattr(self, name, None)) for name in wanted)
        return {name: value for name, value in found if value is not None}

    def as_dict(self) -> dict[str, Any]:
        """All fields, with ids in place of other tasks."""
        found = {name: getattr(self, name, None) for name in self._fields}
        for name in ("root", "parent"):
            found.pop(name)
        found["children"] = [child.uuid for child in self.children]
        return found

    @property
    def id(self) -> str | None:
        """Its id."""
        return self.uuid

    @property
    def origin(self) -> Any:
        """Who sent it, or else who runs it."""
        return self.worker.id if self.client is None and self.worker else self.client

    @property
    def ready(self) -> bool:
        """Whether it is over."""
        return self.state in states.READY_STATES

    @property
    def parent(self) -> Any:
        """The task that sent it, if that is known here."""
        return self.parent_id and self._known(self.parent_id)

    @property
    def root(self) -> Any:
        """The first task of the workflow, likewise."""
        return self.root_id and self._known(self.root_id)

    def _known(self, uuid: str) -> Any:
        return None if self.cluster_state is None else self.cluster_state.tasks.get(uuid)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Task) and self.uuid == other.uuid

    def __hash__(self) -> int:
        return hash(self.uuid)

    def __repr__(self) -> str:
        return f"<Task: {self.name}({self.uuid}) {self.state} clock:{self.clock}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _depickle_task, (type(self), self.as_dict())


def _depickle_task(cls: type[Task], fields: dict[str, Any]) -> Task:
    return cls(**fields)
