"""Objects that stand for others: bags of attributes, borrowed contexts, key paths."""

from __future__ import annotations

from collections.abc import Callable, Container
from functools import reduce
from types import GenericAlias
from typing import Any

__all__ = ["Bunch", "FallbackContext", "getitem_property", "mro_lookup"]


class Bunch:
    """A bag of attributes: ``Bunch(a=1).a``."""

    def __init__(self, **kwargs: Any) -> None:
        self.__dict__.update(kwargs)


def mro_lookup(
    cls: type,
    attr: str,
    stop: Container[type] | None = None,
    monkey_patched: Container[str] | None = None,
) -> type | None:
    """The class of ``cls``'s ancestry that defines ``attr``, or None.

    Args:
        cls: Where to begin.
        attr: The attribute.
        stop: Classes that end the search without an answer …
        monkey_patched: … unless their attribute comes from a module that is
            not among these, which means that somebody patched it.
    """
    for node in cls.mro():
        if stop and node in stop:
            origin = getattr(node.__dict__.get(attr), "__module__", None)
            patched = origin is not None and origin not in (monkey_patched or ())
            return node if patched else None
        if attr in node.__dict__:
            return node
    return None


class FallbackContext:
    """A resource that may have been given, or else is opened for the block.

    ``FallbackContext(connection, connect, url)`` yields ``connection`` and leaves
    it open, or if it is None, enters ``connect(url)`` and exits it afterwards.
    """

    __class_getitem__: Any = classmethod(GenericAlias)

    def __init__(
        self, provided: Any, fallback: Callable[..., Any], *fb_args: Any, **fb_kwargs: Any
    ) -> None:
        self.provided = provided
        self.fallback = fallback
        self.fb_args = fb_args
        self.fb_kwargs = fb_kwargs
        self._context: Any = None

    def __enter__(self) -> Any:
        if self.provided is not None:
            return self.provided
        context = self.fallback(*self.fb_args, **self.fb_kwargs)
        value = context.__enter__()
        self._context = context  # not before: what was not entered is not exited
        return value

    def __exit__(self, *exc_info: Any) -> bool | None:
        if self._context is None:
            return None
        return self._context.__exit__(*exc_info)  # type: ignore[no-any-return]


class getitem_property:
    """An attribute that reads and writes a key of its object.

    ``getitem_property("options.queue")`` on a dict subclass stands for
    ``self["options"]["queue"]``; a missing last key reads as None.
    """

    def __init__(self, keypath: str, doc: str | None = None) -> None:
        *self.path, self.key = keypath.split(".")
        self.__doc__ = doc

    def __get__(self, obj: Any, type: type | None = None) -> Any:
        return type if obj is None else self._holder(obj).get(self.key)

    def __set__(self, obj: Any, value: Any) -> None:
        self._holder(obj)[self.key] = value

    def _holder(self, obj: Any) -> Any:
        return reduce(lambda mapping, key: mapping[key], self.path, obj)
