"""Celery's address of the proxies: see `pgtasks.utils.proxy`."""

from __future__ import annotations

from types import GenericAlias
from typing import Any

from pgtasks.utils.proxy import PromiseProxy, Proxy, maybe_evaluate, try_import

__all__ = ["PromiseProxy", "Proxy", "class_property", "maybe_evaluate", "try_import"]


class class_property:
    """A property of a class: read, and perhaps set, without an instance.

    Args:
        getter: Called with the class; without it, the property cannot be read.
        setter: Called with the class and the value, when set through an instance.
    """

    def __init__(self, getter: Any = None, setter: Any = None) -> None:
        if getter is not None and not isinstance(getter, classmethod):
            getter = classmethod(getter)
        self._getter = getter
        if setter is not None and not isinstance(setter, classmethod):
            setter = classmethod(setter)
        self._setter = setter
        known = getter or setter
        if known is not None:
            function = known.__func__
            self.__doc__ = function.__doc__
            self.__name__ = function.__name__
            self.__module__ = function.__module__

    __name__ = "class_property"
    __class_getitem__: Any = classmethod(GenericAlias)

    def __get__(self, obj: Any, cls: type | None = None) -> Any:
        if self._getter is None:
            raise AttributeError(f"{self.__name__!r} cannot be read")
        return self._getter.__get__(obj, type(obj) if cls is None else cls)()

    def __set__(self, obj: Any, value: Any) -> Any:
        if obj is None:
            return self
        if self._setter is None:
            raise AttributeError(f"{self.__name__!r} cannot be set")
        return self._setter.__get__(obj)(value)

    def setter(self, setter: Any) -> class_property:
        """Answer a copy of this property that can be set."""
        return type(self)(self._getter, setter)
