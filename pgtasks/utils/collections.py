"""Mappings with attributes, attributes as mappings, and mappings in layers.

``app.conf`` is built of these. The bounded containers that Celery keeps beside
them live in `pgtasks.utils.bounded` and can be imported from here as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from pgtasks.utils.text import match_case

if TYPE_CHECKING:
    from pgtasks.utils.bounded import (
        BufferMap,
        Evictable,
        LimitedSet,
        Messagebuffer,
        OrderedDict,
    )

__all__ = [
    "AttributeDict",
    "AttributeDictMixin",
    "BufferMap",
    "ChainMap",
    "ConfigurationView",
    "DictAttribute",
    "Evictable",
    "LimitedSet",
    "Messagebuffer",
    "OrderedDict",
    "force_mapping",
    "lpmerge",
]

# Looked up when asked for: settings need none of them. Not for type checkers, to which
# every name would then exist.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from pgtasks.utils import bounded

        globals()[name] = value = getattr(bounded, name)
        return value


def force_mapping(m: Any) -> Any:
    """``m`` as a mapping: an object or module by its attributes."""
    return m if isinstance(m, Mapping) else DictAttribute(m)


def lpmerge(L: Any, R: Mapping[Any, Any]) -> Any:
    """Update ``L`` in place with what is not None in ``R``."""
    L.update({key: value for key, value in R.items() if value is not None})
    return L


class AttributeDictMixin:
    """Reads and writes items as attributes: ``d.key`` is ``d["key"]``."""

    def __getattr__(self, k: str) -> Any:
        try:
            return self[k]  # type: ignore[index]
        except KeyError:
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {k!r}"
            ) from None

    def __setattr__(self, key: str, value: Any) -> None:
        self[key] = value


class AttributeDict(dict[str, Any], AttributeDictMixin):
    """A dict whose items are attributes, too."""


class DictAttribute:
    """An object's attributes as a mapping: ``d["key"]`` is ``obj.key``."""

    obj: Any

    def __init__(self, obj: Any) -> None:
        object.__setattr__(self, "obj", obj)

    def __getattr__(self, key: str) -> Any:
        return getattr(self.obj, key)

    def __setattr__(self, key: str, value: Any) -> None:
        setattr(self.obj, key, value)

    def __getitem__(self, key: str) -> Any:
        try:
            return getattr(self.obj, key)
        except AttributeError:
            raise KeyError(key) from None

    def __setitem__(self, key: str, value: Any) -> None:
        setattr(self.obj, key, value)

    def __contains__(self, key: str) -> bool:
        return hasattr(self.obj, key)

    def __iter__(self) -> Iterator[str]:
        return iter(dir(self.obj))

    def get(self, key: str, default: Any = None) -> Any:
        """The attribute, or ``default`` if there is none."""
        return getattr(self.obj, key, default)

    def setdefault(self, key: str, default: Any = None) -> Any:
        """The attribute, set to ``default`` if there is none."""
        if key not in self:
            self[key] = default
        return self[key]

    # Iterators, not views: the keys are made up by dir(), and some of those
    # cannot be read twice.

    def keys(self) -> Iterator[str]:
        """Names of all attributes."""
        return iter(self)

    def values(self) -> Iterator[Any]:
        """Values of all attributes."""
        return (getattr(self.obj, key) for key in self)

    def items(self) -> Iterator[tuple[str, Any]]:
        """Name and value of all attributes."""
        return ((key, getattr(self.obj, key)) for key in self)


MutableMapping.register(DictAttribute)


