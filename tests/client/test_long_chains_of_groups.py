"""Chains of hundreds of groups: no recursion, no message that grows, no time wasted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from pgtasks import Celery, chain, chord, group
from pgtasks.app.memory import queue_of
from pgtasks.canvas import Signature, maybe_signature
from pgtasks.exceptions import CPendingDeprecationWarning

LONG = 500


@pytest.fixture
def step(memory_app: Celery) -> Any:
    return define_step(memory_app)


def define_step(app: Celery) -> Any:
    @app.task(name="tests.step", typing=False)
    def step(*args: Any) -> Any:
        """One more than the first result before it, or a failure."""
        *before, given = args
        if given == "fail":
            raise KeyError(given)
        return before[0][0] + 1 if before and isinstance(before[0], list) else given

    return step


def groups(step: Any, count: int) -> list[Any]:
    return [group(step.s(0), step.s(0)) for _ in range(count)]


def parents(result: Any) -> Iterator[Any]:
    while result.parent is not None:
        result = result.parent
        yield result


def sizes(app: Celery) -> list[int]:
    """How many bytes of the caller's and of the work-flow each waiting row has."""
    return [
        len(row.args) + len(row.kwargs) + len(row.embed or "") + len(row.headers or "")
        for row in queue_of(app).waiting()
    ]


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    made: list[Any] = []
    clone = Signature.clone

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        made.append(self)
        return clone(self, *args, **kwargs)

    monkeypatch.setattr(Signature, "clone", counted)
    return made


def in_one_go(step: Any, count: int) -> Any:
    return chain(*groups(step, count))


def by_operators(step: Any, count: int) -> Any:
    first, *others = groups(step, count)
    flow = first
    for each in others:
        flow |= each
    return flow


def by_hand(step: Any, count: int) -> Any:
    *others, flow = groups(step, count)
    for each in reversed(others):
        flow = chord(each, flow)
    return flow


@pytest.mark.parametrize("make", [in_one_go, by_operators, by_hand])
def test_it_is_frozen_and_sent_whole(memory_app, step, make):
    flow = make(step, LONG)
    result = flow.freeze()
    flow.apply_async()

    rows = queue_of(memory_app).waiting()
    assert len(rows) == 2 * LONG
    assert {each.id for each in result} <= {row.task_id for row in rows}
    before = list(parents(result))
    assert len(before) == LONG - 1
    assert {each.id for header in before for each in header} < {row.task_id for row in rows}


@pytest.mark.parametrize("read_again", [False, True])
def test_it_is_no_larger_when_it_is_frozen_than_its_tasks_are(memory_app, step, read_again):
    def size(count: int) -> int:
        flow = in_one_go(step, count)
        if read_again:
            flow = maybe_signature(json.loads(json.dumps(flow)), app=memory_app)
        flow.freeze()
        return len(json.dumps(flow))

    assert size(LONG) < 5.1 * size(LONG // 5)


def test_no_message_grows_with_its_length(memory_app, step):
    in_one_go(step, 20).apply_async()
    few = max(sizes(memory_app))
    in_one_go(step, LONG).apply_async()
    # A place in a group has one digit more.
    assert max(sizes(memory_app)) <= few + 8


def test_none_does_where_it_is_the_body_of_a_chord_that_was_read_from_json(
    memory_app, step
):
    def largest(count: int) -> int:
        flow = chord([step.s(0), step.s(0)], in_one_go(step, count))
        maybe_signature(json.loads(json.dumps(flow)), app=memory_app).apply_async()
        return max(sizes(memory_app))

    assert largest(LONG) <= largest(20) + 8


def test_a_task_in_front_carries_each_group_once(memory_app, step):
    def size(count: int) -> int:
        chain(step.s(0), *groups(step, count)).apply_async()
        found = max(sizes(memory_app))
        queue_of(memory_app).purge(["celery"])
        return found

    assert size(LONG) < 5.1 * size(LONG // 5)


def test_sending_copies_each_member_as_often_as_in_a_short_one(memory_app, step, copies):
    def count(length: int) -> int:
        flow = in_one_go(step, length)
        copies.clear()
        flow.apply_async()
        return len(copies)

    assert count(LONG) < 5.1 * count(LONG // 5)


@pytest.mark.parametrize("around", ["nothing", "tasks"])
def test_it_runs_to_its_end(each_app, desk, around):
    step = define_step(each_app)
    steps = groups(step, LONG)
    if around == "tasks":
        result = chain(step.s(7), *steps, step.s(0)).apply_async()
        expected: Any = LONG
    else:
        result = chain(*steps).apply_async()
        expected = [LONG - 1, LONG - 1]
    desk(each_app).work_off()

    assert result.get(timeout=10) == expected


def test_when_the_first_group_fails_all_of_it_has_failed(each_app, desk):
    step = define_step(each_app)
    result = chain(group(step.s("fail"), step.s(0)), *groups(step, 200)).apply_async()
    desk(each_app).work_off()

    assert [each.state for each in result] == ["FAILURE", "FAILURE"]
    # Not that a header before it has failed: what there was to fail of.
    with pytest.raises(KeyError, match="fail"):
        result.get(timeout=10)


def test_it_can_be_the_header_of_a_chord_and_be_followed(memory_app, step, desk):
    flow = chord([in_one_go(step, 200), step.s(1)], step.s(0)) | step.s(5)
    result = flow.apply_async()
    desk(memory_app).work_off()

    assert result.get(timeout=1) == 5


def test_what_is_linked_to_it_is_linked_to_its_end(memory_app, step, desk):
    flow = by_hand(step, LONG) | step.s(0)
    flow.link(step.si("linked"))
    with pytest.warns(CPendingDeprecationWarning):
        flow.link_error(step.si("fail"))
    flow.apply_async()
    outcomes = desk(memory_app).work_off()

    assert outcomes[-1].result == '"linked"'
    assert len(outcomes) == 2 * LONG + 2


def test_a_task_that_it_follows_keeps_the_ids_that_it_was_frozen_with(
    memory_app, step, desk
):
    result = chain(step.s(0), *groups(step, 4), step.s(0)).apply_async()
    sent = []
    bench = desk(memory_app)
    while claimed := bench.claim():
        sent += claimed
        for job in claimed:
            bench.run(job)

    found = {job.task_id: job.group_id for job in sent}
    headers = [each for each in parents(result) if hasattr(each, "results")]
    assert len(headers) == 4
    for header in headers:
        assert {found[member.id] for member in header} == {header.id}


def test_it_is_read_again_from_json_however_deep_that_is(memory_app, step):
    dicts = json.loads(json.dumps(by_hand(step, 100)))
    for _ in range(3):
        # Deeper than Python nests calls; not than an object may be.
        inner = dicts
        while inner["kwargs"]["body"].get("subtask_type") == "chord":
            inner = inner["kwargs"]["body"]
        inner["kwargs"]["body"] = json.loads(json.dumps(by_hand(step, 100)))
    maybe_signature(dicts, app=memory_app).apply_async()

    assert len(queue_of(memory_app).waiting()) == 2 * 400 - 3 * 2


def test_the_first_group_of_a_chain_with_options_gets_the_arguments(memory_app, step):
    chain(*groups(step, 3), task_id="last").apply_async((99,))

    rows = [row for row in queue_of(memory_app).waiting() if row.awaits is None]
    assert [row.args for row in rows] == ["[99, 0]", "[99, 0]"]
