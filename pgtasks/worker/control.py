"""What a worker understands: the commands of `app.control` and of ``inspect``.

Programs add their own with `control_command` and `inspect_command`, as in Celery::

    @control_command(args=[("n", int)], signature="[N=1]")
    def increase(state, n=1, **kwargs):
        "Do more of it."
        return {"ok": n}

They run in the mailbox's thread, one after the other, so they should be quick.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterable
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from pgtasks.storage import mailbox
from pgtasks.utils.saferepr import saferepr
from pgtasks.utils.serialization import jsonify, strtobool
from pgtasks.worker.gates import serve
from pgtasks.worker.gossip import (
    clock,
    disable_events,
    election,
    enable_events,
    heartbeat,
    hello,
)
from pgtasks.worker.memory import memdump, memsample, objgraph
from pgtasks.worker.panel import (
    CommandInfo,
    Panel,
    State,
    control_command,
    controller_info_t,
    inspect_command,
    nok,
    ok,
)
from pgtasks.worker.revocation import (
    forgive,
    revoke,
    revoke_by_stamped_headers,
    revoked,
    terminate,
)
from pgtasks.worker.tuning import (
    autoscale,
    pool_grow,
    pool_restart,
    pool_shrink,
    rate_limit,
    time_limit,
)

if TYPE_CHECKING:
    from pgtasks.job import Job

__all__ = [
    "CommandInfo", "Panel", "State", "active", "active_queues", "add_consumer", "autoscale",
    "cancel_consumer", "clock", "conf", "control_command", "controller_info_t",
    "disable_events", "election", "enable_events", "forgive", "heartbeat", "hello",
    "inspect_command", "memdump", "memsample", "nok", "objgraph", "ok", "ping", "pool_grow",
    "pool_restart", "pool_shrink", "query_task", "rate_limit", "registered", "report",
    "reserved", "revoke", "revoke_by_stamped_headers", "revoked", "scheduled", "shutdown",
    "stats", "terminate", "time_limit",
]  # fmt: skip

logger = logging.getLogger("celery.worker.control")

LONGEST = 1024
"""Characters of arguments that are shown as text."""

TIMER_PRIORITY = 6
MOST_SCHEDULED = 1000

DEFAULT_TASK_INFO_ITEMS = ("exchange", "routing_key", "rate_limit")
"""Attributes that ``registered`` shows of a task."""


# ── the worker ──────────────────────────────────────────────────────────────────────────


@inspect_command(default_timeout=0.2)
def ping(state: State, **kwargs: Any) -> Any:
    """Ping worker(s)."""
    return ok("pong")


@inspect_command()
def stats(state: State, **kwargs: Any) -> Any:
    """Counts and facts about the worker."""
    return state.worker.stats()


@inspect_command()
def report(state: State, **kwargs: Any) -> Any:
    """What to put into a bug report."""
    return ok(state.app.bugreport())


@inspect_command(
    alias="dump_conf",
    signature="[include_defaults=False]",
    args=[("with_defaults", strtobool)],
)
def conf(state: State, with_defaults: bool = False, **kwargs: Any) -> Any:
    """The settings, with secrets masked."""
    settings = state.app.conf
    old = settings.deprecated_settings
    return jsonify(
        {
            **settings.table(with_defaults=bool(with_defaults)),
            "deprecated_settings": sorted(old) if old else None,
            "include": list(settings.include or ()),
        },
        keyfilter=lambda key: isinstance(key, str) and not key.startswith("__"),
        unknown_type_filter=saferepr,
    )


@control_command()
def shutdown(state: State, msg: str = "Got shutdown from remote", **kwargs: Any) -> Any:
    """Stop the worker(s); what runs may end."""
    logger.warning("%s", msg)
    threading.Thread(target=state.worker.stop, daemon=True).start()
    return ok("warm shutdown")


# ── queues ──────────────────────────────────────────────────────────────────────────────


@inspect_command()
def active_queues(state: State, **kwargs: Any) -> Any:
    """The queues that the worker serves."""
    declared: Any = {}
    if "amqp" in vars(state.app) or state.app.conf.task_queues is not None:
        declared = state.app.amqp.queues
    return [
        jsonify(dict(declared[name].as_dict(recurse=True)), unknown_type_filter=saferepr)
        if name in declared
        else _queue(name)
        for name in list(state.worker.queues)
    ]


def _queue(name: str) -> dict[str, Any]:
    """What kombu says of a queue that exists by its name alone, without loading kombu."""
    exchange = {
        "name": name,
        "type": "direct",
        "arguments": None,
        "durable": True,
        "passive": False,
        "auto_delete": False,
        "delivery_mode": None,
        "no_declare": False,
    }
    absent = (
        "queue_arguments", "binding_arguments", "consumer_arguments", "alias", "expires",
        "message_ttl", "max_length", "max_length_bytes", "max_priority",
    )  # fmt: skip
    return {
        "name": name,
        "exchange": exchange,
        "routing_key": name,
        "durable": True,
        "exclusive": False,
        "auto_delete": False,
        "no_ack": False,
        "bindings": [],
        "no_declare": None,
        **dict.fromkeys(absent),
    }


@control_command(
    args=[("queue", str), ("exchange", str), ("exchange_type", str), ("routing_key", str)],
    signature="<queue> [exchange [type [routing_key]]]",
)
def add_consumer(state: State, queue: str, **options: Any) -> Any:
    """Serve another queue."""
    if queue not in state.worker.queues:
        serve(state.worker, [*state.worker.queues, queue], "told by remote")
    return ok(f"add consumer {queue}")


@control_command(args=[("queue", str)], signature="<queue>")
def cancel_consumer(state: State, queue: str, **options: Any) -> Any:
    """Serve a queue no longer."""
    if queue in state.worker.queues:
        left = [each for each in state.worker.queues if each != queue]
        serve(state.worker, left, "told by remote")
    return ok(f"no longer consuming from {queue}")


# ── tasks ───────────────────────────────────────────────────────────────────────────────


@inspect_command(
    alias="dump_tasks",
    variadic="taskinfoitems",
    signature="[attr1 [attr2 [... [attrN]]]]",
)
def registered(
    state: State,
    taskinfoitems: Iterable[str] | None = None,
    builtins: bool = False,
    **kwargs: Any,
) -> Any:
    """The tasks that the worker knows."""
    wanted = [
        item
        for item in taskinfoitems or DEFAULT_TASK_INFO_ITEMS
        if isinstance(item, str) and not item.startswith("_")
    ]

    def line(name: str, task: Any) -> str:
        known = ((item, getattr(task, item, None)) for item in wanted)
        facts = [f"{item}={value}" for item, value in known if value is not None]
        return f"{name} [{' '.join(facts)}]" if facts else name

    return [
        line(name, task)
        for name, task in sorted(state.app.tasks.items())
        if builtins or not name.startswith("celery.")
    ]


# ── jobs ────────────────────────────────────────────────────────────────────────────────


@inspect_command(alias="dump_active")
def active(state: State, safe: bool | None = False, **kwargs: Any) -> Any:
    """The tasks that run now."""
    running = state.worker.pool.running()
    return [
        _task(state, job, running=running[job.id], safe=bool(safe))
        for job in state.worker.held()
        if job.id in running
    ]


@inspect_command(alias="dump_reserved")
def reserved(state: State, **kwargs: Any) -> Any:
    """The tasks that are claimed and not begun."""
    running = state.worker.pool.running()
    return [_task(state, job) for job in state.worker.held() if job.id not in running]


@inspect_command(variadic="ids", signature="[id1 [id2 [... [idN]]]]")
def query_task(state: State, ids: Any, **kwargs: Any) -> Any:
    """What the worker holds of these ids."""
    wanted = {ids} if isinstance(ids, str) else set(ids)
    running = state.worker.pool.running()
    later = mailbox.look_up(sorted(wanted), state.worker.queues)
    found = {
        job.task_id: ("scheduled", _task(state, job))
        for job in state.app.database.run(later, timeout=5.0)
    }
    held = {
        job.task_id: (
            "active" if job.id in running else "reserved",
            _task(state, job, running=running.get(job.id)),
        )
        for job in state.worker.held()
        if job.task_id in wanted
    }
    return {**found, **held}


@inspect_command(alias="dump_schedule")
def scheduled(state: State, **kwargs: Any) -> Any:
    """The next tasks with a countdown, an eta or a retry ahead, in the worker's queues."""
    query = mailbox.scheduled(state.worker.queues, limit=MOST_SCHEDULED)
    return [
        {
            "eta": datetime.fromtimestamp(job.scheduled_at, timezone.utc).isoformat(),
            # Celery's, of what waits for its time; the job's own is in the request.
            "priority": TIMER_PRIORITY,
            "request": _task(state, job),
        }
        for job in state.app.database.run(query, timeout=5.0)
    ]


