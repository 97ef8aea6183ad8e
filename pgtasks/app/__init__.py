"""Applications, and tasks that belong to none in particular."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, overload

from pgtasks import _state
from pgtasks._state import (
    app_or_default,
    disable_trace,
    enable_trace,
    pop_current_task,
    push_current_task,
)
from pgtasks.utils.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from pgtasks.app.base import Celery
    from pgtasks.app.decorators import BoundDecorator, Decorator
    from pgtasks.app.task import Task
    from pgtasks.app.utils import AppPickler

__all__ = [
    "AppPickler",
    "Celery",
    "app_or_default",
    "bugreport",
    "default_app",
    "disable_trace",
    "enable_trace",
    "pop_current_task",
    "push_current_task",
    "shared_task",
]

P = ParamSpec("P")
R = TypeVar("R")

#: The application of threads that have none of their own.
default_app: Any = Proxy(lambda: _state.default_app)


def bugreport(app: Any = None) -> str:
    """Describe an application, by default the current one, for a bug report."""
    return (app or _state.get_current_app()).bugreport()  # type: ignore[no-any-return]


@overload
def shared_task(fun: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...


@overload
def shared_task(fun: Callable[P, R], /) -> Task[P, R]: ...


@overload
def shared_task(
    *,
    bind: Literal[True],
    name: str | None = None,
    base: Any = None,
    pydantic: bool = False,
    **options: Any,
) -> BoundDecorator: ...


@overload
def shared_task(
    *,
    bind: Literal[False] = False,
    name: str | None = None,
    base: Any = None,
    pydantic: bool = False,
    **options: Any,
) -> Decorator: ...


def shared_task(*args: Any, **options: Any) -> Any:
    """Make a task of every application, present and future, out of a function.

    For packages whose user has the application. The answer stands for the task of the
    current application, whichever that is when it is used.

    Args:
        *args: The function, when used without parentheses.
        **options: As for ``app.task``.

    Raises:
        TypeError: The function is a shared task already.
    """

    def share(fun: Callable[..., Any]) -> Any:
        if type(fun) is Proxy:
            raise TypeError(
                "@shared_task was applied more than once to the same function. Remove the "
                "extra @shared_task decorator."
            )
        if options.get("unique"):
            from pgtasks.app.unique import check_options

            check_options(fun, options)
        _state.connect_on_app_finalize(lambda app: app._task_from_fun(fun, **options))
        # Those that are finalized already hear of no further tasks.
        for app in list(_state._get_active_apps()):
            if app.finalized:
                with app._finalize_mutex:
                    app._task_from_fun(fun, **options)

        def of_current_app() -> Any:
            app = _state.get_current_app()
            name = options.get("name") or app.gen_task_name(fun.__name__, fun.__module__)
            return app.tasks[name]

        return Proxy(of_current_app)

    return share(args[0]) if len(args) == 1 and callable(args[0]) else share


# Looked up when asked for: importing one of this package's modules must not load all.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name == "Celery":
            from pgtasks.app.base import Celery as value
        elif name == "AppPickler":
            from pgtasks.app.utils import AppPickler as value
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value
