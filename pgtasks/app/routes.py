"""Which queue a task goes to: the setting ``task_routes``, and what the caller says."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pgtasks.exceptions import ImproperlyConfigured, QueueNotFound
from pgtasks.utils.functional import maybe_evaluate
from pgtasks.utils.imports import symbol_by_name

__all__ = ["MapRoute", "Router", "expand_router_string", "prepare"]


class MapRoute:
    """A router out of a dict or pairs: names, globs and compiled patterns to routes.

    A name wins over patterns, and the first pattern that matches over later ones.
    """

    def __init__(self, map: Any) -> None:
        self.map: dict[str, Any] = {}
        self.patterns: dict[re.Pattern[str], Any] = {}
        for key, route in map.items() if isinstance(map, Mapping) else map:
            if isinstance(key, re.Pattern):
                self.patterns[key] = route
            elif "*" in key:
                self.patterns[re.compile(fnmatch.translate(key))] = route
            else:
                self.map[key] = route

    def __call__(self, name: str, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        """Answer the route of the task ``name``, or None."""
        if name in self.map:
            return _as_route(self.map[name])
        for pattern, route in self.patterns.items():
            if pattern.match(name):
                return _as_route(route)
        return None


def _as_route(route: Any) -> dict[str, Any]:
    return {"queue": route} if isinstance(route, str) else dict(route)


class Router:
    """Completes the options of a call with where it goes.

    Args:
        routes: What `prepare` has made of ``task_routes``.
        queues: Declared queues by name; may be a `lazy`, since making them loads kombu.
        create_missing: Queues need not be declared.
        app: Its settings name the default queue.
    """

    def __init__(
        self,
        routes: Iterable[Any] | None = None,
        queues: Any = None,
        create_missing: bool = False,
        app: Any = None,
    ) -> None:
        self.app = app
        self.routes = routes or []
        self.create_missing = create_missing
        self._queues = {} if queues is None else queues

    @property
    def queues(self) -> Any:
        """The declared queues by name."""
        return maybe_evaluate(self._queues)

    # ── Celery's answer: a declared queue as an object ──────────────────────────────────

    def route(
        self,
        options: dict[str, Any],
        name: str,
        args: Any = (),
        kwargs: Any = None,
        task_type: Any = None,
    ) -> dict[str, Any]:
        """Complete ``options`` with a route; ``queue`` becomes kombu's object.

        What the caller said wins over the route, and None counts as not said.

        Raises:
            QueueNotFound: The queue is not declared, and may not be made.
        """
        options = self.expand_destination(options)
        if self.routes:
            route = self.lookup_route(name, args, kwargs or {}, options, task_type)
            if route:
                return _merge(self.expand_destination(route), options)
        if "queue" not in options:
            default = self.app.conf.task_default_queue
            options = _merge(self.expand_destination(default), options)
        return options

    def expand_destination(self, route: Any) -> dict[str, Any]:
        """Replace the name of a queue by the queue."""
        if isinstance(route, str):
            queue, route = route, {}
        else:
            queue = route.pop("queue", None)
        if queue:
            route["queue"] = self._declared(queue) if isinstance(queue, str) else queue
        return route  # type: ignore[no-any-return]

    def _declared(self, name: str) -> Any:
        try:
            return self.queues[name]
        except KeyError:
            raise QueueNotFound(
                f"Queue {name!r} missing from task_queues: declare it there, or set "
                f"task_create_missing_queues to let queues exist by being named."
            ) from None

    def lookup_route(
        self,
        name: str,
        args: Any = None,
        kwargs: Any = None,
        options: Any = None,
        task_type: Any = None,
    ) -> Any:
        """Ask the routers in turn; answer the first route, options or a queue's name."""
        for router in self.routes:
            route = self.query_router(router, name, args, kwargs, options, task_type)
            if route is not None:
                return route
        return None

    def query_router(
        self, router: Any, task: str, args: Any, kwargs: Any, options: Any, task_type: Any
    ) -> Any:
        """Ask one router, which may be a function or an object of Celery 3's kind."""
        router = maybe_evaluate(router)
        if hasattr(router, "route_for_task"):
            return router.route_for_task(task, args, kwargs)
        return router(task, args, kwargs, options, task=task_type)

    # ── our answer: the name of one queue ───────────────────────────────────────────────

    def destination(
        self,
        options: Mapping[str, Any],
        name: str,
        args: Any = (),
        kwargs: Any = None,
        task_type: Any = None,
    ) -> dict[str, Any]:
        """Complete a copy of ``options`` with a route; ``queue`` becomes a name.

        The same as `route`, without making queue objects, and so without kombu, unless
        some are declared. An exchange and a routing key, which have no other meaning
        here, choose among the declared queues as a broker would.

        Raises:
            QueueNotFound: The queue is not declared and may not be made, or nothing is
                bound to the exchange and the routing key.
        """
        merged = dict(options)
        if self.routes:
            # A router may change what it is given, as Celery's do.
            route = self.lookup_route(name, args, kwargs or {}, dict(options), task_type)
            if route:
                merged = _merge(_as_route(route), merged)
        queue = merged.get("queue")
        if merged.get("exchange") or merged.get("routing_key"):
            merged["queue"] = self._bound(queue, merged)
        else:
            merged["queue"] = self._name(queue or self.app.conf.task_default_queue)
        return merged

    def _name(self, queue: Any) -> str:
        if not isinstance(queue, str):
            if type(queue).__name__ == "Broadcast":
                raise ImproperlyConfigured(
                    f"Queue {queue.alias or queue.name!r} is a Broadcast: a job runs once, "
                    f"so it cannot be sent to every worker. Use app.control.broadcast() with a "
                    f"@control_command, or one queue for each worker (worker_direct)."
                )
            return str(queue.name)
        if self.app.conf.task_queues:
            # An alias, or a name that may not be made up.
            return self._name(self._declared(queue))
        if not self.create_missing and queue != self.app.conf.task_default_queue:
            self._declared(queue)
        return queue

    def _bound(self, queue: Any, options: Mapping[str, Any]) -> str:
        """Answer the queue that an exchange and a routing key lead to."""
        conf = self.app.conf
        exchange, key = options.get("exchange"), options.get("routing_key")
        exchange = getattr(exchange, "name", exchange)
        if conf.task_queues:
            if queue:
                target = self._declared(queue) if isinstance(queue, str) else queue
            else:
                target = self._declared(conf.task_default_queue)
            wanted_exchange = exchange or target.exchange.name
            wanted_key = key or target.routing_key
            for declared in [target, *self.queues.values()]:
                if _binds(declared, wanted_exchange, wanted_key):
                    return self._name(declared)
        if queue:
            # Named outright, so that the rest can only be how a broker was told.
            return self._name(queue)
        if exchange and key in (None, exchange):
            # The exchange of a queue that exists by being named has its name.
            return self._name(str(exchange))
        if exchange in (None, "", conf.task_default_exchange) and (
            key == conf.task_default_routing_key
        ):
            return self._name(conf.task_default_queue)
        raise QueueNotFound(
            f"No queue in task_queues is bound to exchange "
            f"{exchange or conf.task_default_exchange!r} with routing key {key!r}: a "
            f"broker would drop this task. Name its queue, or declare the binding."
        )


