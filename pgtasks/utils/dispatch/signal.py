"""Signals: something happened, and whoever cares is told."""

from __future__ import annotations

import logging
import threading
import time
import warnings
import weakref
from functools import wraps
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, TypeVar, overload

from pgtasks.exceptions import CDeprecationWarning
from pgtasks.utils.proxy import PromiseProxy, Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

__all__ = ["Signal"]

Receiver = TypeVar("Receiver", bound="Callable[..., Any]")

logger = logging.getLogger("celery.utils.dispatch.signal")


class Signal:
    """Something that happens, to which functions can be connected.

    Args:
        providing_args: Names of the arguments that receivers get; for the reader.
        use_caching: Accepted as in Celery; there is no cache to switch on, and
            ``sender_receivers_cache`` is always empty.
        name: What the signal is called in its repr.

    Attributes:
        receivers: The connections. Empty means that nobody listens: where every
            microsecond counts, ``if signal.receivers:`` spares the call to `send`
            and the making of its arguments.
    """

    def __init__(
        self,
        providing_args: Iterable[str] | None = None,
        use_caching: bool = False,
        name: str | None = None,
    ) -> None:
        self.receivers: list[tuple[tuple[Hashable, Hashable], Any]] = []
        self.providing_args = set(providing_args or ())
        self.use_caching = use_caching
        self.name = name
        self.lock = threading.Lock()
        self.sender_receivers_cache: dict[Any, Any] = {}
        self._some_have_died = False

    @overload
    def connect(
        self,
        receiver: Receiver,
        /,
        sender: Any = None,
        weak: bool = True,
        dispatch_uid: Hashable = None,
        retry: bool = False,
    ) -> Receiver: ...

    @overload
    def connect(
        self,
        receiver: None = None,
        /,
        *,
        sender: Any = None,
        weak: bool = True,
        dispatch_uid: Hashable = None,
        retry: bool = False,
    ) -> Callable[[Receiver], Receiver]: ...

    def connect(self, *args: Any, **kwargs: Any) -> Any:
        """Call a function whenever the signal is sent.

        To be used as a method or as a decorator, with and without arguments. Connecting
        the same function again does nothing.

        Args:
            *args: The receiver, any callable that takes keyword arguments; and the options
                below in this order.
            **kwargs: The options below.

        Options:
            sender: Only hear what this object sends; None hears everything.
            weak: Hold the receiver by a weak reference: it is disconnected when it goes
                out of scope. A lambda or an inner function needs ``weak=False``.
            dispatch_uid: What makes this connection the same as an earlier one, in place
                of the function's identity.
            retry: Call the receiver again until it raises no exception, waiting 2 to 30
                seconds between. The receiver is then held for good.
        """
        if args and callable(args[0]):
            return self._connect(args[0], *args[1:], **kwargs)
        if args and args[0] is None:
            args = args[1:]

        def connect(receiver: Receiver) -> Receiver:
            return self._connect(receiver, *args, **kwargs)

        return connect

    def _connect(
        self,
        receiver: Receiver,
        sender: Any = None,
        weak: bool = True,
        dispatch_uid: Hashable = None,
        retry: bool = False,
    ) -> Receiver:
        if not _accepts_keywords(receiver):
            raise ValueError(
                f"Signal receiver must accept keyword arguments: add **kwargs to "
                f"{receiver!r}, since later versions may send more."
            )
        if isinstance(sender, PromiseProxy) and not sender.__evaluated__():
            # A task that does not exist yet: connecting must not be what makes it.
            sender.__then__(
                self._connect_promised, receiver, sender, weak, dispatch_uid, retry
            )
            return receiver
        target: Any = receiver
        if retry:
            # Looked up by what the caller knows, which is not the wrapper.
            dispatch_uid = dispatch_uid or _identify(receiver)
            target, weak = _retried(receiver), False
        self._add(_key(receiver, sender, dispatch_uid), target, weak)
        return receiver

    def _connect_promised(
        self,
        receiver: Callable[..., Any],
        sender: Any,
        weak: bool,
        dispatch_uid: Hashable,
        retry: bool,
    ) -> None:
        self._connect(receiver, sender._get_current_object(), weak, dispatch_uid, retry)

    def _add(self, key: tuple[Hashable, Hashable], receiver: Any, weak: bool) -> None:
        reference = receiver
        if weak:
            owner = receiver
            if hasattr(receiver, "__self__") and hasattr(receiver, "__func__"):
                # A bound method dies with the expression that made it; its instance lives.
                reference, owner = weakref.WeakMethod(receiver), receiver.__self__
            else:
                reference = weakref.ref(receiver)
            weakref.finalize(owner, self._note_death).atexit = False
        with self.lock:
            self._bury()
            if all(known != key for known, _ in self.receivers):
                self.receivers.append((key, reference))

    def disconnect(
        self,
        receiver: Callable[..., Any] | None = None,
        sender: Any = None,
        weak: bool | None = None,
        dispatch_uid: Hashable = None,
    ) -> bool:
        """Undo a connection.

        Args:
            receiver: The function; not needed with ``dispatch_uid``.
            sender: What was given to `connect`.
            weak: Without effect, as in Celery.
            dispatch_uid: What was given to `connect`.

        Returns:
            Whether there was such a connection.
        """
        if weak is not None:
            warnings.warn(
                "Passing `weak` to disconnect has no effect.",
                CDeprecationWarning,
                stacklevel=2,
            )
        key = _key(receiver, sender, dispatch_uid)
        with self.lock:
            self._bury()
            for index, (known, _) in enumerate(self.receivers):
                if known == key:
                    del self.receivers[index]
                    return True
        return False

    def has_listeners(self, sender: Any = None) -> bool:
        """Whether anybody would hear ``sender``."""
        return bool(self._hearing(sender))

    def send(self, sender: Any, **named: Any) -> list[tuple[Any, Any]]:
        """Call every receiver that listens to ``sender``.

        A receiver that raises is logged and does not keep the others from hearing.

        Returns:
            Each receiver with what it returned, or with the exception that it raised.
        """
        if not self.receivers:
            return []
        responses = []
        for receiver in self._hearing(sender):
            try:
                response = receiver(signal=self, sender=sender, **named)
            except Exception as error:
                logger.exception("Signal handler %r raised: %r", receiver, error)
                response = error
            responses.append((receiver, response))
        return responses

    #: Django's name for what `send` does anyway.
    send_robust = send

    def _hearing(self, sender: Any) -> list[Any]:
        wanted = (_NOBODY, _identify(sender))
        with self.lock:
            self._bury()
            references = [ref for (_, heard), ref in self.receivers if heard in wanted]
        hearing = []
        for reference in references:
            receiver = reference
            if isinstance(reference, weakref.ReferenceType):
                receiver = reference()
            if receiver is not None:
                hearing.append(receiver)
        return hearing

    def _note_death(self) -> None:
        # Called by the garbage collector, perhaps while this thread holds the lock.
        self._some_have_died = True

    def _bury(self) -> None:
        # With the lock held. The list keeps its identity: others may look at it.
        if self._some_have_died:
            self._some_have_died = False
            self.receivers[:] = [
                (key, reference)
                for key, reference in self.receivers
                if not isinstance(reference, weakref.ReferenceType)
                or reference() is not None
            ]

    def __reduce__(self) -> Any:
        # Connections belong to the process that made them.
        return type(self), (sorted(self.providing_args), self.use_caching, self.name)

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"<{name}: {self.name} providing_args={self.providing_args!r}>"


