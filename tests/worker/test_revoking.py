"""What a worker does with jobs that it was told to revoke, before they begin."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from pgtasks import Celery
from pgtasks.app.memory import queue_of
from pgtasks.job import Job
from pgtasks.storage.jobs import Settlement
from pgtasks.worker import state
from pgtasks.worker.books import Books
from pgtasks.worker.revocation import forgive


class Kept:
    """Takes what a pool or an acknowledger takes, and keeps it."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.settlements: list[Settlement] = []

    def submit(self, jobs: Sequence[Job]) -> None:
        self.jobs += jobs

    def put(self, settlement: Settlement) -> None:
        self.settlements.append(settlement)


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def books(memory_app: Celery, kept: Kept) -> Iterator[Books]:
    @memory_app.task(name="add")
    def add(x: int) -> int:
        return x

    memory_app.finalize()
    books = Books(memory_app, soft_limit=None, hard_limit=None)
    books.pool = books.acker = kept  # type: ignore[assignment]
    yield books
    state.revoked.clear()


def claimed(books: Books, task_id: str) -> Job:
    books.app.tasks["add"].apply_async((1,), task_id=task_id)
    [job] = queue_of(books.app).get(["celery"])
    return job


def message(settlement: Settlement) -> str:
    found: str = json.loads(settlement.document)["message"]
    return found


def test_a_revoked_job_ends_when_it_is_claimed_and_says_why(
    books: Books, kept: Kept
) -> None:
    state.revoked.add("one")
    books.note_reason(["one"], "cancelled by ann: no need")
    one, two = claimed(books, "one"), claimed(books, "two")
    books._take([one, two])

    assert kept.jobs == [two]
    assert [(each.task_id, each.state) for each in kept.settlements] == [
        ("one", "cancelled")
    ]
    assert message(kept.settlements[0]) == "cancelled by ann: no need"


def test_it_runs_if_somebody_has_wanted_it_to_meanwhile(books: Books, kept: Kept) -> None:
    state.revoked.add("one")
    # What was said before the job could be claimed is read before it is revoked.
    books._hear = lambda: forgive(None, ["one"])  # type: ignore[arg-type]
    job = claimed(books, "one")
    books._take([job])

    assert (kept.jobs, kept.settlements) == ([job], [])


def test_nothing_is_read_for_jobs_that_nobody_has_revoked(books: Books, kept: Kept) -> None:
    heard: list[Any] = []
    state.revoked.add("another")
    books._hear = lambda: heard.append(1)
    books._take([claimed(books, "one")])

    assert heard == []
    assert len(kept.jobs) == 1


def test_one_that_comes_back_unbegun_ends_in_place_of_going_back(
    books: Books, kept: Kept
) -> None:
    one, two = claimed(books, "one"), claimed(books, "two")
    books._take([one, two])
    state.revoked.add("one")
    books.unbegun(one)
    books.unbegun(two)

    assert [(each.task_id, each.state) for each in kept.settlements] == [
        ("one", "cancelled"), ("two", "available"),
    ]  # fmt: skip


def test_reasons_are_not_kept_without_end(books: Books) -> None:
    books.note_reason(map(str, range(10_001)), "x")

    assert len(books._reasons) == 10_000
