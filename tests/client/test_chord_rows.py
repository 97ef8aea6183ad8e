"""Chords on PostgreSQL: the body waits as a row, and is given what the members return."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pgtasks import Celery
from pgtasks.app import outcome, publish
from pgtasks.exceptions import ChordError


@pytest.fixture
def app(postgres_app: Celery) -> Celery:
    @postgres_app.task
    def double(number: int) -> int:
        if number < 0:
            raise ValueError(number)
        return 2 * number

    @postgres_app.task
    def total(numbers: list[int], more: int = 0) -> int:
        return sum(numbers) + more

    return postgres_app


def send_chord(app: Celery, numbers: list[int], body: Any, **options: Any) -> Any:
    """What `pgtasks.chord` does, by hand: a header of tasks, and their body."""
    result = body.freeze()
    members = [app.tasks[f"{__name__}.double"].s(number) for number in numbers]
    with publish.batch(app):
        frozen = [
            member.freeze(group_id="g", chord=body, group_index=index)
            for index, member in enumerate(members)
        ]
        app.backend.apply_chord(("g", frozen), body)
        for member in members:
            member.apply_async(**options)
    return result


def task(app: Celery, name: str) -> Any:
    return app.tasks[f"{__name__}.{name}"]


def rows(app: Celery, statement: str) -> list[tuple[Any, ...]]:
    with app.database.connection() as connection:
        return connection.execute(statement.encode()).fetchall()


def test_the_body_is_called_with_the_results_in_the_order_of_the_header(
    app: Celery, desk: Callable[..., Any]
) -> None:
    result = send_chord(app, [3, 1, 2], task(app, "total").s(100))
    worker = desk(app)
    for job in reversed(worker.claim()):
        worker.run(job)
    (released,) = worker.claim()
    outcome = worker.run(released)

    assert outcome.result == "112"
    assert result.get(timeout=5) == 112


def test_an_immutable_body_is_called_without_them(
    app: Celery, desk: Callable[..., Any]
) -> None:
    result = send_chord(app, [1, 2], task(app, "double").si(21))
    desk(app).work_off()

    assert result.get(timeout=5) == 42


def test_a_chord_is_one_insert_or_nothing(app: Celery) -> None:
    def interrupted() -> None:
        with publish.batch(app):
            task(app, "double").delay(1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()

    assert rows(app, "select count(*) from pgtasks.jobs") == [(0,)]


def test_a_member_that_fails_fails_the_body_when_all_have_ended(
    app: Celery, desk: Callable[..., Any]
) -> None:
    heard = []

    @app.task
    def errback(request: Any, exc: BaseException, traceback: str) -> None:
        heard.append((request.id, type(exc)))

    body = task(app, "total").s()
    body.link_error(errback.s())
    result = send_chord(app, [1, -1, 2], body)
    desk(app).work_off()

    with pytest.raises(ChordError, match=r"Dependency .* raised ValueError\(-1\)"):
        result.get(timeout=5)
    assert heard == [(result.id, ChordError)]


def test_a_member_carries_the_name_of_the_body_and_not_the_body(app: Celery) -> None:
    body = task(app, "total").s(more=0)
    body.options["link"] = [task(app, "double").s(7) for _ in range(100)]
    send_chord(app, [1], body)

    [(embed,)] = rows(app, "select embed from pgtasks.jobs where chord is not null")
    assert len(embed) < 300
    assert body.id in embed


def test_a_result_that_is_ignored_reaches_the_body_all_the_same(
    app: Celery, desk: Callable[..., Any]
) -> None:
    result = send_chord(app, [1, 2], task(app, "total").s(), ignore_result=True)
    desk(app).work_off()

    assert result.get(timeout=5) == 6


def test_a_body_that_is_retried_is_given_the_results_once(
    app: Celery, desk: Callable[..., Any]
) -> None:
    calls = []

    @app.task(bind=True, default_retry_delay=0)
    def twice(self: Any, numbers: list[int]) -> int:
        calls.append(numbers)
        if self.request.retries == 0:
            raise self.retry()
        return len(numbers)

    result = send_chord(app, [1, 2], twice.s())
    desk(app).work_off()

    assert calls == [[2, 4], [2, 4]]
    assert result.get(timeout=5) == 2


def test_members_that_were_purged_fail_the_body_by_name(
    app: Celery, desk: Callable[..., Any]
) -> None:
    result = send_chord(app, [1, 2, 3], task(app, "total").s().set(queue="other"))
    worker = desk(app, "celery", "other")
    (first,) = worker.claim(1)
    worker.run(first)
    assert app.control.purge() == 2
    worker.work_off()

    with pytest.raises(ChordError, match="2 of 3 members of group g have no result"):
        result.get(timeout=5)


def test_the_chain_behind_a_task_that_fails_is_over_too(
    app: Celery, desk: Callable[..., Any]
) -> None:
    last = task(app, "total").s()
    result = last.freeze()
    task(app, "double").apply_async((-1,), chain=[last])
    desk(app).work_off()

    with pytest.raises(ValueError, match="-1"):
        result.get(timeout=5)


def test_what_replaces_a_task_commits_with_its_end(
    app: Celery, desk: Callable[..., Any]
) -> None:
    from pgtasks.exceptions import Ignore

    @app.task(bind=True)
    def replaced(self: Any) -> None:
        ending = outcome.current()
        assert ending is not None
        with ending.replacing():
            task(app, "double").apply_async((21,), task_id=self.request.id)
        raise Ignore("replaced")

    result = replaced.delay()
    worker = desk(app)
    worker.work_one()
    assert rows(app, "select count(*) from pgtasks.finished_jobs") == [(0,)]
    worker.work_off()

    assert result.get(timeout=5) == 42
