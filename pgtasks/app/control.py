"""``app.control``: tell workers something, or ask them.

A command is a row that every worker reads, and each reply is a row too; see
`pgtasks.worker.control` for what workers understand.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pgtasks.app.connection import keeps_jobs_in_memory
from pgtasks.app.mailbox import Callback, Mailbox, matching
from pgtasks.exceptions import DuplicateNodenameWarning, ImproperlyConfigured
from pgtasks.utils.text import pluralize

if TYPE_CHECKING:
    from pgtasks.app.base import Celery

__all__ = ["Control", "Inspect", "Mailbox", "flatten_reply"]

TERM_SIGNAME = "SIGTERM"


def flatten_reply(reply: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Make one dict of ``[{node: reply}, …]``; warn of nodes that share a name."""
    nodes: dict[str, Any] = {}
    twice: set[str] = set()
    for item in reply:
        twice.update(name for name in item if name in nodes)
        nodes.update(item)
    if twice:
        warnings.warn(
            DuplicateNodenameWarning(
                f"Received multiple replies from node {pluralize(len(twice), 'name')}: "
                f"{', '.join(sorted(twice))}. Give each worker a name of its own, with "
                f"the option -n (-n worker1@%h)."
            ),
            stacklevel=2,
        )
    return nodes


class Inspect:
    """Asks workers about themselves; each answer is a dict of worker to reply.

    A method answers None when no worker has replied in time.

    Args:
        destination: Names of the workers to ask; all by default. With one name as text
            the answer is that worker's reply itself.
        timeout: Seconds to wait at most. All workers that are alive having replied, no
            more time is spent.
        callback: Called with each reply as it comes, ``{worker: reply}``.
        connection: Accepted: commands use the application's own connections.
        app: The application.
        limit: As many replies are enough.
        pattern: Ask the workers whose name matches.
        matcher: ``glob`` or ``pcre``: how it matches.
    """

    app: Any = None

    def __init__(
        self,
        destination: Any = None,
        timeout: float | None = 1.0,
        callback: Callback | None = None,
        connection: Any = None,
        app: Any = None,
        limit: int | None = None,
        pattern: str | None = None,
        matcher: str | None = None,
    ) -> None:
        self.app = app or self.app
        self.destination = destination
        self.timeout = timeout
        self.callback = callback
        self.connection = connection
        self.limit = limit
        self.pattern = pattern
        self.matcher = matcher

    def _prepare(self, reply: Any) -> Any:
        if not reply:
            return None
        by_node = flatten_reply(reply)
        if self.destination and not isinstance(self.destination, (list, tuple)):
            return by_node.get(self.destination)
        if self.pattern:
            matches = matching(self.pattern, self.matcher)
            return {node: answer for node, answer in by_node.items() if matches(node)}
        return by_node

    def _request(self, command: str, **kwargs: Any) -> Any:
        return self._prepare(
            self.app.control.broadcast(
                command,
                arguments=kwargs,
                destination=self.destination,
                callback=self.callback,
                connection=self.connection,
                limit=self.limit,
                timeout=self.timeout,
                reply=True,
                pattern=self.pattern,
                matcher=self.matcher,
            )
        )

    def ping(self, destination: Any = None) -> Any:
        """Who is there? Each reply is ``{"ok": "pong"}``."""
        if destination:
            self.destination = destination
        return self._request("ping")

    def active(self, safe: bool | None = None) -> Any:
        """The tasks that run now; with ``safe``, arguments are shown as text."""
        return self._request("active", safe=safe)

    def reserved(self, safe: bool | None = None) -> Any:
        """The tasks that a worker has claimed and not begun."""
        return self._request("reserved")

    def scheduled(self, safe: bool | None = None) -> Any:
        """The next tasks with a countdown, an eta or a retry ahead.

        They wait in the table and belong to no worker: each worker lists those of the
        queues that it serves, at most a thousand.
        """
        return self._request("scheduled")

    def query_task(self, *ids: Any) -> Any:
        """What workers hold of these ids: ``{id: [state, task]}``."""
        alone = len(ids) == 1 and isinstance(ids[0], (list, tuple))
        return self._request("query_task", ids=ids[0] if alone else ids)

    def registered(self, *taskinfoitems: str) -> Any:
        """The names of the tasks that workers know, with these attributes of theirs."""
        return self._request("registered", taskinfoitems=taskinfoitems)

    registered_tasks = registered

    def active_queues(self) -> Any:
        """The queues that workers serve, as kombu describes queues."""
        return self._request("active_queues")

    def stats(self) -> Any:
        """Counts and facts: ``total`` by task, ``pid``, ``uptime``, ``pool`` and more."""
        return self._request("stats")

    def conf(self, with_defaults: bool = False) -> Any:
        """The settings of workers, with secrets masked."""
        return self._request("conf", with_defaults=with_defaults)

    def report(self) -> Any:
        """What to put into a bug report, ``{"ok": text}``."""
        return self._request("report")


