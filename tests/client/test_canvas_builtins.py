"""The tasks behind work-flows, which other programs may send by Celery's names."""

from __future__ import annotations

import pytest

from pgtasks import chord, group


@pytest.fixture
def add(each_app):
    @each_app.task(name="tests.add")
    def add(x, y):
        return x + y

    return add


@pytest.fixture
def total(each_app):
    @each_app.task(name="tests.total")
    def total(numbers):
        return sum(numbers)

    return total


def test_every_application_knows_them(each_app):
    each_app.finalize()
    assert {
        "celery.accumulate", "celery.backend_cleanup", "celery.chain", "celery.chord",
        "celery.chord_unlock", "celery.chunks", "celery.group", "celery.map",
        "celery.starmap",
    } <= set(each_app.tasks)  # fmt: skip


def test_a_chord_can_be_sent_as_a_task(each_app, desk, add, total):
    header = [dict(add.s(1, 1)), dict(add.s(2, 2))]
    for sent in (header, dict(group(header, app=each_app))):
        result = each_app.send_task("celery.chord", (sent, dict(total.s())))
        desk(each_app).work_off()
        ((body, parent), _) = result.get(timeout=10)
        assert each_app.AsyncResult(body).get(timeout=10) == 6
        assert len(parent[1]) == 2


def test_a_group_can_be_sent_as_a_task(each_app, desk, add):
    flow = group(add.s(1), add.s(2), app=each_app)
    results = flow.freeze()
    tasks = [dict(task) for task in flow.tasks]
    sent = each_app.send_task(
        "celery.group", (tasks, results.as_tuple(), results.id, (10,))
    )
    desk(each_app).work_off()

    assert results.get(timeout=10) == [11, 12]
    assert [child.id for child in sent.children] == [results.id]


def test_chunks_can_be_sent_as_a_task(each_app, desk, add):
    items = [(1, 1), (2, 2), (3, 3)]
    sent = each_app.send_task("celery.chunks", (dict(add.s()), items, 2))
    desk(each_app).work_off()

    ((children,),) = [sent.children]
    assert children.get(timeout=10) == [[2, 4], [6]]


def test_what_is_gathered_is_handed_on(each_app):
    accumulate = each_app.tasks["celery.accumulate"]

    assert accumulate(1, 2, index=1) == 2
    assert accumulate(1, 2) == (1, 2)


def test_nothing_has_to_unlock_a_chord(each_app, desk, add, total):
    result = chord([add.s(1, 1)], total.s()).apply_async()
    each_app.send_task("celery.chord_unlock", (result.parent.id, dict(total.s())))
    outcomes = desk(each_app).work_off()

    assert result.get(timeout=10) == 2
    assert [outcome.state for outcome in outcomes] == ["completed"] * 3


def test_a_chain_is_no_task_and_says_what_to_do(each_app):
    with pytest.raises(NotImplementedError, match=r"signature\(…\)"):
        each_app.tasks["celery.chain"]()
