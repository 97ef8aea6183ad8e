"""The application: its name, its settings, its tasks, and the doors to everything else.

`Celery` is built in floors, one for each concern, and each uses those below it: settings
(`configuring`), tasks (`defining`), parts and connections (`owning`), calls by name
(`sending`), pickles (`pickling`). What remains for this module is how an application
begins, forks and ends, and what ``@app.task`` is to those who read it.
"""

from __future__ import annotations

import importlib  # noqa: F401 # replaced here by tests of programs, as in Celery
import logging
import os
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from datetime import timezone as datetime_timezone
from functools import partial
from types import GenericAlias
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, overload

from pgtasks._state import (
    _deregister_app,
    _register_app,
    _set_current_app,
    connect_on_app_finalize,
    set_default_app,
)
from pgtasks.app.doors import DOORS, open_door
from pgtasks.app.forks import register_after_fork
from pgtasks.app.pickling import Pickling
from pgtasks.utils.dispatch import Signal
from pgtasks.utils.imports import symbol_by_name
from pgtasks.utils.objects import mro_lookup
from pgtasks.utils.proxy import PromiseProxy

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from pgtasks.app.decorators import BoundDecorator, Decorator
    from pgtasks.app.task import Task

__all__ = ["App", "Celery", "to_utc"]

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger("celery.app.base")

BUILTIN_FIXUPS = frozenset({DOORS["django"]})

#: This process is a child that was spawned; pools set it as well.
USING_EXECV: Any = os.environ.get("FORKED_BY_MULTIPROCESSING")


def to_utc(dt: datetime) -> datetime:
    """Answer a date in UTC; one without a zone is."""
    from pgtasks.utils.time import to_utc as convert

    return convert(dt)


