"""Deletes jobs that ended long ago, and whatever else nobody asks for any more."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from pgtasks.plugins.base import Plugin, as_age
from pgtasks.storage import pruning, uniques

__all__ = ["Pruner"]

STATES = ("completed", "discarded", "cancelled")

SLACK = 120.0
"""Seconds that a walk begins before the place where the one before ended: a transaction may
have been open for a while before what it ended was there to be seen."""

ANEW = 12 * 3600.0
"""Seconds after which all that there is is walked through again."""

PIECE = 2.0
"""Seconds after which a run leaves off, to go on in the next."""

NEVER = "never"

TIDY = 600.0
"""Seconds between two looks at the small tables."""

STRETCH = 1000
"""Keys that one statement looks at. If half of them are to be forgotten, so is more."""

MARGIN = 7 * 86400.0
"""Ticks of periodic tasks are kept for a week at least: who schedules asks for the last."""


class Pruner(Plugin):
    """Keeps history as long as the settings say: by state, by queue, by task.

    It walks through the jobs that are over in the order of their end, in batches of a
    bounded number, rests as long as each batch took, and remembers where it was. So it
    takes half a connection's time at most, however much there is, and no statement is long.
    """

    name = "pruner"
    interval = 60.0
    leader_only = True
    options = {
        "max_age": ...,
        "queues": {},
        "tasks": {},
        "workers": 86400.0,
        "revocations": 30 * 86400.0,
        "limit": 1000,
    }

    def validate(self) -> None:
        """Read the ages, and put them down in the way that the statement wants them."""
        expires = self.app.conf.result_expires or None
        self._results = None if expires is None else as_age("result_expires", expires)
        fallback: Mapping[str, float | None] = dict.fromkeys(STATES, self._results)
        if self.options["max_age"] is not ...:
            fallback = _ages("max_age", self.options["max_age"], fallback)
        queues, tasks = (
            {
                name: _keys(_ages(f"{kind}[{name!r}]", age, fallback))
                for name, age in _names(kind, self.options[kind]).items()
            }
            for kind in ("queues", "tasks")
        )
        states = _keys(fallback)
        self._rules = json.dumps({"states": states, "queues": queues, "tasks": tasks})
        every = [states, *queues.values(), *tasks.values()]
        keys = {key for ages in every for key in ages.values() if key != NEVER}
        self._keys = sorted(keys, key=float)
        self._limit = self.options["limit"]
        if not isinstance(self._limit, int) or not 0 < self._limit <= 100_000:
            raise ValueError(
                f"plugins['pruner']['limit'] is {self._limit!r}: give a number of jobs for "
                f"one statement, between 1 and 100000."
            )
        self._workers = as_age("plugins['pruner']['workers']", self.options["workers"])
        self._revocations = as_age(
            "plugins['pruner']['revocations']", self.options["revocations"]
        )
        self._walks = {key: _Walk(key) for key in self._keys}
        self._term = 0
        self._tidy_at = 0.0
        self._key = ""

    def run(self) -> dict[str, Any]:
        """Delete what is due, for two seconds at most."""
        seat = self.seat
        if seat is None:
            return {"pruned_count": 0}
        if seat.term != self._term:
            # Another leader may have left off anywhere.
            self._term = seat.term
            self._walks = {key: _Walk(key) for key in self._keys}
        until = time.monotonic() + PIECE
        pruned = 0
        for walk in self._walks.values():
            while not walk.done:
                began = time.monotonic()
                if began > until or self.stopping:
                    return {"pruned_count": pruned, "again": not self.stopping}
                walked = self.database.run(
                    pruning.prune(
                        seat,
                        age=float(walk.key),
                        key=walk.key,
                        rules=self._rules,
                        after=walk.place,
                        slack=walk.slack,
                        limit=self._limit * walk.stride,
                    )
                )
                if not walked.led:
                    return {"pruned_count": pruned}
                pruned += walked.pruned
                walk.go_on(walked, self._limit)
                if not walk.done:
                    # Claims and settlements come first.
                    time.sleep(min(1.0, time.monotonic() - began))
        for walk in self._walks.values():
            walk.begin()
        if time.monotonic() < self._tidy_at:
            return {"pruned_count": pruned}
        self._tidy_at = time.monotonic() + TIDY
        return {"pruned_count": pruned, **self._tidy(seat)}

    def _tidy(self, seat: Any) -> dict[str, int]:
        """The small tables: a batch of each will do."""
        run = self.database.run
        found = {
            "mail_count": run(pruning.prune_mail(seat)),
            "worker_count": run(pruning.prune_workers(seat, self._workers)),
            "revocation_count": run(pruning.prune_revocations(seat, self._revocations)),
            "key_count": self._forget_keys(),
        }
        if self._results is not None:
            found["group_count"] = run(pruning.prune_groups(seat, self._results))
            ticks = max(self._results, MARGIN)
            found["tick_count"] = self._prune_ticks(seat, ticks)
        return found

    def _prune_ticks(self, seat: Any, age: float) -> int:
        """Of entries that are sent every second there are thousands since the last time."""
        until = time.monotonic() + PIECE
        count = 0
        while not self.stopping and time.monotonic() < until:
            pruned = self.database.run(pruning.prune_ticks(seat, age, limit=STRETCH))
            count += pruned
            if pruned < STRETCH:
                break
        return count

    def _forget_keys(self) -> int:
        """Keys of unique jobs that are over, a stretch at a time, and on while it pays.

        Without a term: whoever does it, and how often, comes to the same.
        """
        count = 0
        while not self.stopping:
            forgotten = self.database.run(uniques.forget(self._key, limit=STRETCH))
            self._key = forgotten.last or ""
            count += forgotten.keys
            if forgotten.keys < STRETCH // 2:
                break
        return count + self.database.run(uniques.forget_turns())


class _Walk:
    """How far we have come with the jobs of one age."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.place = pruning.BEGINNING
        self.slack = 0.0
        self.stride = 1
        self.done = False
        self._began_at = time.monotonic()

    def go_on(self, walked: pruning.Walked, limit: int) -> None:
        """Take down what a batch has brought."""
        if walked.seen < limit * self.stride:
            self.done = True
        # Of a crowd that ended in the very same moment, take as many as there are.
        stuck = walked.place == self.place and not walked.pruned
        self.stride = self.stride * 2 if stuck and not self.done else 1
        self.place = walked.place or self.place
        self.slack = 0.0

    def begin(self) -> None:
        """Make ready for the next walk, which begins a little before the end of this one."""
        self.done, self.stride, self.slack = False, 1, SLACK
        if time.monotonic() - self._began_at > ANEW:
            self.place, self._began_at = pruning.BEGINNING, time.monotonic()


def _keys(ages: Mapping[str, float | None]) -> dict[str, str]:
    """Ages as texts, by which the statement tells them apart."""
    return {state: NEVER if age is None else repr(age) for state, age in ages.items()}


def _ages(
    what: str, value: Any, fallback: Mapping[str, float | None]
) -> dict[str, float | None]:
    """An age, or ages by state, as an age for each state; None is for ever."""
    where = f"plugins['pruner']: {what}"
    if not isinstance(value, Mapping):
        return dict.fromkeys(STATES, None if value is None else as_age(where, value))
    for state, age in value.items():
        if state not in STATES:
            raise ValueError(f"{where} names the state {state!r}: there are {STATES}.")
        if age is not None:
            as_age(f"{where} for {state}", age)
    return {
        state: _seconds(value[state]) if state in value else fallback.get(state)
        for state in STATES
    }


def _seconds(age: Any) -> float | None:
    return None if age is None else as_age("", age)


def _names(kind: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or any(
        not isinstance(name, str) or "\0" in name for name in value
    ):
        raise TypeError(f"plugins['pruner'][{kind!r}] is {value!r}: map names to ages.")
    return value
