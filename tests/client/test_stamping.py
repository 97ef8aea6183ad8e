"""Stamps: values of the caller's on every task of a work-flow."""

from __future__ import annotations

import json

import pytest

from pgtasks import chain, chord, group, signature
from pgtasks.canvas import StampingVisitor, _merge_dictionaries


@pytest.fixture
def add(memory_app):
    @memory_app.task(name="tests.add")
    def add(x, y=0):
        return x + y

    return add


def stamps_of(sig):
    names = sig.options.get("stamped_headers") or ()
    return {name: sig.options[name] for name in names}


class ByName(StampingVisitor):
    """Stamps each part with what it is, and remembers the order of its visits."""

    def __init__(self):
        self.visits = []

    def on_signature(self, sig, **headers):
        self.visits.append(sig.args)
        return {"task": sig.name}

    def on_group_start(self, group, **headers):
        return {"in_group": True}

    def on_chain_start(self, chain, **headers):
        return {"in_chain": True}

    def on_chord_body(self, sig, **headers):
        return {"body": True}

    def on_callback(self, callback, **headers):
        return {"callback": callback.args[0]}

    def on_errback(self, errback, **headers):
        return {"errback": errback.args[0]}


def test_a_stamp_is_an_option_with_its_name_on_a_list(add):
    sig = add.s(1).stamp(customer="7")

    assert sig.options == {"customer": "7", "stamped_headers": ["customer"]}
    assert stamps_of(sig.stamp(order=8)) == {"customer": "7", "order": 8}


def test_the_first_of_two_stamps_stays_unless_both_are_wanted(add):
    sig = add.s(1).stamp(customer="7")

    assert stamps_of(sig.clone().stamp(customer="8"))["customer"] == "8"
    assert stamps_of(sig.clone().stamp(None, True, customer="8"))["customer"] == ["8", "7"]


def test_stamping_changes_no_value_of_the_callers(add):
    mine = ["a"]
    first, second = add.s(1), add.s(2)
    first.stamp(mark=mine)
    second.stamp(mark=mine)
    first.stamp(None, True, mark=["b"])

    assert mine == ["a"]
    assert sorted(first.options["mark"]) == ["a", "b"]
    assert second.options["mark"] == ["a"]


def test_stamps_reach_every_task_of_a_work_flow(memory_app, add):
    flow = add.s(0) | group(add.s(1), add.s(2) | add.s(3)) | add.s(4)
    flow = chord([flow, add.s(5)], group(add.s(6), add.s(7)), app=memory_app)
    flow.stamp(customer="7")

    tasks = []

    def gather(sig):
        parts = [
            *sig["kwargs"].get("tasks", ()),
            *getattr(sig["kwargs"].get("header"), "tasks", sig["kwargs"].get("header", ())),
        ]
        if sig["kwargs"].get("body"):
            parts.append(sig["kwargs"]["body"])
        for part in parts:
            gather(part)
        if not parts:
            tasks.append(sig)

    gather(flow)
    assert sorted(task.args for task in tasks) == [(number,) for number in range(8)]
    assert all(stamps_of(task) == {"customer": "7"} for task in tasks)


def test_members_of_a_generator_are_stamped_when_they_are_drawn(add):
    drawn = []

    def members():
        for number in range(3):
            drawn.append(number)
            yield add.s(number)

    flow = group(members())
    flow.stamp(customer="7")
    assert drawn == []
    assert [stamps_of(task) for task in flow.tasks] == [{"customer": "7"}] * 3


def test_a_visitor_chooses_the_stamps_of_each_part(memory_app, add):
    member = add.s(2)
    member.link(add.s("done"))
    member.link_error(add.s("failed"))
    flow = chain(add.s(1), chord([member, add.s(3)], add.s(4), app=memory_app))
    visitor = ByName()
    flow.stamp(visitor)

    name = {"task": "tests.add"}
    first, last = flow.tasks
    assert stamps_of(first) == {**name, "in_chain": True}
    in_header = {**name, "in_chain": True, "in_group": True}
    assert [stamps_of(task) for task in last.tasks.tasks] == [in_header, in_header]
    (link,), (errback,) = (
        last.tasks.tasks[0].options[key] for key in ("link", "link_error")
    )
    assert stamps_of(link) == {**in_header, "callback": "done"}
    assert stamps_of(errback) == {**in_header, "errback": "failed"}
    assert stamps_of(last.body) == {**in_header, "body": True}
    assert visitor.visits == [(1,), ("done",), ("failed",), (2,), (3,), (4,)]


def test_a_visitor_may_say_which_of_its_answers_are_stamps(add):
    class Quiet(StampingVisitor):
        def on_signature(self, sig, **headers):
            return {"seen": 1, "priority": 3, "stamped_headers": ["seen"]}

    sig = add.s(1).stamp(Quiet())

    assert stamps_of(sig) == {"seen": 1}
    assert sig.options["priority"] == 3


def test_links_that_came_as_dicts_are_stamped(add):
    sig = signature(json.loads(json.dumps(add.s(1).on_error(add.s(2)))), app=add.app)
    sig.stamp(customer="7")

    (errback,) = json.loads(json.dumps(sig))["options"]["link_error"]
    assert errback["options"]["customer"] == "7"


def test_callbacks_of_one_task_do_not_share_their_stamps(add):
    sig = add.s(1)
    sig.link(add.s("a"))
    sig.link(add.s("b"))
    sig.stamp(ByName())

    assert [stamps_of(link)["callback"] for link in sig.options["link"]] == ["a", "b"]


def test_stamps_are_sent_and_stay_what_they_were(memory_app, add):
    told = []

    @memory_app.task(name="tests.told", bind=True)
    def tell(self):
        told.append((self.request.stamped_headers, self.request.stamps))

    sig = tell.s().stamp(customer="7")
    sig.apply(customer="8")

    assert told == [(["customer"], {"customer": ["7"]})]


@pytest.mark.parametrize(
    ("old", "new", "both", "first"),
    [
        (1, 2, [1, 2], 1),
        ("a", ["b"], ["a", "b"], "a"),
        (["a"], ["b"], ["a", "b"], ["a", "b"]),
        (("a",), "b", ["a", "b"], ("a",)),
        (None, "b", ["b"], None),
        ({"x": 1}, {"x": 2, "y": 3}, {"x": [1, 2], "y": 3}, {"x": 1, "y": 3}),
    ],
)
def test_two_values_under_one_name_are_merged(old, new, both, first):
    for aggregate, expected in ((True, both), (False, first)):
        target = {"key": old}
        _merge_dictionaries(target, {"key": new, "other": 0}, aggregate)
        assert target == {"key": expected, "other": 0}
    _merge_dictionaries(target, None)
    assert target == {"key": first, "other": 0}
