"""What a transactional task does, and how it ends, are one: both or neither."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg import errors

from pgtasks import chain, chord
from pgtasks.app.task import Task
from pgtasks.exceptions import (
    Cancel,
    Discard,
    Snooze,
)

ORDER = "insert into public.orders values (1)"


def test_the_effects_and_the_end_are_committed_together(app, work, state, witness, kind):
    transactional, execute = kind

    @app.task(bind=True, transactional=transactional)
    def book(self, amount: int) -> int:
        execute(self.connection, ORDER)
        assert witness.orders() == 0
        return amount

    result = book.delay(7)
    [outcome] = work()

    assert outcome.written == []
    assert state(result) == ("completed", 7, 1)
    assert witness.orders() == 1
    assert result.get(timeout=1) == 7


def test_what_a_failed_body_has_done_is_rolled_back(app, work, state, witness, kind):
    transactional, execute = kind

    @app.task(bind=True, transactional=transactional)
    def book(self) -> None:
        execute(self.connection, ORDER)
        raise ValueError("no cover")

    result = book.delay()
    [outcome] = work()

    assert outcome.written is None
    assert state(result)[0] == "discarded"
    assert witness.orders() == 0
    with pytest.raises(ValueError, match="no cover"):
        result.get(timeout=1)


def test_whoever_has_lost_the_job_leaves_no_trace(app, work, state, witness, kind):
    transactional, execute = kind
    told = []

    @app.task(bind=True, transactional=transactional)
    def book(self) -> None:
        execute(self.connection, ORDER)
        witness.connection.execute(
            "update pgtasks.jobs set claim_token = gen_random_uuid() where task_id = %s",
            [self.request.id],
        )
        told.append(self.request.id)

    result = book.delay()
    [outcome] = work()

    assert outcome.written == []
    assert outcome.state == "available"
    assert told == [result.id]
    assert state(result)[0] == "executing"
    assert witness.orders() == 0


def test_what_is_sent_inside_goes_with_the_transaction(app, work, witness, confirm, kind):
    transactional, execute = kind
    seen = []

    @app.task(bind=True, transactional=transactional)
    def book(self, fails: bool) -> None:
        execute(self.connection, ORDER)
        confirm.delay(1)
        seen.append(len(witness.jobs()))
        if fails:
            raise ValueError

    first = book.delay(True)
    work()
    assert seen == [1]
    assert witness.jobs() == []
    assert first.state == "FAILURE"

    book.delay(False)
    outcomes = work()

    assert [each.state for each in outcomes] == ["completed", "completed"]
    assert seen == [1, 1]


def test_a_returned_snooze_keeps_what_was_done_and_a_raised_one_does_not(
    app, work, state, witness
):
    @app.task(bind=True, transactional=True)
    def book(self, raises: bool) -> Snooze:
        self.connection.execute(ORDER)
        if raises:
            raise Snooze(60)
        return Snooze(60)

    raised = book.delay(True)
    work()
    assert state(raised)[0] == "scheduled"
    assert witness.orders() == 0

    returned = book.delay(False)
    [outcome] = work()
    assert outcome.written == []
    assert state(returned) == ("scheduled", None, 0)
    assert witness.orders() == 1


@pytest.mark.parametrize(
    ("end", "expected", "status"),
    [(Discard("no"), "discarded", "FAILURE"), (Cancel("no"), "cancelled", "REVOKED")],
)
def test_a_returned_end_is_written_with_what_was_done(
    app, work, state, witness, end, expected, status
):
    @app.task(bind=True, transactional=True)
    def book(self) -> Any:
        self.connection.execute(ORDER)
        return end

    result = book.delay()
    [outcome] = work()

    assert outcome.written == []
    assert state(result)[0] == expected
    assert result.state == status
    assert witness.orders() == 1


def test_a_retry_rolls_back_and_runs_again(app, work, state, witness):
    @app.task(bind=True, transactional=True, default_retry_delay=0)
    def book(self) -> str:
        self.connection.execute(ORDER)
        if not self.request.retries:
            raise self.retry(exc=ValueError("not yet"))
        return "done"

    result = book.delay()
    work()

    assert state(result) == ("completed", "done", 2)
    assert witness.orders() == 1


def test_what_takes_its_place_comes_with_what_was_done(app, work, state, witness, confirm):
    @app.task(bind=True, transactional=True)
    def book(self) -> Any:
        self.connection.execute(ORDER)
        return self.replace(confirm.s(8))

    result = book.delay()
    outcomes = work()

    assert [each.state for each in outcomes] == ["completed", "completed"]
    assert outcomes[0].written == ["celery"]
    assert result.get(timeout=1) == 8
    assert witness.orders() == 1


def test_a_chain_and_a_chord_go_on_by_the_commit(app, work, state, witness):
    @app.task(bind=True, transactional=True)
    def add(self, x: int, y: int) -> int:
        self.connection.execute(ORDER)
        return x + y

    @app.task(bind=True, transactional=True)
    def total(self, numbers: list[int]) -> int:
        return sum(numbers)

    chained = chain(add.s(1, 2), add.s(3), add.s(4)).delay()
    summed = chord([add.s(1, n) for n in range(5)], total.s()).delay()
    outcomes = work()

    assert all(each.written is not None for each in outcomes)
    assert chained.get(timeout=1) == 10
    assert summed.get(timeout=1) == 15
    assert witness.orders() == 8


def test_callbacks_of_both_ends_are_sent(app, work, witness, confirm):
    @app.task(bind=True, transactional=True)
    def book(self, fails: bool) -> int:
        if fails:
            return Discard("no")
        return 5

    @app.task(name="tests.mourn")
    def mourn(id: str) -> None:
        pass

    book.apply_async((False,), link=confirm.s())
    book.apply_async((True,), link_error=mourn.s())
    outcomes = work()

    assert [each.state for each in outcomes].count("completed") == 3
    ran = witness.connection.execute("select task from pgtasks.finished_jobs").fetchall()
    assert ("tests.mourn",) in ran
    assert ("tests.confirm",) in ran


def test_an_error_at_the_commit_is_the_tasks_own(app, work, state, witness):
    witness.connection.execute(
        "alter table public.orders add constraint one unique (number) "
        "deferrable initially deferred"
    )
    tries = []

    @app.task(
        bind=True,
        transactional=True,
        autoretry_for=(errors.UniqueViolation,),
        default_retry_delay=0,
        max_retries=1,
        retry_backoff=False,
    )
    def book(self) -> None:
        tries.append(self.request.retries)
        self.connection.execute(ORDER)
        self.connection.execute(ORDER)

    result = book.delay()
    work()

    assert tries == [0, 1]
    assert state(result)[0] == "discarded"
    with pytest.raises(errors.UniqueViolation):
        result.get(timeout=1)
    assert witness.orders() == 0


def test_a_result_that_cannot_be_stored_rolls_back(app, work, state, witness):
    @app.task(bind=True, transactional=True)
    def book(self) -> Any:
        self.connection.execute(ORDER)
        return object()

    result = book.delay()
    work()

    assert state(result)[0] == "discarded"
    assert witness.orders() == 0


def test_success_is_told_after_the_commit_and_only_then(app, work, witness, heard):
    told = heard("task_success", "task_failure", "task_postrun")
    seen = []

    class Booking(Task):
        def on_success(self, *args: Any) -> None:
            seen.append(witness.orders())

    @app.task(bind=True, transactional=True, base=Booking)
    def book(self) -> str:
        self.connection.execute(ORDER)
        return "done"

    book.delay()
    work()

    assert seen == [1]
    assert [each["name"] for each in told] == ["task_success", "task_postrun"]
    assert told[1]["retval"] == "done"
    assert told[1]["state"] == "SUCCESS"


def test_a_verdict_on_a_lost_worker_is_replaced_by_the_truth(app, work, state, witness):
    @app.task(bind=True, transactional=True)
    def book(self) -> str:
        self.connection.execute(ORDER)
        witness.connection.execute(
            "with gone as (delete from pgtasks.jobs where task_id = %(id)s returning *) "
            "insert into pgtasks.finished_jobs (id, scheduled_at, inserted_at, state, "
            "attempt, retries, crashes, lost, priority, task, task_id, queue, args, kwargs, "
            "content_type, content_encoding, errors, meta, tags, claim_token, abandoned) "
            "select id, scheduled_at, inserted_at, 'discarded', attempt, retries, crashes, "
            "lost, priority, task, task_id, queue, args, kwargs, content_type, "
            "content_encoding, errors, meta, tags, claim_token, true from gone",
            {"id": self.request.id},
        )
        return "after all"

    result = book.delay()
    [outcome] = work()

    assert outcome.written == []
    assert state(result)[:2] == ("completed", "after all")
    assert witness.orders() == 1
