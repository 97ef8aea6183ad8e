"""Lazy values, sequences that can be read again, and what a callable takes."""

from __future__ import annotations

import functools
import json
import pickle

import pytest

from pgtasks.utils import functional
from pgtasks.utils.functional import (
    arity_greater,
    first,
    firstmethod,
    fun_accepts_kwargs,
    fun_takes_argument,
    head_from_fun,
    lazy,
    maybe_evaluate,
    mlazy,
    regen,
)


class TestLazyValues:
    def test_are_computed_on_use_and_every_time(self):
        numbers = iter(range(10))
        value = lazy(next, numbers)

        assert [value(), value.evaluate(), str(value), repr(value)] == [0, 1, "2", "3"]
        assert value == 4

    def test_can_remember(self):
        value = mlazy(next, iter(range(10)))

        assert not value.evaluated
        assert [value(), value()] == [0, 0]
        assert value.evaluated

    def test_of_kombu_are_lazy_too(self):
        from kombu.utils.functional import lazy as kombus

        assert maybe_evaluate(kombus(int, "5")) == maybe_evaluate(lazy(int, "5")) == 5
        assert maybe_evaluate("5") == "5"

    def test_are_asked_in_turn_until_one_has_an_answer(self):
        class Router:
            def __init__(self, answer):
                self.answer = answer

            def route(self, name):
                return self.answer and f"{self.answer}-{name}"

        routers = [object(), Router(None), lazy(Router, "a"), Router("b")]

        assert firstmethod("route")(routers, "x") == "a-x"
        assert firstmethod("route")([object()], "x") is None
        assert (
            firstmethod("route", lambda ask, name: ask(name.upper()))(routers, "x") == "a-X"
        )

    def test_promises_are_fulfilled_on_the_way_to_the_first(self):
        from vine import promise

        assert first(None, [None, promise(lambda: 5)]) == 5
        assert first(lambda value: value > 1, [1, 2, 3]) == 2
        assert first(lambda value: value > 5, [1, 2, 3]) is None


class TestSequences:
    def test_chunks_of_an_iterator(self):
        assert list(functional.chunks(iter(range(5)), 2)) == [[0, 1], [2, 3], [4]]

    def test_chunks_of_a_sequence_do_not_repeat_themselves(self):
        assert list(functional.chunks([1, 2, 3], 2)) == [[1, 2], [3]]

    def test_odds_and_ends(self):
        assert functional.padlist([1, 2], 3) == [1, 2, None]
        assert functional.padlist([1, 2, 3], 2) == [1, 2]
        assert list(functional.uniq([3, 1, 3, 2, 1])) == [3, 1, 2]
        assert list(functional.lookahead("ab")) == [("a", "b"), ("b", None)]
        assert functional.maybe_list(1) == [1]
        assert functional.maybe_list("ab") == ["ab"]
        assert functional.maybe_list((1,)) == (1,)
        assert functional.maybe_list(None) is None
        assert functional.is_list([])
        assert not functional.is_list({})
        assert functional.dictfilter({"a": None, "b": 1}, c=None, d=0) == {"b": 1, "d": 0}
        assert functional.seq_concat_item((1,), 2) == (1, 2)
        assert functional.seq_concat_seq([1], (2, 3)) == (1, 2, 3)
        assert functional.maybe(int, "5") == 5
        assert functional.maybe(int, None) is None
        assert functional.pass1(1, 2) == 1
        assert functional.noop(1, b=2) is None
        assert functional.mattrgetter("real", "nothing")(5) == {"real": 5, "nothing": None}
        assert functional.is_numeric_value(1.5)
        assert not functional.is_numeric_value(True)
        with functional.DummyContext() as context:
            assert isinstance(context, functional.DummyContext)

    def test_kombus_cache_can_be_had_from_here(self):
        from kombu.utils.functional import LRUCache

        assert functional.LRUCache is LRUCache


