"""``app.control.inspect()``: ask workers about themselves."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from pgtasks.app.mailbox import Callback, matching
from pgtasks.exceptions import DuplicateNodenameWarning
from pgtasks.utils.text import pluralize

__all__ = ["Inspect", "flatten_reply"]


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

    def revoked(self) -> Any:
        """The ids that have been revoked and not yet come up."""
        return self._request("revoked")

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

    # ── for looking into a worker ───────────────────────────────────────────────────────

    def clock(self) -> Any:
        """The logical clocks of workers, ``{"clock": 12}``."""
        return self._request("clock")

    def hello(self, from_node: str, revoked: Any = None) -> Any:
        """Greet workers as a new one would in Celery, where they tell each other things.

        Args:
            from_node: Who greets.
            revoked: The ids that it knows to be revoked.
        """
        return self._request("hello", from_node=from_node, revoked=revoked)

    def memsample(self) -> Any:
        """Have workers note how much memory they take, and answer it."""
        return self._request("memsample")

    def memdump(self, samples: int = 10) -> Any:
        """As many as ``samples`` of those notes; workers forget them then."""
        return self._request("memdump", samples=samples)

    def objgraph(self, type: str = "Request", n: int = 200, max_depth: int = 10) -> Any:
        """Have workers draw what keeps objects of a class alive; needs objgraph there.

        Args:
            type: Name of the class.
            n: Draw at most as many.
            max_depth: And what holds them, in as many steps.

        Returns:
            Where the drawing is, ``{"filename": path}``.
        """
        return self._request("objgraph", num=n, max_depth=max_depth, type=type)
