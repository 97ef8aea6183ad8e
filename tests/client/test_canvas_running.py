"""Work-flows that run: what each task is given, and what comes out at the end."""

from __future__ import annotations

import asyncio

import pytest

from pgtasks import chain, chord, group
from pgtasks.exceptions import ChordError
from pgtasks.result import GroupResult

#: Not where everything runs at once.
queued = pytest.mark.parametrize("app", ["memory", "postgres"], indirect=True)


@pytest.fixture(params=["memory", "postgres", "eager"])
def app(request):
    if request.param == "eager":
        app = request.getfixturevalue("memory_app")
        app.conf.update(task_always_eager=True, task_store_eager_result=True)
        return app
    return request.getfixturevalue(f"{request.param}_app")


@pytest.fixture
def calls(app):
    """What the tasks were called with, in order."""
    return []


@pytest.fixture
def add(app, calls):
    @app.task(name="tests.add")
    def add(x, y, z=0):
        calls.append((x, y))
        return x + y + z

    return add


@pytest.fixture
def total(app, calls):
    @app.task(name="tests.total")
    def total(numbers, more=0):
        calls.append(list(numbers))
        return sum(numbers) + more

    return total


@pytest.fixture
def word(app):
    @app.task(name="tests.word")
    def word(text, given=None):
        return f"{text}{'' if given is None else given}"

    return word


@pytest.fixture
def listed(app):
    @app.task(name="tests.listed")
    def listed(items):
        return list(items)

    return listed


@pytest.fixture
def run(app, desk):
    """Sends a work-flow, works it off, and returns what came out of it."""

    def run(flow, *args, **options):
        result = flow.apply_async(args, **options)
        if not app.conf.task_always_eager:
            desk(app).work_off()
        return result.get(timeout=10)

    return run


def test_a_chain_hands_each_result_to_the_next(run, add, calls):
    assert run(add.s(1, 2) | add.s(3) | add.s(4)) == 10
    assert calls == [(1, 2), (3, 3), (6, 4)]


def test_further_arguments_are_the_first_tasks(run, add):
    assert run(add.s(1) | add.s(10), 5) == 16
    assert run(chain(chain(add.s(), add.s(1)), add.s(10), task_id="one"), 5, 6) == 22
    assert run((add.s(1) | add.s(10)).clone((5,))) == 16
    assert run(add.si(1, 1) | add.si(2, 2), 99) == 4


def test_a_group_has_the_results_of_its_members_in_order(run, add, word):
    assert run(group(add.s(i, i) for i in range(3))) == [0, 2, 4]
    assert run(group(add.s(1), add.s(2)), 10) == [11, 12]
    assert run(group(add.si(1, 1), add.s(2)), 10) == [2, 12]
    nested = group(word.s("a"), group(word.s("b"), group(word.s("c"))), word.s("d"))
    assert run(nested) == ["a", "b", "c", "d"]
    assert run(group(word.s("a"), word.s("b") | word.s())) == ["a", "b"]


def test_a_group_without_members_has_no_results(run, app):
    assert run(group(app=app)) == []


def test_a_chord_gives_its_body_the_results_in_the_order_of_the_header(run, word, listed):
    flow = chord([word.s("a"), group(word.s("b"), word.s("c")), word.s("d")], listed.s())
    assert run(flow) == ["a", "b", "c", "d"]


def test_a_chord_without_a_header_runs_its_body(run, total):
    assert run(chord([], total.s(5))) == 5
    assert run(chord([chain()], total.s(5))) == 5


def test_arguments_of_a_chord_are_its_members(run, add, total, calls):
    assert run(group(add.s(1), add.s(2)) | total.s(), 10) == 23
    assert calls[-1] == [11, 12]


def test_more_may_follow_a_chord(run, add, total):
    assert run(chord([add.s(1, 1), add.s(2, 2)], total.s()) | add.s(4) | add.s(5)) == 15
    assert run(add.s(1, 1) | group(add.s(1), add.s(2)) | total.s() | add.s(10)) == 17
    flow = chain(chord([add.s(1, 1)], total.s()), chord([add.s(1), add.s(2)], total.s()))
    assert run(flow) == 7


def test_a_chain_may_end_in_a_group(run, add):
    assert run(add.s(1, 1) | group(add.s(1), add.s(2))) == [3, 4]
    assert run(chord([add.s(1, 1)], add.si(2, 2)) | group(add.s(1), add.s(2))) == [5, 6]


