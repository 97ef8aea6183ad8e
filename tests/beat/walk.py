"""Walks through crontabs beside Celery's own and tells where the two disagree.

A program, for Celery must be importable and must not be pgtasks' alias of it: the test
starts it with Celery on its path. ``python walk.py [--whole] [--seed N]`` prints JSON,
with what a step costs each of them. Whole, it takes an hour or so.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

ZONES = [
    "UTC",
    "Europe/Berlin",
    "Europe/Dublin",  # whose winter is the exception
    "America/New_York",
    "America/St_Johns",  # half an hour off
    "America/Santiago",  # changes at midnight, in the other half of the year
    "Asia/Kolkata",  # never changes
    "Asia/Beirut",  # at midnight
    "Africa/Cairo",  # at midnight, on Fridays
    "Africa/Casablanca",  # four times a year, around Ramadan
    "Australia/Lord_Howe",  # by half an hour
    "Pacific/Chatham",  # at a quarter to three
]

FIRST, LAST = datetime(2024, 1, 1), datetime(2027, 1, 1)

#: minute, hour, day of month, month, day of week
SPECIFICATIONS = [
    # dense
    "* * * * *",
    "*/2 * * * *",
    "*/5 * * * *",
    "*/7 * * * *",
    "*/15 * * * *",
    "1-59/13 * * * *",
    "0,30 * * * *",
    "59 * * * *",
    "0 * * * *",
    "17,43 * * * *",
    "50-10 * * * *",
    "* 2 * * *",
    "*/10 1-3 * * *",
    "*/20 22-2 * * *",
    "30 */2 * * *",
    "15 1-23/3 * * *",
    "0 0-23/5 * * *",
    "5 0,12 * * *",
    # days
    "0 0 * * *",
    "30 0 * * *",
    "59 23 * * *",
    "30 1 * * *",
    "0 2 * * *",
    "30 2 * * *",
    "45 2 * * *",
    "0 3 * * *",
    "15 3 * * *",
    "0 4 * * *",
    "0 12 * * *",
    "23 17 * * *",
    # weeks
    "0 9 * * mon",
    "0 9 * * mon-fri",
    "30 2 * * sun",
    "0 1 * * sunday",
    "30 0 * * fri",
    "0 22 * * fri-mon",
    "10 3 * * 0,6",
    "0 6 * * */2",
    "15 2 * * sat,sun",
    "*/30 2 * * sun",
    # months
    "0 0 1 * *",
    "30 2 1 * *",
    "0 3 31 * *",
    "0 0 28-2 * *",
    "15 1 */10 * *",
    "0 5 1,15 * *",
    "45 23 28,29,30,31 * *",
    "0 0 1 1 *",
    "30 2 8-14 3 *",
    "0 12 29 2 *",
    "0 0 1 */3 *",
    "20 4 10 jan,jul *",
    "0 8 1-7 11-2 *",
    "30 1 25-31 10 *",
    # both days must match
    "0 0 1-7 * mon",
    "30 2 25-31 3,10 sun",
    "0 12 13 * fri",
    "0 7 8-14 */2 tue",
    "15 2 1-7 11 sun",
    "0 0 29 2 1-5",
]

EVENTS = [
    "dawn_astronomical",
    "dawn_nautical",
    "dawn_civil",
    "sunrise",
    "solar_noon",
    "sunset",
    "dusk_civil",
    "dusk_nautical",
    "dusk_astronomical",
]

#: The last two have days without some of these events, or without any.
PLACES = [
    *((0, 0), (51.5, -0.13), (40.7, -74.0), (-33.9, 151.2), (28.6, 77.2)),
    *((-54.8, -68.3), (69.65, 18.96)),
]


class Clock:
    """The time that both are told."""

    now = datetime(2024, 1, 1, tzinfo=timezone.utc)

    def __call__(self) -> datetime:
        return self.now


class Findings:
    """What was compared, and what it took."""

    def __init__(self) -> None:
        self.steps = 0
        self.theirs = self.ours = 0.0
        self.different: list[str] = []

    def compare(self, what: str, ask: Any, theirs: Any, ours: Any) -> Any:
        """Ask both the same; the answer is Celery's."""
        begun = time.perf_counter()
        expected = ask(theirs)
        between = time.perf_counter()
        found = ask(ours)
        self.ours += time.perf_counter() - between
        self.theirs += between - begun
        self.steps += 1
        if tuple_of(found) != tuple_of(expected):
            self.different.append(f"{what}: Celery says {expected}, pgtasks {found}")
        return expected

    def told(self) -> dict[str, Any]:
        """All of it, as far as it is of use."""
        each = 1e6 / max(self.steps, 1)
        return {
            "steps": self.steps,
            "different": len(self.different),
            "examples": self.different[:10],
            "celery_us": round(self.theirs * each, 1),
            "pgtasks_us": round(self.ours * each, 1),
        }


def tuple_of(answer: Any) -> Any:
    return tuple(answer) if isinstance(answer, tuple) else answer


def pair(line: str, app: Any, clock: Clock) -> tuple[Any, Any]:
    """A crontab of Celery's, and one of ours."""
    import celery.schedules

    import pgtasks.schedules

    minute, hour, day, month, weekday = line.split()
    fields = minute, hour, weekday, day, month
    return tuple(  # type: ignore[return-value]
        module.crontab(*fields, nowfun=clock, app=app)
        for module in (celery.schedules, pgtasks.schedules)
    )


def app_in(zone: str) -> Any:
    """An application of Celery's in a time zone, for both."""
    import celery

    app = celery.Celery("walk", set_as_current=False, broker="memory://")
    app.conf.timezone = zone
    return app


# ── where to walk ───────────────────────────────────────────────────────────────────────


