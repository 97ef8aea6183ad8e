"""One task in a worker's hands, as ``celery.worker.request`` shows it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from pgtasks.exceptions import InvalidTaskError
from pgtasks.utils.saferepr import saferepr
from pgtasks.utils.time import maybe_iso8601 as read_time
from pgtasks.utils.time import maybe_make_aware as make_aware
from pgtasks.worker import state
from pgtasks.worker.binding import create_request_cls

if TYPE_CHECKING:
    from pgtasks.job import Job

__all__ = ["Request", "create_request_cls"]

logger = logging.getLogger("celery.worker.request")


def _nothing(*args: Any, **kwargs: Any) -> None:
    """Acknowledge to nobody: a job's end is its acknowledgement."""


class Request:
    """A task that was received, by its message: what it is, and what may be done with it.

    The worker itself holds rows (`pgtasks.job.Job`); `of_job` makes a request of one, and
    ``worker.state.reserved_requests`` has those of the moment.

    Args:
        message: The message, with ``headers``, ``properties``, ``body`` and ``delivery_info``.
        on_ack: Called by `acknowledge`.
        hostname: Name of the worker.
        eventer: Where `send_event` goes, if anywhere.
        app: The application.
        connection_errors: Handed to ``on_ack`` and ``on_reject``.
        request_dict: What ``task.request`` is to be, in place of what the message says.
        task: The task, looked up by name by default.
        on_reject: Called by `reject`.
        body: The message's by default.
        headers: The message's by default.
        decoded: ``body`` is already decoded.
        utc: Naive times are UTC.
        maybe_make_aware: Gives a time its zone.
        maybe_iso8601: Reads a time.
        **opts: For subclasses.
    """

    acknowledged = False
    time_start: float | None = None
    worker_pid: int | None = None
    job: Job | None = None
    """The row, where it was made of one."""
    # What a message may say and need not.
    group_index: int | None
    parent_id: str | None
    replaced_task_nesting: int
    root_id: str | None
    stamped_headers: list[str] | None
    stamps: dict[str, Any]

    def __init__(
        self,
        message: Any,
        on_ack: Callable[..., Any] = _nothing,
        hostname: str | None = None,
        eventer: Any = None,
        app: Any = None,
        connection_errors: Any = None,
        request_dict: Mapping[str, Any] | None = None,
        task: Any = None,
        on_reject: Callable[..., Any] = _nothing,
        body: Any = None,
        headers: Mapping[str, Any] | None = None,
        decoded: bool = False,
        utc: bool = True,
        maybe_make_aware: Callable[..., Any] = make_aware,
        maybe_iso8601: Callable[..., Any] = read_time,
        **opts: Any,
    ) -> None:
        self.message = message
        self.on_ack, self.on_reject = on_ack, on_reject
        self.hostname, self.eventer, self.app = hostname, eventer, app
        self.connection_errors = connection_errors or ()
        self.utc = utc
        self.body = message.body if body is None else body
        self._decoded = decoded
        told = dict(message.headers if headers is None else headers)
        self.request_dict = dict(request_dict) if request_dict is not None else told
        self.id: str = self.request_dict["id"]
        self.name: str = self.request_dict["task"]
        self.task = app.tasks[self.name] if task is None and app is not None else task
        self.time_limits = tuple(self.request_dict.get("timelimit") or (None, None))
        self.eta = self._time("eta", maybe_make_aware, maybe_iso8601)
        self.expires = self._time("expires", maybe_make_aware, maybe_iso8601)
        properties = message.properties or {}
        self.correlation_id = properties.get("correlation_id")
        self.reply_to = properties.get("reply_to")
        self.delivery_info = _delivery_info(message, properties)
        self.request_dict.update(
            properties=properties,
            hostname=hostname,
            delivery_info=self.delivery_info,
            reply_to=self.reply_to,
            correlation_id=self.correlation_id,
        )

    @classmethod
    def of_job(cls, app: Any, job: Job, *, hostname: str | None = None) -> Request:
        """The request of a claimed row."""
        from pgtasks.app.incoming import reader

        read = reader(app)
        told = read.request(job, hostname)
        try:
            body: Any = (*read.arguments(job), {})
        except Exception as error:  # unreadable arguments are shown, and fail when run
            body = ((), {"<unreadable>": str(error)}, {})
        message = SimpleNamespace(
            headers=told,
            properties=told["properties"],
            delivery_info=told["delivery_info"],
            body=body,
            content_type=job.content_type,
            content_encoding=job.content_encoding,
        )
        request = cls(
            message,
            app=app,
            hostname=hostname,
            task=app.tasks.get(job.task),
            decoded=True,
        )
        request.job = job
        return request

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__}: {self.humaninfo()} {self.argsrepr} {self.kwargsrepr}>"
        )

    def __str__(self) -> str:
        return self.humaninfo()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Request) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __getattr__(self, name: str) -> Any:
        told = self.__dict__.get("request_dict")
        if told is not None and name in _TOLD:
            return told.get(name, _TOLD[name])
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    # ── what it is ──────────────────────────────────────────────────────────────────────

    @property
    def _payload(self) -> Any:
        return self.body if self._decoded else self.message.payload

    @property
    def args(self) -> Any:
        """The positional arguments."""
        return self._payload[0]

    @property
    def kwargs(self) -> Any:
        """The keyword arguments."""
        return self._payload[1]

    @property
    def argsrepr(self) -> str:
        """The positional arguments as text, as the caller wants them to be shown."""
        return str(self.request_dict.get("argsrepr") or saferepr(self.args))

    @property
    def kwargsrepr(self) -> str:
        """The keyword arguments as text, likewise."""
        return str(self.request_dict.get("kwargsrepr") or saferepr(self.kwargs))

    task_id = property(lambda self: self.id, doc="The id.")
    task_name = type = property(lambda self: self.name, doc="The task's name.")
    groups = group = property(
        lambda self: self.request_dict.get("group"), doc="Id of the group that it is in."
    )
    content_type = property(lambda self: self.message.content_type, doc="Of the body.")
    content_encoding = property(
        lambda self: self.message.content_encoding, doc="Of the body."
    )
    chord = property(lambda self: self._embedded("chord"), doc="The chord's body.")
    errbacks = property(lambda self: self._embedded("errbacks"), doc="Error callbacks.")
    tzlocal = property(lambda self: self.app.conf.timezone, doc="The local time zone.")

    @property
    def ignore_result(self) -> bool:
        """Whether nobody wants the result: what the caller said, else what the task says."""
        said = self.request_dict.get("ignore_result")
        return bool(getattr(self.task, "ignore_result", False) if said is None else said)

    @property
    def store_errors(self) -> bool:
        """Whether a failure is kept."""
        even_so = getattr(self.task, "store_errors_even_if_ignored", False)
        return not self.ignore_result or bool(even_so)

    def info(self, safe: bool = False) -> dict[str, Any]:
        """It in the shape of ``inspect``'s replies."""
        return {
            "id": self.id,
            "name": self.name,
            "args": self.argsrepr if safe else self.args,
            "kwargs": self.kwargsrepr if safe else self.kwargs,
            "type": self.name,
            "hostname": self.hostname,
            "time_start": self.time_start,
            "acknowledged": self.acknowledged,
            "delivery_info": self.delivery_info,
            "worker_pid": self.worker_pid,
        }

    def humaninfo(self) -> str:
        """It in a log line."""
        return f"{self.name}[{self.id}]"

    # ── what may be done with it ────────────────────────────────────────────────────────

    def revoked(self) -> bool:
        """Whether it may not run any more: revoked in this process, or expired."""
        return self.id in state.revoked or self.maybe_expire()

    def maybe_expire(self) -> bool:
        """Whether its time is over; then it counts as revoked."""
        if self.expires is None or datetime.now(timezone.utc) <= self.expires:
            return False
        state.revoked.add(self.id)
        return True

    def acknowledge(self) -> None:
        """Tell the sender of the message that it need not keep it."""
        if not self.acknowledged:
            self.on_ack(logger, self.connection_errors)
            self.acknowledged = True

    def reject(self, requeue: bool = False) -> None:
        """Tell the sender that it will not be run here."""
        if not self.acknowledged:
            self.on_reject(logger, self.connection_errors, requeue)
            self.acknowledged = True
            self.send_event("task-rejected", requeue=requeue)

    def send_event(self, type: str, **fields: Any) -> None:
        """Send an event about it, if somebody wants events and the task has them."""
        if (
            self.eventer
            and self.eventer.enabled
            and getattr(self.task, "send_events", True)
        ):
            self.eventer.send(type, uuid=self.id, **fields)

    def execute(self, loglevel: int | None = None, logfile: str | None = None) -> Any:
        """Run it here and now; the answer is what the task returned, or an `ExceptionInfo`."""
        if self.revoked():
            return None
        if not getattr(self.task, "acks_late", False):
            self.acknowledge()
        from pgtasks.app import trace

        self.on_accepted(os.getpid(), time.monotonic())
        told = {
            **self.request_dict,
            "loglevel": loglevel,
            "logfile": logfile,
            "is_eager": False,
            "args": self.args,
            "kwargs": self.kwargs,
        }
        done = trace.trace_task(
            self.task, self.id, self.args, self.kwargs, told, app=self.app
        )
        self.acknowledge()
        return done[0]

    def execute_using_pool(self, pool: Any, **kwargs: Any) -> Any:
        """Give its row to a pool of this worker.

        Raises:
            TaskRevokedError: It may not run any more.
        """
        from pgtasks.exceptions import TaskRevokedError

        if self.job is None:
            raise RuntimeError(
                f"{self.humaninfo()} was not made of a row (Request.of_job), and pools run "
                f"rows. Run it here with execute(), or send it with apply_async()."
            )
        if self.revoked():
            raise TaskRevokedError(self.id)
        return pool.submit([self.job])

    def terminate(self, pool: Any, signal: int | str | None = None) -> bool:
        """Signal the process that runs it; False if none does."""
        from pgtasks.platforms import signals

        number = signals.signum(signal or "TERM")
        return self.job is not None and bool(pool.signal(self.job.id, number))

    def cancel(
        self, pool: Any, signal: int | str | None = None, emit_retry: bool = True
    ) -> bool:
        """Signal the process that runs it, as `terminate`; late ones run again."""
        return self.terminate(pool, signal)

    # ── hooks ───────────────────────────────────────────────────────────────────────────

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        """A process has begun it."""
        self.worker_pid, self.time_start = pid, time_accepted

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """A time limit was reached."""
        kind, level = ("Soft", logging.WARNING) if soft else ("Hard", logging.ERROR)
        logger.log(
            level, "%s time limit (%ss) exceeded for %s", kind, timeout, self.humaninfo()
        )

    def on_success(
        self, failed__retval__runtime: tuple[Any, Any, float], **kwargs: Any
    ) -> Any:
        """It has ended; with ``failed`` set the second is an `ExceptionInfo`."""
        failed, value, _ = failed__retval__runtime
        if failed:
            return self.on_failure(value, return_ok=True)
        self.acknowledge()
        return None

    def on_retry(self, exc_info: Any) -> None:
        """It asks to run again."""
        self.acknowledge()

    def on_failure(
        self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False
    ) -> Any:
        """It failed."""
        self.acknowledge()
        if send_failed_event:
            self.send_event("task-failed", exception=saferepr(exc_info.exception))

    # ── reading ─────────────────────────────────────────────────────────────────────────

    def _embedded(self, name: str) -> Any:
        payload = self._payload
        embed = payload[2] if len(payload) > 2 else {}
        return (embed or {}).get(name) or self.request_dict.get(name)

    def _time(self, name: str, aware: Callable[..., Any], read: Callable[..., Any]) -> Any:
        value = self.request_dict.get(name)
        try:
            return None if value is None else aware(read(value), timezone.utc)
        except (TypeError, ValueError, AttributeError) as error:
            raise InvalidTaskError(
                f"The {name} of {self.name}[{self.id}] is {value!r}, which is no time in "
                f"ISO 8601: {error}."
            ) from error


_TOLD: dict[str, Any] = {
    "group_index": None,
    "parent_id": None,
    "replaced_task_nesting": 0,
    "root_id": None,
    "stamped_headers": [],
    "stamps": {},
}


def _delivery_info(message: Any, properties: Mapping[str, Any]) -> dict[str, Any]:
    told = message.delivery_info or {}
    return {
        "exchange": told.get("exchange"),
        "routing_key": told.get("routing_key"),
        "priority": properties.get("priority", told.get("priority")),
        "redelivered": told.get("redelivered", False),
    }
