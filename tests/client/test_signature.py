"""Signatures: calls that have not been made yet, and that travel as dicts."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest

from pgtasks.app.memory import queue_of
from pgtasks.canvas import (
    Signature,
    chain,
    chord,
    chunks,
    group,
    maybe_signature,
    signature,
    subtask,
    xmap,
)
from pgtasks.exceptions import NotRegistered


@pytest.fixture
def app(memory_app):
    return memory_app


@pytest.fixture
def add(memory_app):
    @memory_app.task(name="tests.add")
    def add(x, y, z=0):
        return x + y + z

    return add


def sent(app: Any) -> tuple[Any, Any]:
    job = queue_of(app).waiting()[-1]
    return json.loads(job.args), json.loads(job.kwargs)


def test_a_signature_has_the_parts_of_a_call(add):
    sig = add.s(1, y=2).set(queue="mail", countdown=3)

    assert (sig.task, sig.name) == ("tests.add", "tests.add")
    assert (sig.args, sig.kwargs) == ((1,), {"y": 2})
    assert sig.options == {"queue": "mail", "countdown": 3}
    assert (sig.immutable, sig.id) == (False, None)
    assert repr(sig) == "tests.add(1, y=2)"
    assert sig.reprcall(5) == "tests.add(5, 1, y=2)"


def test_further_arguments_go_in_front(app, add):
    add.s(3).delay(1)
    assert sent(app) == ([1, 3], {})
    add.s(3, z=1).apply_async((1,), {"z": 2})
    assert sent(app) == ([1, 3], {"z": 2})


def test_an_immutable_signature_takes_no_further_arguments(app, add):
    add.si(1, 2).delay(9, z=9)
    assert sent(app) == ([1, 2], {})
    add.s(1, 2).set(immutable=True).apply_async((9,))
    assert sent(app) == ([1, 2], {})


def test_options_of_the_call_win_over_those_of_the_signature(app, add):
    add.s(1, 2).set(queue="mine", priority=3).apply_async(queue="theirs", priority=None)
    job = queue_of(app).waiting()[-1]

    assert (job.queue, job.priority) == ("theirs", 3)


def test_a_signature_called_is_the_function_called(add):
    assert add.s(1)(2) == 3
    assert add.s(1, 2).apply().get() == 3
    assert add.s(2).apply((1,), {"z": 4}).get() == 7


def test_a_tilde_sends_and_waits(add, app):
    app.conf.task_always_eager = True
    assert ~add.s(1, 2) == 3


def test_a_clone_has_its_own_arguments_and_options(add):
    sig = add.s(1, z=5).set(queue="a", link=[add.s(0)])
    copied = sig.clone((9,), {"y": 1}, queue="b")
    plain = sig.clone()
    plain.kwargs["z"] = 6
    plain.options["link"].append("more")

    assert (copied.args, copied.kwargs) == ((9, 1), {"z": 5, "y": 1})
    assert copied.options["queue"] == "b"
    assert (sig.kwargs, sig.options["queue"], len(sig.options["link"])) == (
        {"z": 5},
        "a",
        1,
    )
    assert sig.replace(args=(7,)).args == (7,)
    assert sig.replace(kwargs={}, options={}) == {**sig, "kwargs": {}, "options": {}}


def test_freezing_gives_the_id_that_the_task_will_have(app, add):
    sig = add.s(1, 2)
    result = sig.freeze(group_id="g", root_id="r", parent_id="p", group_index=2)

    assert sig.id == result.id
    assert sig.freeze().id == result.id
    assert sig.apply_async().id == result.id
    job = queue_of(app).waiting()[-1]
    assert (job.task_id, job.group_id, job.group_index) == (result.id, "g", 2)
    assert (job.root_id, job.parent_id) == ("r", "p")
    assert add.s(1).freeze("mine").id == "mine"


def test_merging_leaves_the_group_and_stamps_alone(add):
    sig = add.s(1, 2).set(group_id="g", stamped_headers=["a"], a=1)
    _, _, options = sig._merge(options={"group_id": "h", "a": 2, "queue": "q"})

    assert options == {"group_id": "g", "stamped_headers": ["a"], "a": 1, "queue": "q"}


def test_links_are_gathered_once(app, add):
    callback, errback = add.s(1), add.s(2)
    sig = add.s(1, 2)
    assert sig.link(callback) is callback
    sig.link(callback)
    assert sig.link_error(errback) is errback
    assert sig.on_error(errback) is sig
    assert sig.options == {"link": [callback], "link_error": [errback]}
    assert sig.flatten_links() == [sig, callback]
    sig.extend_list_option("link", [add.s(3)])

    sig.delay()
    embed = json.loads(queue_of(app).waiting()[-1].embed)
    assert [each["args"] for each in embed["callbacks"]] == [[1], [3]]
    assert [each["task"] for each in embed["errbacks"]] == ["tests.add"]


def test_a_circle_of_links_is_refused_when_it_is_sent(app, add):
    alone, first, second = add.s(1, 1), add.s(2, 2), add.s(3, 3)
    alone.link(alone)
    first.link(second)
    second.link_error(first)

    for sig in (alone, first, second):
        with pytest.raises(ValueError, match=r"lead back to it.*clone"):
            sig.delay()
        with pytest.raises(ValueError, match=r"lead back to it.*clone"):
            sig.apply()
    assert queue_of(app).waiting() == []


def test_a_signature_survives_json_and_pickle(app, add):
    sig = add.s(1, y={"a": [1]}).set(queue="mail", link=[add.s(5)])
    back = signature(json.loads(json.dumps(sig)), app=app)

    assert isinstance(back, Signature)
    assert json.dumps(back) == json.dumps(sig)
    assert back.type is app.tasks["tests.add"]
    back.delay()
    assert sent(app) == ([1], {"y": {"a": [1]}})
    app.set_current()
    assert pickle.loads(pickle.dumps(sig)) == sig
    assert copy.deepcopy(sig) == dict(sig)


def test_a_signature_may_name_a_task_that_is_not_registered(app):
    sig = signature("tests.elsewhere", (1,), {"a": 2}, {"queue": "far"}, app=app)
    result = sig.delay()

    job = queue_of(app).waiting()[-1]
    assert (job.task, job.task_id, job.queue) == ("tests.elsewhere", result.id, "far")
    with pytest.raises(NotRegistered):
        _ = sig.type
    assert app.signature("tests.elsewhere").app is app


def test_what_is_a_signature_already_is_copied_or_left_alone(app, add):
    sig = add.s(1, 2)

    assert signature(sig) == sig
    assert signature(sig) is not sig
    assert maybe_signature(sig) is sig
    assert maybe_signature(sig, clone=True) is not sig
    assert maybe_signature(None) is None
    assert maybe_signature(dict(sig), app=app)._app is app
    assert subtask is signature


def test_a_kind_of_signature_of_ones_own_is_found_by_its_name():
    @Signature.register_type("tests-kind")
    class Kind(Signature):
        @classmethod
        def from_dict(cls, d, app=None):
            return cls("tests.kind", app=app)

    try:
        made = signature({"task": "x", "subtask_type": "tests-kind"})
        assert type(made) is Kind
        assert made.task == "tests.kind"
    finally:
        del Signature.TYPES["tests-kind"]


def test_two_signatures_are_not_merged_like_dicts(add):
    with pytest.raises(TypeError):
        add.s(1) | {"task": "other"}
    with pytest.raises(TypeError):
        {"task": "other"} | add.s(1)


def test_every_kind_may_be_written_with_the_type_of_its_result(add):
    for kind in (Signature, chain, group, chord, chunks, xmap):
        assert kind[int].__origin__ is kind


def test_a_task_makes_signatures_in_all_of_celerys_ways(add, app):
    assert add.signature((1,), {"y": 2}, {"queue": "q"}).options == {"queue": "q"}
    assert add.subtask((1, 2), queue="q").options == {"queue": "q"}
    assert add.s(1).app is app
    assert add.si(1).immutable is True
