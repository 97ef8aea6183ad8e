"""What work-flows amount to when they are combined: chains, groups, chords, and nothing."""

from __future__ import annotations

import json

import pytest

from pgtasks import chain, chord, group, signature
from pgtasks.canvas import Signature, StampingVisitor, _chain, _chord


@pytest.fixture
def add(memory_app):
    @memory_app.task(name="tests.add")
    def add(x, y=0):
        return x + y

    return add


def shape(sig):
    """A work-flow in words: ``[a, (b, c) > d]`` for a, then b and c, then d."""
    if isinstance(sig, _chord):
        members = getattr(sig.tasks, "tasks", sig.tasks)
        return f"({', '.join(map(shape, members))}) > {shape(sig.body)}"
    if isinstance(sig, group):
        return f"({', '.join(map(shape, sig.tasks))})"
    if isinstance(sig, _chain):
        return f"[{', '.join(map(shape, sig.tasks))}]"
    return "".join(map(str, sig["args"]))


@pytest.fixture
def s(add):
    return lambda name: add.s(name)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda s: s("a") | s("b"), "[a, b]"),
        (lambda s: (s("a") | s("b")) | (s("c") | s("d")), "[a, b, c, d]"),
        (lambda s: s("a") | (s("b") | s("c")), "[a, b, c]"),
        (lambda s: s("a") | group(s("b"), s("c")), "[a, (b, c)]"),
        (lambda s: group(s("a"), s("b")) | s("c"), "(a, b) > c"),
        (lambda s: group(s("a"), s("b")) | group(s("c"), s("d")), "(a, b) > (c, d)"),
        (lambda s: chord([s("a")], s("b")) | s("c"), "(a) > [b, c]"),
        (lambda s: chord([s("a")]) | s("b"), "(a) > b"),
        (lambda s: chord([s("a")], s("b")) | group(s("c"), s("d")), "[(a) > b, (c, d)]"),
        (lambda s: chord([s("a")], s("b")) | (s("c") | s("d")), "[(a) > b, c, d]"),
        (lambda s: chord([s("a")], s("b")) | chord([s("c")], s("d")), "(a) > [b, (c) > d]"),
        (lambda s: s("a") | group(s("b"), s("c")) | s("d"), "[a, (b, c) > d]"),
        (
            lambda s: s("a") | group(s("b"), s("c")) | s("d") | s("e"),
            "[a, (b, c) > [d, e]]",
        ),
        # A group of one is that one, a group of none is nothing.
        (lambda s: s("a") | group(s("b")), "[a, b]"),
        (lambda s: chord([s("a")], s("b")) | group(s("c")), "(a) > [b, c]"),
        (lambda s: s("a") | group() | s("b"), "[a, b]"),
        (lambda s: group(s("a"), s("b")) | group(), "(a, b)"),
        (lambda s: chord([s("a")], s("b")) | group(), "(a) > b"),
        (lambda s: chain(group(), s("a"), group(), s("b"), group()), "[a, b]"),
        # chain() does the same.
        (lambda s: chain(s("a"), chain(s("b"), s("c"))), "[a, b, c]"),
        (lambda s: chain([s("a"), group(s("b"), s("c")), s("d")]), "[a, (b, c) > d]"),
        (lambda s: chain(s(x) for x in "abc"), "[a, b, c]"),
        (lambda s: chain(group(s("a"), s("b"))), "[(a, b)]"),
        (lambda s: chain(group(s("a"), s("b")), s("c"), s("d")), "(a, b) > [c, d]"),
        (lambda s: chain(dict(s("a")), dict(s("b"))), "[a, b]"),
    ],
)
def test_an_operator_makes(s, make, expected):
    assert shape(make(s)) == expected


def test_groups_between_tasks_become_chords_one_after_the_other_not_one_in_the_other(s):
    steps = [
        step
        for x, y in (("a", "b"), ("c", "d"), ("e", "f"))
        for step in (group(s(x), s(x)), s(y))
    ]

    assert shape(chain(s("0"), *steps)) == "[0, (a, a) > b, (c, c) > d, (e, e) > f]"
    assert shape(chain(*steps)) == "[(a, a) > b, (c, c) > d, (e, e) > f]"
    folded = s("0")
    for step in steps:
        folded |= step
    assert shape(folded) == "[0, (a, a) > b, (c, c) > d, (e, e) > f]"


def test_a_body_with_callbacks_of_its_own_keeps_what_follows(s):
    flow = s("0") | group(s("a"), s("b"))
    flow |= s("c")
    flow.tasks[-1].set(link=[s("linked")])
    flow |= group(s("d"), s("e"))
    flow |= s("f")

    assert shape(flow) == "[0, (a, b) > [c, (d, e) > f]]"


def test_combining_leaves_the_parts_as_they_were(s):
    first, second = s("a") | s("b"), group(s("c"), s("d"))
    both = first | second
    more = both | s("e")

    assert shape(first) == "[a, b]"
    assert shape(second) == "(c, d)"
    assert shape(both) == "[a, b, (c, d)]"
    assert shape(more) == "[a, b, (c, d) > e]"
    more.tasks[0].set(queue="other")
    assert "queue" not in first.tasks[0].options


