"""Many writers who send the same keys: each key twice, half of all calls in vain.

::

    python tests/uniques/writers.py postgresql://… [writers] [calls of each]
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

WAYS = ("one by one", "in bulk")


class Race(NamedTuple):
    """What came of it.

    Attributes:
        rate: Calls in a second, of all writers together.
        winners: For each key the ids that its calls were answered with.
        sent: How many calls say that they are the ones that were sent.
    """

    rate: float
    winners: dict[int, set[str]]
    sent: Counter[int]


def shares(writers: int, calls: int) -> list[list[int]]:
    """Which keys each writer sends: all of them twice, in an order of chance."""
    keys = [key for key in range(writers * calls // 2) for _ in range(2)]
    random.Random(7).shuffle(keys)
    return [keys[number::writers] for number in range(writers)]


def race(url: str, *, writers: int, calls: int, unique: bool, way: str) -> Race:
    """Have processes of their own send all keys, at the same time."""
    command = [sys.executable, __file__, url, str(writers), str(calls), way]
    processes = [
        subprocess.Popen(
            [*command, str(number), "unique" if unique else "plain"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(writers)
    ]
    try:
        for each in processes:
            assert each.stdout is not None
            assert each.stdout.readline() == "ready\n"
        began = time.monotonic()
        for each in processes:
            assert each.stdin is not None
            each.stdin.write("go\n")
            each.stdin.flush()
        for each in processes:
            assert each.stdout is not None
            assert each.stdout.readline() == "done\n"
        took = time.monotonic() - began
        winners: dict[int, set[str]] = {}
        sent: Counter[int] = Counter()
        for each in processes:
            for key, id, conflict in json.loads(each.communicate("tell\n")[0]):
                winners.setdefault(key, set()).add(id)
                sent[key] += not conflict
            assert each.returncode == 0
    finally:
        for each in processes:
            each.kill()
            each.communicate()
    return Race(writers * calls / took, winners, sent)


def write(
    url: str, writers: int, calls: int, way: str, number: int, *, unique: bool
) -> None:
    """Be one of the writers."""
    from pgtasks import Celery

    mine = shares(writers, calls)[number]
    with Celery("writers", broker=url) as app:

        @app.task(name="tests.write", unique=True if unique else None)
        def write(key): ...

        app.database.run(_nothing())
        print("ready", flush=True)
        sys.stdin.readline()
        if way == "in bulk":
            results: list[Any] = write.delay_many([(key,) for key in mine]).results
        else:
            results = [write.delay(key) for key in mine]
        print("done", flush=True)
        sys.stdin.readline()
        told = [
            (key, each.id, each.conflict) for key, each in zip(mine, results, strict=True)
        ]
        json.dump(told, sys.stdout)


def _nothing() -> Any:
    from pgtasks.storage import jobs

    return jobs.count()


def main(url: str, writers: int = 16, calls: int = 10_000) -> None:
    """Run both ways, and say how it went."""
    import psycopg

    for way in WAYS:
        found = {}
        for unique in (False, True):
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("truncate pgtasks.jobs, pgtasks.unique_keys")
            found[unique] = race(url, writers=writers, calls=calls, unique=unique, way=way)
        plain, keyed = found[False], found[True]
        wrong = sum(len(ids) != 1 for ids in keyed.winners.values())
        wrong += sum(count != 1 for count in keyed.sent.values())
        print(
            f"{writers} writers, {calls:,} calls each, {way}: plain {plain.rate:,.0f} calls/s, "
            f"unique {keyed.rate:,.0f} ({keyed.rate / plain.rate:.0%}); "
            f"{len(keyed.winners):,} keys, {wrong} of them wrong"
        )


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    if len(sys.argv) > 5:
        write(
            sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], int(sys.argv[5]),
            unique=sys.argv[6] == "unique",
        )  # fmt: skip
    else:
        main(sys.argv[1], *map(int, sys.argv[2:]))
