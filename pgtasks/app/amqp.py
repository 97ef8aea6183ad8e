"""``app.amqp``: queues, exchanges and routes as Celery's users declare them.

There is no broker: a queue is a word in a column. Declarations still say which queues a
worker serves when it is told none, which names are allowed, and where an exchange with a
routing key leads. They are kombu's objects, made when somebody asks for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from pgtasks.app import routes as _routes
from pgtasks.app.followups import _callback_publish_retry  # noqa: F401 # Celery has it here
from pgtasks.app.message import TaskMessage, as_task_v2, options_of
from pgtasks.app.parts import part
from pgtasks.utils.functional import lazy, maybe_list
from pgtasks.utils.text import indent as indented

if TYPE_CHECKING:
    from pgtasks.app.base import Celery

__all__ = ["AMQP", "Queues", "utf8dict"]

_SEND = "Send with app.send_task() or a task's apply_async()."
_RUN = (
    "Jobs are fetched by workers: start one, with `pgtasks worker` or app.WorkController."
)

#: What Celery has here and needs a broker, and what takes its place.
_NO_BROKER = {
    "Connection": "app.database has the connections to PostgreSQL.",
    "Consumer": _RUN,
    "Producer": _SEND,
    "TaskConsumer": _RUN,
    "producer_pool": _SEND,
    "publisher_pool": _SEND,
}

#: How a queue is shown in the worker's banner.
QUEUE_FORMAT = (
    ".> {0.name:<16} exchange={0.exchange.name}({0.exchange.type}) key={0.routing_key}"
)


def utf8dict(d: Mapping[Any, Any], encoding: str = "utf-8") -> dict[Any, Any]:
    """Answer a copy whose keys are text where they were bytes."""
    return {k.decode(encoding) if isinstance(k, bytes) else k: v for k, v in d.items()}


def _kombu() -> Any:
    # A fifth of a second that programs which route by name need not spend.
    import kombu

    return kombu


class Queues(dict[str, Any]):
    """Declared queues by name, and which of them a worker serves.

    Args:
        queues: kombu's queues, or a mapping of names to queues or to their options.
        default_exchange: Exchange of queues that name none.
        create_missing: A queue comes into being when its name is looked up.
        create_missing_queue_type: ``classic`` or ``quorum``; written into the queue.
        create_missing_queue_exchange_type: Type of the exchange of such a queue.
        autoexchange: Makes the exchange of such a queue out of its name.
        max_priority: Written into queues that do not say.
        default_routing_key: Key of queues that name none.

    Attributes:
        aliases: Queues by their second name.
    """

    #: The queues chosen to be served, or None while that is all declared ones.
    _consume_from: dict[str, Any] | None = None

    def __init__(
        self,
        queues: Any = None,
        default_exchange: Any = None,
        create_missing: bool = True,
        create_missing_queue_type: str | None = None,
        create_missing_queue_exchange_type: str | None = None,
        autoexchange: Any = None,
        max_priority: int | None = None,
        default_routing_key: str | None = None,
    ) -> None:
        super().__init__()
        self.aliases: WeakValueDictionary[str, Any] = WeakValueDictionary()
        self.default_exchange = default_exchange
        self.default_routing_key = default_routing_key
        self.create_missing = create_missing
        self.create_missing_queue_type = create_missing_queue_type
        self.create_missing_queue_exchange_type = create_missing_queue_exchange_type
        self.autoexchange = autoexchange
        self.max_priority = max_priority
        if queues is not None and not isinstance(queues, Mapping):
            queues = {queue.name: queue for queue in queues}
        for name, queue in (queues or {}).items():
            if isinstance(queue, Mapping):
                self.add_compat(name, **queue)
            else:
                self.add(queue)
        self._default_consume_from = dict(self)

    def __getitem__(self, name: str) -> Any:
        try:
            return self.aliases[name]
        except KeyError:
            return super().__getitem__(name)

    def __setitem__(self, name: str, queue: Any) -> None:
        if self.default_exchange and not queue.exchange:
            queue.exchange = self.default_exchange
        if not queue.routing_key:
            queue.routing_key = self.default_routing_key
        if self.max_priority is not None:
            queue.queue_arguments = {
                "x-max-priority": self.max_priority,
                **(queue.queue_arguments or {}),
            }
        super().__setitem__(name, queue)
        if queue.alias:
            self.aliases[queue.alias] = queue

    def __missing__(self, name: str) -> Any:
        if self.create_missing:
            return self.add(self.new_missing(name))
        raise KeyError(name)

    def add(self, queue: Any, **kwargs: Any) -> Any:
        """Declare a queue: kombu's object, or a name with options.

        Args:
            queue: The queue.
            **kwargs: With a name: exchange, exchange_type, routing_key and what else
                kombu's ``Queue.from_dict`` takes.
        """
        return (
            self.add_compat(queue, **kwargs) if isinstance(queue, str) else self._add(queue)
        )

    def add_compat(self, name: str, **options: Any) -> Any:
        """Declare a queue given by a name and options."""
        Queue = _kombu().Queue
        key = options.get("routing_key", options.get("binding_key"))
        options["routing_key"] = name if key is None else key
        return self._add(Queue.from_dict(name, **options))

    def _add(self, queue: Any) -> Any:
        if self.default_exchange and (queue.exchange is None or queue.exchange.name == ""):
            queue.exchange = self.default_exchange
        self[queue.name] = queue
        return queue

    def new_missing(self, name: str) -> Any:
        """Make the queue that a name stands for when it is not declared."""
        Exchange, Queue = _kombu().Exchange, _kombu().Queue
        kind = self.create_missing_queue_type or "classic"
        if kind not in ("classic", "quorum"):
            raise ValueError(
                f"Invalid queue type {kind!r}. Valid types are 'classic' and 'quorum'."
            )
        if self.create_missing_queue_exchange_type:
            exchange = Exchange(name, self.create_missing_queue_exchange_type)
        else:
            exchange = (self.autoexchange or Exchange)(name)
        arguments = None if kind == "classic" else {"x-queue-type": kind}
        return Queue(name, exchange, name, queue_arguments=arguments)

    # ── what a worker serves ────────────────────────────────────────────────────────────

    @property
    def consume_from(self) -> dict[str, Any]:
        """The queues to serve."""
        if self._consume_from is not None:
            return self._consume_from
        return self._default_consume_from

    def select(self, include: Any) -> None:
        """Serve these queues only.

        Args:
            include: A name, or several; None or nothing changes nothing.
        """
        if include:
            queues = [self[name] for name in maybe_list(include)]
            self._consume_from = {queue.name: queue for queue in queues}

    def deselect(self, exclude: Any) -> None:
        """Do not serve these queues.

        Args:
            exclude: A name, or several.
        """
        for name in maybe_list(exclude) or ():
            queue = self.aliases.get(name)
            self.consume_from.pop(name if queue is None else queue.name, None)

    def select_add(self, queue: Any, **kwargs: Any) -> Any:
        """Declare a queue and serve it, whatever has been selected."""
        added = self.add(queue, **kwargs)
        self.consume_from[added.name] = added
        return added

    def format(self, indent: int = 0, indent_first: bool = True) -> str:
        """Show the queues to serve, one a line."""
        lines = [
            QUEUE_FORMAT.format(queue) for _, queue in sorted(self.consume_from.items())
        ]
        if not lines:
            return ""
        if indent_first:
            return indented("\n".join(lines), indent)
        return lines[0] + "\n" + indented("\n".join(lines[1:]), indent)


class AMQP:
    """The queues and routes of an application."""

    queues_cls = Queues

    #: Makes the exchange of a queue that exists by being named.
    autoexchange: Any = None

    #: How much of a task's arguments is shown in logs and events.
    argsrepr_maxsize = 1024
    kwargsrepr_maxsize = 1024

    _rtable: Any = None

    def __init__(self, app: Celery) -> None:
        self.app = app
        app.conf.bind_to(self._settings_changed)

    def send_task_message(
        self,
        producer: Any,
        name: str,
        message: TaskMessage,
        exchange: Any = None,
        routing_key: str | None = None,
        queue: Any = None,
        **options: Any,
    ) -> Any:
        """Send a task that was made into a message, with `as_task_v2`.

        Programs and tests put something of their own in this place, to see or to divert
        what is sent; then every task that is sent comes by here.

        Args:
            producer: Celery's, unused.
            name: Name of the task.
            message: Its parts.
            exchange: Celery's, unused.
            routing_key: The queue, if ``queue`` is not given.
            queue: The queue, or its name.
            **options: Other options of `Task.apply_async`.

        Returns:
            The result of the task.
        """
        args, kwargs, given = options_of(message)
        given.update(options)
        if queue or routing_key:
            given["queue"] = getattr(queue, "name", queue) or routing_key
        return self.app.send_task(name, args, kwargs, **given)

    # Not for type checkers, to which every name would then exist.
    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            message = f"{type(self).__name__!r} object has no attribute {name!r}"
            if name in _NO_BROKER:
                message += f": there is no broker. {_NO_BROKER[name]}"
            raise AttributeError(message)

    def Queues(
        self,
        queues: Any,
        create_missing: bool | None = None,
        create_missing_queue_type: str | None = None,
        create_missing_queue_exchange_type: str | None = None,
        autoexchange: Any = None,
        max_priority: int | None = None,
    ) -> Any:
        """Make a `Queues` of declarations; what is not given comes from the settings."""

        def setting(value: Any, name: str) -> Any:
            return conf[name] if value is None else value

        conf = self.app.conf
        if not queues and conf.task_default_queue:
            Queue = _kombu().Queue
            quorum = conf.task_default_queue_type == "quorum"
            queues = (
                Queue(
                    conf.task_default_queue,
                    exchange=self.default_exchange,
                    routing_key=conf.task_default_routing_key,
                    queue_arguments={"x-queue-type": "quorum"} if quorum else None,
                ),
            )
        return self.queues_cls(
            queues,
            default_exchange=self.default_exchange,
            create_missing=setting(create_missing, "task_create_missing_queues"),
            create_missing_queue_type=setting(
                create_missing_queue_type, "task_create_missing_queue_type"
            ),
            create_missing_queue_exchange_type=setting(
                create_missing_queue_exchange_type,
                "task_create_missing_queue_exchange_type",
            ),
            autoexchange=self.autoexchange if autoexchange is None else autoexchange,
            max_priority=setting(max_priority, "task_queue_max_priority"),
            default_routing_key=conf.task_default_routing_key,
        )

    @part
    def queues(self) -> Any:
        """The declared queues by name."""
        return self.Queues(self.app.conf.task_queues)

    @part
    def default_queue(self) -> Any:
        """The queue of jobs that name none."""
        return self.queues[self.app.conf.task_default_queue]

    @part
    def default_exchange(self) -> Any:
        """The exchange of queues that name none."""
        conf = self.app.conf
        return _kombu().Exchange(
            conf.task_default_exchange, conf.task_default_exchange_type
        )

    def as_task_v2(self, task_id: str, name: str, *args: Any, **kwargs: Any) -> TaskMessage:
        """Make the message that Celery would send; see `pgtasks.app.message`."""
        return as_task_v2(self.app, task_id, name, *args, **kwargs)

    create_task_message = as_task_v2

    # ── routes ──────────────────────────────────────────────────────────────────────────

    def Router(self, queues: Any = None, create_missing: bool | None = None) -> Any:
        """Make a router of the setting ``task_routes``."""
        if create_missing is None:
            create_missing = self.app.conf.task_create_missing_queues
        # Not the queues themselves: most programs route by name and declare none.
        queues = queues or lazy(lambda: self.queues)
        return _routes.Router(self.routes, queues, bool(create_missing), app=self.app)

    @part
    def router(self) -> Any:
        """The router of this application."""
        return self.Router()

    @property
    def routes(self) -> Any:
        """The routers that ``task_routes`` stands for."""
        if self._rtable is None:
            self.flush_routes()
        return self._rtable

    def flush_routes(self) -> None:
        """Read ``task_routes`` again."""
        self._rtable = _routes.prepare(self.app.conf.task_routes)

    def _settings_changed(self, changed: Iterable[str]) -> None:
        if "task_routes" in changed:
            self.flush_routes()
            self.router = self.Router()
        elif "task_create_missing_queues" in changed:
            self.router = self.Router()
