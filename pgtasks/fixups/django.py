"""Django's side of an application: its settings, its models, and its connections.

Where ``DJANGO_SETTINGS_MODULE`` is set, an application finds its database in
``DATABASES`` and its tasks in the installed apps. What is sent in ``atomic()`` is part of
that transaction, and its tasks get ``delay_on_commit``. Its workers check the project as
``manage.py`` would, and close Django's connections around tasks and in forked processes.
"""

from __future__ import annotations

import os
import sys
import warnings
from datetime import datetime, timezone
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from pgtasks import _state, signals
from pgtasks.app import transactional, transactions
from pgtasks.exceptions import FixupWarning, ImproperlyConfigured
from pgtasks.fixups.django_transactions import OpenTransaction
from pgtasks.utils.imports import symbol_by_name
from pgtasks.utils.log import get_logger
from pgtasks.utils.proxy import Proxy

if TYPE_CHECKING:
    from pgtasks.app.base import Celery

__all__ = ["DjangoFixup", "DjangoWorkerFixup", "fixup"]

logger = get_logger("celery.fixups.django")

TASK_CLASS = "pgtasks.contrib.django.task:DjangoTask"

ERR_NOT_INSTALLED = (
    "The environment variable DJANGO_SETTINGS_MODULE is set, but Django is not "
    "installed, so the application does without it. Install Django, or unset the variable."
)

#: Django can take a connection for open that the server has closed; closing it complains.
_GONE = ("closed", "not connected")


def fixup(app: Celery, env: str = "DJANGO_SETTINGS_MODULE") -> DjangoFixup | None:
    """Make an application part of a Django project, if this process belongs to one.

    Args:
        app: The application.
        env: Environment variable that says so.

    Returns:
        The fixup, or None where there is no project.
    """
    loader = getattr(app.loader_cls, "__name__", str(app.loader_cls))
    # Who has a loader for Django has done all this already.
    if not os.environ.get(env) or "django" in loader.lower():
        return None
    try:
        import django
    except ImportError:
        warnings.warn(FixupWarning(ERR_NOT_INSTALLED), stacklevel=2)
        return None
    if django.VERSION < (1, 11):
        raise ImproperlyConfigured(
            f"Django {django.VERSION} is too old: pgtasks works with 1.11 or newer."
        )
    return DjangoFixup(app).install()


class DjangoFixup:
    """What every process of a Django project needs: callers, workers and beat.

    Args:
        app: The application.
    """

    def __init__(self, app: Any) -> None:
        self.app = app
        if _state.default_app is None:
            # Requests are served by threads that have never heard of an application.
            app.set_default()
        self._settings: Any = None
        self._worker_fixup: DjangoWorkerFixup | None = None
        # The signal comes from workers of all applications of the process, so that it
        # cannot be connected by sender, and each fixup needs an identity of its own.
        # Addresses of objects are used again; a random name is not.
        self._worker_init_uid = (
            "celery.fixups.django.DjangoFixup.on_worker_init",
            uuid4().hex,
        )

    def install(self) -> DjangoFixup:
        """Take effect: settings, base class of tasks, and signals."""
        here = os.getcwd()
        if here not in sys.path:
            # As `manage.py` has it: the project goes before what is installed.
            sys.path.insert(0, here)
        self._settings = symbol_by_name("django.conf:settings")
        self.app.loader.now = self.now
        if not self.app._custom_task_cls_used:
            self.app.task_cls = TASK_CLASS
        open_transaction = OpenTransaction(self.app)
        transactions.join(self.app, open_transaction)
        transactional.offer(self.app, "django", open_transaction.begin)
        signals.import_modules.connect(self.on_import_modules, sender=self.app)
        signals.worker_init.connect(self.on_worker_init, dispatch_uid=self._worker_init_uid)
        return self

    @property
    def worker_fixup(self) -> Any:
        """What workers need besides; made when first used."""
        if self._worker_fixup is None:
            self._worker_fixup = DjangoWorkerFixup(self.app)
        return self._worker_fixup

    @worker_fixup.setter
    def worker_fixup(self, value: Any) -> None:
        self._worker_fixup = value

    def autodiscover_tasks(self) -> list[str]:
        """The packages of the installed apps, in which tasks are looked for."""
        from django.apps import apps

        return [config.name for config in apps.get_app_configs()]

    def now(self, utc: bool = False) -> datetime:
        """The present moment, as Django's ``USE_TZ`` wants it."""
        moment: datetime = datetime.now(timezone.utc) if utc else self._now()
        return moment

    @cached_property
    def _now(self) -> Any:
        return symbol_by_name("django.utils.timezone:now")

    # ── signals ─────────────────────────────────────────────────────────────────────────

    def on_import_modules(self, **kwargs: Any) -> None:
        """Set Django up before modules are imported that define models or tasks."""
        self.worker_fixup.validate_models()

    def on_worker_init(self, **kwargs: Any) -> None:
        """Install what workers need, if the worker is one of this application."""
        worker = kwargs.get("sender")
        if worker is None:
            warnings.warn(
                FixupWarning(
                    "DjangoFixup.on_worker_init called without a sender: send the signal "
                    "worker_init with the worker, or its pool cannot be known."
                ),
                stacklevel=2,
            )
        else:
            its_app = _behind(getattr(worker, "app", None))
            if its_app is not None and its_app is not _behind(self.app):
                logger.debug(
                    "Django's fixup of %r leaves worker %r alone, which belongs to %r.",
                    self.app,
                    worker,
                    its_app,
                )
                return
            self.worker_fixup.worker = worker
        self.worker_fixup.install()


