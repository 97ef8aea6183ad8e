"""``repr`` for logs: bounded in length and depth, and never an exception.

A task's arguments are written into every log line and event, and nobody knows
how large they are. What does not fit is not even looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from numbers import Number
from typing import Any

from pgtasks.utils.text import safe_repr, truncate

__all__ = ["saferepr"]

_VALUE, _KEY, _SEPARATOR, _NOTHING = range(4)
_Pieces = Iterator[tuple[int, Any]]
_END: tuple[int, Any] = (_NOTHING, None)


def saferepr(
    o: Any, maxlen: int | None = None, maxlevels: int = 3, seen: Iterable[int] = ()
) -> str:
    """``repr(o)``, cut off after about ``maxlen`` characters with its brackets closed.

    Args:
        o: Anything.
        maxlen: Length after which values are replaced by ``...``; None sets no
            bound and can be slow.
        maxlevels: Depth from which on containers are shown as ``[...]``; 0
            sets no bound.
        seen: Ids of containers not to show again.
    """
    return _Page(maxlen, maxlevels, set(seen or ())).write(o)


class _Full(Exception):
    """Something is left to show, and no room for it."""


class _Page:
    """What has been written, and how much room there is."""

    def __init__(self, room: int | None, maxlevels: int, seen: set[int]) -> None:
        self.room = room
        self.maxlevels = maxlevels
        self.seen = seen
        self.words: list[str] = []
        # The containers around the present place: what is left of each, its
        # closing bracket, its id. Not Python's stack, which would overflow.
        self.open: list[tuple[_Pieces, str, int]] = []

    def write(self, o: Any) -> str:
        try:
            self.value(o)
            while self.open:
                self.step()
        except _Full:
            self.words.append(", ...")
            self.words += [closing for _, closing, _ in reversed(self.open)]
        return "".join(self.words)

    def step(self) -> None:
        pieces, closing, id_ = self.open[-1]
        kind, piece = next(pieces, _END)
        if kind == _NOTHING:
            # A closing bracket always fits: nothing is left out before it.
            self.open.pop()
            self.seen.discard(id_)
            self.put(closing, always=True)
        elif kind == _VALUE:
            self.value(piece)
        elif kind == _SEPARATOR:
            self.put(piece)
        else:
            self.check_room()
            self.put(saferepr(piece, self.room, self.maxlevels))

    def value(self, value: Any) -> None:
        brackets = _brackets(value)
        if brackets is None:
            self.check_room()
            self.put(self.scalar(value))
            return
        opening, closing = brackets
        if self.maxlevels and len(self.open) >= self.maxlevels:
            self.put(f"{opening}...{closing}")
        elif id(value) in self.seen:
            self.put(f"<Recursion on {type(value).__name__} with id={id(value)}>")
        else:
            self.put(opening)
            self.open.append((_pieces(value), closing, id(value)))
            self.seen.add(id(value))

    def scalar(self, value: Any) -> str:
        if isinstance(value, str):
            return "'{}'".format(truncate(value, self.room or 0).replace("'", "\\'"))
        if isinstance(value, bytes):
            return f"b'{_bytes(value, self.room)}'"
        if isinstance(value, (set, frozenset)):
            return f"{type(value).__name__}()"
        number = isinstance(value, Number) and not isinstance(value, Decimal)
        return truncate(str(value) if number else safe_repr(value), self.room or 0)

    def put(self, text: str, always: bool = False) -> None:
        if not always:
            self.check_room()
        self.words.append(text)
        if self.room is not None:
            self.room -= len(text)

    def check_room(self) -> None:
        if self.room is not None and self.room <= 0:
            raise _Full


def _brackets(value: Any) -> tuple[str, str] | None:
    """The brackets of a container; None for everything shown as a word."""
    if isinstance(value, dict):
        return "{", "}"
    if isinstance(value, list):
        return "[", "]"
    if isinstance(value, tuple):
        return "(", ",)" if len(value) == 1 else ")"
    if isinstance(value, (set, frozenset)) and value:
        return ("{", "}") if type(value) is set else (f"{type(value).__name__}({{", "})")
    return None


def _pieces(value: Any) -> _Pieces:
    pairs = isinstance(value, dict)
    for index, item in enumerate(value.items() if pairs else value):
        if index:
            yield _SEPARATOR, ", "
        if pairs:
            yield _KEY, item[0]
            yield _SEPARATOR, ": "
        yield _VALUE, item[1] if pairs else item


def _bytes(value: bytes, room: int | None) -> str:
    # Sliced first: a payload of megabytes is not worth decoding.
    cut = bool(room) and len(value) > (room or 0)
    shown = value[:room] if cut else value
    try:
        text = shown.decode()
    except UnicodeDecodeError:
        text = shown.hex()
    return f"{text}..." if cut else text
