"""What belongs to an application: its parts, its connections, and classes that know it."""

from __future__ import annotations

import importlib
import os
import threading
from typing import TYPE_CHECKING, Any

from pgtasks._state import _task_stack, get_current_app, get_current_worker_task
from pgtasks.app.connection import Connections, keeps_jobs_in_memory
from pgtasks.app.defining import Defining
from pgtasks.app.doors import open_door
from pgtasks.app.parts import part
from pgtasks.utils.imports import instantiate, symbol_by_name

if TYPE_CHECKING:
    from pgtasks.app.amqp import AMQP
    from pgtasks.app.jobs import Jobs
    from pgtasks.app.queues import Queues
    from pgtasks.beat.crons import Crons
    from pgtasks.storage.aio import AsyncDatabase
    from pgtasks.storage.database import Database
    from pgtasks.storage.notifier import Notifier

__all__ = ["Owning"]


class Owning(Defining):
    """The floor of `Celery` that has everything else, each made when first asked for."""

    # Overridden by subclasses, with classes or their names.
    amqp_cls: Any = "pgtasks.app.amqp:AMQP"
    backend_cls: Any = None
    events_cls: Any = "pgtasks.app.events:Events"
    log_cls: Any = "pgtasks.app.log:Logging"
    control_cls: Any = "pgtasks.app.control:Control"
    task_cls: Any = "pgtasks.app.task:Task"

    def _begin_unconnected(self) -> None:
        self._local = threading.local()
        self._backend_cache: Any = None
        self._connections = Connections(self)

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
    def crons(self) -> Crons:
        """Look at the schedule; add, change, pause and resume its entries."""
        return open_door("Crons")(self)  # type: ignore[no-any-return]

    @part
    def queues(self) -> Queues:
        """Pause, resume, scale and limit queues."""
        from pgtasks.app.queues import Queues

        return Queues(self)

    @part
    def jobs(self) -> Jobs:
        """The jobs themselves: look for them, retry, cancel, change, hold them."""
        from pgtasks.app.jobs import Jobs

        return Jobs(self)  # type: ignore[arg-type]

    @part
    def events(self) -> Any:
        """What workers tell of themselves."""
        return instantiate(self.events_cls, app=self)

    @part
    def log(self) -> Any:
        """Logging."""
        return instantiate(self.log_cls, app=self)

    @part
    def annotations(self) -> Any:
        """The setting ``task_annotations``, prepared."""
        from pgtasks.app.annotations import prepare

        return prepare(self.conf.task_annotations)

    @part
    def _canvas(self) -> Any:
        return importlib.import_module("pgtasks.canvas")

    @part
    def clock(self) -> Any:
        """A logical clock, which orders events."""
        from pgtasks.utils.clocks import Clock

        return Clock()

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

    def setup_security(
        self,
        allowed_serializers: Any = None,
        key: Any = None,
        key_password: Any = None,
        cert: Any = None,
        store: Any = None,
        digest: str | None = None,
        serializer: str = "json",
    ) -> Any:
        """Sign jobs, and accept signed ones only: the serializer ``auth``.

        Args:
            allowed_serializers: Serializers to accept beside ``auth``; all others are
                switched off in this process.
            key: Private key file; the setting ``security_key`` by default.
            key_password: Its password; ``security_key_password`` by default.
            cert: Certificate file; ``security_certificate`` by default.
            store: Folder of the certificates to trust; ``security_cert_store`` by default.
            digest: What is signed; ``security_digest`` by default.
            serializer: How arguments are written before they are signed.
        """
        return symbol_by_name("pgtasks.security:setup_security")(
            allowed_serializers,
            key,
            key_password,
            cert,
            store,
            digest,
            serializer,
            app=self,
        )

    # ── connections ─────────────────────────────────────────────────────────────────────

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
        from pgtasks.app import backends

        wanted = self.backend_cls or self.conf.result_backend
        if wanted is None:
            wanted = "memory" if keeps_jobs_in_memory(self) else "postgresql"
        cls, url = backends.by_url(wanted, self.loader)
        return cls(app=self, url=url)

    # ── ids ─────────────────────────────────────────────────────────────────────────────

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

    # ── classes that know it ────────────────────────────────────────────────────────────

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
        return self.subclass_with_self(open_door("Beat"), name="Beat")

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


def _unpickle_appattr(path: str, args: Any) -> Any:
    return get_current_app()._rgetattr(path)(*args)


def _object_id(app: Owning, thread: int) -> str:
    from uuid import NAMESPACE_OID, getnode, uuid3

    return str(
        uuid3(NAMESPACE_OID, f"{getnode():x}-{os.getpid():x}-{thread:x}-{id(app):x}")
    )
