"""State of one thread each, and threads that run one function for ever."""

from __future__ import annotations

import os
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import get_ident
from types import GenericAlias
from typing import Any

from pgtasks.utils.proxy import Proxy

__all__ = [
    "Local",
    "LocalManager",
    "LocalStack",
    "bgThread",
    "default_socket_timeout",
    "get_ident",
    "release_local",
]


@contextmanager
def default_socket_timeout(timeout: float | None) -> Iterator[None]:
    """Give sockets that are made inside the block a timeout, in seconds."""
    previous = socket.getdefaulttimeout()
    socket.setdefaulttimeout(timeout)
    try:
        yield
    finally:
        socket.setdefaulttimeout(previous)


class bgThread(threading.Thread):
    """A thread that calls `body` again and again, until it is stopped.

    An exception there ends the whole process: a program that has lost one of its
    duties, and goes on as if nothing had happened, is worse than none.
    """

    def __init__(self, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name or type(self).__name__, daemon=True)
        self._asked_to_stop = threading.Event()
        self._has_stopped = threading.Event()

    def body(self) -> None:
        """What to do; to be overridden."""
        raise NotImplementedError(
            f"{type(self).__name__} has nothing to do: override its method body()."
        )

    def on_crash(self, msg: str, *fmt: Any, **kwargs: Any) -> None:
        """Tell of the exception that ends the process."""
        print(msg.format(*fmt), file=sys.stderr)
        traceback.print_exc(file=sys.stderr)

    def run(self) -> None:
        """Call `body` until stopped."""
        try:
            while not self._asked_to_stop.is_set():
                try:
                    self.body()
                except Exception as error:
                    self._crash(error)
        finally:
            self._set_stopped()

    def _crash(self, error: Exception) -> None:
        try:
            self.on_crash("{0!r} crashed: {1!r}", self.name, error)
            self._set_stopped()
        finally:
            sys.stderr.flush()
            # sys.exit() would only end this thread.
            os._exit(1)

    def _set_stopped(self) -> None:
        self._has_stopped.set()

    def stop(self) -> None:
        """Let the present call of `body` end, and the thread with it."""
        self._asked_to_stop.set()
        self._has_stopped.wait()
        if self.is_alive():
            self.join(threading.TIMEOUT_MAX)


def release_local(local: Any) -> None:
    """Forget what a `Local` or a `LocalStack` holds for this thread."""
    local.__release_local__()


class Local:
    """An object whose attributes each thread has for itself.

    Unlike ``threading.local`` it can be asked what all threads have, by iteration, and
    told what a thread is, by ``__ident_func__``.
    """

    __slots__ = ("__ident_func__", "__storage__")

    # Python would take the names for private ones of this class, but for their ends.
    __storage__: dict[Any, dict[str, Any]]
    __ident_func__: Callable[[], Any]

    def __init__(self) -> None:
        object.__setattr__(self, "__storage__", {})
        object.__setattr__(self, "__ident_func__", get_ident)

    def __iter__(self) -> Iterator[tuple[Any, dict[str, Any]]]:
        return iter(self.__storage__.items())

    def __call__(self, proxy: str) -> Proxy:
        """Make a proxy of the attribute of that name."""

        def lookup() -> Any:
            try:
                return getattr(self, proxy)
            except AttributeError:
                raise RuntimeError(f"no object bound to {proxy}") from None

        return Proxy(lookup)

    def __release_local__(self) -> None:
        self.__storage__.pop(self.__ident_func__(), None)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__storage__[self.__ident_func__()][name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self.__storage__.setdefault(self.__ident_func__(), {})[name] = value

    def __delattr__(self, name: str) -> None:
        try:
            del self.__storage__[self.__ident_func__()][name]
        except KeyError:
            raise AttributeError(name) from None


class _LocalStack:
    """A stack that each thread has for itself."""

    __class_getitem__: Any = classmethod(GenericAlias)

    def __init__(self) -> None:
        self._local = Local()

    def __release_local__(self) -> None:
        release_local(self._local)

    @property
    def __ident_func__(self) -> Callable[[], Any]:
        return self._local.__ident_func__

    @__ident_func__.setter
    def __ident_func__(self, function: Callable[[], Any]) -> None:
        object.__setattr__(self._local, "__ident_func__", function)

    def __call__(self) -> Proxy:
        """Make a proxy of what is on top."""

        def lookup() -> Any:
            top = self.top
            if top is None:
                raise RuntimeError("object unbound")
            return top

        return Proxy(lookup)

    def push(self, obj: Any) -> list[Any]:
        """Put an object on top, and answer the stack."""
        stack = self.stack
        if not stack:
            self._local.stack = stack
        stack.append(obj)
        return stack

    def pop(self) -> Any:
        """Take off what is on top; None if there is nothing."""
        stack = self.stack
        if not stack:
            return None
        obj = stack.pop()
        if not stack:
            # Threads come and go, and must not each leave something behind.
            release_local(self._local)
        return obj

    def __len__(self) -> int:
        return len(self.stack)

    @property
    def stack(self) -> list[Any]:
        """This thread's stack, the top last; an empty list if it has none."""
        stack: list[Any] = getattr(self._local, "stack", None) or []
        return stack

    @property
    def top(self) -> Any:
        """What is on top; None if there is nothing."""
        stack = self.stack
        return stack[-1] if stack else None


class _FastLocalStack(threading.local):
    """The same, on Python's own thread-local state."""

    __class_getitem__: Any = classmethod(GenericAlias)

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[Any] = []
        self.push = self.stack.append
        self.pop = self.stack.pop

    @property
    def top(self) -> Any:
        """What is on top; None if there is nothing."""
        return self.stack[-1] if self.stack else None

    def __len__(self) -> int:
        return len(self.stack)


LocalStack: Any = _FastLocalStack if os.environ.get("USE_FAST_LOCALS") else _LocalStack


class LocalManager:
    """Forgets what several locals hold for a thread, at the end of what it has done.

    Args:
        locals: A `Local`, or several objects of its kind.
        ident_func: Tells them what a thread is.
    """

    def __init__(
        self, locals: Any = None, ident_func: Callable[[], Any] | None = None
    ) -> None:
        if locals is None:
            locals = ()
        self.locals = [locals] if isinstance(locals, Local) else list(locals)
        self.ident_func = ident_func or get_ident
        if ident_func is not None:
            for local in self.locals:
                object.__setattr__(local, "__ident_func__", ident_func)

    def get_ident(self) -> Any:
        """What tells this thread from others."""
        return self.ident_func()

    def cleanup(self) -> None:
        """Forget what the locals hold for this thread."""
        for local in self.locals:
            release_local(local)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} storages: {len(self.locals)}>"