def _merge(route: dict[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    route.update((key, value) for key, value in options.items() if value is not None)
    return route


def _binds(queue: Any, exchange: str, key: str | None) -> bool:
    """Whether a broker would put a message for this exchange and key into ``queue``."""
    if queue.exchange.name != exchange:
        return False
    kind = queue.exchange.type
    if kind == "fanout":
        return True
    if kind == "topic":
        return _topic_matches(str(queue.routing_key).split("."), str(key).split("."))
    return bool(queue.routing_key == key)


def _topic_matches(pattern: list[str], key: list[str]) -> bool:
    """Whether a topic pattern fits: ``*`` is one word, ``#`` any number of them."""
    if not pattern:
        return not key
    head, *rest = pattern
    if head == "#":
        return any(_topic_matches(rest, key[skip:]) for skip in range(len(key) + 1))
    return bool(key) and head in ("*", key[0]) and _topic_matches(rest, key[1:])


def expand_router_string(router: str) -> Any:
    """Answer the router that a dotted name stands for."""
    found = symbol_by_name(router)
    # Celery 3's routers were classes.
    return found() if hasattr(found, "route_for_task") else found


def _late(router: str) -> Any:
    """Answer kombu's kind of lazy value: the module may import us in turn."""
    from kombu.utils.functional import lazy

    found: list[Any] = []

    def find() -> Any:
        if not found:
            found.append(expand_router_string(router))
        return found[0]

    return lazy(find)


def prepare(routes: Any) -> Any:
    """Make routers of the setting ``task_routes``.

    Args:
        routes: None, a dict, a list of pairs, a function, an object with
            ``route_for_task``, a dotted name of either, or a list of these.
    """

    def expand(route: Any) -> Callable[..., Any] | Any:
        if isinstance(route, (Mapping, list, tuple)):
            return MapRoute(route)
        if isinstance(route, str):
            return _late(route)
        return route

    if routes is None:
        return ()
    if not isinstance(routes, (list, tuple)):
        routes = (routes,)
    return [expand(route) for route in routes]