class ChainMap(MutableMapping[str, Any]):
    """Mappings in layers: read from the first that has the key, written to the first.

    Args:
        *maps: The layers; one empty dict if there are none.
        key_t: Applied to every key.
    """

    # Set through __dict__ throughout: a subclass may turn attributes into items.
    maps: list[Any]
    key_t: Callable[[Any], Any] | None
    _observers: list[Callable[..., Any]]

    def __init__(self, *maps: Any, key_t: Callable[[Any], Any] | None = None) -> None:
        self.__dict__.update(maps=list(maps or [{}]), key_t=key_t, _observers=[])

    @property
    def changes(self) -> Any:
        """The layer that is written to."""
        return self.maps[0]

    @property
    def defaults(self) -> list[Any]:
        """The layers below it."""
        return self.maps[1:]

    def add_defaults(self, d: Any) -> None:
        """Insert a layer right below the one that is written to."""
        self.maps.insert(1, force_mapping(d))

    def __getitem__(self, key: str) -> Any:
        wanted = self._key(key)
        for mapping in self.maps:
            try:
                return mapping[wanted]
            except KeyError:
                pass
        return self.__missing__(key)

    def __missing__(self, key: str) -> Any:
        raise KeyError(key)

    def __setitem__(self, key: str, value: Any) -> None:
        self.changes[self._key(key)] = value

    def __delitem__(self, key: str) -> None:
        try:
            del self.changes[self._key(key)]
        except KeyError:
            raise KeyError(f"Key not found in first mapping: {key!r}") from None

    def __contains__(self, key: object) -> bool:
        wanted = self._key(key)
        return any(wanted in mapping for mapping in self.maps)

    def __iter__(self) -> Iterator[str]:
        # The lowest layer first, so that the order is that of the defaults.
        return iter(dict.fromkeys(key for layer in reversed(self.maps) for key in layer))

    def __len__(self) -> int:
        return len(set().union(*self.maps))

    def __bool__(self) -> bool:
        return any(self.maps)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.maps))})"

    def pop(self, key: str, *default: Any) -> Any:
        """Take a key out of the layer that is written to."""
        try:
            return self.changes.pop(self._key(key), *default)
        except KeyError:
            raise KeyError(f"Key not found in the first mapping: {key!r}") from None

    def clear(self) -> None:
        """Empty the layer that is written to; the defaults stay."""
        self.changes.clear()

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Update the layer that is written to, and tell the observers."""
        # An iterator of pairs is good for one reader, and there are several.
        mappings = [dict(each) for each in args]
        self.changes.update(*mappings, **kwargs)
        for notify in self._observers:
            notify(*mappings, **kwargs)

    def bind_to(self, callback: Callable[..., Any]) -> None:
        """Call ``callback`` with the arguments of each `update`."""
        self._observers.append(callback)

    def copy(self) -> Any:
        """A copy with its own top layer and the same defaults."""
        return type(self)(self.changes.copy(), *self.defaults, key_t=self.key_t)

    def __copy__(self) -> Any:
        return self.copy()

    @classmethod
    def fromkeys(cls, iterable: Iterable[str], *args: Any) -> Any:
        """One layer with these keys, all of the same value."""
        return cls(dict.fromkeys(iterable, *args))

    def _key(self, key: Any) -> Any:
        return key if self.key_t is None else self.key_t(key)


class ConfigurationView(ChainMap, AttributeDictMixin):
    """Settings in layers, by their new or old names, with or without a prefix.

    Args:
        changes: What the user set.
        defaults: Layers below that.
        keys: Functions from one name of a setting to another of its names.
        prefix: Put before names that lack it, in its own case: ``CELERY`` reads
            ``timezone`` from ``CELERY_TIMEZONE``.
    """

    prefix: str | None
    _keys: Iterable[Callable[[str], str]] | None

    def __init__(
        self,
        changes: Any,
        defaults: Iterable[Any] | None = None,
        keys: Iterable[Callable[[str], str]] | None = None,
        prefix: str | None = None,
    ) -> None:
        super().__init__(changes, *(defaults or ()))
        self.__dict__.update(
            _keys=keys, prefix=f"{prefix.rstrip('_')}_" if prefix else prefix
        )

    def __getitem__(self, key: str) -> Any:
        names = self._to_keys(key)
        # Layer by layer: an old name that the user set beats the default of
        # the new one.
        for mapping in self.maps:
            for name in names:
                try:
                    return mapping[self._key(name)]
                except KeyError:
                    pass
        try:
            return self.__missing__(key)
        except KeyError:
            if not self.prefix:
                raise
            raise KeyError(
                f"Key not found: {names[1]!r} (with prefix: {names[0]!r})"
            ) from None

    def __contains__(self, key: object) -> bool:
        return any(ChainMap.__contains__(self, name) for name in self._to_keys(key))

    def first(self, *keys: str) -> Any:
        """The first of these settings that is not None."""
        return next((v for v in map(self.get, keys) if v is not None), None)

    def copy(self) -> Any:
        """A copy with its own changes and the same defaults; observers stay behind."""
        copied = type(self)(self.changes.copy(), self.defaults, self._keys, self.prefix)
        copied.__dict__["key_t"] = self.key_t
        return copied

    def swap_with(self, other: ConfigurationView) -> None:
        """Become a view of the other's layers."""
        for name in ("key_t", "prefix", "_keys"):
            self.__dict__[name] = other.__dict__[name]
        self.__dict__["maps"] = list(other.maps)

    def _to_keys(self, key: Any) -> tuple[str, ...]:
        names: tuple[str, ...] = (key,)
        if self.prefix:
            prefixed = key if key.startswith(self.prefix) else self.prefix + key
            names = (match_case(prefixed, self.prefix), key)
        return names + tuple(rename(key) for rename in self._keys or ())
