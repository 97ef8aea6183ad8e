"""Tasks: functions that can be sent, and the classes behind them."""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ParamSpec, TypeVar

from pgtasks._state import TaskStack, _task_stack, current_app
from pgtasks.app import eager, transactional
from pgtasks.app.annotations import resolve_all as resolve_all_annotations
from pgtasks.app.context import X_DEATH_HEADERS, Context
from pgtasks.app.registry import _unpickle_task_v2
from pgtasks.app.task_calls import TaskCalls
from pgtasks.app.traceinfo import get_actual_ignore_result
from pgtasks.exceptions import CDeprecationWarning
from pgtasks.result import EagerResult
from pgtasks.utils.functional import arity_greater
from pgtasks.utils.imports import symbol_by_name

__all__ = [
    "X_DEATH_HEADERS",
    "Context",
    "Task",
    "TaskType",
    "get_actual_ignore_result",
]

P = ParamSpec("P")
R = TypeVar("R")

_ROUTING = (
    "queue",
    "exchange",
    "exchange_type",
    "routing_key",
    "delivery_mode",
    "priority",
)


class _BoundApp:
    """``Task.app``: the app that the class belongs to, bound when first asked for."""

    def __get__(self, instance: Any, owner: type[Task[..., Any]]) -> Any:
        return owner._get_app()

    def __set__(self, instance: Task[..., Any], app: Any) -> None:
        type(instance).bind(app)


