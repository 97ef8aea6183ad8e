"""Mappings in layers, and containers that forget."""

from __future__ import annotations

import pickle
from collections.abc import MutableMapping
from copy import copy
from time import monotonic
from types import SimpleNamespace

import pytest

from pgtasks.utils.collections import (
    AttributeDict,
    BufferMap,
    ChainMap,
    ConfigurationView,
    DictAttribute,
    LimitedSet,
    Messagebuffer,
    force_mapping,
    lpmerge,
)


class TestAttributesAndItems:
    def test_items_can_be_attributes(self):
        options = AttributeDict(a=1)
        options.b = 2

        assert options.a == 1
        assert options == {"a": 1, "b": 2}
        with pytest.raises(AttributeError, match="'c'"):
            _ = options.c

    def test_attributes_can_be_items(self):
        module = SimpleNamespace(a=1)
        mapping = DictAttribute(module)
        mapping["b"] = 2
        mapping.c = 3

        assert (module.b, module.c) == (2, 3)
        assert mapping["a"] == mapping.a == mapping.get("a") == 1
        assert mapping.get("d", 4) == mapping.setdefault("d", 4) == module.d == 4
        assert "a" in mapping
        assert "z" not in mapping
        assert ("a", 1) in list(mapping.items())
        assert "a" in list(mapping.keys())
        assert 3 in list(mapping.values())
        with pytest.raises(KeyError):
            mapping["z"]

    def test_anything_is_a_mapping_if_need_be(self):
        mapping = {"a": 1}

        assert force_mapping(mapping) is mapping
        assert force_mapping(SimpleNamespace(a=1))["a"] == 1
        assert isinstance(force_mapping(object()), MutableMapping)

    def test_merging_leaves_nothing_out_but_none(self):
        assert lpmerge({"a": 1, "b": 2}, {"a": None, "b": 3}) == {"a": 1, "b": 3}


class TestLayers:
    def test_are_read_from_the_top_and_written_at_the_top(self):
        layers = ChainMap({"a": 1}, {"a": 2, "b": 2})
        layers["b"] = 3

        assert dict(layers) == {"a": 1, "b": 3}
        assert layers.maps[1] == {"a": 2, "b": 2}
        assert len(layers) == 2

    def test_lose_only_what_is_in_the_top(self):
        layers = ChainMap({"a": 1}, {"a": 2, "b": 2})

        assert layers.pop("a") == 1
        assert layers["a"] == 2
        for lose in (layers.pop, layers.__delitem__):
            with pytest.raises(KeyError, match="first mapping"):
                lose("b")
        layers.clear()
        assert layers.pop("b", None) is None

    def test_can_be_inserted_below_the_top(self):
        layers = ChainMap({"a": 1}, {"b": 2})
        layers.add_defaults(SimpleNamespace(a=5, b=5, c=5))

        assert (layers["a"], layers["b"], layers["c"]) == (1, 5, 5)

    def test_apply_a_function_to_keys_once(self):
        layers = ChainMap(key_t=lambda key: key + "!")
        layers.setdefault("a", 1)

        assert layers.maps == [{"a!": 1}]
        assert layers["a"] == layers.get("a") == layers.pop("a") == 1
        assert "a" not in layers

    @pytest.mark.parametrize("pairs", [{"a": 1}, [("a", 1)], iter([("a", 1)])])
    def test_tell_observers_of_updates(self, pairs):
        seen = {}
        layers = ChainMap()
        layers.bind_to(seen.update)
        layers.update(pairs, b=2)

        assert seen == layers.changes == {"a": 1, "b": 2}

    def test_copies_share_the_defaults_and_nothing_else(self):
        layers = ChainMap({"a": 1}, {"b": 2})
        other = copy(layers)
        other["a"] = 5

        assert layers["a"] == 1
        assert other.maps[1] is layers.maps[1]
        assert ChainMap.fromkeys("ab", 1).maps == [{"a": 1, "b": 1}]
        assert repr(layers) == "ChainMap({'a': 1}, {'b': 2})"


class TestConfiguration:
    OLD_NAMES = (
        lambda key: key.lower().removeprefix("old_"),
        lambda key: f"OLD_{key.upper()}",
    )

    def test_is_read_and_written_by_attribute(self):
        view = ConfigurationView({}, [{"a": 1}])
        view.b = 2

        assert view.a == 1
        assert view["b"] == view.changes["b"] == 2

    def test_has_old_and_new_names(self):
        view = ConfigurationView({"OLD_A": 1}, [{"a": 2, "b": 3}], keys=self.OLD_NAMES)

        assert view.a == view["OLD_A"] == 1  # the user's old name beats the default
        assert "OLD_B" in view
        assert view["OLD_B"] == 3

    def test_reads_names_with_and_without_the_prefix(self):
        view = ConfigurationView({"CELERY_A": 1, "b": 2}, prefix="CELERY")

        assert (view.a, view.CELERY_A, view.b) == (1, 1, 2)
        with pytest.raises(KeyError, match=r"'c' \(with prefix: 'CELERY_C'"):
            view["c"]

    def test_answers_with_the_first_setting_there_is(self):
        assert ConfigurationView({"b": 2, "c": 3}).first("a", "b", "c") == 2

    def test_copies_keep_names_and_forget_observers(self):
        seen = []
        view = ConfigurationView({"OLD_A": 1}, [{"b": 2}], self.OLD_NAMES, "X")
        view.bind_to(lambda **changes: seen.append(changes))
        other = view.copy()
        other.update(a=5)

        assert (other.a, view.a) == (5, 1)
        assert other.prefix == view.prefix == "X_"
        assert seen == []

    def test_can_become_another(self):
        view = ConfigurationView({})
        view.swap_with(ConfigurationView({"a": 1}, [{"b": 2}], self.OLD_NAMES))

        assert view["OLD_A"] == 1
        assert view.b == 2