def test_the_last_task_of_a_chain_is_the_one_that_was_given(s):
    last = s("c")
    flow = chain(s("a"), s("b"), last)

    assert flow.tasks[-1] is last


def test_links_of_a_chain_stay_with_its_tasks_when_it_grows(s):
    inner = s("a") | s("b")
    inner.link(s("done"))
    inner.link_error(s("failed"))
    flow = inner | s("c")

    a, b, c = flow.tasks
    assert shape(flow) == "[a, b, c]"
    assert "link" not in a.options
    assert [shape(each) for each in b.options["link"]] == ["done"]
    assert [shape(each) for each in a.options["link_error"]] == ["failed"]
    assert a.options["link_error"][0] is not b.options["link_error"][0]
    assert c.options == {}


@pytest.mark.parametrize("other", [10, None, object()])
def test_what_is_no_signature_cannot_follow(s, other):
    for flow in (s("a"), s("a") | s("b"), group(s("a")), chord([s("a")], s("b"))):
        with pytest.raises(TypeError):
            flow | other
    with pytest.raises(TypeError):
        chain(s("a"), other)


def test_a_dict_is_never_merged_with_a_signature(s):
    for flow in (s("a"), s("a") | s("b"), group(s("a")), chord([s("a")], s("b"))):
        with pytest.raises(TypeError):
            flow | {"task": "other"}
        with pytest.raises(TypeError):
            {"task": "other"} | flow


def test_a_task_in_place_of_a_signature_is_refused_with_the_way_out(memory_app, add):
    for flow in (group(add, app=memory_app), chord([add.s(1)], add, app=memory_app)):
        with pytest.raises(TypeError, match=r"\.s\(…\)"):
            flow.apply_async()


@pytest.mark.parametrize(
    "make",
    [
        lambda s: s("a") | s("b"),
        lambda s: group(s("a"), group(s("b"), s("c"))),
        lambda s: chord([s("a"), s("b") | s("c")], s("d") | s("e")),
        lambda s: s("a") | group(s("b"), chord([s("c")], s("d"))) | s("e"),
        lambda s: chord(group(s("a"), s("b")), group(s("c"), s("d"))),
    ],
)
@pytest.mark.parametrize("frozen", [False, True])
def test_a_work_flow_survives_json(memory_app, s, make, frozen):
    flow = make(s)
    if frozen:
        flow.freeze()
    back = signature(json.loads(json.dumps(flow)), app=memory_app)

    assert type(back) is type(flow)
    assert shape(back) == shape(flow)
    assert json.dumps(signature(json.loads(json.dumps(back)))) == json.dumps(back)


def test_maps_survive_json(memory_app, add):
    for sig in (add.starmap([(1, 2)]), add.map([1])):
        assert type(sig.clone()) is type(sig)
        back = signature(json.loads(json.dumps(sig)), app=memory_app)
        assert type(back) is type(sig)
        assert json.dumps(back) == json.dumps(sig)


def test_partial_arguments_of_a_chain_survive_a_copy(memory_app, s):
    flow = (s("b") | s("c")).clone(("a",))
    back = signature(json.loads(json.dumps(flow)), app=memory_app)

    assert (tuple(flow.args), tuple(back.args)) == (("a",), ("a",))


def test_a_subclass_of_chain_is_of_its_own_class_with_the_folded_steps(s):
    @Signature.register_type("tests-own-chain")
    class own(chain):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.subtask_type = "tests-own-chain"

    try:
        made = own(s(x) for x in "ab")
        assert type(made) is own
        assert shape(made) == "[a, b]"
        assert type(made.clone()) is own
        assert type(made | s("c")) is own
        assert shape(own(s("a"), chain(s("b"), s("c")))) == "[a, b, c]"
    finally:
        del Signature.TYPES["tests-own-chain"]


def test_a_work_flow_is_shown_as_one_would_write_it(s):
    assert repr(s("a") | s("b")) == "tests.add('a') | add('b')"
    assert repr(group(s("a"), s("b"))) == "group((tests.add('a'), add('b')))"
    assert repr(group()) == "group(<empty>)"
    assert repr(chord([s("a")], s("b"))) == "%tests.add([add('a')], 'b')"
    assert "empty" in repr(chain())
    assert "without body" in repr(chord([s("a")]))


def test_a_chord_counts_what_its_members_stand_for(s):
    def size(*header):
        return chord(list(header), s("x")).__length_hint__()

    assert size(s("a"), s("b")) == 2
    assert size(s("a") | s("b")) == 1
    assert size(s("a") | group(s("b"), s("c"))) == 2
    assert size(group(s("a"), group(s("b"), s("c")))) == 3
    assert size(chord([s("a"), s("b")], s("c"))) == 1
    assert size(chord([s("a")], group(s("b"), s("c")))) == 2
    assert size(chain(s("a"), group(s("b"), s("c")), task_id="1")) == 2
    assert size(dict(s("a"))) == 1
    assert chord(s(x) for x in "abc").__length_hint__() == 3


def test_an_abstract_visitor_cannot_be_made():
    with pytest.raises(TypeError):
        StampingVisitor()
