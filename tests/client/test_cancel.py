"""Revoking jobs that have not begun: in the table, without a worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pgtasks import Celery, signals
from pgtasks.app import publish
from pgtasks.app.cancel import cancel
from pgtasks.exceptions import ChordError, TaskRevokedError


@pytest.fixture
def app(postgres_app: Celery) -> Celery:
    @postgres_app.task(name="add")
    def add(x: int, y: int = 0) -> int:
        return x + y

    @postgres_app.task(name="total")
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    postgres_app.finalize()
    return postgres_app


def test_a_job_that_waits_is_revoked_at_once(app: Celery) -> None:
    waiting = app.tasks["add"].delay(1)
    due = app.tasks["add"].apply_async((1,), countdown=3600)

    assert sorted(cancel(app, [waiting.id, due.id])) == sorted([waiting.id, due.id])
    for result in (waiting, due):
        assert result.state == "REVOKED"
        with pytest.raises(TaskRevokedError, match="revoked"):
            result.get(timeout=5)


def test_a_job_that_runs_or_is_over_is_left_alone(
    app: Celery, desk: Callable[..., Any]
) -> None:
    over, running = app.tasks["add"].delay(1), app.tasks["add"].delay(2)
    worker = desk(app)
    first, second = worker.claim()
    worker.run(first)

    assert cancel(app, [over.id, running.id, "unknown"]) == []
    worker.run(second)
    assert [over.get(timeout=5), running.get(timeout=5)] == [1, 2]


def test_it_can_be_done_twice(app: Celery) -> None:
    result = app.tasks["add"].delay(1)

    assert cancel(app, [result.id]) == [result.id]
    assert cancel(app, [result.id]) == []
    assert result.state == "REVOKED"


def test_what_would_have_come_next_is_revoked_with_it(app: Celery) -> None:
    last = app.tasks["add"].s(2)
    result = last.freeze()
    first = app.tasks["add"].apply_async((1,), chain=[last])
    cancel(app, [first.id])

    with pytest.raises(TaskRevokedError):
        result.get(timeout=5)


def test_the_body_of_its_chord_fails(app: Celery, desk: Callable[..., Any]) -> None:
    body = app.tasks["total"].s()
    result = body.freeze()
    members = [app.tasks["add"].s(number) for number in range(3)]
    with publish.batch(app):
        frozen = [
            member.freeze(group_id="g", chord=body, group_index=index)
            for index, member in enumerate(members)
        ]
        app.backend.apply_chord(("g", frozen), body)
        for member in members:
            member.apply_async()
    cancel(app, [members[1].id])
    desk(app).work_off()

    with pytest.raises(ChordError, match=f"{members[1].id} raised TaskRevokedError"):
        result.get(timeout=5)


def test_the_signal_is_sent_where_it_was_revoked(app: Celery) -> None:
    heard = []

    def hear(request: Any, terminated: bool, expired: bool, **_: Any) -> None:
        heard.append((request.id, terminated, expired))

    result = app.tasks["add"].delay(1)
    signals.task_revoked.connect(hear)
    try:
        cancel(app, [result.id])
    finally:
        signals.task_revoked.disconnect(hear)

    assert heard == [(result.id, False, False)]


def test_whoever_waits_for_it_is_told(app: Celery) -> None:
    result = app.tasks["add"].delay(1)
    with app.database.connection() as connection:
        connection.execute("update pgtasks.jobs set awaited = true")
        connection.execute('listen "pgtasks.results"')
        cancel(app, [result.id])
        heard = [each.payload for each in connection.notifies(timeout=10, stop_after=1)]
        connection.execute("unlisten *")

    assert heard == [result.id]


def test_revoke_ends_what_waits_without_any_worker(app: Celery) -> None:
    one = app.tasks["add"].delay(1)
    more = [app.tasks["add"].delay(number) for number in range(3)]
    one.revoke()
    app.control.revoke([result.id for result in more])

    assert {result.state for result in (one, *more)} == {"REVOKED"}


def test_revoke_leaves_to_one_worker_what_is_said_to_it_alone(app: Celery) -> None:
    result = app.tasks["add"].delay(1)
    app.control.revoke(result.id, destination=["celery@elsewhere"])

    assert result.state == "PENDING"


@pytest.mark.parametrize(
    ("headers", "revoked"),
    [
        ({"tenant": "acme"}, {"a"}),
        ({"tenant": ["acme", "umbrella"]}, {"a", "b"}),
        ({"tenant": "nobody"}, set()),
        ({"batch": 7}, {"b"}),
        ({"tenant": "acme", "batch": [7]}, {"a", "b"}),
    ],
)
def test_tasks_are_revoked_by_their_stamps(
    app: Celery, headers: dict[str, Any], revoked: set[str]
) -> None:
    add = app.tasks["add"]
    sent = {
        "a": add.s(1).set(task_id="a"),
        "b": add.s(2).set(task_id="b"),
        "c": add.s(3).set(task_id="c"),
    }
    sent["a"].stamp(tenant="acme")
    sent["b"].stamp(tenant="umbrella", batch=7)
    results = {name: signature.apply_async() for name, signature in sent.items()}
    app.control.revoke_by_stamped_headers(headers)

    assert {name for name in results if results[name].state == "REVOKED"} == revoked
