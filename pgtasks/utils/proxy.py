"""Objects that stand for other objects: looked up on each use, or made on the first.

Our own rather than wrapt's ``ObjectProxy``: that one cannot be pickled, hides the
signature, costs 42 ms to import, and is slower at what proxies here are for, reading an
attribute of a task.
"""

from __future__ import annotations

import operator
from collections import deque
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

T = TypeVar("T")

__all__ = ["PromiseProxy", "Proxy", "maybe_evaluate", "try_import"]


def try_import(module: str, default: Any = None) -> Any:
    """Import ``module``, or answer ``default`` if that fails."""
    try:
        return import_module(module)
    except ImportError:
        return default


def maybe_evaluate(obj: Any) -> Any:
    """Answer the object behind a promise, making it if need be; anything else as it is."""
    # Asked of the class: an AttributeError raised while the object is made must not look
    # like the absence of the method.
    if hasattr(type(obj), "__maybe_evaluate__"):
        return obj.__maybe_evaluate__()
    return obj


class _ClassText(str):
    """Text when read from the class, forwarded when read from a proxy.

    Python wants ``__module__`` and ``__doc__`` of a class to be strings, and readers of
    a proxy want those of the object behind it.
    """

    attribute: str

    def __new__(cls, attribute: str, text: str | None) -> _ClassText:
        self = super().__new__(cls, text or "")
        self.attribute = attribute
        return self

    def __get__(self, proxy: Any, cls: type | None = None) -> Any:
        if proxy is None:
            return self
        return getattr(proxy._get_current_object(), self.attribute)

    def __reduce__(self) -> Any:
        # Pickling a class writes its __module__.
        return str, (str.__str__(self),)


def _forward(function: Callable[..., Any]) -> Any:
    def method(self: Proxy, *args: Any) -> Any:
        return function(self._get_current_object(), *args)

    return method


_UNSET: Any = object()