class TestALimitedSet:
    def test_drops_the_oldest_when_it_is_full(self):
        recent = LimitedSet(maxlen=3)
        for item in "abcd":
            recent.add(item)

        assert list(recent) == ["b", "c", "d"]

    def test_drops_what_is_too_old(self):
        recent = LimitedSet(expires=10)
        recent.add("old", now=0)
        recent.add("new", now=5)
        recent.purge(now=12)

        assert list(recent) == ["new"]

    def test_keeps_some_however_old(self):
        recent = LimitedSet(maxlen=10, expires=10, minlen=2)
        for number in range(5):
            recent.add(number, now=number)
        recent.purge(now=lambda: 1000)

        assert list(recent) == [3, 4]

    def test_begins_the_time_of_an_item_anew(self):
        recent = LimitedSet(maxlen=3)
        for item in "abcad":
            recent.add(item)

        assert list(recent) == ["c", "a", "d"]

    def test_does_not_grow_by_what_it_dropped(self):
        recent = LimitedSet(maxlen=100)
        for _ in range(10_000):
            recent.add("same")

        assert len(recent._heap) <= 2

    def test_holds_items_that_cannot_be_compared(self):
        recent = LimitedSet()
        for item in ("a", 1, None):
            recent.add(item, now=1.0)

        assert list(recent) == ["a", 1, None]
        assert recent.pop() == "a"

    def test_merges_with_another_at_the_items_own_times(self):
        one, other = LimitedSet(maxlen=3), LimitedSet()
        one.add("b", now=2)
        other.add("a", now=1)
        other.add("c", now=3)
        one.update(other)

        assert list(one) == ["a", "b", "c"]
        assert LimitedSet(data=one.as_dict()) == one

    def test_survives_pickling(self):
        recent = LimitedSet(maxlen=5, expires=60, minlen=1)
        recent.add("a")

        again = pickle.loads(pickle.dumps(recent))

        assert again == recent
        assert repr(again) == "<LimitedSet(1): maxlen=5, expires=60, minlen=1>"

    def test_dated_items_need_a_date(self):
        with pytest.raises(ValueError, match="must be a float"):
            LimitedSet(data={"a": "yesterday"})

    @pytest.mark.parametrize("limits", [{"minlen": 5, "maxlen": 2}, {"expires": -1}])
    def test_refuses_limits_that_make_no_sense(self, limits):
        with pytest.raises(ValueError):
            LimitedSet(**limits)

    def test_is_empty_after_all_has_gone(self):
        recent = LimitedSet(data=["a", "b"])
        recent.discard("a")
        recent.discard("nothing")

        assert recent.pop() == "b"
        assert recent.pop("none left") == "none left"
        assert not recent
        assert recent.as_dict() == {}
        recent.add("c", now=monotonic())
        recent.clear()
        assert "c" not in recent


class TestBuffers:
    def test_a_buffer_drops_its_oldest_items(self):
        buffer = Messagebuffer(3, [1, 2])
        buffer.extend([3, 4])
        buffer.put(5)

        assert len(buffer) == 3
        assert buffer[0] == 3
        assert 5 in buffer
        assert list(reversed(buffer)) == [5, 4, 3]
        assert buffer.take() == 3
        assert list(buffer) == [4, 5]
        assert buffer.take(None) is None
        with pytest.raises(buffer.Empty):
            buffer.take()

    def test_adding_one_item_never_drops_thousands_at_once(self):
        buffer = Messagebuffer(10)
        buffer.extend(range(1000))

        assert len(buffer) == 900
        buffer.evict()
        assert len(buffer) == 10

    def test_of_many_buffers_the_one_unused_longest_loses_first(self):
        buffers = BufferMap(3)
        for key in ("a", "b", "a", "c"):
            buffers.put(key, key)

        assert "b" not in buffers
        assert buffers.total == 3
        assert [buffers.take("a"), buffers.take("a"), buffers.take("c")] == ["a", "a", "c"]
        assert buffers.take("c", None) is None
        with pytest.raises(buffers.Empty):
            buffers.take("z")

    def test_each_of_many_buffers_is_bounded(self):
        buffers = BufferMap(None, {"a": range(10)}, bufmaxsize=4)

        assert buffers.total == 4
        assert buffers.take("a") == 6
