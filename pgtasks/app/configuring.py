"""How an application comes by its settings: from where, when, and in which order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from pgtasks.app import periodic
from pgtasks.app.parts import part
from pgtasks.app.settings import Settings
from pgtasks.exceptions import ImproperlyConfigured
from pgtasks.loaders import get_loader_cls
from pgtasks.utils.dispatch import Signal
from pgtasks.utils.proxy import maybe_evaluate

__all__ = ["Configured"]


class Configured:
    """The floor of `Celery` that knows the settings.

    They are read when the first of them is, so that a program may name their source after
    it has made the application, and define tasks before either.
    """

    #: Name of the program.
    main: str | None = None

    loader_cls: Any = None

    on_configure: Any = None
    on_after_configure: Any = None

    namespace: str | None
    _timezone: Any = None

    def _begin_unconfigured(
        self,
        source: Any,
        source_silent: bool,
        namespace: str | None,
        changes: dict[str, Any],
        arguments: dict[str, Any],
        lock: Any,
    ) -> None:
        self.namespace = namespace
        self.configured = False
        self._config_source = source
        self._config_source_silent = source_silent
        self._pending_defaults: deque[Callable[[], Any]] = deque()
        self._pending_periodic_tasks: deque[tuple[str, dict[str, Any], Any]] = deque()
        # What is set before the configuration is read. It outlives reading, since an
        # application is pickled as what the program has set.
        given = {key: value for key, value in arguments.items() if value is not None}
        self._preconf = {**changes, **given}
        self._preconf_set_by_auto = set(given)
        self._conf = Settings(
            self._preconf, prefix=namespace, load=self._read_configuration, load_lock=lock
        )

    @part
    def loader(self) -> Any:
        """Where configuration and modules come from."""
        return get_loader_cls(self.loader_cls)(app=self)

    @property
    def conf(self) -> Settings:
        """The settings; reading one reads the configuration."""
        return self._conf

    @conf.setter
    def conf(self, settings: Any) -> None:
        self._conf = settings

    # ── sources ─────────────────────────────────────────────────────────────────────────

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

    # ── reading ─────────────────────────────────────────────────────────────────────────

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
        # Here, as many a program that defines tasks never gets so far.
        from pgtasks.app.detection import detect_settings

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

    def _changes(self) -> dict[str, Any]:
        # What the program has set, not what the configuration says: that is read again.
        return dict(self._conf.changes if self.configured else self._preconf)

    # ── asking ──────────────────────────────────────────────────────────────────────────

    def either(self, default_key: str, *defaults: Any) -> Any:
        """Answer the first of ``defaults`` that is not None, else the setting."""
        chosen = next((each for each in defaults if each is not None), None)
        return self.conf.get(default_key) if chosen is None else chosen

    @property
    def timezone(self) -> Any:
        """The zone that the settings name; ``del app.timezone`` has it looked up again."""
        if self._timezone is None:
            from pgtasks.utils.time import timezone

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
        from pgtasks.utils.time import timezone

        return bool(self.timezone == timezone.utc)

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
