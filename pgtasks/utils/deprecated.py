"""Warnings for what will go away."""

from __future__ import annotations

import warnings
from collections.abc import Callable as Function
from functools import wraps
from typing import Any, TypeVar

__all__ = ["Callable", "Property", "warn"]

F = TypeVar("F", bound=Function[..., Any])


def warn(
    description: str | None = None,
    deprecation: str | None = None,
    removal: str | None = None,
    alternative: str | None = None,
    stacklevel: int = 2,
) -> None:
    """Warn that something is deprecated.

    Args:
        description: What it is.
        deprecation: The version that will deprecate it: the warning is then a
            ``CPendingDeprecationWarning``.
        removal: The version that removes it.
        alternative: A sentence on what to use instead.
        stacklevel: Frames between here and the line to blame.
    """
    from pgtasks.exceptions import CDeprecationWarning, CPendingDeprecationWarning

    category: type[Warning] = CDeprecationWarning
    fate = "is deprecated"
    if deprecation is not None:
        category = CPendingDeprecationWarning
        fate = f"is scheduled for deprecation in version {deprecation}"
    if removal is not None:
        fate += f" and for removal in version {removal}"
    text = f"{description} {fate}. {alternative or ''}".rstrip()
    warnings.warn(text, category, stacklevel=stacklevel)


def Callable(
    deprecation: str | None = None,
    removal: str | None = None,
    alternative: str | None = None,
    description: str | None = None,
) -> Function[[F], F]:
    """Decorate a function that warns when it is called; arguments as for `warn`."""

    def decorate(fun: F) -> F:
        @wraps(fun)
        def deprecated(*args: Any, **kwargs: Any) -> Any:
            from pgtasks.utils.imports import qualname

            warn(
                description=description or qualname(fun),
                deprecation=deprecation,
                removal=removal,
                alternative=alternative,
                stacklevel=3,
            )
            return fun(*args, **kwargs)

        return deprecated  # type: ignore[return-value]

    return decorate


def Property(
    deprecation: str | None = None,
    removal: str | None = None,
    alternative: str | None = None,
    description: str | None = None,
) -> Function[[Function[[Any], Any]], _deprecated_property]:
    """Decorate a property that warns when it is used; arguments as for `warn`."""

    def decorate(fun: Function[[Any], Any]) -> _deprecated_property:
        return _deprecated_property(
            fun,
            deprecation=deprecation,
            removal=removal,
            alternative=alternative,
            description=description or fun.__name__,
        )

    return decorate


class _deprecated_property(property):
    """A property that warns before it does its work."""

    def __init__(
        self, fget: Any = None, fset: Any = None, fdel: Any = None, **warning: Any
    ) -> None:
        super().__init__(fget, fset, fdel)
        self.warning = {"stacklevel": 3, **warning}

    def __get__(self, obj: Any, type: type | None = None) -> Any:
        if obj is None:
            return self
        warn(**self.warning)
        return super().__get__(obj, type)

    def __set__(self, obj: Any, value: Any) -> Any:
        if obj is None:
            return self
        if self.fset is not None:
            warn(**self.warning)
        return super().__set__(obj, value)

    def __delete__(self, obj: Any) -> Any:
        if obj is None:
            return self
        if self.fdel is not None:
            warn(**self.warning)
        return super().__delete__(obj)

    def setter(self, fset: Any) -> _deprecated_property:
        """The property with a function that sets it."""
        return type(self)(self.fget, fset, self.fdel, **self.warning)

    def deleter(self, fdel: Any) -> _deprecated_property:
        """The property with a function that deletes it."""
        return type(self)(self.fget, self.fset, fdel, **self.warning)
