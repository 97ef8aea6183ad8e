"""How work-flows are sent: in one batch, with ids, and no larger than they need to be."""

from __future__ import annotations

import json

import pytest

from pgtasks import chain, chord, group
from pgtasks.app.memory import queue_of
from pgtasks.canvas import Signature
from pgtasks.exceptions import CPendingDeprecationWarning


@pytest.fixture
def app(memory_app):
    return memory_app


@pytest.fixture
def add(app):
    @app.task(name="tests.add", typing=False)
    def add(*args):
        return sum(args)

    return add


@pytest.fixture
def sent(app):
    """The rows of what has been sent and not been looked at yet."""
    seen = set()

    def sent():
        rows = [row for row in queue_of(app).waiting() if row.task_id not in seen]
        seen.update(row.task_id for row in rows)
        return rows

    return sent


def size_of(rows):
    return sum(len(row.embed or "") + len(row.args or "") for row in rows)


def test_the_members_of_a_group_know_their_places(app, add, sent):
    result = group(add.s(1), group(add.s(2), add.s(3)), add.s(4)).apply_async()

    rows = sent()
    assert [row.task_id for row in rows] == [each.id for each in result]
    assert [row.group_id for row in rows] == [result.id] * 4
    assert [row.group_index for row in rows] == [0, 1, 2, 3]


def test_a_generator_is_drawn_from_when_the_group_is_sent(app, add, sent):
    drawn = []

    def members():
        for number in range(3):
            drawn.append(number)
            yield add.s(number)

    flow = chord(members(), add.s())
    assert drawn == []
    flow.apply_async()
    assert drawn == [0, 1, 2]
    assert len(sent()) == 4


def test_a_member_that_cannot_be_sent_takes_all_of_them_along(postgres_app, desk):
    @postgres_app.task(name="tests.one")
    def one(x):
        return x

    with pytest.raises(Exception, match="JSON"):
        group(one.s(1), one.s(object())).apply_async()
    with pytest.raises(Exception, match="JSON"):
        chord([one.s(1), one.s(object())], one.s()).apply_async()
    assert desk(postgres_app).claim() == []


def test_sending_a_chord_copies_each_member_twice(app, add, monkeypatch):
    members = [add.s(number) for number in range(100)]
    copies = []
    clone = Signature.clone

    def counted(self, *args, **kwargs):
        copies.append(self)
        return clone(self, *args, **kwargs)

    monkeypatch.setattr(Signature, "clone", counted)
    chord(members, add.s()).apply_async()
    # When the chord is made, and when it is sent; and the body.
    assert len(copies) <= 205


def test_a_long_chain_is_made_and_sent_in_one_pass(app, add, sent, monkeypatch):
    copies = []
    clone = Signature.clone

    def counted(self, *args, **kwargs):
        copies.append(self)
        return clone(self, *args, **kwargs)

    monkeypatch.setattr(Signature, "clone", counted)
    result = chain(*(add.s(number) for number in range(2000))).apply_async()
    assert len(copies) <= 4000
    (row,) = sent()
    steps = json.loads(row.embed)["chain"]
    assert len(steps) == 1999
    # The next one last, as the worker takes them.
    assert (steps[-1]["args"], steps[0]["args"]) == ([1], [1999])
    assert steps[0]["options"]["task_id"] == result.id


def test_a_long_chain_of_chords_is_neither_nested_nor_large(app, add, sent):
    def size(count):
        steps = [
            step for _ in range(count) for step in (group(add.s(1), add.s(2)), add.s(3))
        ]
        chain(add.s(0), *steps).apply_async()
        return size_of(sent())

    few, many = size(50), size(500)
    assert many < 11 * few


@pytest.mark.parametrize("frozen", [False, True])
def test_what_is_sent_with_a_nested_chord_holds_no_body_twice(app, add, sent, frozen):
    def size(depth):
        flow = add.s()
        for _ in range(depth):
            flow = chord([add.s(1), add.s(2)], flow)
        flow = add.s(0) | flow
        if frozen:
            flow.freeze()
        flow.apply_async()
        return size_of(sent())

    assert size(8) < 3 * size(4)


