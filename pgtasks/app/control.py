"""``app.control``: tell workers something, or ask them.

A command is a row that every worker reads, and each reply is a row too; see
`pgtasks.worker.control` for what workers understand.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pgtasks import serialization
from pgtasks.app.connection import keeps_jobs_in_memory
from pgtasks.exceptions import (
    DuplicateNodenameWarning,
    ImproperlyConfigured,
    PayloadTooLarge,
)
from pgtasks.utils.nodenames import gethostname
from pgtasks.utils.text import pluralize

if TYPE_CHECKING:
    from pgtasks.app.base import Celery

__all__ = ["Control", "Inspect", "Mailbox", "flatten_reply"]

TERM_SIGNAME = "SIGTERM"

LARGEST = 1_000_000
"""Bytes that the arguments of a command may take: every worker reads them."""

Callback = Callable[[dict[str, Any]], object]


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
            matching = _matching(self.pattern, self.matcher)
            return {node: answer for node, answer in by_node.items() if matching(node)}
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
    Mailbox: Any = None  # set below, where it is defined

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
        matching = {"pattern": pattern, "matcher": matcher} if pattern and matcher else {}
        return self.mailbox(connection)._broadcast(
            command,
            arguments,
            destination,
            reply,
            timeout,
            limit,
            callback,
            channel=channel,
            **matching,
        )


class Mailbox:
    """Carries commands to workers and replies back, as rows.

    Args:
        namespace: Accepted: the mailboxes of different programs are different schemas.
        app: The application.
        accept: Accepted: commands and replies are JSON.
        serializer: Accepted.
        queue_ttl: Seconds that a command waits for workers that do not listen now.
        queue_expires: Seconds that replies are waited for when no time is given.
    """

    def __init__(
        self,
        namespace: str,
        *,
        app: Celery,
        accept: Any = None,
        serializer: Any = None,
        queue_ttl: float | None = None,
        queue_expires: float | None = None,
    ) -> None:
        self.namespace = namespace
        self.accept = accept
        self.serializer = serializer
        self.queue_ttl = queue_ttl
        self.queue_expires = queue_expires
        self._app = app

    def __call__(self, connection: Any = None) -> Mailbox:
        """Answer itself: kombu's mailboxes are bound to a connection, ours need none."""
        return self

    def _broadcast(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        destination: Any = None,
        reply: bool = False,
        timeout: float | None = 1.0,
        limit: int | None = None,
        callback: Callback | None = None,
        channel: Any = None,
        pattern: str | None = None,
        matcher: str | None = None,
    ) -> list[dict[str, Any]] | None:
        if keeps_jobs_in_memory(self._app):
            # Nobody but this process can have jobs there.
            return [] if reply else None
        from pgtasks.storage import mailbox

        database = self._app.database
        if isinstance(destination, str):
            destination = [destination]
        if pattern:
            matching = _matching(pattern, matcher)
            alive = database.run(mailbox.names(), retry=True)
            destination = [name for name in alive if matching(name)]
            if not destination:
                return [] if reply else None
        text = serialization.dumps(dict(arguments or {}))
        if len(text) > LARGEST:
            raise PayloadTooLarge(
                f"The arguments of the command {command!r} take {len(text):,} bytes, more "
                f"than the {LARGEST:,} that every worker can be asked to read."
            )
        key = str(uuid.uuid4())
        patience = float((self.queue_expires or 10.0) if timeout is None else timeout)
        expected = database.run(
            mailbox.send(
                command,
                text,
                key=key,
                destination=destination or None,
                wants_reply=reply,
                sender=f"{os.getpid()}@{gethostname()}",
                lifetime=float(self.queue_ttl or 300.0),
            ),
            timeout=max(patience, 1.0),
            retry=True,
        )
        if not reply:
            return None
        return list(self._collect(key, expected, patience, limit, callback))

    def _collect(
        self,
        key: str,
        expected: set[str],
        timeout: float,
        limit: int | None,
        callback: Callback | None,
    ) -> Iterator[dict[str, Any]]:
        from pgtasks.storage import mailbox
        from pgtasks.storage.errors import StorageError

        database, notifier = self._app.database, self._app.notifier
        bell = threading.Event()
        deadline = time.monotonic() + timeout
        missing, known = set(expected), set[int]()
        unsubscribe = notifier.subscribe("pgtasks.replies", lambda payload: bell.set())
        pause = 0.01
        try:
            while True:
                bell.clear()
                remaining = deadline - time.monotonic()
                query = mailbox.collect(key, known=known)
                for each in database.run(query, timeout=max(remaining, 1.0), retry=True):
                    known.add(each.id)
                    missing.discard(each.worker)
                    answer = {each.name: serialization.loads(each.reply)}
                    if callback is not None:
                        callback(answer)
                    yield answer
                    if limit is not None and len(known) >= limit:
                        return
                remaining = deadline - time.monotonic()
                # With nobody alive the whole time is waited out, as there may be workers
                # that a busy server has kept from their heartbeat.
                if remaining <= 0 or (known and not missing):
                    return
                bell.wait(min(remaining, pause))
                pause = min(pause * 2, 0.5 if notifier.listening else 0.05)
        finally:
            unsubscribe()
            # They expire anyway.
            with contextlib.suppress(StorageError):
                database.run(mailbox.discard(key))


Control.Mailbox = Mailbox


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


def _matching(pattern: str, matcher: str | None) -> Callable[[str], bool]:
    if matcher in (None, "glob"):
        return lambda name: fnmatch.fnmatchcase(name, pattern)
    if matcher == "pcre":
        expression = re.compile(pattern)
        return lambda name: expression.match(name) is not None
    raise ValueError(f"There is no matcher {matcher!r}; choose 'glob' or 'pcre'.")
