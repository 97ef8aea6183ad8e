"""Functions on functions, iterables and lazy values."""

from __future__ import annotations

import operator
import sys
from collections import UserList
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import islice, tee, zip_longest
from typing import Any, TypeVar

from pgtasks.utils.signatures import (
    arity_greater,
    fun_accepts_kwargs,
    fun_takes_argument,
    head_from_fun,
)

__all__ = [
    "DummyContext",
    "arity_greater",
    "chunks",
    "dictfilter",
    "evaluate_promises",
    "first",
    "firstmethod",
    "fun_accepts_kwargs",
    "fun_takes_argument",
    "head_from_fun",
    "is_list",
    "is_numeric_value",
    "lazy",
    "lookahead",
    "mattrgetter",
    "maybe",
    "maybe_evaluate",
    "maybe_list",
    "mlazy",
    "noop",
    "padlist",
    "pass1",
    "regen",
    "seq_concat_item",
    "seq_concat_seq",
    "uniq",
]

T = TypeVar("T")
R = TypeVar("R")


def __getattr__(name: str) -> Any:
    # Kombu's, under the names that Celery documents; loaded for those who ask.
    if name in ("LRUCache", "memoize"):
        from kombu.utils import functional

        return getattr(functional, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# ── lazy values ─────────────────────────────────────────────────────────────


class lazy:
    """A value to be computed on use: ``lazy(fun, *args, **kwargs)()``.

    It is computed anew every time; `mlazy` remembers.
    """

    def __init__(self, fun: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self._fun = fun
        self._args = args
        self._kwargs = kwargs

    def evaluate(self) -> Any:
        """Compute the value."""
        return self._fun(*self._args, **self._kwargs)

    def __call__(self) -> Any:
        """Compute the value."""
        return self.evaluate()

    def __str__(self) -> str:
        return str(self())

    def __repr__(self) -> str:
        return repr(self())

    def __eq__(self, other: object) -> bool:
        return bool(self() == other)

    __hash__ = None  # type: ignore[assignment]


class mlazy(lazy):
    """A lazy value that is computed once."""

    #: True after the value has been computed.
    evaluated = False
    _value: Any = None

    def evaluate(self) -> Any:
        """Compute the value, or recall it."""
        if not self.evaluated:
            self._value = super().evaluate()
            self.evaluated = True
        return self._value


def maybe_evaluate(value: Any) -> Any:
    """The value of a `lazy` (ours or kombu's); anything else is handed back."""
    if isinstance(value, lazy) or _is_a(value, "kombu.utils.functional", "lazy"):
        return value.evaluate()
    return value


def evaluate_promises(it: Iterable[Any]) -> Iterator[Any]:
    """The items of ``it``, with vine's promises fulfilled."""
    for value in it:
        yield value() if _is_a(value, "vine.promises", "promise") else value


def _is_a(value: object, module: str, name: str) -> bool:
    # Whoever has such an object has imported its module.
    cls = getattr(sys.modules.get(module), name, None)
    return cls is not None and isinstance(value, cls)


# ── small things ────────────────────────────────────────────────────────────


class DummyContext:
    """A context manager that does nothing."""

    def __enter__(self) -> DummyContext:
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass


def noop(*args: Any, **kwargs: Any) -> None:
    """Do nothing, with any arguments."""


def pass1(arg: T, *args: Any, **kwargs: Any) -> T:
    """The first argument."""
    return arg


def maybe(typ: Callable[[T], R], val: T | None) -> R | None:
    """``typ(val)``, but None stays None."""
    return None if val is None else typ(val)


def is_numeric_value(value: object) -> bool:
    """True for an int or float; a bool is no number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def mattrgetter(*attrs: str) -> Callable[[Any], dict[str, Any]]:
    """A function that reads these attributes into a dict; a missing one is None."""
    return lambda obj: {attr: getattr(obj, attr, None) for attr in attrs}


def dictfilter(d: Mapping[str, Any] | None = None, /, **kw: Any) -> dict[str, Any]:
    """A dict without the keys whose value is None."""
    given = {**(d or {}), **kw}
    return {key: value for key, value in given.items() if value is not None}


# ── sequences ───────────────────────────────────────────────────────────────


def is_list(
    obj: object,
    scalars: tuple[type, ...] = (Mapping, str),
    iters: tuple[type, ...] = (Iterable,),
) -> bool:
    """True for an iterable that is neither a text nor a mapping."""
    return isinstance(obj, iters) and not isinstance(obj, scalars or ())


def maybe_list(obj: Any, scalars: tuple[type, ...] = (Mapping, str)) -> Any:
    """Wrap a single value in a list; None and iterables are handed back."""
    return obj if obj is None or is_list(obj, scalars) else [obj]


def first(predicate: Callable[[Any], Any] | None, it: Iterable[Any]) -> Any:
    """The first item that ``predicate`` accepts (by default: that is not None), or None."""
    accepts = predicate or (lambda value: value is not None)
    return next((value for value in evaluate_promises(it) if accepts(value)), None)


def firstmethod(
    method: str, on_call: Callable[..., Any] | None = None
) -> Callable[..., Any]:
    """A function that asks objects in turn until one's ``method`` has an answer.

    Objects without the method are passed over and lazy ones evaluated. With
    ``on_call``, that is called with the method and the arguments instead.
    """

    def ask(it: Iterable[Any], *args: Any, **kwargs: Any) -> Any:
        for obj in it:
            answer_of = getattr(maybe_evaluate(obj), method, None)
            if answer_of is None:
                continue
            call = partial(on_call, answer_of) if on_call else answer_of
            answer = call(*args, **kwargs)
            if answer is not None:
                return answer
        return None

    return ask


def uniq(it: Iterable[T]) -> Iterator[T]:
    """The items without repetitions, in order of appearance."""
    return iter(dict.fromkeys(it))


def chunks(it: Iterator[T], n: int) -> Iterator[list[T]]:
    """Cut an iterator into lists of ``n`` items; the last may be shorter."""
    it = iter(it)
    while chunk := list(islice(it, n)):
        yield chunk


def padlist(container: Iterable[Any], size: int, default: Any = None) -> list[Any]:
    """Exactly ``size`` items, filled up with ``default``."""
    items = list(container)[:size]
    return items + [default] * (size - len(items))


def lookahead(it: Iterable[T]) -> Iterator[tuple[T, T | None]]:
    """Each item with the one after it, None after the last."""
    items, following = tee(it)
    next(following, None)
    return zip_longest(items, following)


def seq_concat_item(seq: Any, item: Any) -> Any:
    """A copy of a list or tuple with one item more."""
    return (*seq, item) if isinstance(seq, tuple) else [*seq, item]


def seq_concat_seq(a: Any, b: Any) -> Any:
    """Two sequences as one, of the longer one's type."""
    kind = type(max(a, b, key=len))
    return kind([*a, *b])


def regen(it: Any) -> Any:
    """An iterable that can be iterated again: items are kept as they are drawn.

    Lists and tuples are handed back as they are.
    """
    return it if isinstance(it, (list, tuple)) else _regen(it)


# The list among the bases is for encoders that ask isinstance(…, list); its own
# storage stays empty.
class _regen(UserList, list):  # type: ignore[misc,type-arg]
    def __init__(self, it: Iterable[Any]) -> None:
        self.__it = it
        self.__source: Iterator[Any] | None = None
        self.__consumed: list[Any] = []
        self.__done = False

    def __take(self) -> None:
        """Draw one more item, or find out that there is none."""
        try:
            if self.__source is None:
                self.__source = iter(self.__it)
            self.__consumed.append(next(self.__source))
        except StopIteration:
            self.__done = True
        except BaseException:
            # The iterable may be willing to start over (#6794).
            self.__source = None
            raise

    def __iter__(self) -> Iterator[Any]:
        index, drawing = 0, False
        while True:
            if index >= len(self.__consumed) and not self.__done:
                self.__take()
                drawing = True
            # Asked again, for whoever holds the iterable may have drawn from
            # it as well, down to its own __iter__.
            if index >= len(self.__consumed):
                return
            failure: BaseException | None = None
            if drawing and index + 1 == len(self.__consumed) and not self.__done:
                # One item ahead: who receives the last one can tell. An item
                # that was drawn is handed out even if the next one fails.
                try:
                    self.__take()
                except BaseException as error:
                    failure = error
            yield self.__consumed[index]
            if failure is not None:
                raise failure
            index += 1

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.data[index]
        index = operator.index(index)
        if index < 0:
            return self.data[index]
        if index >= len(self.__consumed):
            while index + 1 >= len(self.__consumed) and not self.__done:
                self.__take()
        return self.__consumed[index]

    def __bool__(self) -> bool:
        if not self.__consumed and not self.__done:
            self.__take()
        return bool(self.__consumed)

    def __length_hint__(self) -> int:
        return operator.length_hint(self.__it)

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (self.data,)

    def __repr__(self) -> str:
        items = ", ".join(map(repr, self.__consumed))
        return f"<{type(self).__name__}: [{items}{'' if self.__done else '...'}]>"

    def map(self, func: Callable[[Any], Any]) -> None:
        """Apply ``func`` to all items, to those not yet drawn when they are."""
        self.__consumed = [func(item) for item in self.__consumed]
        self.__it = map(func, self.__it if self.__source is None else self.__source)
        self.__source = None

    @property
    def data(self) -> list[Any]:  # type: ignore[override]
        """All items, in a list."""
        while not self.__done:
            self.__take()
        return self.__consumed
