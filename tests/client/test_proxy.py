from __future__ import annotations

import inspect
import pickle
from typing import Any

import pytest

from pgtasks.local import class_property
from pgtasks.utils.proxy import PromiseProxy, Proxy, maybe_evaluate, try_import


class Thing:
    """A thing."""

    made = 0

    def __init__(self, value: int = 3) -> None:
        type(self).made += 1
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Thing) and other.value == self.value

    def __hash__(self) -> int:
        return hash(self.value)


def function(x: int, y: int = 2) -> int:
    """Add."""
    return x + y


def test_a_proxy_looks_up_its_object_at_each_use() -> None:
    current = [Thing(1)]
    proxy = Proxy(lambda: current[0])

    assert proxy.value == 1

    current[0] = Thing(2)
    assert proxy.value == 2


def test_a_proxy_passes_for_its_object() -> None:
    thing = Thing()
    proxy: Any = Proxy(lambda: thing)

    assert isinstance(proxy, Thing)
    assert type(proxy) is Proxy
    assert proxy == thing
    assert hash(proxy) == hash(thing)
    assert repr(proxy) == repr(thing)
    assert proxy.__dict__ is thing.__dict__
    assert "value" in dir(proxy)


def test_what_is_set_on_a_proxy_is_set_on_its_object() -> None:
    thing = Thing()
    proxy: Any = Proxy(lambda: thing)

    proxy.value = 9
    assert thing.value == 9

    del proxy.value
    assert not hasattr(thing, "value")


def test_a_proxy_of_a_function_is_called_documented_and_inspected_as_one() -> None:
    proxy: Any = Proxy(lambda: function)

    assert proxy(1, y=5) == 6
    assert (proxy.__name__, proxy.__qualname__, proxy.__doc__) == (
        "function",
        "function",
        "Add.",
    )
    assert proxy.__module__ == __name__
    assert inspect.signature(proxy) == inspect.signature(function)


def test_the_class_keeps_its_own_name_and_module() -> None:
    assert (Proxy.__module__, Proxy.__name__) == ("pgtasks.utils.proxy", "Proxy")
    assert pickle.loads(pickle.dumps(PromiseProxy)) is PromiseProxy
    assert (Proxy.__doc__ or "").startswith("Stands for")


def test_a_proxy_may_have_a_name_and_a_text_of_its_own() -> None:
    proxy: Any = Proxy(lambda: function, name="other", __doc__="Other.")

    assert (proxy.__name__, proxy.__qualname__, proxy.__doc__) == (
        "other",
        "other",
        "Other.",
    )


@pytest.mark.parametrize(
    ("value", "expression", "answer"),
    [
        (5, "p + 1", 6), (5, "p - 1", 4), (5, "p * 2", 10), (5, "p / 2", 2.5),
        (5, "p // 2", 2), (5, "p % 3", 2), (5, "p ** 2", 25), (5, "divmod(p, 3)", (1, 2)),
        (5, "p << 1", 10), (5, "p >> 1", 2), (5, "p & 4", 4), (5, "p | 2", 7),
        (5, "p ^ 1", 4), (5, "-p", -5), (5, "+p", 5), (-5, "abs(p)", 5), (5, "~p", -6),
        (5, "int(p)", 5), (5, "float(p)", 5.0), (5, "complex(p)", 5 + 0j),
        (2, "[1, 2, 3][p]", 3), (5, "p < 6", True), (5, "p >= 6", False),
        ("x", "p != 'y'", True), ("x", "str(p)", "x"), ([1, 2], "len(p)", 2),
        ([1, 2], "list(p)", [1, 2]), ([1, 2], "2 in p", True), ([1, 2], "p[0]", 1),
        ({}, "bool(p)", False),
    ],
)  # fmt: skip
def test_operators_reach_the_object(value: Any, expression: str, answer: Any) -> None:
    assert eval(expression, {"p": Proxy(lambda: value)}) == answer


def test_items_are_set_and_deleted_in_the_object() -> None:
    items = {"a": 1}
    proxy: Any = Proxy(lambda: items)

    proxy["b"] = 2
    del proxy["a"]

    assert items == {"b": 2}


def test_a_proxy_of_a_context_manager_is_one() -> None:
    events = []

    class Manager:
        def __enter__(self) -> str:
            events.append("in")
            return "inside"

        def __exit__(self, *exc_info: object) -> None:
            events.append("out")

    with Proxy(Manager) as inside:
        assert inside == "inside"

    assert events == ["in", "out"]


@pytest.mark.parametrize("value", [[1, 2], {"a": 1}, Thing(7)])
def test_a_proxy_is_pickled_as_its_object(value: Any) -> None:
    again = pickle.loads(pickle.dumps(Proxy(lambda: value)))

    assert type(again) is type(value)
    assert again == value


def test_a_proxy_of_nothing_can_be_shown_and_tested() -> None:
    def nothing() -> Any:
        raise RuntimeError("unbound")

    proxy: Any = Proxy(nothing)

    assert repr(proxy) == "<Proxy unbound>"
    assert not proxy
    assert dir(proxy) == []


# ── promises ────────────────────────────────────────────────────────────────────────────


def test_a_promise_makes_its_object_once_and_late() -> None:
    Thing.made = 0
    promise: Any = PromiseProxy(Thing, (4,))
    assert Thing.made == 0

    assert (promise.value, promise.value) == (4, 4)
    assert Thing.made == 1
    assert promise.__evaluated__()


def test_a_promise_that_fails_may_be_tried_again() -> None:
    answers: list[Any] = [ValueError("not yet"), 42]

    def make() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    promise: Any = PromiseProxy(make)

    with pytest.raises(ValueError, match="not yet"):
        promise + 0
    assert promise + 0 == 42


def test_what_waits_for_a_promise_is_called_when_it_is_kept() -> None:
    heard: list[Any] = []
    promise: Any = PromiseProxy(lambda: 1)
    promise.__then__(heard.append, "first")
    promise.__then__(heard.append, "second")
    assert heard == []

    maybe_evaluate(promise)
    assert heard == ["first", "second"]

    promise.__then__(heard.append, "third")
    assert heard == ["first", "second", "third"]


def test_maybe_evaluate_takes_anything() -> None:
    assert maybe_evaluate(PromiseProxy(lambda: 30)) == 30
    assert maybe_evaluate(30) == 30


def test_an_attribute_error_in_the_making_is_not_swallowed() -> None:
    def make() -> Any:
        raise AttributeError("in the making")

    with pytest.raises(AttributeError, match="in the making"):
        maybe_evaluate(PromiseProxy(make))


# ── the rest of celery.local ────────────────────────────────────────────────────────────


def test_try_import_answers_the_module_or_the_default() -> None:
    import json

    assert try_import("json") is json
    assert try_import("no_such_module_at_all") is None
    assert try_import("no_such_module_at_all", default=5) == 5


def test_a_class_property_is_read_from_the_class_and_set_through_instances() -> None:
    class Switch:
        state = "off"

        def _get(cls: Any) -> Any:
            return cls.state

        def _set(cls: Any, value: Any) -> None:
            cls.state = value

        position: Any = class_property(_get, _set)
        fixed: Any = class_property(_get)

    Switch().position = "on"

    assert Switch.position == "on"
    assert Switch().position == "on"
    with pytest.raises(AttributeError, match="cannot be set"):
        Switch().fixed = 1
