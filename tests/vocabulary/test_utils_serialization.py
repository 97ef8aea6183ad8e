"""Exceptions through pickle, values through JSON, and graphs, objects and warnings."""

from __future__ import annotations

import base64
import json
import pickle
from datetime import date, datetime, time, timedelta, timezone

import pytest

from pgtasks.exceptions import CDeprecationWarning, CPendingDeprecationWarning
from pgtasks.utils import abstract, deprecated, serialization
from pgtasks.utils.annotations import (
    annotation_issubclass,
    get_optional_arg,
    is_none_type,
)
from pgtasks.utils.graph import CycleError, DependencyGraph, GraphFormatter
from pgtasks.utils.iso8601 import parse_iso8601
from pgtasks.utils.objects import Bunch, FallbackContext, getitem_property, mro_lookup
from pgtasks.utils.serialization import (
    UnpickleableExceptionWrapper,
    get_pickleable_exception,
    get_pickled_exception,
    jsonify,
    strtobool,
)
from pgtasks.utils.text import WhateverIO


class Picklable(Exception):
    pass


class Stubborn(Picklable):
    def __reduce__(self):
        raise TypeError("I will not")


class Orphan(Exception):
    def __reduce__(self):
        raise TypeError("I will not")


class TestExceptions:
    def test_that_can_be_pickled_stay_themselves(self):
        error = KeyError("a")

        assert get_pickleable_exception(error) is error

    def test_that_cannot_are_replaced_by_their_nearest_base(self):
        nearest = get_pickleable_exception(Stubborn("a", 1))

        assert type(nearest) is Picklable
        assert nearest.args == ("a", 1)

    def test_without_such_a_base_are_wrapped_and_can_be_told_by_name(self):
        try:
            raise Orphan("a", lambda: None)
        except Orphan as error:
            wrapper = get_pickleable_exception(error)

        again = pickle.loads(pickle.dumps(wrapper))
        restored = get_pickled_exception(again)

        assert isinstance(wrapper, UnpickleableExceptionWrapper)
        assert wrapper.__traceback__ is not None
        assert type(restored).__name__ == "Orphan"
        assert restored.args[0] == "a"
        assert "<lambda>" in restored.args[1]
        assert str(again).startswith("Orphan('a'")

    def test_that_are_not_wrapped_are_handed_back(self):
        error = KeyError("a")

        assert get_pickled_exception(error) is error

    def test_have_types_that_can_be_pickled_or_are_just_exceptions(self):
        local = type("Local", (Exception,), {})

        assert serialization.get_pickleable_etype(KeyError) is KeyError
        assert serialization.get_pickleable_etype(local) is Exception

    def test_are_raised_from_the_one_at_hand(self):
        def fail_while_failing():
            try:
                raise ValueError("first")
            except ValueError:
                serialization.raise_with_context(KeyError("second"))

        with pytest.raises(KeyError) as raised:
            fail_while_failing()

        assert isinstance(raised.value.__cause__, ValueError)

    def test_arguments_that_an_encoder_refuses_become_text(self):
        safe = serialization.ensure_serializable([1, object], json.dumps)

        assert safe == (1, "<class 'object'>")


class TestValues:
    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            (None, None),
            (1.5, 1.5),
            ((1, [2]), [1, [2]]),
            ({"a": (1,)}, {"a": [1]}),
            (
                datetime(2026, 1, 2, 3, 4, 5, 678912, timezone.utc),
                "2026-01-02T03:04:05.678Z",
            ),
            (datetime(2026, 1, 2, 3, 4, 5), "2026-01-02T03:04:05"),
            (date(2026, 1, 2), "2026-01-02"),
            (time(1, 2, 3), "01:02:03"),
            (timedelta(seconds=90), "0:01:30"),
        ],
    )
    def test_become_what_json_has(self, value, shown):
        assert jsonify(value) == shown

    def test_of_kombu_become_objects(self):
        from kombu import Queue

        assert jsonify(Queue("mail"))["name"] == "mail"

    def test_of_other_types_are_refused_or_filtered(self):
        with pytest.raises(ValueError, match=r"Unsupported type.*parent: a"):
            jsonify({"a": object()})
        assert jsonify([object], unknown_type_filter=str) == ["<class 'object'>"]

    def test_can_be_chosen_by_key(self):
        assert jsonify({"a": 1, "_b": 2}, keyfilter=lambda key: key[0] != "_") == {"a": 1}

    def test_base64_takes_text_and_bytes(self):
        assert serialization.b64encode("é") == base64.b64encode("é".encode()).decode()
        assert serialization.b64decode(serialization.b64encode(b"\xff")) == b"\xff"

    @pytest.mark.parametrize(
        ("text", "value"), [("yes", True), ("On", True), ("0", False), ("FALSE", False)]
    )
    def test_words_are_true_or_false(self, text, value):
        assert strtobool(text) is value

    def test_other_words_are_neither(self):
        with pytest.raises(TypeError, match=r"Cannot coerce 'maybe' to type bool.*yes"):
            strtobool("maybe")
        assert strtobool(5) == 5