class Control:
    """Tells workers what to do.

    Args:
        app: The application.
    """

    #: Class that carries commands and replies.
    Mailbox: Any = Mailbox

    def __init__(self, app: Any = None) -> None:
        conf = app.conf
        if conf.control_queue_durable and conf.control_queue_exclusive:
            raise ImproperlyConfigured(
                "control_queue_durable and control_queue_exclusive cannot both be True. "
                "Neither means anything here: remove both."
            )
        self.app = app
        self.mailbox = self.Mailbox(
            conf.control_exchange,
            app=app,
            accept=conf.accept_content,
            serializer=conf.task_serializer,
            queue_ttl=conf.control_queue_ttl,
            queue_expires=conf.control_queue_expires,
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in _NOT_YET:
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}"
            )
        raise AttributeError(
            f"app.control.{name}() is not there yet in this version of pgtasks. Workers "
            f"know: {', '.join(_KNOWN)}. Own commands can be added with "
            f"pgtasks.worker.control.control_command."
        )

    @cached_property
    def inspect(self) -> Any:
        """`Inspect`, of this application."""
        return self.app.subclass_with_self(Inspect, reverse="control.inspect")

    # ── the table, without any worker ───────────────────────────────────────────────────

    def purge(self, connection: Any = None, *, queues: Sequence[str] | None = None) -> int:
        """Delete all waiting jobs of the queues that the application serves.

        What runs, runs on. There is no way back.

        Args:
            connection: Accepted from Celery.
            queues: Other queues than the application's.

        Returns:
            How many jobs there were.
        """
        return sum(self.purging(queues))

    discard_all = purge

    def purging(self, queues: Sequence[str] | None = None) -> Iterator[int]:
        """`purge` in steps, for progress: how many jobs each step has deleted."""
        from pgtasks.storage import jobs

        names = list(queues) if queues is not None else known_queues(self.app)
        if keeps_jobs_in_memory(self.app):
            from pgtasks.app.memory import queue_of

            yield queue_of(self.app).purge(names)
            return
        while deleted := self.app.database.run(jobs.purge(names), retry=True):
            yield deleted

    # ── commands ────────────────────────────────────────────────────────────────────────

    def ping(
        self, destination: Any = None, timeout: float | None = 1.0, **kwargs: Any
    ) -> Any:
        """Ask who is there: ``[{worker: {"ok": "pong"}}, …]``."""
        return self.broadcast(
            "ping",
            reply=True,
            arguments={},
            destination=destination,
            timeout=timeout,
            **kwargs,
        )

    def shutdown(self, destination: Any = None, **kwargs: Any) -> Any:
        """Stop workers warmly: what runs may end."""
        return self.broadcast("shutdown", arguments={}, destination=destination, **kwargs)

    def add_consumer(
        self,
        queue: str,
        exchange: str | None = None,
        exchange_type: str = "direct",
        routing_key: str | None = None,
        options: Mapping[str, Any] | None = None,
        destination: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Have workers serve another queue until they stop.

        Args:
            queue: Its name.
            exchange: Accepted: a queue is a name here.
            exchange_type: Accepted.
            routing_key: Accepted.
            options: Further arguments of the command.
            destination: Names of the workers; all by default.
            **kwargs: As of `broadcast`.
        """
        arguments = {
            "queue": queue,
            "exchange": exchange,
            "exchange_type": exchange_type,
            "routing_key": routing_key,
            **(options or {}),
        }
        return self.broadcast(
            "add_consumer", destination=destination, arguments=arguments, **kwargs
        )

    def cancel_consumer(self, queue: str, destination: Any = None, **kwargs: Any) -> Any:
        """Have workers serve a queue no longer."""
        return self.broadcast(
            "cancel_consumer", destination=destination, arguments={"queue": queue}, **kwargs
        )

    def time_limit(
        self,
        task_name: str,
        soft: float | None = None,
        hard: float | None = None,
        destination: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Give a task other time limits, in seconds, until the workers stop."""
        return self.broadcast(
            "time_limit",
            arguments={"task_name": task_name, "hard": hard, "soft": soft},
            destination=destination,
            **kwargs,
        )

    def broadcast(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        destination: Any = None,
        connection: Any = None,
        reply: bool = False,
        timeout: float | None = 1.0,
        limit: int | None = None,
        callback: Callback | None = None,
        channel: Any = None,
        pattern: str | None = None,
        matcher: str | None = None,
        **extra_kwargs: Any,
    ) -> Any:
        """Send a command to workers.

        Args:
            command: Its name.
            arguments: Its keyword arguments.
            destination: Names of the workers; all by default.
            connection: Accepted: the application's own connections are used.
            reply: Wait for replies and return them.
            timeout: Seconds to wait for them at most. When all addressed workers that are
                alive have replied, no more time is spent.
            limit: As many replies are enough.
            callback: Called with each reply as it comes.
            channel: Accepted.
            pattern: Send it to the workers whose name matches.
            matcher: ``glob`` or ``pcre``: how it matches.
            **extra_kwargs: Further arguments of the command.

        Returns:
            ``[{worker: reply}, …]``, or None without ``reply``.
        """
        arguments = {**(arguments or {}), **extra_kwargs}
        chosen = {"pattern": pattern, "matcher": matcher} if pattern and matcher else {}
        return self.mailbox(connection)._broadcast(
            command,
            arguments,
            destination,
            reply,
            timeout,
            limit,
            callback,
            channel=channel,
            **chosen,
        )


def known_queues(app: Celery) -> list[str]:
    """The queues that an application's workers serve when they are not told which."""
    if app.conf.task_queues is None and "amqp" not in vars(app):
        # kombu's queues cost 26 MB and 170 ms to say this one word.
        return [app.conf.task_default_queue]
    return list(app.amqp.queues.consume_from)


_KNOWN = ("ping", "shutdown", "add_consumer", "cancel_consumer", "time_limit")
_NOT_YET = {
    "autoscale",
    "disable_events",
    "election",
    "enable_events",
    "heartbeat",
    "pool_grow",
    "pool_restart",
    "pool_shrink",
    "rate_limit",
    "revoke",
    "revoke_by_stamped_headers",
    "terminate",
}
