"""``app.control``: tell workers something, or ask them.

A command is a row that every worker reads, and each reply is a row too; see
`pgtasks.worker.control` for what workers understand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pgtasks.app import cancel
from pgtasks.app.connection import keeps_jobs_in_memory
from pgtasks.app.inspection import Inspect, flatten_reply
from pgtasks.app.mailbox import Callback, Mailbox
from pgtasks.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from pgtasks.app.base import Celery

__all__ = ["Control", "Inspect", "Mailbox", "flatten_reply"]

TERM_SIGNAME = "SIGTERM"


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
            queue_exclusive=conf.control_queue_exclusive,
            queue_durable=conf.control_queue_durable,
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

    # ── workers ─────────────────────────────────────────────────────────────────────────

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

    def heartbeat(self, destination: Any = None, **kwargs: Any) -> Any:
        """Have workers say now that they are alive."""
        return self.broadcast("heartbeat", arguments={}, destination=destination, **kwargs)

    def election(
        self, id: str, topic: str, action: Any = None, connection: Any = None
    ) -> None:
        """Have workers elect one of them to do something; Celery's, for its own parts.

        Args:
            id: Of the election.
            topic: What for.
            action: What the elected one does.
            connection: Accepted.
        """
        self.broadcast(
            "election",
            connection=connection,
            destination=None,
            arguments={"id": id, "topic": topic, "action": action},
        )

    # ── tasks ───────────────────────────────────────────────────────────────────────────

    def revoke(
        self,
        task_id: Any,
        destination: Any = None,
        terminate: bool = False,
        signal: str = TERM_SIGNAME,
        reason: str | None = None,
        waiting: bool = True,
        **kwargs: Any,
    ) -> Any:
        """Have tasks not run, if they have not begun.

        What waits ends in the table at once, whether a worker runs or not; what has not
        come yet ends when it comes, and what runs does not begin again. Workers need not be
        there, nor stay. With a ``destination`` only these workers know of it, for as long as
        they run.

        Args:
            task_id: The id, or a list of ids.
            destination: Names of the workers; all by default.
            terminate: Also kill the processes that run them. What a task has done by then
                is done.
            signal: How to kill them.
            reason: Kept with the job, and shown to whoever waits for it.
            waiting: Look for those that wait, too; False if that has been done.
            **kwargs: As of `broadcast`.
        """
        ids = [task_id] if isinstance(task_id, str) else list(task_id)
        if not destination:
            ended = cancel.cancel(self.app, ids) if waiting else ()
            cancel.remember(self.app, set(ids).difference(ended), reason)
        return self.broadcast(
            "revoke",
            destination=destination,
            arguments={
                "task_id": task_id if isinstance(task_id, str) else ids,
                "terminate": terminate,
                "signal": signal,
                **({"reason": reason} if reason else {}),
            },
            **kwargs,
        )

    def revoke_by_stamped_headers(
        self,
        headers: Mapping[str, Any],
        destination: Any = None,
        terminate: bool = False,
        signal: str = TERM_SIGNAME,
        **kwargs: Any,
    ) -> Any:
        """`revoke` tasks by what they were stamped with.

        Args:
            headers: Stamps by name; of a list of them each will do.
            destination: Names of the workers; all by default.
            terminate: Also kill the processes that run them.
            signal: How to kill them.
            **kwargs: As of `broadcast`.
        """
        if not destination:
            cancel.cancel_stamped(self.app, headers)
        return self.broadcast(
            "revoke_by_stamped_headers",
            destination=destination,
            arguments={"headers": headers, "terminate": terminate, "signal": signal},
            **kwargs,
        )

    def forgive(self, task_id: Any, destination: Any = None, **kwargs: Any) -> Any:
        """Forget that tasks were revoked: they are to run after all.

        Args:
            task_id: The id, or a list of ids.
            destination: Names of the workers; all by default.
            **kwargs: As of `broadcast`.
        """
        ids = [task_id] if isinstance(task_id, str) else list(task_id)
        if not destination:
            cancel.forgive(self.app, ids)
        return self.broadcast(
            "forgive", destination=destination, arguments={"task_id": ids}, **kwargs
        )

    def terminate(
        self,
        task_id: Any,
        destination: Any = None,
        signal: str = TERM_SIGNAME,
        **kwargs: Any,
    ) -> Any:
        """`revoke` with ``terminate=True``."""
        return self.revoke(
            task_id, destination=destination, terminate=True, signal=signal, **kwargs
        )

    def rate_limit(
        self, task_name: str, rate_limit: Any, destination: Any = None, **kwargs: Any
    ) -> Any:
        """Have a task begin less often, until the workers stop.

        Args:
            task_name: Name of the task.
            rate_limit: How often: a number for each second, or ``"100/m"``; None or 0 for
                no limit.
            destination: Names of the workers; all by default.
            **kwargs: As of `broadcast`.
        """
        return self.broadcast(
            "rate_limit",
            destination=destination,
            arguments={"task_name": task_name, "rate_limit": rate_limit},
            **kwargs,
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

    def enable_events(self, destination: Any = None, **kwargs: Any) -> Any:
        """Have workers send events of what they do."""
        return self.broadcast(
            "enable_events", arguments={}, destination=destination, **kwargs
        )

    def disable_events(self, destination: Any = None, **kwargs: Any) -> Any:
        """Have them send none any more."""
        return self.broadcast(
            "disable_events", arguments={}, destination=destination, **kwargs
        )

    # ── queues ──────────────────────────────────────────────────────────────────────────

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

    # ── pools ───────────────────────────────────────────────────────────────────────────

    def pool_grow(self, n: int = 1, destination: Any = None, **kwargs: Any) -> Any:
        """Have workers run more tasks at a time, by ``n``."""
        return self.broadcast(
            "pool_grow", arguments={"n": n}, destination=destination, **kwargs
        )

    def pool_shrink(self, n: int = 1, destination: Any = None, **kwargs: Any) -> Any:
        """Have workers run fewer tasks at a time, by ``n``."""
        return self.broadcast(
            "pool_shrink", arguments={"n": n}, destination=destination, **kwargs
        )

    def autoscale(self, max: int, min: int, destination: Any = None, **kwargs: Any) -> Any:
        """Change between how many and how few tasks at a time workers scale."""
        return self.broadcast(
            "autoscale",
            arguments={"max": max, "min": min},
            destination=destination,
            **kwargs,
        )

    def pool_restart(
        self,
        modules: Sequence[str] | None = None,
        reload: bool = False,
        reloader: Any = None,
        destination: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Have workers replace the processes that run tasks.

        Args:
            modules: Modules to import before.
            reload: Import them again if they have been.
            reloader: Does that.
            destination: Names of the workers; all by default.
            **kwargs: As of `broadcast`.
        """
        return self.broadcast(
            "pool_restart",
            arguments={"modules": modules, "reload": reload, "reloader": reloader},
            destination=destination,
            **kwargs,
        )

    # ── all of them ─────────────────────────────────────────────────────────────────────

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