def _task(
    state: State,
    job: Job | mailbox.Scheduled,
    *,
    running: tuple[int, float] | None = None,
    safe: bool = False,
) -> dict[str, Any]:
    """A task in the shape of Celery's replies."""
    pid, since = running or (None, None)
    task: Any = state.app.tasks.get(job.task)
    body = getattr(job, "body", None)
    packed = None if body is None else f"<{len(body)} bytes of {job.content_type}>"  # type: ignore[union-attr]
    args, kwargs = _representations(job.headers)
    return {
        "id": job.task_id,
        "name": job.task,
        "args": args or packed or _arguments(job.args, safe=safe),
        "kwargs": kwargs or packed or _arguments(job.kwargs, safe=safe),
        "type": job.task,
        "hostname": state.hostname,
        "time_start": None if since is None else time.time() - (time.monotonic() - since),
        # Celery's word for: it will not run again, whatever happens to the worker.
        "acknowledged": since is not None and not getattr(task, "acks_late", False),
        "delivery_info": {
            "exchange": "",
            "routing_key": job.queue,
            "priority": job.priority,
            "redelivered": bool(getattr(job, "lost", 0)),
        },
        "worker_pid": pid,
    }


def _arguments(text: str | None, *, safe: bool) -> Any:
    """The arguments as JSON values, or as text where they are large or unreadable."""
    if text is None:
        return "<too large to be loaded>"
    if safe or len(text) > LONGEST:
        return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _representations(headers: str | None) -> tuple[str | None, str | None]:
    """What the caller wants to have shown in place of the arguments, to hide secrets."""
    if headers is None or 'repr"' not in headers:
        return None, None
    try:
        found = json.loads(headers)
        return found.get("argsrepr"), found.get("kwargsrepr")
    except (ValueError, RecursionError, AttributeError):
        return None, None