def test_groups_may_follow_groups_however_many(run, total):
    flow = chain(*(group(total.s(1), total.s(2)) for _ in range(4)), total.s())

    # Each member is given the results of all members of the group before it.
    assert run(flow, [1]) == 61
    once = chord([total.s(1), total.s(2)], group(total.s(1), total.s(2)))
    assert run(chain(once, chord([total.s(), total.s()], total.s())), [0]) == 18


def test_chords_may_be_in_headers_and_bodies(run, add, total):
    inner = chord([add.s(1, 1), add.s(2, 2)], total.s())
    assert run(chord([inner, add.s(3, 3)], total.s())) == 12
    assert run(chord([add.s(1, 1)], chord([total.s(), total.s()], total.s()))) == 4
    assert run(chord([chord([inner], total.s())], total.s())) == 6


def test_a_header_may_have_chains_that_end_in_groups(run, add, total):
    flow = chord([add.s(1, 1) | group(add.s(1), add.s(2)), add.s(5, 5)], total.s())
    assert run(flow) == 17


def test_callbacks_are_called_once_for_a_chain_and_at_its_end(run, add, word, calls):
    flow = add.s(1, 1) | add.s(1)
    flow.link(add.s(100))
    run(flow)
    assert calls == [(1, 1), (2, 1), (3, 100)]


def test_callbacks_of_a_chord_are_its_bodys(run, add, total, calls):
    flow = chord([add.s(1, 1), add.s(2, 2)], total.s())
    assert run(flow, link=add.s(100)) == 6
    assert calls[-1] == (6, 100)
    assert "link" not in flow.body.options


def test_a_work_flow_can_be_sent_again_and_is_another_run(app, run, add, total):
    flow = add.s(1, 1) | group(add.s(1), add.s(2)) | total.s()
    assert [run(flow), run(flow)] == [7, 7]
    assert flow.apply_async().id != flow.apply_async().id


@queued
def test_a_frozen_work_flow_has_the_results_that_it_will_have(app, run, add, total):
    flow = add.s(1, 1) | group(add.s(1), add.s(2)) | total.s() | add.s(5)
    result = flow.freeze()
    before = repr(flow)

    assert run(flow) == 12
    assert result.get(timeout=10) == 12
    assert result.parent.get(timeout=10) == 7
    header = result.parent.parent
    assert isinstance(header, GroupResult)
    assert header.get(timeout=10) == [3, 4]
    assert header.parent.get(timeout=10) == 2
    assert repr(flow) == before


@queued
def test_results_lead_back_to_those_before_them(app, add, total, desk):
    result = (add.s(1, 1) | group(add.s(1), add.s(2)) | total.s()).apply_async()
    desk(app).work_off()

    assert result.get(timeout=10) == 7
    assert result.parent.get(timeout=10) == [3, 4]
    assert result.parent.parent.get(timeout=10) == 2


def test_chunks_and_maps(run, add, total):
    assert run(add.starmap([(1, 2), (3, 4)])) == [3, 7]
    assert run(total.map([[1, 2], [3, 4]])) == [3, 7]
    assert run(add.chunks([(i, i) for i in range(5)], 2)) == [[0, 2], [4, 6], [8]]
    assert run(add.chunks([(1, 1), (2, 2)], 1).group() | total.map([[1]])) == [1]


def test_a_failed_member_fails_the_body(app, run, add, total, desk):
    @app.task(name="tests.fail")
    def fail():
        raise ValueError("broken")

    flow = chord([add.s(1, 1), fail.s()], total.s())
    with pytest.raises(ValueError, match="broken"):
        run(flow)
    if not app.conf.task_always_eager:
        body = app.AsyncResult(flow.apply_async(task_id="the-body").id)
        desk(app).work_off()
        with pytest.raises(ChordError, match="broken"):
            body.get(timeout=10)


def test_coroutines_send_work_flows_too(app, add, total, desk):
    async def send():
        first = await (add.s(1, 1) | add.s(2)).aapply_async()
        second = await chord([add.s(1, 1), add.s(2, 2)], total.s()).adelay()
        third = await group(add.s(1), add.s(2)).aapply_async((10,))
        fourth = await add.s(1, 2).adelay()
        return first, second, third, fourth

    results = asyncio.run(send())
    if not app.conf.task_always_eager:
        desk(app).work_off()
    assert [each.get(timeout=10) for each in results] == [4, 6, [11, 12], 3]


@queued
def test_countdown_of_a_chord_puts_off_its_header(app, add, total, desk):
    chord([add.s(1, 1)], total.s()).apply_async(countdown=60)
    chord([add.s(1, 1)], total.s()).set(countdown=60).apply_async()

    assert desk(app).work_off() == []