class Celery(Pickling):
    """An application.

    Args:
        main: Name of the program, which stands for ``__main__`` in the names of tasks.
        loader: Loader, as a class or its name.
        backend: The setting ``result_backend``, or a backend's class.
        amqp: Class behind ``app.amqp``, or its name.
        events: Class behind ``app.events``, or its name.
        log: Class behind ``app.log``, or its name.
        control: Class behind ``app.control``, or its name.
        set_as_current: Make it the current application of this thread.
        tasks: A registry to use, or tasks by name.
        broker: The setting ``broker_url``.
        include: Modules that workers import.
        changes: Settings.
        config_source: Where the configuration is; see `config_from_object`.
        fixups: Plug-ins for frameworks; Django's by default.
        task_cls: Base class of tasks, or its name.
        autofinalize: False makes it an error to use tasks before `finalize` is called.
        namespace: What names in the configuration begin with.
        strict_typing: Check arguments when a task is sent.
        config_source_silent: A configuration that does not exist is no error.
        **kwargs: Further settings.

    Attributes:
        on_configure: Signal: the configuration is about to be read.
        on_after_configure: Signal: it has been read, ``source`` is it.
        on_after_finalize: Signal: all tasks are registered and bound.
        on_after_fork: Signal: this process has been forked.
        user_options: Options that the program adds to commands.
        steps: Boot steps that the program adds to workers.
    """

    SYSTEM = {"linux": "Linux", "darwin": "Darwin", "win32": "Windows"}.get(
        sys.platform, sys.platform
    )
    IS_macOS = sys.platform == "darwin"
    IS_WINDOWS = sys.platform == "win32"

    user_options: Any = None
    steps: Any = None

    builtin_fixups: Iterable[str] = BUILTIN_FIXUPS

    on_after_fork: Any = None

    _after_fork_registered = False

    def __init__(
        self,
        main: str | None = None,
        loader: Any = None,
        backend: Any = None,
        amqp: Any = None,
        events: Any = None,
        log: Any = None,
        control: Any = None,
        set_as_current: bool = True,
        tasks: Any = None,
        broker: Any = None,
        include: Iterable[str] | None = None,
        changes: dict[str, Any] | None = None,
        config_source: Any = None,
        fixups: Iterable[str] | None = None,
        task_cls: Any = None,
        autofinalize: bool = True,
        namespace: str | None = None,
        strict_typing: bool = True,
        config_source_silent: bool = False,
        **kwargs: Any,
    ) -> None:
        self.main = main
        self.amqp_cls = amqp or self.amqp_cls
        self.events_cls = events or self.events_cls
        # The command line's --loader travels in the environment.
        self.loader_cls = (
            loader or os.environ.get("CELERY_LOADER") or self.loader_cls or "app"
        )
        self.log_cls = log or self.log_cls
        self.control_cls = control or self.control_cls
        self._custom_task_cls_used = bool(task_cls or _overrides(self, "task_cls"))
        self.task_cls = task_cls or self.task_cls
        self.set_as_current = set_as_current
        self.strict_typing = strict_typing
        self.user_options = defaultdict(set)
        self.steps = defaultdict(set)
        self._using_v1_reduce = bool(_overrides(self, "__reduce_args__"))

        # One lock for reading settings and for finalizing, each of which may call
        # functions of the program that do the other.
        lock = threading.RLock()
        given = {"broker_url": broker, "result_backend": backend, "include": include}
        self._begin_unconfigured(
            config_source,
            config_source_silent,
            namespace,
            changes or {},
            {**given, **kwargs},
            lock,
        )
        self._begin_unfinalized(tasks, autofinalize, lock)
        self._begin_unconnected()

        self.fixups = set(self.builtin_fixups) if fixups is None else fixups
        # Held here: signals refer to their methods weakly.
        self._fixups = list(self._load_fixups())

        if self.on_configure is None:
            self.on_configure = Signal(name="app.on_configure")
        self.on_after_configure = Signal(["source"], name="app.on_after_configure")
        self.on_after_finalize = Signal(name="app.on_after_finalize")
        self.on_after_fork = Signal(name="app.on_after_fork")

        if set_as_current:
            self.set_current()
        self.on_init()
        self._ensure_after_fork()
        _register_app(self)

    def on_init(self) -> None:
        """Called at the end of the making; for subclasses."""

    def _load_fixups(self) -> Iterator[Any]:
        for fixup in self.fixups:
            if fixup in BUILTIN_FIXUPS and "DJANGO_SETTINGS_MODULE" not in os.environ:
                continue
            try:
                yield symbol_by_name(fixup)(self)
            except ModuleNotFoundError as error:
                # Ours may be missing from an installation; what they import may not.
                if fixup not in BUILTIN_FIXUPS or str(error.name) not in str(fixup):
                    raise

    # ── being current, and being over ───────────────────────────────────────────────────

    def set_current(self) -> None:
        """Make this the current application of this thread."""
        _set_current_app(self)

    def set_default(self) -> None:
        """Make this the application of all threads that have none of their own."""
        set_default_app(self)

    def _get_current_object(self) -> Celery:
        # What `current_app` has, so that code may ask it of an application either way.
        return self

    def close(self) -> None:
        """Close the connections, and take part in nothing more.

        For applications that are made and thrown away; ``with`` does it too.
        """
        self._pool = None
        self._connections.close()
        _deregister_app(self)

    def __enter__(self) -> Celery:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _ensure_after_fork(self) -> None:
        if not self._after_fork_registered:
            self._after_fork_registered = True
            if register_after_fork is not None:
                register_after_fork(self, _after_fork_cleanup_app)

    def _after_fork(self) -> None:
        self._pool = None
        self._renew_definition_locks()
        self._connections.renew_lock()
        self.on_after_fork.send(sender=self)

    # ── defining tasks ──────────────────────────────────────────────────────────────────

    @overload
    def task(self, fun: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...

    @overload
    def task(self, fun: Callable[P, R], /) -> Task[P, R]: ...

    @overload
    def task(
        self,
        *,
        bind: Literal[True],
        name: str | None = None,
        base: Any = None,
        shared: bool = True,
        lazy: bool = True,
        pydantic: bool = False,
        **opts: Any,
    ) -> BoundDecorator: ...

    @overload
    def task(
        self,
        *,
        bind: Literal[False] = False,
        name: str | None = None,
        base: Any = None,
        shared: bool = True,
        lazy: bool = True,
        pydantic: bool = False,
        **opts: Any,
    ) -> Decorator: ...

    def task(self, *args: Any, **opts: Any) -> Any:
        """Make a task of a function; a decorator, with and without options.

        The task is made when it is first used, or when the application is finalized, so
        that settings may follow. What the decorator is given becomes the task's
        attributes, whether we know it or not.

        Args:
            *args: The function, when used without parentheses.
            **opts: ``name``, by default module and function; ``bind``, to get the task as
                the first argument; ``base``, another base class; ``shared=False``, to keep
                it from other applications; ``lazy=False``, to make it now; ``filter``, to
                be called with the task; ``pydantic``, to have models validated; and all
                attributes of `Task`.
        """
        if len(args) > 1:
            raise TypeError(
                f"@task() takes exactly 1 argument ({len(args) + len(opts)} given): pass "
                f"options by name."
            )
        if args and not callable(args[0]):
            raise TypeError(
                f"argument 1 to @task() must be a callable, not {args[0]!r}: pass options "
                f"by name, such as name=."
            )
        if USING_EXECV and opts.get("lazy", True):
            # In a spawned child the module's application may be another one than the
            # worker's: only the task of the current one will do.
            from pgtasks.app import shared_task

            return shared_task(*args, **{**opts, "lazy": False})
        decorator = partial(self._make_task, opts)
        return decorator(args[0]) if args else decorator

    def _make_task(self, opts: dict[str, Any], fun: Callable[..., Any]) -> Any:
        opts = dict(opts)
        if opts.get("unique"):
            from pgtasks.app.unique import check_options

            check_options(fun, opts)
        shared, lazy = opts.pop("shared", True), opts.pop("lazy", True)
        filter = opts.pop("filter", None)
        if shared:

            def register(app: Celery) -> Any:
                return app._task_from_fun(fun, **opts)

            connect_on_app_finalize(register)
        if lazy and not self.finalized:
            task: Any = PromiseProxy(self._task_from_fun, (fun,), opts, __doc__=fun.__doc__)
            self._pending.append(task)
        else:
            task = self._task_from_fun(fun, **opts)
        return filter(task) if filter else task

    # ── programs ────────────────────────────────────────────────────────────────────────

    def start(self, argv: list[str] | None = None) -> Any:
        """Run the command line, with this application in place of ``-A``.

        Args:
            argv: Its words, without the program's name; those of the process by default.

        Returns:
            The exit status.
        """
        return open_door("cli")(sys.argv[1:] if argv is None else argv, app=self)

    def worker_main(self, argv: list[str] | None = None) -> Any:
        """Run the command ``worker``; see `start`."""
        words = sys.argv[1:] if argv is None else argv
        if "worker" not in words:
            raise ValueError(
                "The worker sub-command must be specified in argv. Use app.start() to run "
                "other commands."
            )
        return self.start(words)

    def bugreport(self) -> str:
        """Describe this application for a bug report."""
        from pgtasks.app.utils import bugreport

        return bugreport(self)

    # ── odds and ends ───────────────────────────────────────────────────────────────────

    __class_getitem__: Any = classmethod(GenericAlias)

    def now(self) -> datetime:
        """Answer the time in the application's zone."""
        return to_utc(datetime.now(datetime_timezone.utc)).astimezone(self.timezone)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.main or '__main__'} at {id(self):#x}>"

    # Not for type checkers, to which every name would then exist.
    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if hasattr(type(self), name):
                # It is there, and what it is made of lacks something: let that be said.
                return object.__getattribute__(self, name)
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}"
            )


App = Celery


def _overrides(app: Celery, attribute: str) -> Any:
    """Whether a subclass of `Celery`, or a patch, has put something else in its place."""
    return mro_lookup(
        type(app), attribute, stop={Celery, object}, monkey_patched=[__name__]
    )


def _after_fork_cleanup_app(app: Celery) -> None:
    try:
        app._after_fork()
    except Exception as error:
        # The process may well do without.
        logger.info("after forker raised exception: %r", error, exc_info=True)