class TestReadingAgain:
    def numbers(self, pulled=None):
        for number in range(4):
            if pulled is not None:
                pulled.append(number)
            yield number

    def test_a_generator_becomes_a_sequence(self):
        again = regen(self.numbers())

        assert again[1] == 1
        assert again[-1] == 3
        assert again[1:3] == [1, 2]
        assert list(again) == list(again) == again == [0, 1, 2, 3]
        assert len(again) == 4

    def test_a_list_is_one_already(self):
        items = [1]

        assert regen(items) is items

    def test_no_more_is_drawn_than_one_item_ahead(self):
        pulled = []
        again = regen(self.numbers(pulled))

        assert next(iter(again)) == 0
        assert pulled == [0, 1]
        assert again
        assert pulled == [0, 1]

    def test_the_last_item_is_known_to_be_the_last_when_it_is_handed_out(self):
        again = regen(self.numbers())

        assert [repr(again).endswith("...]>") for _ in again] == [True, True, True, False]

    def test_two_readers_do_not_disturb_each_other(self):
        again = regen(self.numbers())

        assert [(a, b) for a in again for b in again] == [
            (a, b) for a in range(4) for b in range(4)
        ]

    def test_an_item_is_handed_out_even_if_the_next_one_fails(self):
        def fails():
            yield 1
            raise KeyError("two")

        reader = iter(regen(fails()))

        assert next(reader) == 1
        with pytest.raises(KeyError):
            next(reader)

    def test_an_index_that_a_list_refuses_is_refused(self):
        with pytest.raises(IndexError):
            regen(self.numbers())[4]
        with pytest.raises(TypeError):
            regen(self.numbers())["1"]

    def test_items_can_be_mapped_before_they_are_drawn(self):
        again = regen(self.numbers())
        assert again[0] == 0
        again.map(lambda number: number * 10)

        assert again == [0, 10, 20, 30]

    def test_json_and_pickle_see_a_list(self):
        assert json.dumps(regen(self.numbers())) == "[0, 1, 2, 3]"
        assert pickle.loads(pickle.dumps(regen(iter([1])))) == [1]

    def test_an_empty_one_is_false(self):
        assert not regen(iter([]))


class TestHeads:
    """A head takes what its function takes, and refuses what that refuses."""

    def accepts(self, head, *args, **kwargs):
        try:
            head(*args, **kwargs)
        except TypeError:
            return False
        return True

    def test_of_a_function(self):
        def f(x, y=2, *args, key, other=None, **kwargs):
            raise AssertionError("the function itself is not called")

        head = head_from_fun(f)

        assert self.accepts(head, 1, key=1)
        assert self.accepts(head, 1, 2, 3, key=1, more=2)
        assert not self.accepts(head, key=1)
        assert not self.accepts(head, 1)

    def test_of_a_function_with_positional_only_parameters(self):
        def f(x, /, y, *, z=1):
            pass

        assert self.accepts(head_from_fun(f), 1, y=2)
        assert not self.accepts(head_from_fun(f), x=1, y=2)

    def test_of_a_bound_task_leaves_self_out(self):
        def f(self, x):
            pass

        assert self.accepts(head_from_fun(f, bound=True), 1)
        assert not self.accepts(head_from_fun(f, bound=True), 1, 2)

    def test_of_a_method_and_of_an_object_counts_self(self):
        class C:
            def method(self, x):
                pass

            def __call__(self, x):
                pass

        assert self.accepts(head_from_fun(C().method), "self", 1)
        assert self.accepts(head_from_fun(C()), "self", 1)
        assert not self.accepts(head_from_fun(C()), 1)

    def test_of_a_wrapper_is_the_wrappers(self):
        def wrapped(x):
            pass

        @functools.wraps(wrapped)
        def wrapper(*args, **kwargs):
            pass

        assert self.accepts(head_from_fun(wrapper), 1, 2, 3, any=4)

    def test_of_a_builtin_comes_from_its_signature(self):
        assert self.accepts(head_from_fun(sorted), [], key=None)
        assert not self.accepts(head_from_fun(sorted))

    def test_complains_under_the_functions_name(self):
        def send_receipt(order_id):
            pass

        with pytest.raises(TypeError, match=r"send_receipt\(\) missing 1 .* 'order_id'"):
            head_from_fun(send_receipt)()

    def test_needs_no_annotation_that_exists(self):
        scope = {}
        exec("def f(x: 'Missing', y: 'Missing' = 1) -> 'Missing': pass", scope)

        assert self.accepts(head_from_fun(scope["f"]), 1)


class TestWhatACallableTakes:
    def test_how_many(self):
        assert arity_greater(lambda a, b: 0, 1)
        assert not arity_greater(lambda a: 0, 1)
        assert arity_greater(lambda *args: 0, 5)
        assert not arity_greater(functools.partial(lambda a, b: 0, 1), 1)

    def test_by_name(self):
        assert fun_takes_argument("b", lambda a, b: 0)
        assert not fun_takes_argument("c", lambda a, b: 0)
        assert fun_takes_argument("c", lambda **kwargs: 0)
        assert fun_takes_argument("c", lambda a, b: 0, position=2)

    def test_by_any_name(self):
        class C:
            def __call__(self, **kwargs):
                pass

        assert fun_accepts_kwargs(C())
        assert fun_accepts_kwargs(lambda **kwargs: 0)
        assert not fun_accepts_kwargs(lambda *args: 0)
