"""A logical clock that runs with the time of day."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

__all__ = ["Clock"]


class Clock:
    """Lamport's clock, which goes on by itself: microseconds since the epoch, at least.

    Celery's workers tell each other their counts when they start, so that a new one does
    not begin at 1 beside others at a million. Ours do not talk to each other; they all go by
    the time, and what happened later has the larger number, give or take what their
    machines' clocks differ by. What one process counts, and what it has heard of, stays in
    order whatever its machine's clock does.

    Args:
        initial_value: Where it begins.
        Lock: Makes its lock.
    """

    #: The last number, of an event here or of one that was heard of.
    value = 0

    def __init__(self, initial_value: int = 0, Lock: Any = threading.Lock) -> None:
        self.value = initial_value
        self.mutex = Lock()

    def forward(self) -> int:
        """The number of the next event."""
        return self.take(1)

    def take(self, count: int) -> int:
        """Numbers for ``count`` events in a row; the answer is the first of them."""
        with self.mutex:
            first = max(self.value + 1, int(time.time() * 1e6))
            self.value = first + count - 1
        return first

    def adjust(self, other: int) -> int:
        """An event with this number was heard of: what comes now is later."""
        with self.mutex:
            self.value = max(self.value, other) + 1
            return self.value

    def sort_heap(self, h: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
        """The first of some events: tuples that begin with a clock and end with a node."""
        first = h[0][0]
        return min((each for each in h if each[0] == first), key=lambda each: each[3])

    def __str__(self) -> str:
        return str(self.value)

    def __repr__(self) -> str:
        return f"<Clock: {self.value}>"