class Task(TaskCalls[P, R]):
    """What ``@app.task`` makes of a function, and what class-based tasks inherit from.

    Calling it runs the function; `delay` sends it to a worker. Whatever the decorator is
    given as an option becomes an attribute, also names that mean nothing to us.

    Attributes that are None take their setting when the task is bound to its app.
    """

    app: Any = _BoundApp()
    abstract = True

    __bound__ = False
    __trace__: Any = None
    __v2_compat__ = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # Not when it is bound: another thread may have found the task already.
        cls.request_stack = TaskStack(f"pgtasks.requests[{cls.__name__}]")

    # ── belonging to an app ─────────────────────────────────────────────────────────────

    @classmethod
    def bind(cls, app: Any) -> Any:
        """Make the class a task of ``app``: settings, annotations, checks."""
        was_bound, cls.__bound__ = cls.__bound__, True
        cls._app = app
        cls._exec_options = None

        if not was_bound:
            for name in _ROUTING:
                if name in cls.__dict__:
                    _warn_of_routing_attribute(name)
        if cls.typing is None:
            cls.typing = app.strict_typing
        cls._take_timeout()
        cls._take_settings(app.conf)
        cls._check_options()
        backoff = cls.__dict__.get("backoff")
        if inspect.isfunction(backoff) and (
            "_decorated" in cls.__dict__ or not arity_greater(backoff, 1)
        ):
            # An option of the decorator, not a method of a class.
            cls.backoff = staticmethod(backoff)
        given = cls.__dict__.get("transactional")
        if given is not None:
            transactional.check(cls)
            if inspect.isfunction(given):
                cls.transactional = staticmethod(given)
        if not was_bound:
            cls.annotate()
        cls.on_bound(app)
        return app

    @classmethod
    def on_bound(cls, app: Any) -> None:
        """Do more when the class is bound to an app; for subclasses."""

    @classmethod
    def _get_app(cls) -> Any:
        if cls._app is None:
            cls._app = current_app
        if not cls.__bound__ and cls is not Task:
            # Assigning Task.app on a class replaces the descriptor: bind on first use. But
            # not the class of all tasks: those of other apps would take its settings.
            cls.bind(cls._app)
        return cls._app

    @classmethod
    def annotate(cls) -> None:
        """Apply ``task_annotations``: attributes; ``@name`` decorates a method."""
        for found in resolve_all_annotations(cls.app.annotations, cls):
            for key, value in found.items():
                if key.startswith("@"):
                    cls.add_around(key[1:], value)
                else:
                    setattr(cls, key, value)

    @classmethod
    def add_around(cls, attr: str, around: Callable[[Any], Any]) -> None:
        """Decorate the method ``attr``, once, however often this is called."""
        original = getattr(cls, attr)
        original = getattr(original, "__wrapped__", None) or original
        method = around(original)
        method.__wrapped__ = original
        setattr(cls, attr, method)

    # ── running ─────────────────────────────────────────────────────────────────────────

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the body here, as a function; `request` says ``called_directly``."""
        request = self.request_stack.top
        if request is not None and not request._entered:
            # A __call__ of the user's, run by the worker, that calls super(): it is the
            # worker's request that goes on, not a new one.
            request._entered = True
            return self.run(*args, **kwargs)
        _task_stack.push(self)
        self.push_request(args=args, kwargs=kwargs)
        try:
            return self.run(*args, **kwargs)
        finally:
            self.pop_request()
            _task_stack.pop()

    def run(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The body of the task."""
        raise NotImplementedError("Tasks must define the run method.")

    def apply(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        link: Any = None,
        link_error: Any = None,
        task_id: str | None = None,
        retries: int | None = None,
        throw: bool | None = None,
        logfile: str | None = None,
        loglevel: int | None = None,
        headers: dict[str, Any] | None = None,
        **options: Any,
    ) -> EagerResult[R]:
        """Run the task here, as a worker would: with its request, handlers and retries.

        Args:
            args: Positional arguments.
            kwargs: Keyword arguments.
            link: Called with the result.
            link_error: Called when it fails.
            task_id: Its id; a new one by default.
            retries: How often it has been retried.
            throw: Raise its exception here; ``task_eager_propagates`` by default.
            logfile: Put into the request.
            loglevel: Put into the request.
            headers: Put into the request.
            **options: Options of `apply_async`; few of them mean anything here.
        """
        parent = _task_stack.top
        return eager.apply(
            self, args, kwargs, task_id, retries, throw,
            parent=parent.request if parent else None,
            link=link, link_error=link_error, headers=headers,
            logfile=logfile, loglevel=loglevel, options=options,
        )  # fmt: skip

    # ── being an object ─────────────────────────────────────────────────────────────────

    def start_strategy(self, app: Any, consumer: Any, **kwargs: Any) -> Any:
        """What handles Celery's messages of this task, for programs that receive them.

        The worker takes rows and does not ask.

        Args:
            app: The application.
            consumer: Who receives; see `pgtasks.worker.strategy.default`.
            **kwargs: For the strategy.
        """
        return symbol_by_name(self.Strategy)(self, app, consumer, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        # By name: the receiver takes the task from its own registry, after importing the
        # module if that is where it is defined.
        module = type(self).__module__
        return (
            _unpickle_task_v2,
            (self.name, module if module in sys.modules else None),
            None,
        )

    def __repr__(self) -> str:
        return _reprtask(self, R_INSTANCE)

    @property
    def __name__(self) -> Any:
        return type(self).__name__


BaseTask = Task

#: Celery's name of the metaclass that tasks had once.
TaskType = type

R_BOUND_TASK = "<class {0.__name__} of {app}{flags}>"
R_UNBOUND_TASK = "<unbound {0.__name__}{flags}>"
R_INSTANCE = "<@task: {0.name} of {app}{flags}>"


def _reprtask(task: Any, fmt: str | None = None, flags: Iterable[str] | None = None) -> str:
    words = [*(flags or ()), *(["v2 compatible"] if task.__v2_compat__ else ())]
    app = task._app
    fmt = fmt or (R_BOUND_TASK if app else R_UNBOUND_TASK)
    return fmt.format(
        task,
        flags=f" ({', '.join(words)})" if words else "",
        app=f"{app.main or '__main__'} at {id(app):#x}" if app else None,
    )


def _warn_of_routing_attribute(name: str) -> None:
    warnings.warn(
        f"The {name!r} task attribute is deprecated and is going to have no effect in "
        f"Celery 6. Use the task_routes setting, or pass it to apply_async().",
        CDeprecationWarning,
        stacklevel=4,
    )
