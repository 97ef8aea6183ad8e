"""The application: its name, its settings, its tasks, and the doors to everything else."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from datetime import timezone as datetime_timezone
from functools import partial
from operator import attrgetter
from types import GenericAlias
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, overload

from pgtasks._state import (
    _announce_app_finalized,
    _deregister_app,
    _register_app,
    _set_current_app,
    _task_stack,
    connect_on_app_finalize,
    get_current_app,
    get_current_worker_task,
    set_default_app,
)
from pgtasks.app import (
    backends,
    builtins,  # noqa: F401 # which registers its tasks
    definition,
    discovery,
    periodic,
    publish,
)
from pgtasks.app.annotations import prepare as prepare_annotations
from pgtasks.app.connection import Connections, keeps_jobs_in_memory
from pgtasks.app.doors import DOORS, open_door
from pgtasks.app.forks import register_after_fork
from pgtasks.app.options import OMITTED
from pgtasks.app.parts import part
from pgtasks.app.registry import TaskRegistry
from pgtasks.app.settings import Settings, detect_settings
from pgtasks.app.utils import AppPickler, _unpickle_app, _unpickle_app_v2, appstr, bugreport
from pgtasks.exceptions import ImproperlyConfigured
from pgtasks.loaders import get_loader_cls
from pgtasks.utils.dispatch import Signal
from pgtasks.utils.functional import first, head_from_fun
from pgtasks.utils.imports import gen_task_name, instantiate, symbol_by_name
from pgtasks.utils.log import get_logger
from pgtasks.utils.objects import mro_lookup
from pgtasks.utils.proxy import PromiseProxy, maybe_evaluate
from pgtasks.utils.time import timezone, to_utc

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from pgtasks.app.amqp import AMQP
    from pgtasks.app.decorators import BoundDecorator, Decorator
    from pgtasks.app.task import Task
    from pgtasks.canvas import Signature
    from pgtasks.result import AsyncResult
    from pgtasks.storage.aio import AsyncDatabase
    from pgtasks.storage.database import Database
    from pgtasks.storage.notifier import Notifier

__all__ = ["App", "Celery"]

P = ParamSpec("P")
R = TypeVar("R")

logger = get_logger("celery.app.base")

BUILTIN_FIXUPS = frozenset({DOORS["django"]})

#: This process is a child that was spawned; pools set it as well.
USING_EXECV: Any = os.environ.get("FORKED_BY_MULTIPROCESSING")


_NOT_FINALIZED = (
    "Contract breach: app not finalized. It was made with autofinalize=False, so call "
    "app.finalize() before using its tasks."
)

_ASK = "To see whether all is well, run a query on app.database."
_SEND = "Send with send_task() or apply_async(), on a connection of yours if you give one."
_CONNECT = f"app.database has the connections to PostgreSQL. {_ASK}"

#: What Celery has here, and what takes its place.
_NO_BROKER = {
    "broker_connection": _CONNECT,
    "connection": _CONNECT,
    "connection_for_read": _CONNECT,
    "connection_for_write": _CONNECT,
    "connection_or_acquire": _CONNECT,
    "default_connection": _CONNECT,
    "default_producer": _SEND,
    "pool": _CONNECT,
    "producer_or_acquire": _SEND,
    "producer_pool": _SEND,
}


class Celery:
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

    Pickler = AppPickler

    SYSTEM = {"linux": "Linux", "darwin": "Darwin", "win32": "Windows"}.get(
        sys.platform, sys.platform
    )
    IS_macOS = sys.platform == "darwin"
    IS_WINDOWS = sys.platform == "win32"

    #: Name of the program; see the argument.
    main: str | None = None
    user_options: Any = None
    steps: Any = None

    builtin_fixups: Iterable[str] = BUILTIN_FIXUPS

    # Overridden by subclasses, with classes or their names.
    amqp_cls: Any = "pgtasks.app.amqp:AMQP"
    backend_cls: Any = None
    events_cls: Any = "pgtasks.app.events:Events"
    loader_cls: Any = None
    log_cls: Any = "pgtasks.app.log:Logging"
    control_cls: Any = "pgtasks.app.control:Control"
    task_cls: Any = "pgtasks.app.task:Task"
    registry_cls: Any = TaskRegistry

    on_configure: Any = None
    on_after_configure: Any = None
    on_after_finalize: Any = None
    on_after_fork: Any = None

    _pool: Any = None
    _timezone: Any = None
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
        self.registry_cls = symbol_by_name(self.registry_cls)
        self.set_as_current = set_as_current
        self.autofinalize = autofinalize
        self.namespace = namespace
        self.strict_typing = strict_typing
        self.user_options = defaultdict(set)
        self.steps = defaultdict(set)

        self.configured = False
        self._config_source = config_source
        self._config_source_silent = config_source_silent
        self._pending_defaults: deque[Callable[[], Any]] = deque()
        self._pending_periodic_tasks: deque[tuple[str, dict[str, Any], Any]] = deque()
        # What is set before the configuration is read. It outlives reading, since an
        # application is pickled as what the program has set.
        given = {"broker_url": broker, "result_backend": backend, "include": include}
        given = {
            key: value for key, value in {**given, **kwargs}.items() if value is not None
        }
        self._preconf = {**(changes or {}), **given}
        self._preconf_set_by_auto = set(given)

        self.finalized = False
        self._all_tasks_are_there = False
        self._finalize_mutex = threading.RLock()
        self._conf = Settings(
            self._preconf,
            prefix=namespace,
            load=self._read_configuration,
            load_lock=self._finalize_mutex,
        )
        self._pending: deque[Any] = deque()
        self._duplicate_task_names_warned: set[str] = set()
        self._tasks = (
            tasks if isinstance(tasks, TaskRegistry) else self.registry_cls(tasks or {})
        )
        self._using_v1_reduce = bool(_overrides(self, "__reduce_args__"))
        self._local = threading.local()
        self._backend_cache: Any = None
        self._connections = Connections(self)

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
        # Another thread of the parent may have held them.
        self._finalize_mutex = threading.RLock()
        self._conf.renew_locks(self._finalize_mutex)
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

    def type_checker(self, fun: Callable[..., Any], bound: bool = False) -> Any:
        """Answer something that raises TypeError for arguments not meant for ``fun``."""
        return staticmethod(head_from_fun(fun, bound=bound))

    def _task_from_fun(self, fun: Callable[..., Any], **options: Any) -> Any:
        if not self.finalized and not self.autofinalize:
            raise RuntimeError(_NOT_FINALIZED)
        return definition.task_from_function(self, fun, **options)

    def register_task(self, task: Any, **options: Any) -> Any:
        """Add a task that was written as a class.

        Args:
            task: The task, or its class.
            **options: As for ``autoretry_for`` and its kin.

        Returns:
            The task.
        """
        return definition.register_task(self, task, **options)

    def gen_task_name(self, name: str, module: str) -> str:
        """Make a task's name of those of its function and module; for subclasses."""
        return gen_task_name(self, name, module)

    def finalize(self, auto: bool = False) -> None:
        """Register the built-in and shared tasks, make those that wait, bind all.

        Args:
            auto: It happens by itself, which ``autofinalize=False`` forbids.
        """
        with self._finalize_mutex:
            if self.finalized:
                return
            if auto and not self.autofinalize:
                raise RuntimeError(_NOT_FINALIZED)
            self.finalized = True
            _announce_app_finalized(self)
            while self._pending:
                maybe_evaluate(self._pending.popleft())
            for task in list(self._tasks.values()):
                task.bind(self)
            self.on_after_finalize.send(sender=self)
            self._all_tasks_are_there = True

    @property
    def tasks(self) -> TaskRegistry:
        """The tasks by name; finalizes the application."""
        if not self._all_tasks_are_there:
            # Also while another thread is at it: half a registry is of no use.
            self.finalize(auto=True)
        return self._tasks

    # ── configuration ───────────────────────────────────────────────────────────────────

    @property
    def conf(self) -> Settings:
        """The settings; reading one reads the configuration."""
        return self._conf

    @conf.setter
    def conf(self, settings: Any) -> None:
        self._conf = settings

    def add_defaults(self, fun: Any) -> None:
        """Set defaults above those of the configuration object.

        Args:
            fun: A dict, or a function that answers one when it is wanted. It is not
                copied, nor pickled with the application.
        """
        if not callable(fun):
            defaults, fun = fun, lambda: defaults
        if self.configured:
            self._conf.add_defaults(fun())
        else:
            self._pending_defaults.append(fun)

    def config_from_object(
        self,
        obj: Any,
        silent: bool = False,
        force: bool = False,
        namespace: str | None = None,
    ) -> Any:
        """Take the configuration from an object, when it is first wanted.

        Args:
            obj: A mapping, a module, an object with attributes, or a dotted name of any.
            silent: If there is no such object, go on without.
            force: Read it now.
            namespace: What names in it begin with, ``CELERY`` in Django's settings.
        """
        self._config_source = obj
        self._config_source_silent = silent
        self.namespace = namespace or self.namespace
        if not (force or self.configured):
            return None
        if not self.loader.config_from_object(obj, silent=silent):
            return None
        self._load_config()
        return self._conf

    def config_from_envvar(
        self, variable_name: str, silent: bool = False, force: bool = False
    ) -> Any:
        """Take the configuration from the module that an environment variable names."""
        name = os.environ.get(variable_name)
        if name:
            return self.config_from_object(name, silent=silent, force=force)
        if silent:
            return False
        raise ImproperlyConfigured(
            f"The environment variable {variable_name!r} is not set, and the configuration "
            f"is to be found through it. Set it to a module: {variable_name}=proj.config"
        )

    def config_from_cmdline(self, argv: Iterable[str], namespace: str = "celery") -> None:
        """Take settings from a command line, such as ``worker.concurrency=10``."""
        self._conf.update(self.loader.cmdline_config_parser(argv, namespace))

    def prepare_config(self, c: Any) -> Any:
        """Change the configuration before it is used; for subclasses."""
        return c

    def _read_configuration(self) -> None:
        try:
            self._load_config()
        except AttributeError as error:
            # Out of an attribute it would look as if the *setting* were missing.
            raise ModuleNotFoundError(*error.args) from error

    def _load_config(self) -> Settings:
        if isinstance(self.on_configure, Signal):
            self.on_configure.send(sender=self)
        else:
            self.on_configure()  # a method, as before Celery 4
        if self._config_source:
            self.loader.config_from_object(
                self._config_source, silent=self._config_source_silent
            )
        settings = detect_settings(
            self.prepare_config(self.loader.conf),
            self._preconf,
            ignore_keys=self._preconf_set_by_auto,
            prefix=self.namespace,
        )
        self.configured = True
        # Whoever has a reference to the settings keeps a good one.
        self._conf.become(settings)
        while self._pending_defaults:
            self._conf.add_defaults(maybe_evaluate(self._pending_defaults.popleft()()))
        while self._pending_periodic_tasks:
            entry = self._pending_periodic_tasks.popleft()
            periodic.add(self._conf.beat_schedule, *entry)
        self.on_after_configure.send(sender=self, source=self._conf)
        return self._conf

    def either(self, default_key: str, *defaults: Any) -> Any:
        """Answer the first of ``defaults`` that is not None, else the setting."""
        chosen = first(None, defaults)
        return self.conf.get(default_key) if chosen is None else chosen

    # ── time ────────────────────────────────────────────────────────────────────────────

    def now(self) -> datetime:
        """Answer the time in the application's zone."""
        return to_utc(datetime.now(datetime_timezone.utc)).astimezone(self.timezone)

    @property
    def timezone(self) -> Any:
        """The zone that the settings name; ``del app.timezone`` has it looked up again."""
        if self._timezone is None:
            conf = self.conf
            if conf.timezone:
                self._timezone = timezone.get_timezone(conf.timezone)
            else:
                self._timezone = timezone.utc if conf.enable_utc else timezone.local
        return self._timezone

    @timezone.setter
    def timezone(self, zone: Any) -> None:
        self._timezone = zone

    @timezone.deleter
    def timezone(self) -> None:
        self._timezone = None

    def uses_utc_timezone(self) -> bool:
        """Whether that zone is UTC."""
        return bool(self.timezone == timezone.utc)

    # ── finding tasks ───────────────────────────────────────────────────────────────────

    def autodiscover_tasks(
        self,
        packages: discovery.Packages = None,
        related_name: str | None = "tasks",
        force: bool = False,
    ) -> Any:
        """Import the module ``tasks`` of packages, when a worker imports the program.

        Args:
            packages: The packages, or a function that answers them; by default those that
                a fixup knows of: Django's installed applications.
            related_name: The module; None for the packages themselves.
            force: Import them now.
        """
        if force:
            return self._autodiscover_tasks(packages, related_name)
        return discovery.discover_later(self, packages, related_name)

    # Celery's names of the steps, which its users override.

    def _autodiscover_tasks(
        self, packages: discovery.Packages, related_name: str | None, **kwargs: Any
    ) -> Any:
        return discovery.discover(self, packages, related_name)

    def _autodiscover_tasks_from_names(
        self, packages: Any, related_name: str | None
    ) -> Any:
        names = packages() if callable(packages) else packages
        return self.loader.autodiscover_tasks(names, related_name)

    # ── sending ─────────────────────────────────────────────────────────────────────────

    def send_task(
        self,
        name: str,
        args: Any = None,
        kwargs: Any = None,
        countdown: Any = OMITTED,
        eta: Any = OMITTED,
        task_id: Any = OMITTED,
        producer: Any = OMITTED,
        connection: Any = OMITTED,
        router: Any = OMITTED,
        result_cls: Any = OMITTED,
        expires: Any = OMITTED,
        publisher: Any = OMITTED,
        link: Any = OMITTED,
        link_error: Any = OMITTED,
        add_to_parent: bool = True,
        **options: Any,
    ) -> AsyncResult[Any]:
        """Send a task by its name, which need not be registered here.

        Args:
            name: The name.
            args: Positional arguments, a list or tuple.
            kwargs: Keyword arguments.
            countdown: Seconds until it may run.
            eta: The date from which on it may run.
            task_id: Its id; a new one by default.
            producer: Accepted as in Celery.
            connection: A connection whose transaction the job is to be part of.
            router: Routes it, in place of ``app.amqp.router``.
            result_cls: Class of the answer.
            expires: Seconds, or a date, after which it must not start.
            publisher: Accepted as in Celery.
            link: Signatures to call with its result.
            link_error: Signatures to call if it fails.
            add_to_parent: Remember it as a child of the task that runs here.
            **options: All others of ``Task.apply_async``.

        Returns:
            Its result, to be waited for.
        """
        return publish.send_task(  # type: ignore[no-any-return]
            self,
            name,
            args,
            kwargs,
            countdown=countdown,
            eta=eta,
            task_id=task_id,
            producer=producer,
            connection=connection,
            router=router,
            result_cls=result_cls,
            expires=expires,
            publisher=publisher,
            link=link,
            link_error=link_error,
            add_to_parent=add_to_parent,
            **options,
        )

    async def asend_task(
        self, name: str, args: Any = None, kwargs: Any = None, **options: Any
    ) -> AsyncResult[Any]:
        """`send_task` for coroutines."""
        result = await publish.asend_task(self, name, args, kwargs, **options)
        return result  # type: ignore[no-any-return]

    def send_tasks(
        self, calls: Iterable[Any], *, atomic: bool = False
    ) -> list[AsyncResult[Any]]:
        """Send tasks of any kinds, thousands in one statement.

        Args:
            calls: Signatures, or tuples of name, args, kwargs and options, of which the
                later ones may be left out.
            atomic: All of them or none, in one transaction.

        Returns:
            Their results, in order.
        """
        return publish.send_tasks(self, calls, atomic=atomic)

    def signature(self, *args: Any, **kwargs: Any) -> Signature[Any]:
        """Make a signature that belongs to this application."""
        kwargs["app"] = self
        return self._canvas.signature(*args, **kwargs)  # type: ignore[no-any-return]

    def add_periodic_task(
        self,
        schedule: Any,
        sig: Any,
        args: Any = (),
        kwargs: Any = None,
        name: str | None = None,
        **opts: Any,
    ) -> str:
        """Add an entry to ``beat_schedule``.

        Args:
            schedule: Seconds, a timedelta, or a schedule.
            sig: A task or a signature.
            args: Positional arguments.
            kwargs: Keyword arguments.
            name: Name of the entry; what the signature looks like by default, so that the
                same call is one entry.
            **opts: Options of ``apply_async``.

        Returns:
            The name.
        """
        key, entry = periodic.entry_of(self, schedule, sig, args, kwargs, name, opts)
        if self.configured:
            periodic.add(self._conf.beat_schedule, key, entry, name)
        else:
            self._pending_periodic_tasks.append((key, entry, name))
        return key

    # ── parts ───────────────────────────────────────────────────────────────────────────

    @part
    def amqp(self) -> AMQP:
        """Queues and routes."""
        return instantiate(self.amqp_cls, app=self)  # type: ignore[no-any-return]

    @part
    def control(self) -> Any:
        """Commands to workers."""
        return instantiate(self.control_cls, app=self)

    @part
    def events(self) -> Any:
        """What workers tell of themselves."""
        return instantiate(self.events_cls, app=self)

    @part
    def loader(self) -> Any:
        """Where configuration and modules come from."""
        return get_loader_cls(self.loader_cls)(app=self)

    @part
    def log(self) -> Any:
        """Logging."""
        return instantiate(self.log_cls, app=self)

    @part
    def annotations(self) -> Any:
        """The setting ``task_annotations``, prepared."""
        return prepare_annotations(self.conf.task_annotations)

    @part
    def _canvas(self) -> Any:
        return importlib.import_module("pgtasks.canvas")

    @part
    def clock(self) -> Any:
        """A logical clock, which orders events."""
        from kombu.clocks import LamportClock

        return LamportClock()

    @property
    def current_task(self) -> Any:
        """The task that runs here, or None."""
        return _task_stack.top

    @property
    def current_worker_task(self) -> Any:
        """The task that a worker runs here, or None; see `pgtasks._state`."""
        return get_current_worker_task()

    def select_queues(self, queues: Any = None) -> None:
        """Serve only these queues."""
        self.amqp.queues.select(queues)

    def _get_current_object(self) -> Celery:
        # What `current_app` has, so that code may ask it of an application either way.
        return self

    def bugreport(self) -> str:
        """Describe this application for a bug report."""
        return bugreport(self)

    # ── the database ────────────────────────────────────────────────────────────────────

    @property
    def database(self) -> Database:
        """Runs queries; opened when first used."""
        return self._connections.database

    @property
    def async_database(self) -> AsyncDatabase:
        """Runs queries from coroutines; opened when first used."""
        return self._connections.async_database

    @property
    def notifier(self) -> Notifier:
        """Listens to notifications; started when first used."""
        return self._connections.notifier

    @property
    def backend(self) -> Any:
        """The result backend of this thread."""
        if self._backend is None:
            self._backend = self._get_backend()
        return self._backend

    @property
    def _backend(self) -> Any:
        # One for each thread, unless it says that it may be shared.
        if self._backend_cache is not None:
            return self._backend_cache
        return getattr(self._local, "backend", None)

    @_backend.setter
    def _backend(self, backend: Any) -> None:
        if getattr(backend, "thread_safe", False):
            self._backend_cache = backend
        else:
            self._local.backend = backend

    def _get_backend(self) -> Any:
        wanted = self.backend_cls or self.conf.result_backend
        if wanted is None:
            wanted = "memory" if keeps_jobs_in_memory(self) else "postgresql"
        cls, url = backends.by_url(wanted, self.loader)
        return cls(app=self, url=url)

    @part
    def oid(self) -> str:
        """An id of this application in this process."""
        return _object_id(self, 0)

    @property
    def thread_oid(self) -> str:
        """An id of this application in this thread."""
        try:
            return self._local.oid  # type: ignore[no-any-return]
        except AttributeError:
            self._local.oid = oid = _object_id(self, threading.get_ident())
            return oid

    # ── classes that belong to the application ──────────────────────────────────────────

    @part
    def Task(self) -> Any:
        """The base class of its tasks."""
        return self.create_task_cls()

    def create_task_cls(self) -> Any:
        """Make that base class."""
        return self.subclass_with_self(
            self.task_cls, name="Task", attribute="_app", keep_reduce=True, abstract=True
        )

    @part
    def AsyncResult(self) -> Any:
        """`pgtasks.result.AsyncResult` of this application."""
        return self.subclass_with_self("pgtasks.result:AsyncResult")

    @part
    def ResultSet(self) -> Any:
        """`pgtasks.result.ResultSet` of this application."""
        return self.subclass_with_self("pgtasks.result:ResultSet")

    @part
    def GroupResult(self) -> Any:
        """`pgtasks.result.GroupResult` of this application."""
        return self.subclass_with_self("pgtasks.result:GroupResult")

    @part
    def Worker(self) -> Any:
        """The worker program."""
        return self._opened("Worker")

    @part
    def WorkController(self) -> Any:
        """The worker, to be run inside a program."""
        return self._opened("WorkController")

    @part
    def Beat(self) -> Any:
        """The beat program."""
        return self._opened("Beat")

    def _opened(self, door: str) -> Any:
        cls = open_door(door)

        def __init__(instance: Any, *args: Any, **kwargs: Any) -> None:
            # The first argument is the application, as in Celery.
            cls.__init__(instance, *(args or (kwargs.pop("app", None) or self,)), **kwargs)

        return self.subclass_with_self(cls, name=door, __init__=__init__)

    def subclass_with_self(
        self,
        Class: Any,
        name: str | None = None,
        attribute: str = "app",
        reverse: str | None = None,
        keep_reduce: bool = False,
        **kw: Any,
    ) -> Any:
        """Make a subclass that knows this application.

        Args:
            Class: The class, or its name.
            name: Name of the subclass; the class's by default.
            attribute: Class attribute that holds the application.
            reverse: What to look up in the current application when an instance is
                unpickled; the class's name by default.
            keep_reduce: Instances pickle in a way of their own.
            **kw: Further class attributes.
        """
        cls = symbol_by_name(Class)
        path = reverse or cls.__name__

        def __reduce__(self: Any) -> Any:
            return _unpickle_appattr, (path, self.__reduce_args__())

        attributes = {
            attribute: self,
            "__module__": cls.__module__,
            "__doc__": cls.__doc__,
            **kw,
        }
        if not keep_reduce:
            attributes["__reduce__"] = __reduce__
        return type(name or cls.__name__, (cls,), attributes)

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

    # Not for type checkers, to which every name would then exist.
    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            message = f"{type(self).__name__!r} object has no attribute {name!r}"
            if name in _NO_BROKER:
                message += f": there is no broker. {_NO_BROKER[name]}"
            raise AttributeError(message)

    # ── pickling ────────────────────────────────────────────────────────────────────────

    __class_getitem__: Any = classmethod(GenericAlias)

    def _rgetattr(self, path: str) -> Any:
        return attrgetter(path)(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {appstr(self)}>"

    def __reduce__(self) -> Any:
        if self._using_v1_reduce:
            return _unpickle_app, (type(self), self.Pickler, *self.__reduce_args__())
        return _unpickle_app_v2, (type(self), self.__reduce_keys__())

    def __reduce_keys__(self) -> dict[str, Any]:
        """Answer the arguments that make this application again; for subclasses."""
        return {
            "main": self.main,
            "changes": self._changes(),
            "loader": self.loader_cls,
            "backend": self.backend_cls,
            "amqp": self.amqp_cls,
            "events": self.events_cls,
            "log": self.log_cls,
            "control": self.control_cls,
            "fixups": self.fixups,
            "config_source": self._config_source,
            "config_source_silent": self._config_source_silent,
            "task_cls": self.task_cls,
            "namespace": self.namespace,
        }

    def __reduce_args__(self) -> tuple[Any, ...]:
        """Answer them by position, as subclasses written for Celery 3 do."""
        return (
            self.main,
            self._changes() if self.configured else {},
            self.loader_cls,
            self.backend_cls,
            self.amqp_cls,
            self.events_cls,
            self.log_cls,
            self.control_cls,
            False,
            self._config_source,
            self._config_source_silent,
        )

    def _changes(self) -> dict[str, Any]:
        # What the program has set, not what the configuration says: that is read again.
        return dict(self._conf.changes if self.configured else self._preconf)


App = Celery


def _overrides(app: Celery, attribute: str) -> Any:
    """Whether a subclass of `Celery`, or a patch, has put something else in its place."""
    return mro_lookup(
        type(app), attribute, stop={Celery, object}, monkey_patched=[__name__]
    )


def _unpickle_appattr(path: str, args: Any) -> Any:
    return get_current_app()._rgetattr(path)(*args)


def _object_id(app: Celery, thread: int) -> str:
    from uuid import NAMESPACE_OID, getnode, uuid3

    return str(
        uuid3(NAMESPACE_OID, f"{getnode():x}-{os.getpid():x}-{thread:x}-{id(app):x}")
    )


def _after_fork_cleanup_app(app: Celery) -> None:
    try:
        app._after_fork()
    except Exception as error:
        # The process may well do without.
        logger.info("after forker raised exception: %r", error, exc_info=True)
