"""Containers that forget: a set with an age limit, buffers with a size limit."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Iterator, MutableSet, Sequence
from heapq import heapify, heappop, heappush
from itertools import count
from operator import itemgetter
from queue import Empty
from time import monotonic
from typing import Any

__all__ = ["BufferMap", "Evictable", "LimitedSet", "Messagebuffer", "OrderedDict"]

_Entry = tuple[float, int, Any]


class LimitedSet:
    """A set that drops its oldest items when it grows too large or they too old.

    Ages are read from the monotonic clock, which has no meaning on another
    machine: to merge a set from elsewhere, pass its items and not the set.

    Args:
        maxlen: Most items to hold; 0 sets no bound.
        expires: Seconds after which an item is dropped; 0 keeps it.
        data: Items to begin with: an iterable, a dict of items and their times,
            or another such set.
        minlen: How many items to keep even if they are too old.
    """

    #: The heap is rebuilt when it is this many percent larger than the set.
    max_heap_percent_overload = 15

    def __init__(
        self,
        maxlen: int | None = 0,
        expires: float | None = 0,
        data: Any = None,
        minlen: int | None = 0,
    ) -> None:
        self.maxlen = maxlen or 0
        self.minlen = minlen or 0
        self.expires = expires or 0
        if not self.maxlen >= self.minlen >= 0:
            raise ValueError(
                f"minlen must lie between 0 and maxlen ({self.maxlen}), not be {minlen}"
            )
        if self.expires < 0:
            raise ValueError(f"expires must not be negative, but is {expires}")
        # Time, number and item. The number orders items of the same instant,
        # since items themselves need not be comparable.
        self._data: dict[Any, _Entry] = {}
        self._heap: list[_Entry] = []
        self._numbers = count()
        self.update(data)

    def add(self, item: Any, now: float | None = None) -> None:
        """Add an item, or begin its time anew."""
        # The entry of an item that was there stays in the heap until it
        # surfaces: removing from the middle of a heap is costly.
        self.discard(item)
        self._insert(item, monotonic() if now is None else float(now))
        if self.maxlen and len(self._data) >= self.maxlen:
            self.purge()

    def update(self, other: Any) -> None:
        """Add the items of an iterable now, or those of a set or dict at their times."""
        if not other:
            return
        if isinstance(other, LimitedSet):
            for inserted, _, item in sorted(other._data.values(), key=itemgetter(0, 1)):
                self._insert(item, inserted)
            self._rebuild()
            self.purge()
        elif isinstance(other, dict):
            for item, inserted in other.items():
                self.add(item, _time_of(item, inserted))
        else:
            for item in other:
                self.add(item)

    def discard(self, item: Any) -> None:
        """Remove an item if it is there."""
        self._data.pop(item, None)
        surplus = len(self._heap) - len(self._data)
        if surplus * 100 >= self.max_heap_percent_overload * max(len(self._data), 1):
            self._rebuild()

    pop_value = discard

    def pop(self, default: Any = None) -> Any:
        """Remove and return the oldest item, or ``default`` if there is none."""
        oldest = self._oldest()
        if oldest is None:
            return default
        heappop(self._heap)
        del self._data[oldest[2]]
        return oldest[2]

    def purge(self, now: float | Callable[[], float] | None = None) -> None:
        """Drop what is too much and what is too old."""
        if now is None:
            now = monotonic
        present = now() if callable(now) else now
        while self.maxlen and len(self._data) > self.maxlen:
            self.pop()
        while self.expires and len(self._data) > self.minlen:
            oldest = self._oldest()
            if oldest is None or oldest[0] + self.expires > present:
                break
            self.pop()

    def clear(self) -> None:
        """Drop everything."""
        self._data.clear()
        self._heap.clear()

    def as_dict(self) -> dict[Any, float]:
        """Items with their times, which `update` understands."""
        return {item: inserted for inserted, _, item in self._data.values()}

    def __contains__(self, key: object) -> bool:
        return key in self._data

    def __iter__(self) -> Iterator[Any]:
        return (item for _, _, item in sorted(self._data.values()))

    def __len__(self) -> int:
        return len(self._data)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LimitedSet):
            return NotImplemented
        return self.as_dict() == other.as_dict()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__}({len(self)}): maxlen={self.maxlen}, "
            f"expires={self.expires}, minlen={self.minlen}>"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.maxlen, self.expires, self.as_dict(), self.minlen)

    def _insert(self, item: Any, inserted: float) -> None:
        entry = self._data[item] = (inserted, next(self._numbers), item)
        heappush(self._heap, entry)

    def _oldest(self) -> _Entry | None:
        while self._heap:
            entry = self._heap[0]
            if self._data.get(entry[2]) is entry:
                return entry
            heappop(self._heap)
        return None

    def _rebuild(self) -> None:
        self._heap[:] = self._data.values()
        heapify(self._heap)


MutableSet.register(LimitedSet)


def _time_of(item: Any, inserted: Any) -> float:
    if isinstance(inserted, (tuple, list)):  # an entry of another set
        inserted = inserted[0]
    if not isinstance(inserted, float):
        raise ValueError(f"The time of {item!r} must be a float, not {inserted!r}")
    return inserted


class OrderedDict(collections.OrderedDict[Any, Any]):
    """A dict that can tell which key was touched longest ago."""

    def _LRUkey(self) -> Any:
        return next(iter(self))


class Evictable:
    """Drops what exceeds ``maxsize``; for classes that say what to drop.

    They define ``_evictcount`` and ``_pop_to_evict``.
    """

    Empty = Empty
    maxsize: int | None
    _evictcount: int
    _pop_to_evict: Callable[[], Any]

    def evict(self) -> None:
        """Drop until the size is right, however long it takes."""
        self._evict(None)

    def _evict(self, limit: int | None = 100) -> None:
        # A bound, for adding one item should not have to pay for thousands.
        for _ in count() if limit is None else range(limit):
            if self._evictcount <= (self.maxsize or 0):
                return
            try:
                self._pop_to_evict()
            except self.Empty:
                return


class Messagebuffer(Evictable):
    """A queue that drops its oldest items; ``maxsize`` None sets no bound."""

    def __init__(
        self,
        maxsize: int | None,
        iterable: Iterable[Any] | None = None,
        deque: Callable[[Iterable[Any]], Any] = collections.deque,
    ) -> None:
        self.maxsize = maxsize
        self.data = deque(iterable or [])

    def put(self, item: Any) -> None:
        """Append an item."""
        self.extend((item,))

    def extend(self, it: Iterable[Any]) -> None:
        """Append items."""
        self.data.extend(it)
        if self.maxsize:
            self._evict()

    def take(self, *default: Any) -> Any:
        """Remove and return the oldest item; without one, ``default`` or `Empty`."""
        try:
            return self.data.popleft()
        except IndexError:
            if default:
                return default[0]
            raise self.Empty from None

    _pop_to_evict = take

    @property
    def _evictcount(self) -> int:  # type: ignore[override]
        return len(self.data)

    def __iter__(self) -> Iterator[Any]:
        while self.data:
            yield self.data.popleft()

    def __len__(self) -> int:
        return len(self.data)

    def __contains__(self, item: object) -> bool:
        return item in self.data

    def __reversed__(self) -> Iterator[Any]:
        yield from reversed(self.data)

    def __getitem__(self, index: int) -> Any:
        return self.data[index]

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self)}/{self.maxsize}>"


Sequence.register(Messagebuffer)


class BufferMap(OrderedDict, Evictable):
    """A queue per key, bounded each and in sum; the key unused longest loses first.

    Args:
        maxsize: Most items in all queues together; None sets no bound.
        iterable: Pairs of a key and items to begin with.
        bufmaxsize: Most items in one queue.
    """

    Buffer = Messagebuffer

    def __init__(
        self, maxsize: int | None, iterable: Any = None, bufmaxsize: int | None = 1000
    ) -> None:
        super().__init__()
        self.maxsize = maxsize
        self.bufmaxsize = bufmaxsize
        for key, items in dict(iterable or {}).items():
            self._buffer(key).extend(items)
        self.total = sum(map(len, self.values()))
        if maxsize:
            self.evict()

    def put(self, key: Any, item: Any) -> None:
        """Append an item to the queue of ``key``, which thereby is the last to lose."""
        self._buffer(key)
        self.move_to_end(key)
        self.extend(key, (item,))

    def extend(self, key: Any, it: Iterable[Any]) -> None:
        """Append items to the queue of ``key``."""
        buffer = self._buffer(key)
        before = len(buffer)
        buffer.extend(it)
        self.total += len(buffer) - before
        if self.maxsize:
            self._evict()

    def take(self, key: Any, *default: Any) -> Any:
        """Take the oldest item of ``key``; without one, ``default`` or `Empty`."""
        try:
            item = self[key].take()
        except (KeyError, self.Empty):
            if default:
                return default[0]
            raise self.Empty from None
        self.total -= 1
        self.move_to_end(key)
        return item

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.total}/{self.maxsize}>"

    @property
    def _evictcount(self) -> int:  # type: ignore[override]
        return self.total

    def _pop_to_evict(self) -> None:
        while True:
            if not self:
                raise self.Empty
            key = self._LRUkey()
            if not self[key]:
                del self[key]
                continue
            self[key].take()
            self.total -= 1
            if self[key]:
                self.move_to_end(key)
            else:
                del self[key]
            return

    def _LRUpop(self, *default: Any) -> Any:
        return self[self._LRUkey()].take(*default)

    def _buffer(self, key: Any) -> Messagebuffer:
        if key not in self:
            self[key] = self.Buffer(maxsize=self.bufmaxsize)
        buffer: Messagebuffer = self[key]
        return buffer
