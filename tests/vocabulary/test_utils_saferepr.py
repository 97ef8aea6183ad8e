"""``repr`` for logs: what fits is shown, and nothing is an error."""

from __future__ import annotations

import random
from decimal import Decimal

import pytest

from pgtasks.utils.saferepr import saferepr


@pytest.mark.parametrize(
    "value",
    [
        *(1, 1.5, 2 + 3j, True, None, Decimal("1.5"), "text", range(3), len),
        *(
            (),
            (1,),
            (1, 2),
            [],
            [1, [2]],
            {},
            {"a": {"b": [1]}},
            {1},
            set(),
            frozenset({1}),
        ),
    ],
)
def test_small_values_look_as_usual(value):
    assert saferepr(value) == repr(value)


def test_quotes_inside_a_text_are_escaped():
    assert saferepr("it's") == "'it\\'s'"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("café".encode(), "b'café'"),
        (b"\xff\x00", "b'ff00'"),
    ],
)
def test_bytes_are_shown_as_text_if_they_are_and_else_in_hex(value, shown):
    assert saferepr(value) == shown


@pytest.mark.parametrize(
    ("value", "room", "shown"),
    [
        ("a" * 50, 10, f"'{'a' * 10}...'"),
        (["a" * 50], 10, f"['{'a' * 9}...']"),
        (["a" * 50, 1], 10, f"['{'a' * 9}...', ...]"),
        ({"k": ["a" * 50]}, 10, f"{{'k': ['{'a' * 3}...']}}"),
        ([1, [2]], 4, "[1, , ...]"),
        (b"a" * 50, 10, f"b'{'a' * 10}...'"),
    ],
)
def test_what_does_not_fit_is_left_out_and_brackets_are_closed(value, room, shown):
    assert saferepr(value, maxlen=room) == shown


def test_what_does_not_fit_is_not_even_looked_at():
    class Bomb:
        def __repr__(self):
            raise AssertionError("looked at")

    assert saferepr(["a" * 100, Bomb()], maxlen=10).endswith(", ...]")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ([[[[1]]]], "[[[[...]]]]"),
        ([[[(1,)]]], "[[[(...,)]]]"),
        ([[[{1: 2}]]], "[[[{...}]]]"),
        ([[[{7}]]], "[[[{...}]]]"),
    ],
)
def test_depth_is_bounded(value, shown):
    assert saferepr(value) == shown


def test_depth_without_a_bound_overflows_no_stack():
    deep = []
    for _ in range(20_000):
        deep = [deep]

    assert len(saferepr(deep, maxlevels=0)) == 40_002


def test_a_container_inside_itself_is_named():
    loop = [1]
    loop.append(loop)

    assert saferepr(loop).startswith("[1, <Recursion on list with id=")


def test_the_same_container_twice_is_no_recursion():
    twice = [1]

    assert saferepr([twice, twice]) == "[[1], [1]]"


def test_subclasses_of_containers_look_like_their_base_but_for_sets():
    class Items(list):
        pass

    class Names(set):
        pass

    assert saferepr(Items([1])) == "[1]"
    assert saferepr(Names([1])) == "Names({1})"
    assert saferepr(Names()) == "Names()"


def test_an_object_that_cannot_be_shown_is_described():
    class Shy:
        def __repr__(self):
            raise KeyError("no")

    assert "Unrepresentable" in saferepr([Shy()])


@pytest.mark.parametrize("seed", range(10))
def test_brackets_balance_however_little_room_there_is(seed):
    choose = random.Random(seed)

    def something(depth=0):
        kind = choose.choice("lltds") if depth < 4 else "n"
        if kind == "n":
            return choose.choice([1, "text", None, {1, 2}])
        inside = [something(depth + 1) for _ in range(choose.randrange(4))]
        if kind == "d":
            return dict(enumerate(inside))
        return tuple(inside) if kind == "t" else inside

    value = [something(), something()]
    for room in range(1, 60):
        shown = saferepr(value, maxlen=room)
        for opening, closing in ("[]", "()", "{}"):
            assert shown.count(opening) == shown.count(closing), (room, shown)