class TestGraphs:
    house = (("roof", ["walls"]), ("walls", ["floor"]), ("floor", []), ("garden", []))

    def test_are_sorted_by_dependency(self):
        order = DependencyGraph(self.house).topsort()

        assert order.index("floor") < order.index("walls") < order.index("roof")
        assert "garden" in order

    def test_that_go_in_a_circle_cannot_be_sorted_and_say_where(self):
        graph = DependencyGraph([("egg", ["hen"]), ("hen", ["egg"])])

        with pytest.raises(CycleError, match=r"egg → hen → egg|hen → egg → hen"):
            graph.topsort()

    def test_know_how_much_hangs_on_an_object(self):
        graph = DependencyGraph(self.house)

        assert graph.valency_of("roof") == 2
        assert graph.valency_of("stranger") == 0
        assert list(graph.edges()) == ["roof", "walls"]
        assert repr(graph).splitlines()[:3] == [
            "roof(2)",
            "     walls(1)",
            "          floor(0)",
        ]

    def test_grow(self):
        graph = DependencyGraph()
        graph.add_arc("a")
        graph.add_edge("a", "b")
        graph.connect(DependencyGraph([("b", [])]))

        assert dict(graph.items()) == {"a": ["b"], "b": []}
        assert (len(graph), "a" in graph, list(graph), graph["a"]) == (
            2,
            True,
            ["a", "b"],
            ["b"],
        )

    def test_are_drawn(self):
        class Loud(GraphFormatter):
            def label(self, obj):
                return str(obj).upper()

        file = WhateverIO()
        DependencyGraph(self.house).to_dot(file, Loud(id="house", root="roof"))
        drawn = file.getvalue()

        assert drawn.startswith("digraph house {")
        assert '"ROOF" -> "WALLS"' in drawn
        assert drawn.count('\n    "WALLS" [') == 1
        assert 'fillcolor="palegreen1"' in drawn
        assert drawn.rstrip().endswith("}")

    def test_have_a_formatter_for_single_objects(self):
        graph = DependencyGraph()
        graph.formatter = str.upper
        assert graph.format("a") == "A"
        graph.formatter = None
        assert graph.format("a") == "a"


class TestObjects:
    def test_a_bag_of_attributes(self):
        assert Bunch(a=1).a == 1

    def test_a_key_as_an_attribute(self):
        class Message(dict):
            queue = getitem_property("options.queue", "Where it goes.")
            name = getitem_property("name")

        message = Message(options={})
        message.queue = "mail"

        assert message == {"options": {"queue": "mail"}}
        assert message.queue == "mail"
        assert message.name is None

    def test_a_resource_that_was_given_is_left_open_and_another_closed(self):
        closed = []

        class Resource:
            def __enter__(self):
                return self

            def __exit__(self, *exc_info):
                closed.append(self)

        given = Resource()
        with FallbackContext(given, Resource) as used:
            assert used is given
        with FallbackContext(None, Resource) as made:
            assert made is not given

        assert closed == [made]

    def test_the_class_that_defines_an_attribute(self):
        class A:
            def run(self):
                pass

        class B(A):
            pass

        assert mro_lookup(B, "run") is A
        assert mro_lookup(B, "run", stop={A}, monkey_patched=[__name__]) is None
        assert mro_lookup(B, "run", stop={A}, monkey_patched=["elsewhere"]) is A
        assert mro_lookup(B, "nothing") is None

    def test_a_signature_is_what_behaves_like_one(self):
        names = ("clone", "freeze", "set", "link", "link_error", "__or__", "__call__")
        like = type("Like", (), dict.fromkeys(names, lambda self: None))

        assert issubclass(like, abstract.CallableSignature)
        assert issubclass(like, abstract.CallableTask)
        assert not isinstance(object(), abstract.CallableSignature)

        @abstract.CallableTask.register
        class Declared:
            pass

        assert isinstance(Declared(), abstract.CallableTask)

    @pytest.mark.parametrize(
        ("annotation", "inside"),
        [(int, None), (int | None, int), (None | str, str), (int | str, None)],
    )
    def test_optional_annotations(self, annotation, inside):
        assert get_optional_arg(annotation) is inside

    def test_annotations_that_are_classes(self):
        assert annotation_issubclass(bool, int)
        assert not annotation_issubclass(list[int], list)
        assert not annotation_issubclass("int", int)
        assert is_none_type(type(None))


class TestDeprecations:
    def test_of_functions_warn_where_they_are_called(self):
        @deprecated.Callable(removal="9.0", alternative="Use g.")
        def f():
            return 5

        with pytest.warns(
            CDeprecationWarning, match=r"f is deprecated .* 9.0. Use g."
        ) as seen:
            assert f() == 5

        assert seen[0].filename == __file__

    def test_of_properties_warn_on_every_use(self):
        class C:
            _x = 1

            @deprecated.Property(deprecation="8.0")
            def x(self):
                return self._x

            @x.setter
            def x(self, value):
                self._x = value

            @deprecated.Property(deprecation="8.0", description="C.y")
            def y(self):
                return 5

        thing = C()

        with pytest.warns(CPendingDeprecationWarning, match="x is scheduled"):
            thing.x = 2
        with pytest.warns(CPendingDeprecationWarning):
            assert thing.x == 2
        with pytest.raises(AttributeError):
            thing.y = 5
        with pytest.raises(AttributeError):
            del thing.y

    @pytest.mark.parametrize(
        ("text", "moment"),
        [
            ("2026-01-02", datetime(2026, 1, 2)),
            ("2026-01-02T03:04", datetime(2026, 1, 2, 3, 4)),
            ("2026-01-02T03:04:05.5Z", datetime(2026, 1, 2, 3, 4, 5, 500000, timezone.utc)),
            (
                "2026-01-02 03:04:05-01:30",
                datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(-timedelta(minutes=90))),
            ),
        ],
    )
    def test_of_the_old_reader_of_dates(self, text, moment):
        with pytest.warns(CPendingDeprecationWarning, match="fromisoformat"):
            assert parse_iso8601(text) == moment

    @pytest.mark.parametrize(
        ("text", "error"),
        [("soon", ValueError), ("2026-13-01", ValueError), ("2026", TypeError)],
    )
    def test_of_the_old_reader_refuse_what_is_no_date(self, text, error):
        with pytest.warns(CPendingDeprecationWarning), pytest.raises(error):
            parse_iso8601(text)
