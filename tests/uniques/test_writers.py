"""Sixteen writers, half of whose calls are twins: one live job for each key, and no error."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest

from pgtasks import Celery
from uniques import writers

WRITERS = 16
#: Of each writer. The whole of it is 10,000: tests/uniques/writers.py runs that with processes,
#: and says how the rate compares with that of plain calls.
CALLS = int(os.environ.get("PGTASKS_UNIQUE_CALLS", "250"))


class Writers:
    """Threads that send at the same time, each on a connection of its own."""

    def __init__(self, url: str, stack: ExitStack) -> None:
        self.url = url
        self.apps = [
            stack.enter_context(Celery(f"w{number}", broker=url, set_as_current=False))
            for number in range(WRITERS)
        ]

        def write(key: int) -> None: ...

        for app in self.apps:
            app.task(name="tests.unique", unique=True, shared=False)(write)
            app.tasks["tests.unique"].delay(-1)

    def race(self, task: str, *, bulk: bool) -> list[tuple[int, Any]]:
        """Have all keys sent; the answer is each key's results."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("truncate pgtasks.jobs, pgtasks.unique_keys")
        shares = writers.shares(WRITERS, CALLS)
        barrier = threading.Barrier(WRITERS + 1)
        answers: list[tuple[int, Any]] = []
        failures: list[BaseException] = []

        def write(app: Celery, keys: list[int]) -> None:
            send = app.tasks[task]
            barrier.wait()
            try:
                if bulk:
                    results = send.delay_many([(key,) for key in keys]).results
                else:
                    results = [send.delay(key) for key in keys]
            except BaseException as error:
                failures.append(error)
            else:
                answers.extend(zip(keys, results, strict=True))
            barrier.wait()

        threads = [
            threading.Thread(target=write, args=each)
            for each in zip(self.apps, shares, strict=True)
        ]
        for each in threads:
            each.start()
        barrier.wait()
        barrier.wait()
        for each in threads:
            each.join()
        assert failures == []
        return answers


@pytest.fixture
def crowd(database_url: str) -> Iterator[Writers]:
    with ExitStack() as stack:
        yield Writers(database_url, stack)


@pytest.mark.parametrize("bulk", [False, True], ids=["one by one", "in bulk"])
def test_each_key_has_one_job_and_every_call_is_led_to_it(
    crowd: Writers, bulk: bool
) -> None:
    answers = crowd.race("tests.unique", bulk=bulk)

    ids: dict[int, set[str]] = {}
    for key, result in answers:
        ids.setdefault(key, set()).add(result.id)
    keys = range(WRITERS * CALLS // 2)
    assert {key for key, each in ids.items() if len(each) == 1} == set(keys)
    sent = Counter(key for key, result in answers if not result.conflict)
    assert sent == Counter(keys)
    with psycopg.connect(crowd.url) as connection:
        live = connection.execute("select task_id from pgtasks.jobs").fetchall()
    assert {id for (id,) in live} == {each for found in ids.values() for each in found}
    assert len(live) == len(keys)