class Proxy:
    """Stands for whatever ``local(*args, **kwargs)`` answers at each use.

    Args:
        local: Answers the object.
        args: Positional arguments for it.
        kwargs: Keyword arguments for it.
        name: What ``__name__`` shows, if not the object's own.
        __doc__: What ``__doc__`` shows, if not the object's own.
    """

    __slots__ = (
        "_Proxy_args",
        "_Proxy_doc",
        "_Proxy_kwargs",
        "_Proxy_local",
        "_Proxy_name",
    )

    def __init__(
        self,
        local: Callable[..., Any],
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        __doc__: str | None = None,
    ) -> None:
        put = object.__setattr__
        put(self, "_Proxy_local", local)
        put(self, "_Proxy_args", tuple(args or ()))
        put(self, "_Proxy_kwargs", dict(kwargs or {}))
        put(self, "_Proxy_name", name)
        put(self, "_Proxy_doc", __doc__)

    def _get_current_object(self) -> Any:
        """Answer the object itself, to keep it or to hand it to another thread."""
        return self._Proxy_local(*self._Proxy_args, **self._Proxy_kwargs)

    # Reached only for names that the proxy itself lacks; __name__ and __qualname__ are
    # among them, since those of a class are not found through its instances.
    def __getattr__(self, name: str) -> Any:
        if self._Proxy_name is not None and name in ("__name__", "__qualname__"):
            return self._Proxy_name
        if name == "__members__":
            return dir(self)
        return getattr(self._get_current_object(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._get_current_object(), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._get_current_object(), name)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        # What makes isinstance(proxy, Task) true.
        return self._get_current_object().__class__

    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        try:
            return self._get_current_object().__dict__
        except RuntimeError:
            raise AttributeError("__dict__") from None

    # A lookup that has nothing to answer raises RuntimeError; being shown in a debugger
    # or tested for truth must not.
    def __repr__(self) -> str:
        try:
            return repr(self._get_current_object())
        except RuntimeError:
            return f"<{type(self).__name__} unbound>"

    def __bool__(self) -> bool:
        try:
            return bool(self._get_current_object())
        except RuntimeError:
            return False

    def __dir__(self) -> list[str]:
        try:
            return dir(self._get_current_object())
        except RuntimeError:
            return []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the object."""
        return self._get_current_object()(*args, **kwargs)

    def __reduce__(self) -> Any:
        # A proxy is pickled as what it stands for.
        return self._get_current_object().__reduce__()

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self._get_current_object().__reduce_ex__(protocol)

    def __enter__(self) -> Any:
        return self._get_current_object().__enter__()

    def __exit__(self, *exc_info: Any) -> Any:
        return self._get_current_object().__exit__(*exc_info)

    __str__ = _forward(str)
    __hash__ = _forward(hash)
    __len__ = _forward(len)
    __iter__ = _forward(iter)
    __contains__ = _forward(operator.contains)
    __getitem__ = _forward(operator.getitem)
    __setitem__ = _forward(operator.setitem)
    __delitem__ = _forward(operator.delitem)

    __lt__ = _forward(operator.lt)
    __le__ = _forward(operator.le)
    __eq__ = _forward(operator.eq)
    __ne__ = _forward(operator.ne)
    __gt__ = _forward(operator.gt)
    __ge__ = _forward(operator.ge)

    __add__ = _forward(operator.add)
    __sub__ = _forward(operator.sub)
    __mul__ = _forward(operator.mul)
    __matmul__ = _forward(operator.matmul)
    __truediv__ = _forward(operator.truediv)
    __floordiv__ = _forward(operator.floordiv)
    __mod__ = _forward(operator.mod)
    __divmod__ = _forward(divmod)
    __pow__ = _forward(pow)
    __lshift__ = _forward(operator.lshift)
    __rshift__ = _forward(operator.rshift)
    __and__ = _forward(operator.and_)
    __xor__ = _forward(operator.xor)
    __or__ = _forward(operator.or_)

    __neg__ = _forward(operator.neg)
    __pos__ = _forward(operator.pos)
    __abs__ = _forward(abs)
    __invert__ = _forward(operator.invert)
    __complex__ = _forward(complex)
    __int__ = _forward(int)
    __float__ = _forward(float)
    __index__ = _forward(operator.index)


class PromiseProxy(Proxy):
    """Stands for one object that is made on the first use, and then kept.

    ``@app.task`` answers one: the task is made when it is used, or when the application
    is finalized, so that settings may be given after the tasks are defined.
    """

    __slots__ = ("_Proxy_thing", "__pending__", "__weakref__")

    def __init__(
        self,
        local: Callable[..., Any],
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        __doc__: str | None = None,
    ) -> None:
        super().__init__(local, args, kwargs, name, __doc__)
        object.__setattr__(self, "_Proxy_thing", _UNSET)

    def _get_current_object(self) -> Any:
        thing = self._Proxy_thing
        return self.__evaluate__() if thing is _UNSET else thing

    def __getattr__(self, name: str) -> Any:
        # Proxy's, without its detours: the way to delay() leads through here.
        thing = self._Proxy_thing
        if thing is _UNSET or self._Proxy_name is not None:
            return super().__getattr__(name)
        return getattr(thing, name)

    def __evaluated__(self) -> bool:
        """Whether the object exists."""
        return self._Proxy_thing is not _UNSET

    def __maybe_evaluate__(self) -> Any:
        """Answer the object, made if need be."""
        return self._get_current_object()

    def __then__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call ``function`` once the object exists: now, or when it is made."""
        if self.__evaluated__():
            return function(*args, **kwargs)
        try:
            pending = object.__getattribute__(self, "__pending__")
        except AttributeError:
            pending = deque()
            object.__setattr__(self, "__pending__", pending)
        pending.append((function, args, kwargs))
        return None

    def __evaluate__(self) -> Any:
        """Make the object, then call what waited for it."""
        thing = super()._get_current_object()
        put = object.__setattr__
        put(self, "_Proxy_thing", thing)
        # The recipe is not needed again, and may hold much alive. It goes before its
        # arguments: another thread may be about to follow it.
        put(self, "_Proxy_local", lambda *args, **kwargs: thing)
        put(self, "_Proxy_args", ())
        put(self, "_Proxy_kwargs", {})
        try:
            pending = object.__getattribute__(self, "__pending__")
        except AttributeError:
            return thing
        try:
            while pending:
                function, args, kwargs = pending.popleft()
                function(*args, **kwargs)
        finally:
            object.__delattr__(self, "__pending__")
        return thing


class _Doc(_ClassText):
    """``_ClassText`` that prefers the text given to the proxy."""

    def __get__(self, proxy: Any, cls: type | None = None) -> Any:
        if proxy is not None and proxy._Proxy_doc is not None:
            return proxy._Proxy_doc
        return super().__get__(proxy, cls)


for _class in (Proxy, PromiseProxy):
    type.__setattr__(_class, "__module__", _ClassText("__module__", __name__))
    type.__setattr__(_class, "__doc__", _Doc("__doc__", _class.__doc__))
del _class