class DjangoWorkerFixup:
    """What a process that runs tasks needs: a project in order, and no stale connections.

    Args:
        app: The application.

    Attributes:
        worker: The worker, once there is one; its pool matters.
        db_reuse_max: The setting ``CELERY_DB_REUSE_MAX``: how many tasks may use a
            connection. Each has its own where it is not set.
    """

    worker: Any = None
    _db_recycles = 0

    def __init__(self, app: Any) -> None:
        self.app = app
        self.db_reuse_max = app.conf.get("CELERY_DB_REUSE_MAX", None)
        self._db = import_module("django.db")
        self._cache = import_module("django.core.cache")
        self._settings = symbol_by_name("django.conf:settings")
        self.interface_errors: Any = (symbol_by_name("django.db.utils:InterfaceError"),)
        self.DatabaseError: Any = symbol_by_name("django.db:DatabaseError")

    def install(self) -> DjangoWorkerFixup:
        """Connect to the signals, and begin without connections."""
        signals.beat_embedded_init.connect(self.close_database)
        signals.task_prerun.connect(self.on_task_prerun)
        signals.task_postrun.connect(self.on_task_postrun)
        signals.worker_process_init.connect(self.on_worker_process_init)
        self.close_database()
        self.close_cache()
        return self

    # ── the project ─────────────────────────────────────────────────────────────────────

    def django_setup(self) -> None:
        """Load the installed apps and their models."""
        import django

        django.setup()

    def validate_models(self) -> None:
        """Set Django up, run its system checks, and warn of what they find wrong.

        ``CELERY_SKIP_CHECKS``, or the worker's ``--skip-checks``, leaves the checks out.
        """
        self.django_setup()
        if not os.environ.get("CELERY_SKIP_CHECKS"):
            from django.core.checks import run_checks

            _warn_of(run_checks())

    # ── around tasks and forks ──────────────────────────────────────────────────────────

    def on_worker_process_init(self, **kwargs: Any) -> None:
        """Let go of the connections that came along from the parent process."""
        if os.environ.get("FORKED_BY_MULTIPROCESSING"):
            # Spawned: nothing at all came along.
            self.validate_models()
        for connection in self._db.connections.all():
            if connection and connection.connection:
                # Both processes hold the same socket. A connection that is closed in
                # order says goodbye to the server, and would end the parent's as well.
                self._maybe_close_db_fd(connection)
        self._close_database()
        self.close_cache()

    def on_task_prerun(self, sender: Any, **kwargs: Any) -> None:
        """Have a task begin without a connection that may be dead by now."""
        if not getattr(sender.request, "is_eager", False):
            self.close_database()

    def on_task_postrun(self, sender: Any, **kwargs: Any) -> None:
        """Have a task leave no connection behind.

        An eager task runs inside a request, whose connections are not its own.
        """
        if not getattr(sender.request, "is_eager", False):
            self.close_database()
            self.close_cache()

    def close_database(self, **kwargs: Any) -> None:
        """Close Django's connections, each time or as seldom as the setting allows."""
        if not self.db_reuse_max:
            self._close_database()
            return
        # Called twice for each task.
        if self._db_recycles >= self.db_reuse_max * 2:
            self._db_recycles = 0
            self._close_database()
        self._db_recycles += 1

    def _close_database(self) -> None:
        handler = self._db.connections
        try:
            connections = handler.all(initialized_only=True)
        except TypeError:
            # Before Django 4.1 it knows no such argument.
            connections = handler.all()
        alone = self._is_prefork()
        for connection in connections:
            try:
                connection.close()
                if alone and self._has_pool(connection):
                    self._close_pool(connection)
            except self.interface_errors:
                pass
            except self.DatabaseError as error:
                if not any(word in str(error) for word in _GONE):
                    raise

    def _has_pool(self, connection: Any) -> bool:
        options = self._settings.DATABASES.get(connection.alias, {}).get("OPTIONS", {})
        return bool(options.get("pool")) and hasattr(connection, "close_pool")

    def _close_pool(self, connection: Any) -> None:
        # A process that runs one task at a time needs no pool, and one that was forked
        # must not use that of its parent. Threads share theirs.
        try:
            connection.close_pool()
        except KeyError:
            pass

    def _is_prefork(self) -> bool:
        pool = getattr(self.worker, "pool_cls", None) or getattr(
            self.worker, "pool_name", ""
        )
        return "prefork" in (pool if isinstance(pool, str) else pool.__module__)

    def _maybe_close_db_fd(self, connection: Any) -> None:
        try:
            with connection.wrap_database_errors:
                _maybe_close_fd(connection.connection)
        except self.interface_errors:
            pass

    def close_cache(self) -> None:
        """Close the connections of Django's caches."""
        try:
            self._cache.close_caches()
        except (TypeError, AttributeError):
            # Django 3.2 has nothing of the kind, and some back ends nothing to close.
            pass


def _warn_of(messages: Any) -> None:
    if not isinstance(messages, list):
        return
    serious = [each for each in messages if each.is_serious() and not each.is_silenced()]
    if serious:
        # By a warning: this may be before logging is set up. And no more than that, as
        # Celery's workers run in such projects.
        found = "\n".join(map(str, serious))
        warnings.warn(
            FixupWarning(
                f"Django's system checks find the project in disorder. Mend it, or start "
                f"the worker with --skip-checks.\n{found}"
            ),
            stacklevel=3,
        )


def _behind(app: Any) -> Any:
    """The application behind ``current_app`` and the like."""
    return app._get_current_object() if isinstance(app, Proxy) else app


def _maybe_close_fd(connection: Any) -> None:
    try:
        os.close(connection.fileno())
    except (AttributeError, OSError, TypeError):
        # Not all drivers tell, and SQLite has none to tell of.
        pass
