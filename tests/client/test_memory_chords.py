"""Whole work-flows whose jobs and results are in memory, run by a worker without threads."""

from __future__ import annotations

import pytest

from pgtasks import chain, chord, group
from pgtasks.app.memory import queue_of
from pgtasks.exceptions import ChordError


@pytest.fixture
def app(memory_app):
    return memory_app


@pytest.fixture
def tasks(app):
    class Tasks:
        called: list = []

        @app.task
        def add(x, y):
            return x + y

        @app.task
        def total(numbers):
            return sum(numbers)

        @app.task
        def fail(*args):
            raise KeyError("x")

        @app.task
        def note(task_id):
            Tasks.called.append(task_id)

        @app.task(ignore_result=True)
        def unheard(x):
            return x

    return Tasks


def test_the_body_is_called_with_what_the_header_returned(app, tasks, desk):
    result = chord([tasks.add.s(x, x) for x in range(3)], tasks.total.s())()
    desk(app).work_off()

    assert result.get(timeout=1) == 6
    assert result.parent.get(timeout=1) == [0, 2, 4]


def test_results_keep_the_order_of_the_header_whoever_ends_first(app, tasks, desk):
    @app.task
    def same(values):
        return values

    result = chord([tasks.add.s(x, 0) for x in range(5)], same.s())()
    bench = desk(app)
    for job in reversed(bench.claim()):
        bench.run(job)
    bench.work_off()

    assert result.get(timeout=1) == [0, 1, 2, 3, 4]


def test_a_group_with_a_task_behind_it_is_a_chord(app, tasks, desk):
    flow = group(tasks.add.s(1, 1), tasks.add.s(2, 2)) | tasks.total.s() | tasks.add.s(10)
    result = flow()
    desk(app).work_off()

    assert result.get(timeout=1) == 16


def test_groups_and_chains_in_the_header_count_as_one_would_expect(app, tasks, desk):
    header = [
        chain(tasks.add.s(1, 1), tasks.add.s(5)),
        group(tasks.add.s(1, 2), tasks.add.s(3, 4)),
        chord([tasks.add.s(1, 1), tasks.add.s(2, 2)], tasks.total.s()),
    ]
    result = chord(header, tasks.total.s())()
    desk(app).work_off()

    assert result.get(timeout=1) == 7 + 3 + 7 + 6


def test_results_that_are_ignored_still_reach_the_body(app, tasks, desk):
    result = chord([tasks.unheard.s(1), tasks.unheard.s(2)], tasks.total.s())()
    desk(app).work_off()

    assert result.get(timeout=1) == 3


def test_a_failure_in_the_header_is_the_failure_of_the_body(app, tasks, desk):
    body = tasks.total.s().on_error(tasks.note.s())
    result = chord([tasks.add.s(1, 1), tasks.fail.si()], body)()
    desk(app).work_off()

    with pytest.raises(ChordError, match=r"Dependency \S+ raised KeyError\('x'\)"):
        result.get(timeout=1, follow_parents=False)
    assert tasks.called == [result.id]


def test_a_chain_that_fails_in_the_header_fails_the_body_as_well(app, tasks, desk):
    header = [chain(tasks.fail.si(), tasks.add.s(1)), tasks.add.s(1, 1)]
    result = chord(header, tasks.total.s())()
    desk(app).work_off()

    with pytest.raises(ChordError):
        result.get(timeout=1, follow_parents=False)
    with pytest.raises(KeyError):
        result.parent[0].get(timeout=1)


def test_what_follows_the_body_fails_with_it(app, tasks, desk):
    flow = group(tasks.fail.si(), tasks.add.s(1, 1)) | tasks.total.s() | tasks.add.s(1)
    result = flow()
    desk(app).work_off()

    with pytest.raises(ChordError):
        result.get(timeout=1, follow_parents=False)


def test_nobody_waits_for_a_chord_that_never_begins(app, tasks, desk):
    result = chain(
        tasks.fail.si(), chord([tasks.add.s(1), tasks.add.s(2)], tasks.total.s())
    )()
    desk(app).work_off()

    with pytest.raises(KeyError):
        result.get(timeout=1)
    assert [each.state for each in result.parent] == ["FAILURE", "FAILURE"]


@pytest.mark.parametrize("header_fails", [False, True])
def test_a_group_may_be_the_body(app, tasks, desk, header_fails):
    member = tasks.fail.si() if header_fails else tasks.add.s(2, 2)
    body = group(tasks.total.s(), tasks.total.s())
    result = chord([tasks.add.s(1, 1), member], body)()
    desk(app).work_off()

    if header_fails:
        assert [each.state for each in result] == ["FAILURE", "FAILURE"]
    else:
        assert result.get(timeout=1) == [6, 6]


def test_nothing_is_left_behind(app, tasks, desk):
    chord([tasks.add.s(1, 1), tasks.fail.si()], tasks.total.s())()
    chord([tasks.add.s(1, 1)], group(tasks.total.s(), tasks.total.s()))()
    desk(app).work_off()

    assert len(queue_of(app)) == 0
    assert queue_of(app)._chords._chords == {}
