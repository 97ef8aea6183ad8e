"""What a failure takes with it, as a pure function of signatures."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from pgtasks.app.context import Context
from pgtasks.backends.propagation import errbacks_of, rest_of, rest_of_chain


def task(name: str, **options: Any) -> dict[str, Any]:
    """A signature as it travels; its id is ``<name>-id`` unless it says otherwise."""
    options.setdefault("task_id", f"{name}-id")
    return {
        "task": name,
        "args": [],
        "kwargs": {},
        "options": options,
        "subtask_type": None,
        "immutable": False,
    }


def composite(kind: str, id: str | None = None, /, **kwargs: Any) -> dict[str, Any]:
    options = kwargs.pop("options", {})
    if id is not None:
        options = {"task_id": id, **options}
    return {
        **task(f"celery.{kind}"),
        "kwargs": kwargs,
        "options": options,
        "subtask_type": kind,
    }


def chain(*tasks: Any, id: str | None = None, **options: Any) -> dict[str, Any]:
    return composite("chain", id, tasks=list(tasks), options=options)


def group(*tasks: Any, id: str | None = None, **options: Any) -> dict[str, Any]:
    return composite("group", id, tasks=list(tasks), options=options)


def chord(header: Any, body: Any, **options: Any) -> dict[str, Any]:
    return composite("chord", "header-id", header=header, body=body, options=options)


def names(found: Any) -> list[str]:
    return [each.task_id.removesuffix("-id") for each in found]


def test_what_is_left_of_a_chain_never_runs():
    # As it travels: the next task last.
    request = Context(chain=[task("c"), task("b")])

    assert names(rest_of(request)) == ["b", "c"]


def test_a_request_without_chain_and_callbacks_takes_nothing_with_it():
    assert rest_of(Context()) == []
    assert rest_of(SimpleNamespace()) == []
    assert rest_of(SimpleNamespace(chain=object(), callbacks="odd")) == []


def test_a_callback_with_an_id_never_runs_either_and_comes_last():
    request = Context(chain=[task("next")], callbacks=[task("told"), task("x", task_id="")])

    found = rest_of(request)

    assert names(found) == ["next", "told"]
    assert [each.role for each in found] == ["step", "callback"]


def test_callbacks_of_callbacks_and_of_steps_are_found():
    told = task("told", link=[task("told2")])
    request = Context(chain=[task("next", link=task("after"))], callbacks=[told])

    assert names(rest_of(request)) == ["next", "after", "told", "told2"]


def test_a_task_without_an_id_is_left_out_for_nobody_can_wait_for_it():
    assert rest_of_chain([task("a", task_id=None), {"task": "b"}]) == []


def test_a_group_is_its_members():
    found = rest_of_chain([group(task("a"), task("b"), id="group-id")])

    assert names(found) == ["a", "b"]
    assert {each.role for each in found} == {"member"}


def test_a_chord_is_its_header_and_its_body():
    found = rest_of_chain([chord([task("h1"), task("h2")], task("body"))])

    assert [(each.task, each.role) for each in found] == [
        ("h1", "member"),
        ("h2", "member"),
        ("body", "step"),
    ]


def test_the_header_of_a_chord_may_be_a_group_and_its_members_chains():
    header = group(chain(task("a"), task("b"), id="b-id"), task("c"), id="header-id")

    assert names(rest_of_chain([chord(header, task("body"))])) == ["a", "b", "c", "body"]


def test_a_chord_without_a_body_is_its_header():
    assert names(rest_of_chain([chord([task("h")], None)])) == ["h"]


def test_bodies_are_followed_however_deep_they_are():
    body = chord([task("h2")], chord([task("h3")], chain(task("x"), task("y"))))

    assert names(rest_of_chain([chord([task("h1")], body)])) == ["h1", "h2", "h3", "x", "y"]


def test_depth_is_no_matter():
    body = task("end")
    for _ in range(5000):
        body = chord([task("h")], chain(body))

    assert names(rest_of_chain([body])) == ["h", "end"]


def test_a_body_takes_its_own_chain_along():
    body = task("body", chain=[task("last"), task("after")])

    assert names(rest_of_chain([chord([task("h")], body)])) == [
        "h",
        "body",
        "after",
        "last",
    ]


def test_the_id_of_a_chain_is_that_of_its_last_task():
    last = task("last", task_id=None)

    assert names(rest_of_chain([chain(task("first"), last, id="end-id")])) == [
        "first",
        "end",
    ]
    assert names(rest_of_chain([chain(task("a"), task("b"), id="b-id")])) == ["a", "b"]


def test_each_task_is_named_once():
    told = task("told")
    request = Context(chain=[task("b", link=[told]), task("a", link=[told])])

    assert names(rest_of(request)) == ["a", "told", "b"]


def test_a_member_of_a_chord_that_has_begun_still_counts_in_it():
    body = task("outer")
    counted = task("b", chord=body, group_id="g", group_index=3)

    (found,) = rest_of_chain([counted])

    assert found.chord == body
    assert (found.group_id, found.group_index) == ("g", 3)


def test_the_header_of_a_chord_that_never_begins_counts_nowhere():
    inner, outer = task("inner", chord="outer", group_id="g"), task("h", chord="inner")

    found = {each.task: each.chord for each in rest_of_chain([chord([outer], inner)])}

    assert found == {"h": None, "inner": "outer"}


def test_generators_are_not_run():
    def never():
        raise AssertionError("a generator was run")
        yield

    assert rest_of_chain([composite("group", tasks=never())]) == []


def test_nothing_depends_on_the_signatures_being_signatures():
    tree = [
        task("c"),
        chord(group(task("h1"), chain(task("h2"), task("h3"))), task("body")),
        group(task("g1"), task("g2")),
    ]

    assert names(rest_of_chain(json.loads(json.dumps(tree)))) == names(rest_of_chain(tree))


def test_what_is_given_stays_as_it_is():
    tree = [chord([task("h")], task("body", chain=[task("last")]))]
    before = json.dumps(tree)

    rest_of_chain(tree)

    assert json.dumps(tree) == before


@pytest.mark.parametrize(
    ("signature", "expected"),
    [
        (task("t"), ("t-id", [])),
        (task("t", link_error=["e", "f", "e"]), ("t-id", ["e", "f"])),
        (task("t", link_error=task("e")), ("t-id", [task("e")])),
        (
            chain(task("a", link_error=["own"]), id="b-id", link_error=["e"]),
            ("b-id", ["e"]),
        ),
        (
            group(task("a", link_error=["x"]), task("b", link_error=["x", "y"]), id="g-id"),
            ("g-id", ["x", "y"]),
        ),
        (
            chord([task("h", link_error=["no"])], task("body", link_error=["e"])),
            ("body-id", ["e"]),
        ),
        (
            chord([], group(task("a", link_error=["x"]), id="g-id"), link_error=["own"]),
            ("g-id", ["own", "x"]),
        ),
    ],
)
def test_the_errbacks_of_what_never_runs(signature, expected):
    assert errbacks_of(signature) == expected
