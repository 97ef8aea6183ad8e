"""A task's limits for the whole fleet: ``concurrency=3, concurrency_key="account_id"``."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from numbers import Integral, Real
from typing import Any

from pgtasks.storage.limits import Limit, gate_name
from pgtasks.utils.signatures import argument

__all__ = ["TaskLimits", "as_concurrency", "as_rate"]

_RATE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:/\s*([smh])\s*)?")
_SECONDS = {"s": 1, "m": 60, "h": 3600}

LONGEST_KEY = 200
"""Characters of a key that are kept as they are; of a longer one its digest is."""

Key = str | Callable[[Sequence[Any], Mapping[str, Any]], Any] | None


def as_concurrency(value: Any, of: str) -> int | None:
    """How many at a time.

    Raises:
        TypeError: It is no whole number.
        ValueError: It is less than 0.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(
            f"concurrency={value!r} of {of}: give a whole number, how many may run at a "
            f"time, or None for no limit."
        )
    count = int(value)
    if not 0 <= count < 2**31:
        raise ValueError(
            f"concurrency={value!r} of {of}: it must be 0 or more, and less than 2**31."
        )
    return count


def as_rate(value: Any, of: str) -> tuple[int | None, float | None]:
    """How many within how many seconds: ``"100/m"`` is ``(100, 60.0)``.

    ``"0.5/s"`` is one within two seconds. A number is per second.

    Raises:
        TypeError: It is neither text nor a number.
        ValueError: It cannot be read, or is nothing.
    """
    if value is None:
        return None, None
    if isinstance(value, bool) or not isinstance(value, (str, Real)):
        raise TypeError(f"rate={value!r} of {of}: give text like '100/m', or a number.")
    found = _RATE.fullmatch(str(value))
    if found is None or not Fraction(found[1]):
        raise ValueError(
            f"rate={value!r} of {of}: write a number above 0 and a unit, for instance "
            f"'10/s', '100/m' or '1000/h'."
        )
    seconds = _SECONDS[found[2] or "s"]
    share = Fraction(found[1])
    if share.denominator == 1:
        return share.numerator, float(seconds)
    return 1, float(seconds / share)


class TaskLimits:
    """What a task says of its limits, and which gates a call of it must go through.

    Args:
        task: The task's class.

    Raises:
        TypeError: An option is of the wrong type, or a key names no argument.
        ValueError: An option is out of range.
    """

    def __init__(self, task: Any) -> None:
        of = f"task {task.name!r}"
        self._run = task.run
        self._method = not isinstance(inspect.getattr_static(task, "run"), staticmethod)
        self._name = task.name
        self.concurrency = as_concurrency(task.concurrency, of)
        self.rate, self.period = as_rate(task.rate, of)
        self._keys = {
            "concurrency": _as_key(
                "concurrency", task.concurrency_key, task.concurrency, of
            ),
            "rate": _as_key("rate", task.rate_key, task.rate, of),
        }

    @property
    def keyed(self) -> bool:
        """Whether the gates depend on the arguments."""
        return any(key is not None for key in self._keys.values())

    def declared(self) -> list[Limit]:
        """The rules, as the table has them."""
        rules = []
        if self.concurrency is not None:
            rules.append(Limit(f"concurrency:{self._name}", self.concurrency))
        if self.rate is not None:
            rules.append(Limit(f"rate:{self._name}", None, self.rate, self.period))
        return rules

    def gates(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[str]:
        """Names of the gates for a call with these arguments, in order."""
        return [
            gate_name(rule.name, self._key(rule.name.partition(":")[0], args, kwargs))
            for rule in self.declared()
        ]

    def _key(self, kind: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
        key = self._keys[kind]
        if key is None:
            return None
        if callable(key):
            value = key(args, kwargs)
        else:
            value = argument(self._run, key, args, kwargs, method=self._method)
        text = str(value)
        if len(text) > LONGEST_KEY or not text.isprintable():
            return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        return text


def _as_key(kind: str, key: Any, limit: Any, of: str) -> Key:
    if key is None:
        return None
    if limit is None:
        raise TypeError(
            f"{kind}_key={key!r} of {of} has no {kind} to be the key of: give {kind}=, too."
        )
    if not isinstance(key, str) and not callable(key):
        raise TypeError(
            f"{kind}_key={key!r} of {of}: give the name of an argument, or a function of "
            f"the call's args and kwargs."
        )
    found: Key = key
    return found