@cache
def transitions(zone: ZoneInfo) -> list[datetime]:
    """The moments at which clocks change, in UTC."""
    hour = timedelta(hours=1)
    moment, end = (each.replace(tzinfo=timezone.utc) for each in (FIRST, LAST))
    found = []
    while moment < end:
        following = moment + hour
        if moment.astimezone(zone).utcoffset() != following.astimezone(zone).utcoffset():
            found.append(following)
        moment = following
    return found


def from_end_to_end(zone: ZoneInfo) -> list[tuple[datetime, int]]:
    """Where to begin, and how many steps to take: from the first run to the last."""
    return [(FIRST.replace(tzinfo=zone) - timedelta(seconds=1), 2_000_000)]


def strides(
    line: str, zone: ZoneInfo, dice: random.Random
) -> Iterator[tuple[datetime, int]]:
    """The same for crontabs with many runs: around each change of the clocks, and anywhere."""
    for change in transitions(zone):
        for hours, steps in ((0.2, 20), (1.5, 20), (3, 10), (30, 5)):
            yield change - timedelta(hours=hours * dice.random()), steps
    span = (LAST - FIRST).total_seconds()
    for _ in range(20):
        anywhere = FIRST + timedelta(seconds=dice.randrange(int(span)))
        yield anywhere.replace(tzinfo=timezone.utc), 3


def runs_often(line: str) -> bool:
    """Whether there are more than a few runs a day."""
    minute, hour, *_ = line.split()
    return not (minute.isdecimal() and hour.isdecimal())


def walk(line: str, zone: ZoneInfo, app: Any, starts: Any, findings: Findings) -> None:
    """Go from one run to the next, as a beat does."""
    clock = Clock()
    theirs, ours = pair(line, app, clock)
    end = LAST.replace(tzinfo=timezone.utc)
    for start, steps in starts:
        last = start.astimezone(zone)
        if last.fold:
            continue  # nobody ran then: the first of two equal hours is the one that counts
        while steps and last < end:
            steps -= 1
            clock.now = last
            left = findings.compare(
                f"{line} in {zone.key} after {last.isoformat()}",
                lambda entry, last=last: entry.remaining_estimate(last),
                theirs,
                ours,
            )
            following = (last.astimezone(timezone.utc) + left).astimezone(zone)
            if steps % 8 == 0:
                # A beat that is a little late finds it due, and learns when to look again.
                clock.now = following + timedelta(milliseconds=20)
                findings.compare(
                    f"is_due of {line} in {zone.key} at {clock.now.isoformat()}",
                    lambda entry, last=last: entry.is_due(last),
                    theirs,
                    ours,
                )
            last = following


# ── other schedules ─────────────────────────────────────────────────────────────────────


def walk_intervals(dice: random.Random, findings: Findings, rounds: int) -> None:
    """Intervals, relative and not, around changes of clocks."""
    import celery.schedules

    import pgtasks.schedules

    lengths = [
        1,
        7.5,
        30,
        60,
        90,
        600,
        3600,
        5400,
        7200,
        86400,
        90000,
        3 * 86400,
        7 * 86400,
    ]
    for name in ZONES:
        zone, app = ZoneInfo(name), app_in(name)
        changes = transitions(zone) or [FIRST.replace(tzinfo=timezone.utc)]
        for _ in range(rounds):
            clock, length, relative = Clock(), dice.choice(lengths), dice.random() < 0.7
            theirs, ours = (
                module.schedule(length, relative, nowfun=clock, app=app)
                for module in (celery.schedules, pgtasks.schedules)
            )
            around = dice.choice(changes) + timedelta(seconds=dice.uniform(-2e5, 1e5))
            last = around.astimezone(zone)
            clock.now = (
                around + timedelta(seconds=dice.uniform(0, 2 * length))
            ).astimezone(zone)
            findings.compare(
                f"schedule({length}, {relative}) in {name}, last {last}, now {clock.now}",
                lambda entry, last=last: entry.is_due(last),
                theirs,
                ours,
            )


def walk_suns(dice: random.Random, findings: Findings, steps: int) -> None:
    """All events of the sun at some places, through the year."""
    import celery.schedules

    import pgtasks.schedules

    app = app_in("UTC")
    for event in EVENTS:
        for lat, lon in PLACES:
            clock = Clock()
            theirs, ours = (
                module.solar(event, lat, lon, nowfun=clock, app=app)
                for module in (celery.schedules, pgtasks.schedules)
            )
            for _ in range(steps):
                clock.now = FIRST.replace(tzinfo=timezone.utc) + timedelta(
                    seconds=dice.randrange(3 * 365 * 86400)
                )
                findings.compare(
                    f"{event} at {lat}, {lon} after {clock.now}",
                    lambda entry, last=clock.now: entry.remaining_estimate(last),
                    theirs,
                    ours,
                )


def main() -> None:
    """Compare, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--whole", action="store_true", help="every run of three years")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--zones", nargs="*", default=ZONES)
    parser.add_argument("--specifications", nargs="*", default=SPECIFICATIONS)
    options = parser.parse_args()
    dice = random.Random(options.seed)
    crontabs, intervals, suns = Findings(), Findings(), Findings()
    for name in options.zones:
        zone, app = ZoneInfo(name), app_in(name)
        for line in options.specifications:
            sampled = runs_often(line) and not options.whole
            starts = strides(line, zone, dice) if sampled else from_end_to_end(zone)
            walk(line, zone, app, starts, crontabs)
    walk_intervals(dice, intervals, 60)
    walk_suns(dice, suns, 20)
    told = {"crontabs": crontabs, "intervals": intervals, "suns": suns}
    print(json.dumps({name: each.told() for name, each in told.items()}, indent=1))


if __name__ == "__main__":
    main()