def test_sending_leaves_a_frozen_work_flow_as_it_is(app, add):
    inner = chord([add.s(5), add.s(6)], add.s(9))
    for flow in (
        chord([add.s(1), add.s(2)], inner),
        add.s(0) | chord([add.s(1), add.s(2)], inner) | add.s(3),
        chord([chord([add.s(1)], inner), add.s(0)], add.s(10)),
        chain(add.s(1), group(add.s(2), add.s(3)), add.s(4), task_id="last"),
    ):
        flow.freeze()
        before = json.dumps(flow)
        flow.apply_async()
        assert json.dumps(flow) == before


def test_a_frozen_chain_is_given_its_arguments_once(app, add, sent):
    flow = (add.s(2) | add.s(3)).clone((1,))
    flow.freeze()
    flow.freeze()
    flow.apply_async()

    assert [json.loads(row.args) for row in sent()] == [[1, 2]]


def test_options_of_a_chain_go_where_they_belong(app, add, sent):
    flow = chain(add.s(1), add.s(2), add.s(3))
    flow.apply_async(
        queue="first", task_id="last", link=add.s("done"), link_error=add.s("failed")
    )

    (row,) = sent()
    embed = json.loads(row.embed)
    third, second = embed["chain"]
    assert (row.queue, second["options"].get("queue")) == ("first", None)
    assert third["options"]["task_id"] == "last"
    assert [each["args"] for each in third["options"]["link"]] == [["done"]]
    assert "link" not in second["options"]
    for errbacks in (
        embed["errbacks"],
        second["options"]["link_error"],
        third["options"]["link_error"],
    ):
        assert [each["args"] for each in errbacks] == [["failed"]]


def test_a_group_takes_no_callback_for_all_of_it(app, add):
    flow = group(add.s(1), add.s(2))
    with pytest.raises(TypeError, match="use a chord"):
        flow.apply_async(link=add.s())
    with pytest.raises(TypeError, match="individual tasks"):
        flow.apply_async(link_error=add.s())


def test_a_callback_linked_to_a_group_is_the_first_members_and_gets_nothing(add):
    flow = group(add.s(1), add.s(2))
    flow.link(add.s(9))

    (link,) = flow.tasks[0].options["link"]
    assert (link.args, link.immutable) == ((9,), True)
    assert "link" not in flow.tasks[1].options


def test_an_errback_linked_to_a_group_is_every_members(add):
    flow = group(add.s(1), add.s(2))
    linked = flow.link_error(add.s(9))

    assert [each.args for each in linked] == [(9,), (9,)]
    assert [task.options["link_error"] for task in flow.tasks] == [
        [each] for each in linked
    ]
    assert linked[0] is not linked[1]


def test_an_errback_linked_to_a_chord_is_its_bodys_and_with_a_setting_its_members(app, add):
    flow = chord([add.s(1), add.s(2)], add.s(3), app=app)
    with pytest.warns(CPendingDeprecationWarning, match="chord_header"):
        flow.link_error(add.s(9))
    assert [each.args for each in flow.body.options["link_error"]] == [(9,)]
    assert all("link_error" not in task.options for task in flow.tasks)

    app.conf.task_allow_error_cb_on_chord_header = True
    flow.link_error(add.s(8))
    for task in flow.tasks:
        assert [each.args for each in task.options["link_error"]] == [(8,)]


def test_a_group_is_skewed_by_countdowns(add):
    flow = group(add.s(number) for number in range(4)).skew(start=1, stop=3, step=1)
    assert [task.options["countdown"] for task in flow.tasks] == [1, 2, 3, 3]


def test_chunks_and_maps_take_the_route_of_their_task(app, add, sent):
    app.conf.task_routes = {"tests.add": "adders"}
    add.starmap([(1, 2)]).apply_async()
    add.chunks([(1, 2), (3, 4)], 1)()
    add.map([1]).clone().apply_async()

    assert [(row.task, row.queue) for row in sent()] == [
        ("celery.starmap", "adders"),
        ("celery.starmap", "adders"),
        ("celery.starmap", "adders"),
        ("celery.map", "adders"),
    ]


def test_what_is_used_twice_in_a_frozen_chord_is_refused(app, add):
    step = add.s(1)
    flow = chord([add.s(0)], chain(step, step, task_id="x"))
    with pytest.raises(RuntimeError, match="clone"):
        flow.freeze()


def test_an_empty_chain_sends_nothing(app, sent):
    flow = chain(app=app)
    assert flow.apply_async() is None
    assert flow() is None
    with pytest.raises(ValueError, match="nothing in this chain"):
        flow.freeze()
    assert sent() == []
