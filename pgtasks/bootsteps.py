"""Boot steps: parts that a program adds to a worker, started and stopped in order.

A step is a class that says which others it needs:

    class Metrics(bootsteps.StartStopStep):
        requires = {Database}

        def create(self, worker):
            return MetricsServer(port=9000)     # has start() and stop()

    app.steps["worker"].add(Metrics)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from threading import Event
from typing import Any

from pgtasks.exceptions import ImproperlyConfigured
from pgtasks.utils.graph import DependencyGraph
from pgtasks.utils.imports import instantiate, qualname, symbol_by_name
from pgtasks.utils.log import get_logger
from pgtasks.utils.stepgraph import StepFormatter, last_part

__all__ = [
    "Blueprint",
    "ConsumerStep",
    "StartStopStep",
    "Step",
    "StepFormatter",
    "StepType",
]

logger = get_logger("celery.bootsteps")

RUN, CLOSE, TERMINATE = 1, 2, 3
#: What waiting for the end of a blueprint may be interrupted by, and then ends quietly.
IGNORE_ERRORS: tuple[type[BaseException], ...] = ()


# ── steps ───────────────────────────────────────────────────────────────────────────────


class StepType(type):
    """Gives each step class a name, by which others require it."""

    name: str
    requires: Any

    def __new__(cls, name: str, bases: tuple[type, ...], attrs: dict[str, Any]) -> StepType:
        """Make the class, and name it after its module where it has no name."""
        module = attrs.get("__module__")
        full_name = f"{module}.{name}" if module else name
        named = {"__qualname__": full_name, "name": attrs.get("name") or full_name}
        return super().__new__(cls, name, bases, {**attrs, **named})

    def __str__(cls) -> str:
        return cls.name

    def __repr__(cls) -> str:
        return f"step:{cls.name}{{{cls.requires!r}}}"


class Step(metaclass=StepType):
    """A part that is made together with its parent, which most often is a worker.

    Args:
        parent: The parent, to which it may add attributes.
        **kwargs: Arguments that the parent was made with.

    Attributes:
        name: By which other steps require it; module and class by default.
        label: A short name, for logs and drawings.
        conditional: It may be left out; for drawings.
        requires: The steps, or their names, that have to come before.
        last: It comes after all others; one step of a blueprint may.
        enabled: What `include_if` answers.
    """

    name: Any = None
    label: str | None = None
    conditional = False
    requires: Iterable[Any] = ()
    last = False
    enabled: Any = True

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        pass

    def include_if(self, parent: Any) -> Any:
        """Whether to include this step; to be overridden."""
        return self.enabled

    def instantiate(self, name: Any, *args: Any, **kwargs: Any) -> Any:
        """Make an object of a class, or of its name."""
        return instantiate(name, *args, **kwargs)

    def include(self, parent: Any) -> Any:
        """Include this step, if it wants to be; the answer is whether it was."""
        included = bool(self.include_if(parent))
        if included:
            self.create(parent)
        return included

    def create(self, parent: Any) -> Any:
        """Make the object that this step is about; to be overridden."""

    def info(self, obj: Any) -> Any:
        """Facts for ``inspect stats``, as a dict; to be overridden."""

    @property
    def alias(self) -> str:
        """The short name."""
        return self.label or last_part(self.name)

    def __repr__(self) -> str:
        return f"<step: {self.alias}>"


class StartStopStep(Step):
    """A step that is started after those it requires, and stopped before them.

    Override `create` to return an object that has ``start`` and ``stop``, or the methods
    of the same names here.

    """

    #: The object.
    obj: Any = None

    def include(self, parent: Any) -> Any:
        """Include this step among those that the parent starts."""
        included = bool(self.include_if(parent))
        if included:
            self.obj = self.create(parent)
            parent.steps.append(self)
        return included

    def start(self, parent: Any) -> Any:
        """Start the object."""
        return self.obj.start() if self.obj else None

    def stop(self, parent: Any) -> Any:
        """Stop it in order."""
        return self.obj.stop() if self.obj else None

    def close(self, parent: Any) -> Any:
        """Take on nothing more: all steps are about to stop."""

    def terminate(self, parent: Any) -> Any:
        """Stop it at once."""
        return getattr(self.obj, "terminate", self.obj.stop)() if self.obj else None


class ConsumerStep(StartStopStep):
    """A step that reads messages of its own from the broker, of which there is none.

    It is here for programs that define one: they are told what to do when a worker starts.
    """

    consumers: Any = None

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        raise ImproperlyConfigured(
            f"{type(self).__name__} is a ConsumerStep, which reads from a broker, and "
            f"pgtasks has none. Send what it waits for as a task on a queue of its own, "
            f"and serve that with a worker (-Q); or, to react to PostgreSQL's "
            f"notifications, subscribe to app.notifier in a StartStopStep."
        )

    def get_consumers(self, channel: Any) -> Any:
        """What subclasses define in Celery: consumers of messages."""
        return ()

    def start(self, c: Any) -> Any:
        """Never called: there is no such step."""

    def stop(self, c: Any) -> Any:
        """Never called: there is no such step."""

    def shutdown(self, c: Any) -> Any:
        """Never called: there is no such step."""


# ── blueprints ──────────────────────────────────────────────────────────────────────────


class Blueprint:
    """Brings steps into their order, and starts and stops them in it.

    Args:
        steps: Steps, or their names.
        name: A name for logs; the class's by default.
        on_start: Called before the first step is started.
        on_close: Called before the first is told that the end is near.
        on_stopped: Called after the last has stopped.

    Attributes:
        state: `RUN`, `CLOSE`, `TERMINATE`, or None before all that.
        started: How many steps have been started.
        default_steps: Steps of every blueprint of the class.
        steps, order, graph: Once applied: the steps by name and in order, and who needs whom.
    """

    GraphFormatter: Any = StepFormatter

    name: Any = None
    state: int | None = None
    started = 0
    default_steps: Iterable[Any] = frozenset()
    state_to_name = {
        0: "initializing",
        RUN: "running",
        CLOSE: "closing",
        TERMINATE: "terminating",
    }

    def __init__(
        self,
        steps: Iterable[Any] | None = None,
        name: str | None = None,
        on_start: Callable[[], Any] | None = None,
        on_close: Callable[[], Any] | None = None,
        on_stopped: Callable[[], Any] | None = None,
    ) -> None:
        self.name = name or self.name or qualname(type(self))
        self.types = {*(steps or ()), *self.default_steps}
        self.on_start = on_start
        self.on_close = on_close
        self.on_stopped = on_stopped
        self.shutdown_complete = Event()
        self.steps: dict[str, Any] = {}
        self.order: list[Any] = []
        self.graph = DependencyGraph(formatter=self.GraphFormatter())

    # ── making ──────────────────────────────────────────────────────────────────────────

    def apply(self, parent: Any, **kwargs: Any) -> Blueprint:
        """Make the steps for a parent, in order, and include those that want to be.

        Args:
            parent: What they are steps of. Those to be started append themselves to its
                list ``steps``.
            **kwargs: Arguments for the steps.

        Raises:
            CycleError: They require each other in a circle.
        """
        self.steps = self.claim_steps()
        self.order = []
        for cls in self._finalize_steps(self.steps):
            step = cls(parent, **kwargs)
            self.steps[step.name] = step
            self.order.append(step)
        self._debug("Order: %s", ", ".join(step.alias for step in self.order))
        for step in self.order:
            step.include(parent)
        return self

    def claim_steps(self) -> dict[str, Any]:
        """The step classes by name."""
        return dict(map(self.load_step, self.types))

    def load_step(self, step: Any) -> tuple[str, Any]:
        """The name and the class of a step that may be given by either."""
        cls = _class_of(step)
        return cls.name, cls

    def _finalize_steps(self, steps: dict[str, Any]) -> list[Any]:
        requirements = self._add_required(steps)
        last = self._find_last()
        graph = self.graph = DependencyGraph(
            requirements.items(), formatter=self.GraphFormatter(root=last)
        )
        if last is not None:
            for cls in list(graph):
                if cls is not last:
                    graph.add_edge(last, cls)
        return graph.topsort()

    def _add_required(self, steps: dict[str, Any]) -> dict[Any, list[Any]]:
        """Add the steps that others require, and answer what each requires."""
        requirements = {}
        todo = deque(steps.values())
        while todo:
            cls = todo.popleft()
            requirements[cls] = [_class_of(each) for each in cls.requires]
            for required in requirements[cls]:
                if required.name not in steps:
                    steps[required.name] = required
                    todo.append(required)
        return requirements

    def _find_last(self) -> Any:
        return next((step for step in self.steps.values() if step.last), None)

    def connect_with(self, other: Blueprint) -> None:
        """Let another blueprint follow on the last step of this one; for drawings."""
        self.graph.connect(other.graph)
        self.graph.add_edge(type(other.order[0]), type(self.order[-1]))

    # ── running ─────────────────────────────────────────────────────────────────────────

    def start(self, parent: Any) -> None:
        """Start the parent's steps, each after what it requires."""
        self.state = RUN
        if self.on_start is not None:
            self.on_start()
        for number, step in enumerate(filter(None, list(parent.steps)), 1):
            self._debug("Starting %s", step.alias)
            self.started = number
            step.start(parent)

    def close(self, parent: Any) -> None:
        """Tell the parent's steps that the end is near, the first ones first."""
        if self.on_close is not None:
            self.on_close()
        self.send_all(parent, "close", "closing", reverse=False)

    def stop(self, parent: Any, close: bool = True, terminate: bool = False) -> None:
        """Stop the parent's steps, the last ones first.

        They are told before, whatever ``close`` says. ``terminate`` stops them at once.
        """
        if self.state in (CLOSE, TERMINATE):
            return
        if self.state == RUN and self.started == len(parent.steps):
            self.close(parent)
            self.state = CLOSE
            if terminate:
                self.restart(parent, "terminate", "terminating")
            else:
                self.restart(parent, "stop", "stopping")
            if self.on_stopped is not None:
                self.on_stopped()
        self.state = TERMINATE
        self.shutdown_complete.set()

    def restart(
        self,
        parent: Any,
        method: str = "stop",
        description: str = "restarting",
        propagate: bool = False,
    ) -> None:
        """Stop the parent's steps, to be started again."""
        self.send_all(parent, method, description, propagate=propagate)

    def send_all(
        self,
        parent: Any,
        method: str,
        description: str | None = None,
        reverse: bool = True,
        propagate: bool = True,
        args: tuple[Any, ...] = (),
    ) -> None:
        """Call a method of all of the parent's steps that have it.

        Args:
            parent: The parent, which is the first argument.
            method: Name of the method.
            description: What to call it in the log.
            reverse: The last ones first.
            propagate: Let exceptions through; otherwise they are logged.
            args: Further arguments.
        """
        description = description or method.replace("_", " ")
        for step in parent.steps[::-1] if reverse else parent.steps[:]:
            function = getattr(step, method, None) if step else None
            if function is None:
                continue
            self._debug("%s %s...", description.capitalize(), step.alias)
            try:
                function(parent, *args)
            except Exception as error:
                if propagate:
                    raise
                logger.exception("Error on %s %s: %r", description, step.alias, error)

    def join(self, timeout: float | None = None) -> None:
        """Wait until all have stopped, at most ``timeout`` seconds."""
        try:
            self.shutdown_complete.wait(timeout=timeout)
        except IGNORE_ERRORS:
            pass

    # ── telling ─────────────────────────────────────────────────────────────────────────

    def info(self, parent: Any) -> dict[str, Any]:
        """What the parent's steps tell of themselves, in one dict."""
        told: dict[str, Any] = {}
        for step in filter(None, parent.steps):
            told.update(step.info(parent) or {})
        return told

    def human_state(self) -> str:
        """The state as a word."""
        return self.state_to_name[self.state or 0]

    @property
    def alias(self) -> str:
        """The short name."""
        return last_part(self.name)

    def __getitem__(self, name: str) -> Any:
        return self.steps[name]

    def _debug(self, message: str, *args: Any) -> None:
        logger.debug("| %s: " + message, self.alias, *args)


def _class_of(step: Any) -> Any:
    """The class of a step that may be given by its name: by Celery's, where it has one."""
    if isinstance(step, str) and step.startswith("celery."):
        step = f"pgtasks.{step.removeprefix('celery.')}"
    return symbol_by_name(step)
