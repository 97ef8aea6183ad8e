"""Parts of an object that are made when first asked for, without a lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

__all__ = ["part"]

T = TypeVar("T")


class part(Generic[T]):
    """A property that is computed once and can be set and deleted.

    Until Python 3.11 ``functools.cached_property`` holds one lock for all instances while
    it computes. What an application computes may call the program's functions, which ask
    for other parts, and two threads could wait for each other. Here both may compute, and
    the first to finish is believed.

    Args:
        make: Computes the value.
    """

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make
        self._name = make.__name__
        self.__doc__ = make.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> part[T]: ...

    @overload
    def __get__(self, instance: object, owner: type | None = None) -> T: ...

    def __get__(self, instance: object | None, owner: type | None = None) -> part[T] | T:
        if instance is None:
            return self
        # Found there at once from now on: this is no data descriptor.
        value: T = instance.__dict__.setdefault(self._name, self._make(instance))
        return value