def _identify(target: Any) -> Hashable:
    if isinstance(target, Proxy):
        target = target._get_current_object()
    if isinstance(target, (bytes, str)):
        # Two equal names are the same sender, whatever objects they are.
        return target
    function = getattr(target, "__func__", None)
    if function is not None:
        # The methods of two instances share their function.
        return (id(getattr(target, "__self__", None)), id(function))
    return id(target)


_NOBODY = _identify(None)


def _key(receiver: Any, sender: Any, dispatch_uid: Hashable) -> tuple[Hashable, Hashable]:
    return (dispatch_uid or _identify(receiver), _identify(sender))


def _accepts_keywords(receiver: Any) -> bool:
    # Late: inspect, which it needs, is a third of the cost of importing our top.
    from pgtasks.utils.functional import fun_accepts_kwargs

    try:
        return fun_accepts_kwargs(receiver)
    except (TypeError, ValueError):
        # Some builtins have no signature; they are given the benefit of the doubt.
        return True


def _retried(receiver: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(receiver)
    def persistent(*args: Any, **kwargs: Any) -> Any:
        for delay in chain(range(2, 30, 2), repeat(30)):
            try:
                return receiver(*args, **kwargs)
            except Exception:
                logger.exception(
                    "Could not process signal receiver %r. Retrying in %d seconds...",
                    receiver,
                    delay,
                )
            time.sleep(delay)
        return None

    return persistent
