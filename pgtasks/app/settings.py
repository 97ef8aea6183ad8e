"""The settings of an application: layered, lazy, and a plain attribute once read.

A setting is looked for in the changes that the program made (``Celery(broker=…)``,
``app.conf.x = …``), then in what ``add_defaults`` was given, then in the configuration
object, then in the defaults, under its new name, its name with the namespace, and its old
name. What was found is kept in the instance's ``__dict__``, since sending a job reads ten
of them: the configuration object is asked once for each setting, and changing that object
later has no effect; change ``app.conf``.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import AbstractContextManager
from typing import Any

from pgtasks.app.defaults import _TO_NEW_KEY, DEFAULTS, OPTIONS, SETTING_KEYS, find
from pgtasks.app.setting_names import canonical, names_of, with_underscore

__all__ = ["Settings"]

#: Names that this process has been told of: misspelt ones, and those without effect.
_told: set[str] = set()


class Settings(MutableMapping[str, Any]):
    """Settings by attribute and by key.

    Args:
        changes: The topmost layer, which is written to.
        defaults: The layers below it, topmost first; the last holds the defaults.
        keys: Accepted as in Celery; old names are always understood.
        prefix: Namespace that the configuration object's names begin with.
        deprecated_settings: Old names that were found in the configuration.
        load: Called before the first read, to let these settings `become` others.
        load_lock: Held while it is called. Loading calls the program's functions, which
            may finalize the application, whose other threads may be reading settings:
            hence the lock that finalizing takes too.

    Attributes:
        changes: The topmost layer.
        defaults: The layers below it.
        prefix: The namespace with its underscore, or None.
    """

    changes: MutableMapping[str, Any]
    defaults: list[Mapping[str, Any]]
    prefix: str | None
    deprecated_settings: Any

    def __init__(
        self,
        changes: MutableMapping[str, Any] | None = None,
        defaults: Iterable[Mapping[str, Any]] | None = None,
        keys: Any = None,
        prefix: str | None = None,
        deprecated_settings: Any = None,
        *,
        load: Callable[[], object] | None = None,
        load_lock: AbstractContextManager[Any] | None = None,
    ) -> None:
        # Past __setattr__, which would make settings of them.
        self.__dict__.update(
            changes={} if changes is None else changes,
            defaults=list(defaults or ()),
            prefix=with_underscore(prefix),
            deprecated_settings=deprecated_settings,
            _load=load,
            _load_lock=load_lock or threading.RLock(),
            _loading_thread=None,
            _raw=load is not None,
            _before={},
            _lock=threading.RLock(),
            _kept=set(),
            _observers=[],
        )

    # ── reading ─────────────────────────────────────────────────────────────────────────

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            # Asked for by copy, pickle and mocks; none of them wants a setting.
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError:
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}"
            ) from None

    def __getitem__(self, key: str) -> Any:
        if key in self._kept:
            # Another thread may be forgetting it at this moment.
            with contextlib.suppress(KeyError):
                return self.__dict__[key]
        self._ensure_loaded()
        # Under the lock that writers take: else a value read before a write could be
        # kept after it.
        with self._lock:
            value = self._look_up(key)
            if self._load is None and key not in _RESERVED:
                self.__dict__[key] = value
                self._kept.add(key)
        return value

    def _look_up(self, key: str) -> Any:
        names = names_of(key, self.prefix)
        for layer in self.maps:
            for name in names:
                try:
                    return layer[name]
                except KeyError:
                    pass
        if self.prefix:
            raise KeyError(f"Key not found: {key!r} (with prefix: {names[0]!r})")
        raise KeyError(key)

    @property
    def maps(self) -> list[Any]:
        """The layers, topmost first."""
        return [self.changes, *self.defaults]

    def first(self, *keys: str) -> Any:
        """Answer the first of the settings that is not None."""
        return next((v for v in map(self.get, keys) if v is not None), None)

    def __contains__(self, key: object) -> bool:
        # Asking does not load, so that setdefault() stays lazy too.
        return isinstance(key, str) and any(
            name in layer for name in names_of(key, self.prefix) for layer in self.maps
        )

    def __iter__(self) -> Iterator[str]:
        self._ensure_loaded()
        names: dict[str, None] = {}
        for layer in reversed(self.maps):
            # A module or Django's settings list more than they have.
            names |= dict.fromkeys(
                key for key in layer if not key.startswith("__") and key in layer
            )
        return iter(names)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        self._ensure_loaded()
        # Never the values as they are: passwords stand among them.
        return f"{type(self).__name__}({self.table()!r})"

    # ── writing ─────────────────────────────────────────────────────────────────────────

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        try:
            del self[name]
        except KeyError as error:
            raise AttributeError(name) from error

    def __setitem__(self, key: str, value: Any) -> None:
        self.update({key: value})

    def __delitem__(self, key: str) -> None:
        with self._lock:
            for name in names_of(key, self.prefix):
                if name in self.changes:
                    del self.changes[name]
                    break
            else:
                raise KeyError(f"Key not found in the first mapping: {key!r}")
            self._forget()
        self._tell({key})

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Change several settings: a mapping or pairs, and keywords."""
        changes: dict[str, Any] = dict(*args, **kwargs)
        with self._lock:
            if not self._raw:
                # Under its new name, so that the last writer wins whichever name it
                # used. Before loading the names stay: mixing them is found out then.
                from pgtasks.app.detection import warn_of_unknown

                warn_of_unknown(changes, self.prefix)
                changes = {canonical(k, self.prefix): v for k, v in changes.items()}
            self.changes.update(changes)
            self._forget()
        if not self._raw and any(key in OPTIONS and OPTIONS[key].idle for key in changes):
            from pgtasks.app.detection import tell_of_idle

            tell_of_idle(self)
        self._tell(changes)

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Set ``key`` unless somebody has; does not load."""
        if key in self:
            return self[key]
        self[key] = default
        return default

    def clear(self) -> None:
        """Take back every change; the layers below remain."""
        with self._lock:
            self.changes.clear()
            self._forget()
        self._tell(SETTING_KEYS)

    def pop(self, key: str, *default: Any) -> Any:
        """Take back a change and answer it."""
        try:
            value = next(
                self.changes[name]
                for name in names_of(key, self.prefix)
                if name in self.changes
            )
        except StopIteration:
            if default:
                return default[0]
            raise KeyError(f"Key not found in the first mapping: {key!r}") from None
        del self[key]
        return value

    def add_defaults(self, defaults: Any) -> None:
        """Put a layer right below the changes, above the configuration object."""
        from pgtasks.utils.collections import force_mapping

        layer = force_mapping(defaults)
        with self._lock:
            self.defaults.insert(0, layer)
            self._forget()
        self._tell(layer)

    def bind_to(self, callback: Callable[[Iterable[str]], Any]) -> None:
        """Call ``callback`` with the new names of the settings that change."""
        self._observers.append(callback)

    def _tell(self, keys: Iterable[str]) -> None:
        if self._observers:
            changed = {canonical(key, self.prefix) for key in keys}
            for callback in self._observers:
                callback(changed)

    def _forget(self) -> None:
        for key in self._kept:
            self.__dict__.pop(key, None)
        self._kept.clear()

    def renew_locks(self, load_lock: AbstractContextManager[Any]) -> None:
        """Forget locks that a thread of the parent process may have held at the fork."""
        self.__dict__.update(_lock=threading.RLock(), _load_lock=load_lock)

    # ── loading and copying ─────────────────────────────────────────────────────────────

    def _ensure_loaded(self) -> None:
        # The functions that loading calls read what has been loaded so far.
        if self._load is None or self._loading_thread == threading.get_ident():
            return
        with self._load_lock:
            if self._load is None:
                return
            self.__dict__["_loading_thread"] = threading.get_ident()
            self.__dict__["_before"] = dict(self.changes)
            try:
                self._load()
                self.__dict__["_load"] = None
            finally:
                self.__dict__["_loading_thread"] = None

    def become(self, other: Settings) -> None:
        """Take over the layers of ``other``, whoever holds a reference to this one."""
        with self._lock:
            # What other threads have written while this one was reading.
            other.changes.update(
                (canonical(key, other.prefix), value)
                for key, value in self.changes.items()
                if key not in self._before or self._before[key] is not value
            )
            self.__dict__.update(
                changes=other.changes,
                defaults=other.defaults,
                prefix=other.prefix,
                deprecated_settings=other.deprecated_settings,
                _raw=False,
            )
            self._forget()
        self._tell(SETTING_KEYS)

    def finalize(self) -> Settings:
        """Read the configuration now."""
        self._ensure_loaded()
        return self

    def copy(self) -> Settings:
        """Answer settings of their own layer of changes above the same others."""
        self._ensure_loaded()
        return type(self)(
            dict(self.changes),
            self.defaults,
            prefix=self.prefix,
            deprecated_settings=self.deprecated_settings,
        )

    __copy__ = copy

    def __reduce__(self) -> Any:
        # Configuration modules cannot be pickled; what they say about known settings can.
        self._ensure_loaded()
        known = {
            key: self[key] for key in SETTING_KEYS if self[key] != DEFAULTS[key]
        } | dict(self.changes)
        return _rebuild, (type(self), known, self.deprecated_settings)

    # ── what is what ────────────────────────────────────────────────────────────────────

    @property
    def broker_read_url(self) -> str | None:
        """Where Celery would read from; the environment wins."""
        return (
            os.environ.get("CELERY_BROKER_READ_URL")
            or self.get("broker_read_url")
            or self.broker_url
        )

    @property
    def broker_write_url(self) -> str | None:
        """Where Celery would write to; the environment wins."""
        return (
            os.environ.get("CELERY_BROKER_WRITE_URL")
            or self.get("broker_write_url")
            or self.broker_url
        )

    @property
    def broker_url(self) -> Any:
        """The broker, or the database; the environment wins."""
        return os.environ.get("CELERY_BROKER_URL") or self.first(
            "broker_url", "broker_host"
        )

    @property
    def result_backend(self) -> Any:
        """Where results are kept; the environment wins."""
        return os.environ.get("CELERY_RESULT_BACKEND") or self.get("result_backend")

    @property
    def task_default_exchange(self) -> Any:
        """Exchange of queues that name none."""
        return self.first("task_default_exchange", "task_default_queue")

    @property
    def task_default_routing_key(self) -> Any:
        """Routing key of queues that name none."""
        return self.first("task_default_routing_key", "task_default_queue")

    @property
    def timezone(self) -> Any:
        """The time zone; Django's, where its settings are the configuration."""
        return self.first("timezone", "TIME_ZONE")

    def without_defaults(self) -> Settings:
        """Answer the same settings without the bottom layer."""
        self._ensure_loaded()
        return type(self)({}, self.maps[:-1], prefix=self.prefix)

    def value_set_for(self, key: str) -> bool:
        """Whether anybody has set this, under whatever name."""
        return key in self.without_defaults()

    def find_option(self, name: str, namespace: str = "") -> Any:
        """Find the description of a setting by a part of its name."""
        return find(name, namespace)

    def find_value_for_key(self, name: str, namespace: str = "celery") -> Any:
        """Find the value of a setting by a part of its name."""
        return self.get_by_parts(*self.find_option(name, namespace)[:-1])

    def get_by_parts(self, *parts: str | None) -> Any:
        """Answer the setting whose name has these parts."""
        return self["_".join(part for part in parts if part)]

    def table(self, with_defaults: bool = False, censored: bool = True) -> dict[str, Any]:
        """Answer the settings as a dict, with secrets masked unless told otherwise."""
        from pgtasks.app.masking import filter_hidden_settings

        self._ensure_loaded()
        shown = self if with_defaults else self.without_defaults()
        unwanted = set(dir(dict))
        table = {
            key: value
            for key, value in shown.items()
            if not key.startswith("_") and key not in unwanted
        }
        return filter_hidden_settings(table) if censored else table

    def humanize(self, with_defaults: bool = False, censored: bool = True) -> str:
        """Show the settings, one a line."""
        from pgtasks.utils.text import pretty

        return "\n".join(
            f"{key}: {pretty(value, width=50)}"
            for key, value in self.table(with_defaults, censored).items()
        )

    def maybe_warn_deprecated_settings(self) -> bool:
        """Warn of each old name that the configuration uses; say whether there are any."""
        import warnings

        from pgtasks.exceptions import CDeprecationWarning

        for old in sorted(self.deprecated_settings or ()):
            warnings.warn(
                f"The setting {old!r} has been renamed: write {_TO_NEW_KEY[old]!r}.",
                CDeprecationWarning,
                stacklevel=2,
            )
        return bool(self.deprecated_settings)


#: Names that an instance or its class needs for itself.
_RESERVED = frozenset(Settings().__dict__) | frozenset(dir(Settings))


def _rebuild(cls: type[Settings], changes: dict[str, Any], deprecated: Any) -> Settings:
    from copy import deepcopy

    return cls(changes, [deepcopy(DEFAULTS)], deprecated_settings=deprecated)
